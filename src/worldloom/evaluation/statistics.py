"""Intervals by bootstrap over episodes. Starts of one episode are drawn together: they are not independent."""

from __future__ import annotations

from typing import Literal

import numpy as np

Statistic = Literal["mean", "median"]

LEAST_EPISODES = 6
"""With fewer, not even the whole range of what n episodes show holds a median with a chance of 95 % (its chance is
1 - 2^(1 - n)), and what is drawn from them anew stays within that range: an interval is then narrower than it says."""


def _medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, K) medians of the columns of ``values`` (N, K), each value counted ``weights`` (R, N) times."""
    half = weights.sum(1, keepdims=True) / 2
    out = np.empty((len(weights), values.shape[1]))
    for k, column in enumerate(values.T):
        order = np.argsort(column, kind="stable")
        cumulated, ordered = np.cumsum(weights[:, order], 1), column[order]
        low = np.argmax(cumulated >= half, 1)  # the two are one value unless the weights part exactly in half
        high = np.argmax(cumulated > half, 1)
        out[:, k] = (ordered[low] + ordered[high]) / 2
    return out


def bootstrap(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    statistic: Statistic = "mean",
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval (Efron 1979) of a mean or median over the first axis.

    values: (N, ...). groups: (N,) labels; whole groups are drawn with replacement (the cluster bootstrap), every value
    its own group by default. Returns (low, high), each of shape (...). NaN where there is but one group: one episode
    says nothing of the spread between episodes.
    """
    values = np.asarray(values, dtype=np.float64)
    flat = values.reshape(len(values), -1)
    labels = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = int(labels.max()) + 1 if len(labels) else 0
    if count < 2:
        empty = np.full(values.shape[1:], np.nan)
        return empty, empty.copy()
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    weights = drawn[:, labels].astype(np.float64)
    if statistic == "mean":
        draws = weights @ flat / weights.sum(1, keepdims=True)
    else:
        draws = _medians(flat, weights)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def share_interval(
    shares: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of ``shares`` (N,), each in [0, 1], as :func:`bootstrap`.

    Where all are 1, resampling would claim certainty. Then the exact limit holds: a variable in [0, 1] whose mean is
    below α^(1/n) shows n ones with a chance under α (Clopper and Pearson 1934); likewise where all are 0.
    """
    shares = np.asarray(shares, dtype=np.float64)
    count = len(shares) if groups is None else len(np.unique(groups))
    if count and (shares == shares[0]).all() and shares[0] in (0.0, 1.0):
        limit = ((1 - level) / 2) ** (1 / count)
        return (limit, 1.0) if shares[0] == 1.0 else (0.0, 1 - limit)
    low, high = bootstrap(shares, groups, seed=seed, level=level)
    return float(low), float(high)
