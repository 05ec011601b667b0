"""Trackers, metrics and the report."""

# Loaded here and now: the function ``evaluate`` then stands under its name even where the module is imported later.
from worldloom.evaluation.evaluate import evaluate
from worldloom.evaluation.metrics import psnr, ssim
from worldloom.evaluation.schema import Report, load_report, parse

__all__ = ["Report", "evaluate", "load_report", "parse", "psnr", "ssim"]
