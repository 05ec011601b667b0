"""Free flights of tracked objects: the stretches in which nothing may touch them, and their motion there by a fit.

What a track shows is compared with nothing but itself: where an object could have met a wall or another object is
found from its own positions, its radius and the box, so that the same code measures a dream and, on the true frames,
its own floor. The known accelerations, gravity and pushes, are taken off the positions first; what is left of a free
flight is a straight line, and every frame of it counts for its velocity. (Two frames alone would know a velocity to
0.02 px/frame at 64 px; six know it to 0.003.)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from worldloom.evaluation.tracking import Tracks

MARGIN = 1.0
"""px: an object that turns this far before it touches still counts as touching; farther, it turned without cause."""
NEIGHBOURS = 2
"""Intervals on each side whose fastest motion says how far an object may have come unseen within one."""
BRIDGE = 8
"""Frames unseen across which a path is looked at, in a straight line, for what it may have met. Never for a figure."""
LEAST_FRAMES = 3
"""A flight of fewer frames has no velocity: what happens before and after it can't be told apart."""
WINDOW = 6
"""Frames on each side of an event from which its velocities come, at most."""
FALLING = 8
"""Frames of the shortest flight whose acceleration is measured: at a tracking error of 0.01 px, to 0.002 px/frame²."""
ENOUGH = 5
"""Flights from which a gravity of their own is known."""
COVERED = 1.5
"""px around an occluder within which a disc counts as partly hidden, and its centre of light as biased."""


@dataclass(frozen=True)
class Law:
    """What is known of the world that moves the objects."""

    gravity: np.ndarray
    """(2,) px/frame²."""
    pushes: np.ndarray
    """(n, T, K, 2) px/frame, the change of velocity before the motion that leads to each frame."""
    unknown: np.ndarray
    """(n, T) bool: an action of unknown effect led to this frame."""
    box: tuple[float, float]
    """Width and height, px; the walls are the frame's edges."""
    occluder: tuple[float, float, float, float] | None
    """Left, top, right, bottom, px."""


@dataclass(frozen=True)
class Line:
    """Motion x(t) = centre + slope (t - middle), fitted to a flight whose known accelerations were taken off."""

    centre: np.ndarray
    """(2,) px."""
    slope: np.ndarray
    """(2,) px/frame."""
    middle: float
    """Frame."""

    def at(self, time: float | np.ndarray) -> np.ndarray:
        """(..., 2) px."""
        return self.centre + np.multiply.outer(np.asarray(time) - self.middle, self.slope)


