"""The kernel distance: unbiased at any n, which the Fréchet distance is not.

The squared maximum mean discrepancy (Gretton et al. 2012, equation 3, the U-statistic) under the polynomial kernel
k(x, y) = (xᵀy/d + 1)³ of the kernel inception distance (Bińkowski et al. 2018). Its expectation is 0 where both
sets come from one distribution, so single values can be negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.distances.frechet import DistanceError, _features

DEGREE = 3
BLOCK = 1024
"""Rows of the kernel matrix that are held at a time."""


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy."""

    value: float
    """Unbiased."""
    low: float
    """Lower end of its interval of 95 %, by bootstrap over groups. Near a distance of 0 it is wider than it need be."""
    high: float
    """Upper end."""
    p: float
    """How often as large a distance arises when the groups are dealt to the two sets at random (a permutation test;
    (1 + exceeding) / (1 + permutations), Phipson and Smyth 2010): exact where the sets have one distribution."""
    null: float
    """Standard deviation of the distances that arise so."""


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    permutations: int = 999,
    block: int = BLOCK,
) -> KernelDistance:
    """Distance of features (n, d) and (m, d), its interval, and whether it could be chance.

    groups_x, groups_y: (n,), (m,) labels of what is not independent, such as clips of one episode; every clip its own
    unless given. Pairs within a group are left out, as the pair of a clip with itself is, so that the value stays
    unbiased. The kernel matrix of n + m rows is passed through once, ``block`` rows at a time.
    """
    x, y = _features(x, y)
    labels_x, labels_y = (_labels(z, g) for z, g in ((x, groups_x), (y, groups_y)))
    labels = np.concatenate([labels_x, labels_y + labels_x.max() + 1])
    count_x, count = int(labels_x.max()) + 1, int(labels.max()) + 1
    if min(count_x, count - count_x) < 2:
        raise DistanceError(
            f"A kernel distance needs clips of at least 2 episodes on each side, found {count_x} and {count - count_x}."
        )
    random = np.random.default_rng((seed, 13))
    side = np.arange(count) < count_x
    drawn = [np.where(side, 1.0, 0.0)[None], np.where(side, 0.0, 1.0)[None]]
    times = [random.multinomial(k, np.full(k, 1 / k), resamples) for k in (count_x, count - count_x)]
    drawn[0] = np.concatenate([drawn[0], np.pad(times[0], ((0, 0), (0, count - count_x)))])
    drawn[1] = np.concatenate([drawn[1], np.pad(times[1], ((0, 0), (count_x, 0)))])
    dealt = np.stack([random.permutation(side) for _ in range(permutations)]).astype(np.float64)
    a = np.concatenate([drawn[0], dealt])[:, labels]
    b = np.concatenate([drawn[1], 1 - dealt])[:, labels]
    found = _discrepancies(np.concatenate([x, y]), labels, a, b, block)
    value, resampled, permuted = found[0], found[1 : 1 + resamples], found[1 + resamples :]
    low, high = np.quantile(resampled[np.isfinite(resampled)], [0.025, 0.975])
    p = (1 + int((permuted >= value).sum())) / (1 + permutations)
    return KernelDistance(float(value), float(low), float(high), p, float(permuted.std()))


def _labels(x: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    labels = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    if len(labels) != len(x):
        raise DistanceError(f"There must be one group for each of the {len(x)} clips, found {len(labels)}.")
    return labels


def _discrepancies(z: np.ndarray, labels: np.ndarray, a: np.ndarray, b: np.ndarray, block: int) -> np.ndarray:
    """(R,) distances between the rows of z (N, d) weighted by a (R, N) and by b (R, N), without pairs in a group."""
    sums = np.zeros((6, len(a)))  # of the kernel, and of the weights, over pairs within a, within b, and across
    for begin in range(0, len(z), block):
        rows = slice(begin, begin + block)
        apart = (labels[rows, None] != labels[None]).astype(np.float64)
        kernel = (z[rows] @ z.T / z.shape[1] + 1) ** DEGREE * apart
        for k, (one, other) in enumerate(((a, a), (b, b), (a, b))):
            sums[k] += ((kernel @ other.T) * one[:, rows].T).sum(0)
            sums[3 + k] += ((apart @ other.T) * one[:, rows].T).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample may hold but one group
        within_a, within_b, across = sums[:3] / sums[3:]
    found: np.ndarray = within_a + within_b - 2 * across
    return found


__all__ = ["KernelDistance", "kernel_distance"]
