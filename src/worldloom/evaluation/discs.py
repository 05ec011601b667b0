"""Parting a blob of several discs that touch or overlap: a least-squares fit of what a painter of discs would show.

Pixels are explained by antialiased discs painted one over the other, each in its own colour, on the known background;
centres and radii are fitted by Levenberg's and Marquardt's damped Gauss-Newton method (Marquardt 1963, *SIAM J. Appl.
Math.* 11:431). Discs of one colour show by the outline of the blob alone, discs of several also by where their colours
end. A fit that does not explain its blob, or leaves a disc free to move, is no parting: nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

EDGE = 1.5
"""Width in px of an antialiased edge, from covered to bare."""
MOST = 8
"""Discs that a blob is parted into at most."""
ROUNDS = 30
"""Steps of one fit."""
EXPLAINED = 0.9
"""A parting must explain this share of a blob's squared difference from the background ..."""
STRAY = 0.5
"""... and its centres, by what the fit leaves unexplained, must stray by less than this, in px (standard error)."""


@dataclass(frozen=True)
class Guess:
    """Discs to begin a fit from, the lowest first."""

    centre: np.ndarray
    """(n, 2) px."""
    radius: np.ndarray
    """(n,) px."""
    colour: np.ndarray
    """(n, C) 0 to 255."""

    def turned(self, order: tuple[int, ...]) -> Guess:
        """The same discs painted in another order."""
        i = list(order)
        return Guess(self.centre[i], self.radius[i], self.colour[i])


@dataclass(frozen=True)
class Fit:
    """Discs that explain a blob."""

    disc: np.ndarray
    """(n, 3) x, y, radius; px."""
    cost: float
    """Sum of squares left unexplained, in units of 255²."""
    explained: float
    """Share of the sum of squares that is explained, at most 1."""
    stray: float
    """px, the largest standard error of a centre's coordinate."""
    cover: np.ndarray
    """(n, P) share of each pixel that each disc covers, seen or not."""
    shown: np.ndarray
    """(n, P) share of each pixel in which each disc is seen."""
    guess: Guess
    """What it began from."""


def fit(at: np.ndarray, seen: np.ndarray, ground: np.ndarray, guess: Guess) -> Fit:
    """Fit discs to pixels with centres ``at`` (P, 2), colours ``seen`` and, behind them, ``ground`` (P, C)."""
    n = len(guess.radius)
    p = np.concatenate([guess.centre, guess.radius[:, None]], 1)
    aim, base, colour = seen / 255.0, ground / 255.0, guess.colour / 255.0
    residual, jacobian, cover, shown = _paint(p, at, base, colour, aim)
    cost, damp = float((residual**2).sum()), 1e-3
    for _ in range(ROUNDS):
        normal, slope = jacobian.T @ jacobian, jacobian.T @ residual
        # The floor holds a disc still that shows at no pixel, and keeps the matrix from being singular.
        damped = normal + np.diag(damp * np.diag(normal) + 1e-6 * (1 + np.trace(normal)))
        step = np.linalg.solve(damped, -slope).reshape(n, 3)
        length = float(np.abs(step).max())
        step *= min(1.0, 2.0 / max(length, 1e-12))  # px: a longer step leaves the blob
        tried = p + step
        tried[:, 2] = np.maximum(tried[:, 2], 0.5)
        new = _paint(tried, at, base, colour, aim)
        better = float((new[0] ** 2).sum())
        if better < cost:
            gain = cost - better
            p, cost, damp = tried, better, damp / 5
            residual, jacobian, cover, shown = new
            if length < 2e-3 or gain < 1e-6 * cost:
                break
        else:
            damp *= 8
            if damp > 1e4 or length < 1e-4:
                break
    total = float(((aim - base) ** 2).sum())
    freedom = max(residual.size - p.size, 1)
    try:
        variance = np.diag(np.linalg.inv(jacobian.T @ jacobian)).reshape(n, 3)[:, :2] * cost / freedom
        stray = float(np.sqrt(np.maximum(variance, 0).max()))
    except np.linalg.LinAlgError:
        stray = np.inf
    return Fit(p, cost, 1 - cost / max(total, 1e-12), stray, cover, shown, guess)