@dataclass(frozen=True)
class Flight:
    """Frames ``start`` to ``stop`` (the last one included) of one object, clear of everything."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start + 1


class Paths:
    """The K objects of one start: where each was, where it was free, and what it may have met."""

    def __init__(
        self,
        row: int,
        tracks: Tracks,
        radius: np.ndarray,
        law: Law,
    ) -> None:
        self.row, self.radius, self.law, self.tracks = row, radius, law, tracks
        count = len(radius)
        self.position = tracks.position[:, :count].copy()
        self.frames, self.objects = self.position.shape[:2]
        self.position[self._covered()] = np.nan
        self.seen = np.isfinite(self.position).all(-1)
        pushed = np.cumsum(law.pushes[row, : self.frames], 0)
        self.pushed = pushed - pushed[:1]
        """(T, K, 2) velocity from pushes after frame 0, during the motion that leads to each frame."""
        self._carried = np.cumsum(self.pushed, 0)
        time = np.arange(self.frames)[:, None, None]
        self.plain = self.position - self._carried - 0.5 * law.gravity * time**2
        """(T, K, 2) positions without what gravity and pushes did: straight lines in free flight."""
        self._look()

    def _covered(self) -> np.ndarray:
        """(T, K) bool: partly behind the occluder, so that the centre of light is not the centre."""
        if self.law.occluder is None:
            return np.zeros(self.position.shape[:2], bool)
        low, high = np.array(self.law.occluder[:2]), np.array(self.law.occluder[2:])
        away = self.position - np.clip(self.position, low, high)
        return np.hypot(away[..., 0], away[..., 1]) < self.radius + COVERED

    def _look(self) -> None:
        """What each object may have met between each frame and the next."""
        bridged = np.stack([_bridge(self.position[:, k]) for k in range(self.objects)], 1)
        near: list[np.ndarray] = []
        leads: list[np.ndarray] = []
        who: list[tuple[int, ...]] = []
        for k in range(self.objects):
            low, high = bridged[:, k] - self.radius[k], np.array(self.law.box) - self.radius[k] - bridged[:, k]
            for gap in (low[:, 0], high[:, 0], low[:, 1], high[:, 1]):
                near.append(_may_touch(gap, _reach(np.abs(np.diff(gap)))))
                leads.append(_leads_to(gap[:, None], 0.0))
                who.append((k,))
        self.pairs = [(i, j) for i in range(self.objects) for j in range(i + 1, self.objects)]
        self.gap = np.full((self.frames, len(self.pairs)), np.nan)
        """(T, pairs) px between the rims of two objects; below 0 where they overlap."""
        turned = np.asarray(np.stack(near, 1).reshape(-1, self.objects, 4).any(-1))  # maybe, at a wall: (T - 1, K)
        speed = _reach(np.hypot(*np.moveaxis(np.diff(bridged, axis=0), -1, 0)))
        for p, (i, j) in enumerate(self.pairs):
            between, reach = bridged[:, j] - bridged[:, i], float(self.radius[i] + self.radius[j])
            closing = _reach(np.hypot(*np.diff(between, axis=0).T))
            # One that comes back from a wall within the frame may close in with the speed of both.
            closing = np.where(turned[:, i] | turned[:, j], np.maximum(closing, speed[:, i] + speed[:, j]), closing)
            near.append(_may_touch(np.hypot(*between.T) - reach, closing))
            leads.append(_leads_to(between, reach))
            who.append((i, j))
            self.gap[:, p] = np.hypot(*(self.position[:, j] - self.position[:, i]).T) - reach
        met = _acquit(np.stack(near, 1), np.stack(leads, 1), who)
        self.wall = met[:, : 4 * self.objects].reshape(-1, self.objects, 4)
        """(T - 1, K, 4) bool: the left, right, upper, lower wall may have been met between frames t and t + 1."""
        self.pair = met[:, 4 * self.objects :]
        """(T - 1, pairs) bool: the same of two objects."""
        free = self.seen[1:] & self.seen[:-1] & ~self.wall.any(-1)
        free &= ~self.law.unknown[self.row, 1 : self.frames, None]
        for p, both in enumerate(self.pairs):
            free[:, both] &= ~self.pair[:, p, None]
        self.flights = [_runs(free[:, k]) for k in range(self.objects)]
        """Of each object, in order: stretches of at least :data:`LEAST_FRAMES` frames in which it met nothing."""

    @property
    def alone(self) -> np.ndarray:
        """(T, K) bool: seen, and more than :data:`MARGIN` from every wall, object and occluder."""
        with np.errstate(invalid="ignore"):
            low, high = self.position - self.radius[:, None], np.array(self.law.box) - self.radius[:, None]
            found = self.seen & (low > MARGIN).all(-1) & (high - self.position > MARGIN).all(-1)
            for p, both in enumerate(self.pairs):
                found[:, both] &= ~(self.gap[:, p, None] <= MARGIN)
        return found

    def line(self, k: int, start: int, stop: int) -> Line:
        """Fit to frames ``start`` to ``stop``, the last included, of object k, all seen."""
        time = np.arange(start, stop + 1)
        middle = float(time.mean())
        y, t = self.plain[start : stop + 1, k], time - middle
        return Line(y.mean(0), t @ y / (t @ t), middle)

    def curve(self, k: int, flight: Flight) -> tuple[np.ndarray, float]:
        """Acceleration (2,) px/frame² of a flight beyond gravity and pushes, twice the leading term of a quadratic
        fit, and the root mean square distance in px of its frames from that fit."""
        t = np.arange(len(flight)) - (len(flight) - 1) / 2
        y = self.plain[flight.start : flight.stop + 1, k]
        basis = np.stack([np.ones_like(t), t, t * t / 2], 1)
        found = np.linalg.lstsq(basis, y, rcond=None)[0]
        free = max(len(t) - 3, 1)
        return found[2], float(np.sqrt(np.square(y - basis @ found).sum() / free))

    def velocity(self, k: int, slope: np.ndarray, time: float) -> np.ndarray:
        """(2,) px/frame at a time, from the slope of a line: what gravity and pushes gave is added again."""
        after = min(max(int(np.ceil(time)), 0), self.frames - 1)
        return slope + self.law.gravity * time + self.pushed[after, k]

    def place(self, k: int, line: Line, time: np.ndarray) -> np.ndarray:
        """(..., 2) px at times (...), within the clip, from a line: what gravity and pushes did is added again."""
        time = np.clip(np.asarray(time, float), 0, self.frames - 1)
        whole = np.minimum(np.floor(time).astype(int), self.frames - 2)
        carried = self._carried[whole, k] + (time - whole)[..., None] * self.pushed[whole + 1, k]
        return line.at(time) + carried + 0.5 * self.law.gravity * (time**2)[..., None]


def _bridge(path: np.ndarray) -> np.ndarray:
    """(T, 2) path with straight lines across up to :data:`BRIDGE` unseen frames: only to see what it may have met."""
    out, known = path.copy(), np.flatnonzero(np.isfinite(path).all(-1))
    for a, b in pairwise(known):
        if 1 < b - a <= BRIDGE + 1:
            share = np.arange(1, b - a)[:, None] / (b - a)
            out[a + 1 : b] = path[a] + share * (path[b] - path[a])
    return out


def _reach(speed: np.ndarray) -> np.ndarray:
    """How fast it may have been in each interval: the fastest of the neighbouring ones. speed: (T - 1, ...).

    Its own is left out, as a bounce shortens it, and so is that of a jump: an object that was elsewhere a frame later
    did not fly there, and may not have touched what lay within reach of such a speed.
    """
    known = np.nan_to_num(speed, nan=0.0)
    padded = np.concatenate([known[1:2], known, known[-2:-1]]) if len(known) > 1 else np.zeros((len(known) + 2, 1))
    jump = known > 2 * np.maximum(padded[:-2], padded[2:]) + 1.5
    steady = np.where(jump, 0.0, known)
    out = np.zeros_like(steady)
    for step in range(1, NEIGHBOURS + 1):
        out[step:] = np.maximum(out[step:], steady[:-step])
        out[:-step] = np.maximum(out[:-step], steady[step:])
    return out


def _may_touch(gap: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(T - 1, ...) bool: whether a gap (T, ...) px may have closed between two frames: going at ``speed`` down to
    nothing and up again is as long as both gaps together."""
    with np.errstate(invalid="ignore"):
        return gap[:-1] + gap[1:] <= speed + 2 * MARGIN


