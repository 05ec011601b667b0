"""How much of the dreams is lifelike, and how much of life is dreamed: two questions that one distance mixes.

Precision and recall by nearest neighbours (Kynkäänniemi et al. 2019), and density and coverage (Naeem et al. 2020,
equations 4 and 5), which one outlier among the real clips can't raise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.distances.frechet import DistanceError, _features

NEAREST = 5
"""Neighbours whose distance is the radius of a real clip's ball, as Naeem et al. advise."""


@dataclass(frozen=True)
class Coverage:
    """One value a clip; their means are the measures."""

    precision: np.ndarray
    """(m,) 0 or 1: whether a dreamed clip lies in any real clip's ball."""
    density: np.ndarray
    """(m,) number of real clips' balls that hold a dreamed clip, over k: about 1 for real clips."""
    recall: np.ndarray
    """(n,) 0 or 1: whether a real clip lies in any dreamed clip's ball."""
    coverage: np.ndarray
    """(n,) 0 or 1: whether any dreamed clip lies in a real clip's ball."""


def coverage(real: np.ndarray, dreamed: np.ndarray, nearest: int = NEAREST) -> Coverage:
    """Compare features (n, d) of real and (m, d) of dreamed clips; each clip's ball reaches to its k-th neighbour
    among its own kind.

    Raises :class:`DistanceError` where a side has no more than k clips.
    """
    real, dreamed = _features(real, dreamed)
    if min(len(real), len(dreamed)) <= nearest:
        raise DistanceError(f"Coverage needs more than {nearest} clips on each side: {len(real)}, {len(dreamed)}.")
    across = _distances(dreamed, real)
    around, reach = _radii(real, nearest), _radii(dreamed, nearest)
    inside = across <= around[None]
    return Coverage(
        np.any(inside, axis=1, keepdims=False).astype(np.float64),
        inside.sum(1) / nearest,
        np.any(across <= reach[:, None], axis=0, keepdims=False).astype(np.float64),
        np.any(inside, axis=0, keepdims=False).astype(np.float64),
    )


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) Euclidean distances."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b))


def _radii(x: np.ndarray, nearest: int) -> np.ndarray:
    """(n,) distance to the k-th neighbour, the clip itself not counted."""
    return np.partition(_distances(x, x), nearest, axis=1)[:, nearest]


__all__ = ["Coverage", "coverage"]
