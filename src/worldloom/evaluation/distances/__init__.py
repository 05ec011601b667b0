"""Distances between the distributions of dreamed and real clips, and the features they are taken in."""

from worldloom.evaluation.distances.coverage import Coverage, coverage
from worldloom.evaluation.distances.extractors import Calibrated, Embedded, Extractor, ExtractorError, Own, features
from worldloom.evaluation.distances.frechet import (
    DistanceError,
    Extrapolated,
    extrapolated,
    frechet_distance,
    gaussian_distance,
)
from worldloom.evaluation.distances.kernel import KernelDistance, kernel_distance
from worldloom.evaluation.distances.random3d import Random3D
from worldloom.evaluation.distances.state import State

__all__ = [
    "Calibrated",
    "Coverage",
    "DistanceError",
    "Embedded",
    "Extractor",
    "ExtractorError",
    "Extrapolated",
    "KernelDistance",
    "Own",
    "Random3D",
    "State",
    "coverage",
    "extrapolated",
    "features",
    "frechet_distance",
    "gaussian_distance",
    "kernel_distance",
]