def _leads_to(path: np.ndarray, reach: float) -> np.ndarray:
    """(T - 1,) bool: whether the course from the frame before, or back from the frame after, comes within
    :data:`MARGIN` of ``reach`` between two frames; also where there is no such course.

    path: (T, D) px from what is met; distance is its norm, for one dimension its (signed) value.
    """
    step = np.diff(path, axis=0)
    out = np.zeros(len(step), bool)
    none = np.full((1, path.shape[1]), np.nan)
    for start, course in (
        (path[:-1], np.concatenate([none, step[:-1]])),
        (path[1:], np.concatenate([-step[1:], none])),
    ):
        if path.shape[1] == 1:
            nearest = np.minimum(start, start + course)[:, 0]
        else:
            square = np.maximum(np.square(course).sum(-1), 1e-12)
            share = np.clip(-(start * course).sum(-1) / square, 0, 1)
            nearest = np.hypot(*(start + share[:, None] * course).T)
        with np.errstate(invalid="ignore"):
            out |= ~(nearest > reach + MARGIN)
    return out


def _acquit(near: np.ndarray, leads: np.ndarray, who: list[tuple[int, ...]]) -> np.ndarray:
    """Of all that may have been met by its distance, (T - 1, causes) bool, leave out what no course leads to.

    Unless the same object may have met something else within an interval of it: then its course is not known.
    """
    met = near
    for _ in range(2):  # what is acquitted no longer makes another's course unknown
        wide = met.copy()
        wide[1:] |= met[:-1]
        wide[:-1] |= met[1:]
        crowd = [[o for o in range(len(who)) if o != c and set(who[o]) & set(who[c])] for c in range(len(who))]
        other = np.stack([wide[:, o].any(1) for o in crowd], 1)
        met = met & (leads | other)
    return met


def _runs(free: np.ndarray) -> list[Flight]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(int)))
    found = [Flight(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [f for f in found if len(f) >= LEAST_FRAMES]


def accelerations(paths: list[Paths]) -> np.ndarray:
    """(m, 3): start and acceleration (x, y) px/frame², pushes taken off, of each flight of :data:`FALLING` frames."""
    flights = [(p, k, f) for p in paths for k in range(p.objects) for f in p.flights[k] if len(f) >= FALLING]
    return np.array([(p.row, *(p.curve(k, f)[0] + p.law.gravity)) for p, k, f in flights], float).reshape(-1, 3)


def under_own_gravity(paths: list[Paths]) -> list[Paths]:
    """The same paths, with what gravity did taken off as they show it themselves (the median of their flights) rather
    than as the world has it: so that a wrong gravity does not pass for a fault of walls and contacts too."""
    found = accelerations(paths)
    if len(found) < ENOUGH:
        return paths
    own = np.median(found[:, 1:], 0)
    return [Paths(p.row, p.tracks, p.radius, dataclasses.replace(p.law, gravity=own)) for p in paths]


__all__ = [
    "FALLING",
    "LEAST_FRAMES",
    "MARGIN",
    "WINDOW",
    "Flight",
    "Law",
    "Line",
    "Paths",
    "accelerations",
    "under_own_gravity",
]
