"""Velocities of PhyWorld's balls, from their tracked places: fitted to five frames, and as in the paper between two.

Positions are (n, T, K, 2) px, NaN where a ball was not seen; velocities come in units/s, NaN where they can't be known.
Both are differences of positions, and are compared with the same differences of the true positions, so that neither
has an error of its own under constant gravity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.exact import ExactWorld
from worldloom.worlds.phyworld import STEP, UNIT

REACH = 2
"""Frames on either side of the one whose velocity is fitted."""


def window_velocity(position: np.ndarray) -> np.ndarray:
    """(n, T, K, 2) units/s: slope of a line fitted by least squares to five frames around each; exact for parabolas.

    With an error of σ px in each frame its own is σ/√10 px/frame: 4.5 times less than the difference of two frames.
    """
    out = np.full(position.shape, np.nan)
    length = position.shape[1]
    if length > 2 * REACH:
        inner = slice(REACH, length - REACH)
        slope = sum(k * position[:, REACH + k : length - REACH + k] for k in range(-REACH, REACH + 1)) / sum(
            k * k for k in range(-REACH, REACH + 1)
        )
        out[:, inner] = slope
    return out * (1 / (UNIT * STEP))


def pair_velocity(position: np.ndarray) -> np.ndarray:
    """(n, T, K, 2) units/s: the way from the frame before, as in the paper."""
    out = np.full(position.shape, np.nan)
    out[:, 1:] = np.diff(position, axis=1)
    return out * (1 / (UNIT * STEP))


def window_counts(counted: np.ndarray) -> np.ndarray:
    """(n, T) bool: frames whose five all count."""
    out = np.zeros_like(counted)
    length = counted.shape[1]
    if length > 2 * REACH:
        parts = [counted[:, REACH + k : length - REACH + k] for k in range(-REACH, REACH + 1)]
        out[:, REACH : length - REACH] = np.logical_and.reduce(parts)
    return out


def pair_counts(counted: np.ndarray) -> np.ndarray:
    """(n, T) bool: frames that count after one that counts."""
    out = np.zeros_like(counted)
    out[:, 1:] = counted[:, 1:] & counted[:, :-1]
    return out


def before_wall(given: np.ndarray, position: np.ndarray, radius: np.ndarray, box: tuple[float, float]) -> np.ndarray:
    """(n, T) bool: frames before any ball, as it moves, meets a wall; those of a ball that is not seen are not barred.

    given: (n, P, K, 2) px, the frames before; radius: (n, K) px; box: (width, height).
    """
    path = np.concatenate([given[:, -2:], position], 1)
    ahead = 2 * path[:, 1:-1] - path[:, :-2]  # where each ball would be in each frame, if no wall were there
    low = radius[:, None, :, None]
    beyond = ((ahead < low) | (ahead > np.array(box) - low)).any((2, 3))  # NaN lies nowhere
    return np.cumsum(beyond, 1) == 0


def mean_error(found: np.ndarray, true: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n,) e = mean of |v − v̂| over the balls and those frames of ``counts`` (n, T) that have both; NaN where none
    has. found, true: (n, T, K, 2)."""
    return clip_mean(np.sqrt(np.square(found - true).sum(-1)), counts)


def clip_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n,) mean of the finite ones of ``values`` (n, T) or (n, T, K) in the frames of ``counts``; NaN where none is."""
    values = values if values.ndim == 3 else values[:, :, None]
    used = np.isfinite(values) & counts[:, :, None]
    number = used.sum((1, 2))
    total = np.where(used, values, 0.0).sum((1, 2))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


@dataclass(frozen=True)
class Given:
    """What the given frames show, tracked: of n clips."""

    position: np.ndarray
    """(n, P, K, 2) px."""
    radius: np.ndarray
    """(n, K) px, from the balls' masses."""

    @property
    def velocity(self) -> np.ndarray:
        """(n, K, 2) px/frame, mean over the given frames."""
        return (self.position[:, -1] - self.position[:, 0]) / (self.position.shape[1] - 1)


def straight_on(given: Given, frames: int) -> np.ndarray:
    """(n, T, K, 2) px: every ball goes on as the given frames show it, through walls and others."""
    steps = np.arange(1, frames + 1)[None, :, None, None]
    return given.position[:, -1:] + steps * given.velocity[:, None]


def engine(world: ExactWorld, given: Given, frames: int) -> np.ndarray:
    """(n, T, K, 2) px: the exact engine, started from what the given frames show. NaN where a ball was not seen."""
    gravity = np.array(world.config.gravity)
    velocity = given.velocity + gravity * (given.position.shape[1] - 1) / 2  # the mean is that of the middle frame
    seen = np.isfinite(given.position).all((1, 2, 3)) & np.isfinite(given.radius).all(1)
    x, r = given.position[seen, -1], np.minimum(given.radius[seen], world.config.radii[1])
    if r.shape[1] == 2:  # measured discs that overlap by a hair would be no start
        apart = np.hypot(*np.moveaxis(x[:, 1] - x[:, 0], -1, 0))
        r = r * np.minimum(1.0, apart / r.sum(1))[:, None] * (1 - 1e-9)
    box = np.array([world.config.width, world.config.height], float)
    x = np.clip(x, r[..., None], box - r[..., None])
    out = np.full((len(seen), frames, *x.shape[1:]), np.nan)
    if seen.any():
        start = {"position": x, "velocity": velocity[seen], "radius": r}
        out[seen] = world.play(start, None, frames).truth["position"][:, 1:]
    return out


__all__ = [
    "Given",
    "before_wall",
    "clip_mean",
    "engine",
    "mean_error",
    "pair_counts",
    "pair_velocity",
    "straight_on",
    "window_counts",
    "window_velocity",
]
