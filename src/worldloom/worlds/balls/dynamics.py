"""Exact motion of elastic discs in a box: every impact's time is solved for, none is stepped over.

Between impacts a disc moves on a line or, under gravity, on a parabola. The time at which it meets a wall is then the
root of a quadratic; so is the time at which two discs meet, as common gravity cancels in their relative motion
(Alder & Wainwright 1959, *Studies in Molecular Dynamics I*). All worlds of a batch advance together, each to its own
next impact.
"""

from __future__ import annotations

import numpy as np

from worldloom.worlds.balls.config import BallsError

MAX_IMPACTS = 20_000
"""Impacts that one world may have within one frame before its motion is declared impossible."""
SMALLEST_BOUNCE = 1 / 2000
"""A bounce slower than this times gravity (over 1,000 bounces a frame) becomes rest on the wall."""


def advance(
    position: np.ndarray,
    velocity: np.ndarray,
    radius: np.ndarray,
    box: tuple[float, float],
    gravity: tuple[float, float] = (0.0, 0.0),
    duration: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Move all worlds on by ``duration`` frames. The inputs are not written to.

    position, velocity: (N, K, 2) float64, px and px/frame. radius: (N, K). box: (width, height).

    Returns position, velocity, wall_hits (N, K, 2) int32 by axis, ball_hits (N, K, K) int32, symmetric. An impact at
    the very end is counted now. Impacts of one world at the same instant are taken one after the other.
    """
    n, k, _ = position.shape
    wall_hits = np.zeros((n, k, 2), np.int32)
    ball_hits = np.zeros((n, k, k), np.int32)
    g = np.asarray(gravity, float)
    low = radius[:, :, None]
    high = np.asarray(box, float) - low
    x, v = position + duration * velocity, velocity.copy()
    rows = np.arange(n)
    if k == 1 and not g.any():
        # Most worlds meet nothing within a frame; only the others go through the loop below.
        rows = np.flatnonzero(((x <= low) | (x >= high)).any(axis=(1, 2)))
    motion = _Motion(position[rows], v[rows], radius[rows], low[rows], high[rows], g)
    left = np.full(len(rows), duration)
    impacts = 0
    while len(rows):
        # Never (a division by a speed of zero) is a time like any other here.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            hit, wall, pair, by_wall = motion.next_impact()
        done = hit > left
        motion.move(np.where(done, left, hit))
        left = left - np.where(done, left, hit)
        if done.any():
            x[rows[done]], v[rows[done]] = motion.x[done], motion.v[done]
        going = ~done
        if not going.any():
            break
        wall &= (by_wall & going)[:, None, None]
        motion.bounce(wall)
        wall_hits[rows] += wall
        struck = np.flatnonzero(going & ~by_wall)
        if len(struck):
            i, j = motion.collide(struck, pair[struck])
            ball_hits[rows[struck], i, j] += 1
            ball_hits[rows[struck], j, i] += 1
        if done.any():
            rows, left = rows[going], left[going]
            motion = motion.take(going)
        impacts += 1
        if impacts > MAX_IMPACTS:
            raise BallsError(
                f"World {rows[0]} has more than {MAX_IMPACTS} impacts within one frame. Discs that rest on each other "
                "under gravity or a box too narrow for its discs do this: start them apart, or with some velocity."
            )
    return x, v, wall_hits, ball_hits


class _Motion:
    """The worlds that still move within this frame: (M, K, 2) positions, velocities and what bounds them."""

    def __init__(
        self, x: np.ndarray, v: np.ndarray, r: np.ndarray, low: np.ndarray, high: np.ndarray, g: np.ndarray
    ) -> None:
        self.x, self.v, self.r, self.low, self.high, self.g = x, v, r, low, high, g
        self.i, self.j = np.triu_indices(r.shape[1], 1)
        self.reach = r[:, self.i] + r[:, self.j]
        self.a: np.ndarray | None = None

    def take(self, keep: np.ndarray) -> _Motion:
        """Only the worlds marked by ``keep`` (M,) bool."""
        return _Motion(self.x[keep], self.v[keep], self.r[keep], self.low[keep], self.high[keep], self.g)

    def next_impact(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Time to the next impact (M,), which walls are hit then (M, K, 2), which pair (M,), whether walls (M,)."""
        self._rest()
        walls = self._wall_times()
        first_wall = walls.min(axis=(1, 2))
        if not len(self.i):
            everywhere = np.ones(len(walls), bool)
            return first_wall, walls == first_wall[:, None, None], np.zeros(len(walls), int), everywhere
        pairs = self._pair_times()
        pair = pairs.argmin(axis=1)
        first_pair = np.take_along_axis(pairs, pair[:, None], 1)[:, 0]
        hit = np.minimum(first_wall, first_pair)
        return hit, walls == first_wall[:, None, None], pair, first_wall <= first_pair

    def _rest(self) -> None:
        """Set the acceleration: gravity, but zero for a disc that lies still on the wall it is pulled to."""
        self.a = None
        if not self.g.any():
            return
        pulled = np.where(self.g > 0, self.x >= self.high, self.x <= self.low) & (self.g != 0)
        lying = pulled & (np.abs(self.v) <= np.abs(self.g) * SMALLEST_BOUNCE)
        self.v[lying] = 0.0
        self.a = np.where(lying, 0.0, self.g)

    def _wall_times(self) -> np.ndarray:
        """(M, K, 2) time until a disc meets a wall of each axis; infinite where it never does."""
        if self.a is None:
            gap = np.where(self.v > 0, self.high - self.x, self.x - self.low)
            return np.where(self.v == 0, np.inf, np.maximum(gap, 0.0) / np.abs(self.v))
        upper = _fall_time(self.high - self.x, self.v, self.a)
        lower = _fall_time(self.x - self.low, -self.v, -self.a)
        return np.minimum(upper, lower)

    def _pair_times(self) -> np.ndarray:
        """(M, pairs) time until two discs touch: the first root of |d + w t|² = (r_i + r_j)²."""
        i, j = self.i, self.j
        d, w = self.x[:, j] - self.x[:, i], self.v[:, j] - self.v[:, i]
        a, b = _dot(w, w), _dot(d, w)
        c = np.maximum(_dot(d, d) - self.reach**2, 0.0)
        root = b * b - a * c
        # Below this rate discs count as sliding past each other: rounding in the velocities is as large.
        slow = 1e-14 * self.reach * np.abs(self.v).max(axis=(1, 2))[:, None]
        meet = (b < -slow) & (root >= 0)
        time = np.where(meet, c / np.where(meet, np.sqrt(np.maximum(root, 0.0)) - b, 1.0), np.inf)
        if self.a is not None:
            e = self.a[:, j] - self.a[:, i]
            for row, pair in np.argwhere((e != 0).any(-1)):
                reach = float(self.reach[row, pair])
                time[row, pair] = _quartic_time(d[row, pair], w[row, pair], e[row, pair], reach, slow[row, pair])
        return time

    def move(self, time: np.ndarray) -> None:
        """Fly freely for ``time`` (M,)."""
        t = time[:, None, None]
        if self.a is None:
            self.x = self.x + t * self.v
        else:
            self.x = self.x + t * (self.v + 0.5 * t * self.a)
            self.v = self.v + t * self.a

    def bounce(self, wall: np.ndarray) -> None:
        """Reflect the discs marked by ``wall`` (M, K, 2) and put them exactly onto the wall they touch."""
        upper = wall & (self.high - self.x < self.x - self.low)
        lower = wall & ~upper
        self.x = np.where(upper, self.high, np.where(lower, self.low, self.x))
        self.v = np.where(upper, -np.abs(self.v), np.where(lower, np.abs(self.v), self.v))

    def collide(self, rows: np.ndarray, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exchange momentum along the line of centres in ``rows``, masses being r²; returns the discs' indices."""
        i, j = self.i[pair], self.j[pair]
        d, w = self.x[rows, j] - self.x[rows, i], self.v[rows, j] - self.v[rows, i]
        mass_i, mass_j = self.r[rows, i] ** 2, self.r[rows, j] ** 2
        kick = (2 * _dot(w, d) / (_dot(d, d) * (mass_i + mass_j)))[:, None] * d
        self.v[rows, i] += mass_j[:, None] * kick
        self.v[rows, j] -= mass_i[:, None] * kick
        return i, j


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]


def _fall_time(gap: np.ndarray, v: np.ndarray, a: np.ndarray) -> np.ndarray:
    """First t >= 0 with v t + a t²/2 = gap and v + a t >= 0, each root in its form without cancellation."""
    gap = np.maximum(gap, 0.0)
    root = v * v + 2 * a * gap
    speed = np.sqrt(np.maximum(root, 0.0))
    towards = np.where(root >= 0, 2 * gap / (v + speed), np.inf)
    return np.where(v > 0, towards, np.where(a > 0, (speed - v) / a, np.inf))


def _quartic_time(d: np.ndarray, w: np.ndarray, e: np.ndarray, reach: float, slow: float) -> float:
    """First time at which |d + w t + e t²/2| sinks to ``reach``: one disc lies on a wall and the other falls."""
    gap = float(d @ d) - reach**2
    if gap <= 1e-12 and (d @ w < -slow or (d @ w <= slow and w @ w + d @ e < 0)):
        return 0.0  # touching, and closing or about to
    f = np.array([0.25 * (e @ e), w @ e, w @ w + d @ e, 2 * (d @ w), max(gap, 0.0)])
    slope = np.polyder(f)
    roots = np.roots(f)
    # Rounding moves a root by far less than this; Newton's steps then bring it home.
    times = roots[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots))].real
    times = times[(np.polyval(slope, times) < 0) & (times > 0)]
    if not len(times):
        return np.inf
    time = float(times.min())
    for _ in range(3):
        time -= np.polyval(f, time) / np.polyval(slope, time)
    return max(time, 0.0)