def _paint(
    p: np.ndarray, at: np.ndarray, base: np.ndarray, colour: np.ndarray, aim: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residual (P·C,), its derivatives by x, y, radius of each disc (P·C, 3n), cover (n, P) and what is shown."""
    n, (pixels, channels) = len(p), base.shape
    away = at[None] - p[:, None, :2]
    distance = np.sqrt((away**2).sum(-1)) + 1e-9
    t = np.clip((p[:, 2:] - distance) / EDGE + 0.5, 0.0, 1.0)
    cover, rate = t * t * (3 - 2 * t), 6 * t * (1 - t) / EDGE
    moved = np.concatenate([away / distance[..., None], np.ones((n, pixels, 1))], 2) * rate[..., None]
    above = np.ones((n + 1, pixels))  # the share that discs above leave bare
    for k in range(n - 1, -1, -1):
        above[k] = above[k + 1] * (1 - cover[k])
    picture = base
    by_cover = np.empty((n, pixels, channels))
    for k in range(n):
        by_cover[k] = (colour[k] - picture) * above[k + 1][:, None]
        picture = picture + cover[k][:, None] * (colour[k] - picture)
    jacobian = (by_cover[..., None] * moved[:, :, None, :]).transpose(1, 2, 0, 3).reshape(pixels * channels, 3 * n)
    return (picture - aim).reshape(-1), jacobian, cover, cover * above[1:]


def part(at: np.ndarray, seen: np.ndarray, ground: np.ndarray, guesses: list[Guess], least: float) -> Fit | None:
    """The best of the fits from several guesses; None where none parts the blob into discs of ``least`` mass, px.

    Of discs in several colours both the order given and the reverse are tried, where they overlap.
    """
    best: Fit | None = None
    for guess in guesses:
        tries = [fit(at, seen, ground, guess)]
        if np.ptp(guess.colour, axis=0).max() > 0 and _overlap(tries[0].disc):
            n = len(guess.radius)
            orders = [o for o in permutations(range(n)) if o != tuple(range(n))] if n < 4 else [tuple(range(n))[::-1]]
            now = Guess(tries[0].disc[:, :2], np.maximum(tries[0].disc[:, 2], 1.0), guess.colour)
            tries += [fit(at, seen, ground, guess.turned(o)) for o in orders]
            tries += [fit(at, seen, ground, now.turned(o)) for o in orders]
        for one in tries:
            if best is None or one.cost < best.cost:
                best = one
    if best is None or best.explained < EXPLAINED or best.stray > STRAY:
        return None
    inside = (best.disc[:, :2] >= at.min(0) - 1).all() and (best.disc[:, :2] <= at.max(0) + 1).all()
    if not inside or np.pi * float(best.disc[:, 2].min()) ** 2 < least or best.shown.sum(1).min() < least / 2:
        return None
    return best


def _overlap(disc: np.ndarray) -> bool:
    for i, j in combinations(range(len(disc)), 2):
        if np.hypot(*(disc[i, :2] - disc[j, :2])) < disc[i, 2] + disc[j, 2] - 0.25:
            return True
    return False


def by_shape(at: np.ndarray, weight: np.ndarray, masses: np.ndarray, colour: np.ndarray) -> list[Guess]:
    """Guesses at discs of one colour (C,) behind a blob with weights (P,): the true objects, by their ``masses``, that
    add up to its own, in each order along it; where none do, equal discs."""
    mass = float(weight.sum())
    mean = np.average(at, axis=0, weights=weight)
    axis = np.linalg.eigh(np.cov((at - mean).T, aweights=weight))[1][:, 1]
    out = []
    for radii in _radii(mass, masses):
        radius = np.array(radii)
        along = np.cumsum(radius) * 2 - radius  # in a row, each touching the next
        along -= np.average(along, weights=radius**2)
        centre = mean + along[:, None] * axis
        if len(radius) > 2:  # they need not be in a row
            centre = _means(at, weight, centre)
        out.append(Guess(centre, radius, np.tile(colour, (len(radius), 1))))
    return out


def _radii(mass: float, masses: np.ndarray) -> list[tuple[float, ...]]:
    known = [masses[list(c)] for k in range(2, min(len(masses), MOST) + 1) for c in combinations(range(len(masses)), k)]
    best = min(known, key=lambda c: abs(float(c.sum()) - mass), default=None)
    if best is None or abs(float(best.sum()) - mass) > 0.3 * float(best[0]):
        # Discs that overlap show less than their masses; or there are more or others than there should be.
        count = min(max(2, round(mass / float(np.median(masses)))), MOST)
        best = np.full(count, mass / count)
    radii = np.sqrt(best / np.pi)
    if np.ptp(radii) < 0.1 * radii.mean():
        return [tuple(radii.tolist())]
    orders = {tuple(o) for o in permutations(radii.tolist())} if len(radii) < 4 else {tuple(radii.tolist())}
    return sorted(orders)


def _means(at: np.ndarray, weight: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Centres (n, 2) moved by ten rounds of k-means; one that no pixel is nearest to stays."""
    centre = centre.copy()
    for _ in range(10):
        near = np.square(at[:, None] - centre).sum(-1).argmin(1)
        for k in np.unique(near):
            mine = near == k
            if weight[mine].sum() > 0:
                centre[k] = np.average(at[mine], axis=0, weights=weight[mine])
    return centre


def by_colour(at: np.ndarray, seen: np.ndarray, kinds: list[tuple[np.ndarray, np.ndarray]]) -> list[Guess]:
    """A guess at discs of several colours behind a blob of pixels with colours ``seen`` (P, C).

    kinds: of each colour in the blob which pixels show it, (P,) bool, and the masses of the true objects that have it.
    As many of these are guessed as its pixels have room for, at least one.
    """
    centres, radii, colours = [], [], []
    for which, masses in kinds:
        mine = at[which]
        count = 1
        if len(masses) > 1:
            total = np.cumsum(np.sort(masses)[::-1])
            count = int(np.abs(total - len(mine)).argmin()) + 1
        middle = mine.mean(0, keepdims=True)
        if count > 1:  # apart along their longer axis, then k-means
            spread, axes = np.linalg.eigh(np.cov(mine.T) + 1e-6 * np.eye(2))
            middle = middle + np.linspace(-1, 1, count)[:, None] * np.sqrt(3 * spread[1]) * axes[:, 1]
            middle = _means(mine, np.ones(len(mine)), middle)
        centres += list(middle)
        radii += [float(np.sqrt(np.median(masses) / np.pi))] * count
        colours += [np.median(seen[which], axis=0)] * count
    if not 2 <= len(radii) <= MOST:
        return []
    return [Guess(np.array(centres), np.array(radii), np.array(colours))]


__all__ = ["EDGE", "MOST", "Fit", "Guess", "by_colour", "by_shape", "fit", "part"]
