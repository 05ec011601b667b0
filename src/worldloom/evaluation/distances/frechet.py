"""The Fréchet distance between two sets of features, and what it tends to as the sets grow.

d² = ‖μ₁ - μ₂‖² + Tr Σ₁ + Tr Σ₂ - 2 Tr (Σ₁Σ₂)^½ (Dowson and Landau 1982; the squared 2-Wasserstein distance of two
normal distributions; FID: Heusel et al. 2017; FVD: Unterthiner et al. 2018). Two samples of one and the same
distribution are apart by about b/n: at any n that can be afforded this hides small differences, and figures of
different n can't be compared. :func:`extrapolated` removes it (Chong and Forsyth 2020, "Effectively unbiased FID").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.contract import WorldloomError

TOLERANCE = 1e-6
"""Share of the trace that an eigenvalue may lie below zero by rounding."""
PARTS = 16
"""Parts of which the jackknife leaves one out."""
SPLITS = 4
"""Random halvings that the extrapolation takes the mean of."""


class DistanceError(WorldloomError):
    """A distance can't be computed from these features."""


@dataclass(frozen=True)
class Extrapolated:
    """A Fréchet distance at n = ∞, in squared units of the features."""

    value: float
    """Intercept of the line through the distances at n and n/2 over 1/n. Its expectation at equal distributions is 0,
    so that it can be negative."""
    low: float
    """Lower end of its interval of 95 %."""
    high: float
    """Upper end."""
    raw: float
    """The distance at n, as others report it."""
    curved: float
    """Intercept of the parabola through n, n/2 and n/4 over 1/n: where it lies outside of the interval, the interval
    was stretched to it."""


@dataclass(frozen=True)
class _Moments:
    """Of one set: what a distance needs, computed once."""

    mean: np.ndarray
    """(d,)"""
    rows: np.ndarray
    """(n, d) centred, over √(n - 1): Σ = rowsᵀ rows."""
    covariance: np.ndarray | None
    """(d, d), only where n >= d."""
    root: np.ndarray | None
    """(d, d), its symmetric square root."""

    @property
    def trace(self) -> float:
        return float(np.square(self.rows).sum())


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Fréchet distance of features (n, d) and (m, d), in float64, with the unbiased covariances.

    Tr (Σ₁Σ₂)^½ is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½ where both sets have at least d rows, and
    else the nuclear norm of A Bᵀ, A and B being the centred rows: exact also where Σ has no full rank.

    Raises :class:`DistanceError` where there are fewer than two rows, or values that are not finite.
    """
    x, y = _features(x, y)
    full = min(len(x), len(y)) >= x.shape[1]
    return _distance(_moments(x, full), _moments(y, full))


def gaussian_distance(mean: np.ndarray, cov: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The same in closed form, of two normal distributions with known moments (d,), (d, d)."""
    cross = _root_trace(_root(np.asarray(cov, np.float64)), np.asarray(cov2, np.float64))
    return float(np.square(np.subtract(mean, mean2)).sum() + np.trace(cov) + np.trace(cov2) - 2 * cross)


def extrapolated(
    x: np.ndarray,
    y: np.ndarray,
    groups_x: np.ndarray | None = None,
    groups_y: np.ndarray | None = None,
    *,
    seed: int = 0,
    splits: int = SPLITS,
) -> Extrapolated:
    """The Fréchet distance at n = ∞, from features (n, d) and (m, d) of which n/2, m/2 are subsampled.

    Each set is halved at random, into whole groups (episodes), and all four pairs of halves are measured: with every
    row used as often as any other, the mean over ``splits`` halvings is an unbiased estimate of the distance at n/2,
    and twice the distance at n less it is the intercept of the line over 1/n. The interval is Student's, with the
    error of a jackknife that leaves out one of 16 parts of whole groups at a time. (A bootstrap draws rows twice,
    which by itself moves a Fréchet distance by as much as the bias that is to be removed.)

    Raises :class:`DistanceError` where a set has fewer than 16 groups, or fewer than 2d rows: with fewer than d in a
    half, its covariance has no full rank and the distance is no line over 1/n any more.
    """
    from scipy import stats

    x, y = _features(x, y)
    if min(len(x), len(y)) < 2 * x.shape[1]:
        raise DistanceError(
            f"To extrapolate the Fréchet distance of {x.shape[1]} features takes at least {2 * x.shape[1]} clips on "
            f"each side, found {len(x)} and {len(y)}. The kernel distance needs no such number."
        )
    random = np.random.default_rng((seed, 11))
    parts_x, parts_y = (_parts(len(z), g, PARTS, random) for z, g in ((x, groups_x), (y, groups_y)))
    whole, quarters = [_Split.draw(1, random)], [_Split.draw(4, random)]
    halves = [_Split.draw(2, random) for _ in range(splits)]

    def at(some: list[_Split], without: int = -1) -> float:
        return _mean_distance(x, y, parts_x, parts_y, some, without)

    raw, half, quarter = at(whole), at(halves), at(quarters)
    value = 2 * raw - half
    curved = (8 * raw - 6 * half + quarter) / 3
    left_out = [2 * at(whole, k) - at(halves[:2], k) for k in range(PARTS)]  # of the same halves: no other chance
    spread = float(np.sqrt((PARTS - 1) * np.var(left_out)))
    reach = float(stats.t.ppf(0.975, PARTS - 1)) * spread
    return Extrapolated(value, min(value - reach, curved), max(value + reach, curved), raw, curved)


