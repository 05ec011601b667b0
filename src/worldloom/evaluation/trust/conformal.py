"""Conformal prediction: a scale for the errors, and the multiple of it that held-out dreams stay under.

Nothing is assumed of the model or of its errors but that a new episode is drawn like those of the calibration. Then a
dream from it stays under the bound at all its frames with at least the chance asked for, on average over calibrations
(Vovk, Gammerman and Shafer 2005; Angelopoulos and Bates 2023, section 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

RIDGE = 4.0
"""Strength of the pull of the coefficients towards none, in dreams: with far more of them it does not matter."""


@dataclass(frozen=True)
class Scale:
    """s = c_t · exp(w · z): how large an error at frame t is usual where the signals are z."""

    curve: np.ndarray
    """(H,) c_t, positive, never falling."""
    coefficients: np.ndarray
    """(M,) w."""

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        """(B, H) of standardised signals (B, M)."""
        return np.exp(signals @ self.coefficients)[:, None] * self.curve


def fit_scale(error: np.ndarray, signals: np.ndarray, level: float, least: float) -> Scale:
    """Fit a scale to the errors (n, H) of the fitting dreams with standardised signals (n, M).

    w by ridge regression of the logarithm of the largest error so far, its mean over the dreams taken off at each
    frame: signals say which dreams go wrong sooner than others, the curve says when. Of what is left c_t is a quantile,
    the same one at every frame, so that no frame is wider than the others for its chance to be left; the lowest one
    under which ``level`` of these dreams stay at all frames, so that what remains to be multiplied is near 1: a curve
    far below that would be multiplied by the odd dream that loses an object early. ``least``: an error that is none,
    such as the tracker's own, positive.
    """
    so_far = np.maximum(np.maximum.accumulate(error, 1), least)
    height = np.log(so_far)
    height = (height - height.mean(0)).mean(1)
    w = np.linalg.solve(signals.T @ signals + RIDGE * np.eye(signals.shape[1]), signals.T @ height)
    left = so_far / np.exp(signals @ w)[:, None]
    curves = np.maximum.accumulate(np.sort(left, axis=0), 1)
    kept = [(left <= curve).all(1).mean() >= level for curve in curves]
    return Scale(curves[int(np.argmax(kept))], w)


def scores(error: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n,) max over frames of error / scale, (n, H) both: the least multiple of its scale that holds a whole dream."""
    return np.asarray((error / scale).max(1))


def group_weights(groups: np.ndarray) -> tuple[np.ndarray, int]:
    """(n,) weight of each dream, all episodes weighing alike, the sum being their number K; and K."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[inverse], len(sizes)


def conformal_quantile(values: np.ndarray, groups: np.ndarray, level: float) -> float:
    """The smallest q with (Σ_episodes share of its values <= q) / (K + 1) >= level; infinite where K is too small.

    values: (n,) scores, groups: (n,) their episodes, of which there are K. One value an episode gives the quantile of
    split conformal prediction, the ⌈(K + 1) level⌉-th smallest. With several, what is exchangeable is episodes, not
    dreams, and this quantile holds a dream of a new episode with at least the chance ``level`` (Lee, Barber and
    Willett 2023, "Distribution-free inference with hierarchical data").
    """
    weights, count = group_weights(groups)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= level * (count + 1) - 1e-9
    return float(values[order][np.argmax(reached)]) if reached.any() else math.inf


def least_groups(level: float) -> int:
    """Episodes without which no bound holds with the chance ``level``."""
    return math.ceil(level / (1 - level) - 1e-9)


__all__ = ["Scale", "conformal_quantile", "fit_scale", "group_weights", "least_groups", "scores"]