def _features(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DistanceError(f"A distance compares features (n, d) and (m, d), found {x.shape} and {y.shape}.")
    if min(len(x), len(y)) < 2:
        raise DistanceError(f"A distance needs at least 2 clips on each side, found {len(x)} and {len(y)}.")
    for z in (x, y):
        if not np.isfinite(z).all():
            raise DistanceError(f"The features hold NaN or infinite values in {(~np.isfinite(z)).any(1).sum()} clips.")
    return x, y


def _moments(x: np.ndarray, full: bool) -> _Moments:
    """Of one set (n, d); ``full``: both sets that are compared have at least d rows."""
    mean = x.mean(0)
    rows = (x - mean) / np.sqrt(len(x) - 1)
    if not full:
        return _Moments(mean, rows, None, None)
    covariance = rows.T @ rows
    return _Moments(mean, rows, covariance, _root(covariance))


def _distance(a: _Moments, b: _Moments) -> float:
    if a.root is not None and b.covariance is not None:
        cross = _root_trace(a.root, b.covariance)
    else:
        cross = float(np.linalg.svd(a.rows @ b.rows.T, compute_uv=False).sum())
    return float(np.square(a.mean - b.mean).sum() + a.trace + b.trace - 2 * cross)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(_clamped(values))) @ vectors.T
    return root


def _root_trace(root: np.ndarray, covariance: np.ndarray) -> float:
    """Tr (Σ₁Σ₂)^½ from Σ₁^½ and Σ₂."""
    return float(np.sqrt(_clamped(np.linalg.eigvalsh(root @ covariance @ root))).sum())


def _clamped(values: np.ndarray) -> np.ndarray:
    """Eigenvalues of what can have no negative ones."""
    trace = float(np.abs(values).sum())
    if float(values.min()) < -TOLERANCE * trace:
        raise DistanceError(
            f"A covariance has the eigenvalue {values.min():.3g} at a trace of {trace:.3g}: more below zero than "
            "rounding explains. Its features are of too different sizes: scale them."
        )
    return np.maximum(values, 0.0)


def _parts(count: int, groups: np.ndarray | None, parts: int, random: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of ``parts`` random parts of about equal size, each of whole groups."""
    labels = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    number = int(labels.max()) + 1
    if len(labels) != count or number < parts:
        raise DistanceError(
            f"To extrapolate takes at least {parts} episodes on each side, found {number} with {count} clips."
        )
    return [np.flatnonzero(np.isin(labels, some)) for some in np.array_split(random.permutation(number), parts)]


@dataclass(frozen=True)
class _Split:
    """Both sets' parts, dealt to ``number`` disjoint blocks."""

    x: list[np.ndarray]
    """Of each block, the numbers of its parts."""
    y: list[np.ndarray]

    @classmethod
    def draw(cls, number: int, random: np.random.Generator) -> _Split:
        return cls(*(np.array_split(random.permutation(PARTS), number) for _ in range(2)))


def _mean_distance(
    x: np.ndarray,
    y: np.ndarray,
    parts_x: list[np.ndarray],
    parts_y: list[np.ndarray],
    splits: list[_Split],
    without: int = -1,
) -> float:
    """Mean distance over all pairs of blocks of all splits, one part left out."""

    found = []
    for split in splits:
        bx, by = (
            [z[np.concatenate([parts[i] for i in block if i != without])] for block in blocks]
            for z, parts, blocks in ((x, parts_x, split.x), (y, parts_y, split.y))
        )
        full = min(len(b) for b in [*bx, *by]) >= x.shape[1]
        mx, my = ([_moments(b, full) for b in blocks] for blocks in (bx, by))
        found += [_distance(a, b) for a in mx for b in my]
    return float(np.mean(found))


__all__ = ["DistanceError", "Extrapolated", "extrapolated", "frechet_distance", "gaussian_distance"]
