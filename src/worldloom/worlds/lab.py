"""The textbook lab's own data, rebuilt: one bouncing ball, sample by sample, seeded by the sample's index.

It is the baseline of this project's figures, so it is kept as a textbook writes it and not made faster. Unlike in
:mod:`~worldloom.worlds.balls` the motion is stepped, not solved: a ball that crosses a bound is put onto it, and what
it should have flown back is lost. Pixel (row, column) lies at the point (column, row), without the half pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.worlds.base import Frames

SIZE = 64
"""Height and width of a frame."""
RADIUS = 4
"""Of the ball, px."""
MARGIN = 5
"""The ball's centre stays this far from the frame's edges: within [5, 59]."""
CONTEXT = 3
"""Frames given; the one after them is the target."""
SAMPLES = 10_000
"""Samples in the lab's data set."""


class LabSample(NamedTuple):
    """One sample of the lab."""

    context: np.ndarray
    """(3, 3, 64, 64) float32 in {0, 1}: frames, channels, rows, columns."""
    target: np.ndarray
    """(3, 64, 64) float32 in {0, 1}: the frame after the context."""
    action: np.ndarray
    """(4,) float32: (vx/3, vy/3, 0, 0) with the velocity at the first frame, whatever happens later."""


class LabData:
    """The lab's samples by index; each is a pure function of its index."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> LabSample:
        if not 0 <= index < self.samples:
            raise IndexError(f"The lab has samples 0 to {self.samples - 1}, found {index}.")
        return lab_sample(index)


def lab_sample(index: int) -> LabSample:
    """Three context frames, the frame that follows, and the action, for one index."""
    positions, velocity = lab_path(index, CONTEXT + 1)
    frames = [draw(x, y) for x, y in positions]
    action = np.array([velocity[0] / 3, velocity[1] / 3, 0, 0], np.float32)
    return LabSample(np.stack(frames[:CONTEXT]), frames[CONTEXT], action)


def lab_path(index: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The ball's centres (frames, 2) as (x, y) px in the lab's own pixel coordinates, and its first velocity (2,).

    The first four are those of sample ``index``; longer paths are its true continuation.
    """
    if index < 0 or frames < 1:
        raise WorldloomError(f"A path of the lab needs index >= 0 and frames >= 1, found {index} and {frames}.")
    random = np.random.default_rng(index)
    position = random.uniform(10, 54, 2)
    velocity = random.uniform(-3, 3, 2)
    first = velocity.copy()
    path = []
    for _ in range(frames):
        path.append(position.copy())
        position, velocity = lab_step(position, velocity)
    return np.stack(path), first


def lab_step(position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lab's motion for one frame, (2,) and (2,): move, turn round where a bound was crossed, and clip onto it."""
    position, velocity = position + velocity, velocity.copy()
    for axis in range(2):
        if position[axis] < MARGIN or position[axis] > SIZE - MARGIN:
            velocity[axis] = -velocity[axis]
    return np.clip(position, MARGIN, SIZE - MARGIN), velocity


def draw(x: float, y: float) -> np.ndarray:
    """(3, 64, 64) float32: a white disc on black, without antialiasing."""
    rows, columns = np.ogrid[:SIZE, :SIZE]
    disc = (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2
    frame = np.zeros((3, SIZE, SIZE), np.float32)
    frame[:, disc] = 1.0
    return frame


@dataclass(frozen=True)
class LabWorldConfig:
    """Which of the lab's samples a world plays."""

    first: int = 0
    """Index of the first sample; 10,000 and above are none that the lab trains on."""
    samples: int = SAMPLES
    """How many different ones there are."""


class LabWorld:
    """The lab's samples as N worlds, drawn as the lab draws them and going on for as long as one likes.

    World i after ``reset(seed)`` is sample ``first`` + (seed·N + i) mod ``samples``: consecutive seeds visit them all.

    The lab's action is not chosen but told: (vx/3, vy/3, 0, 0) of the velocity at the first frame. What is passed to
    :meth:`step` changes nothing, and :meth:`policy` gives what belongs there. Truth: ``position`` (N, 1, 2) in
    pixels, by the library's convention (the lab's own coordinate plus half a pixel), ``velocity`` (N, 1, 2) at the
    first frame, ``radius`` (N, 1).
    """

    def __init__(self, num: int = 1, seed: int = 0, first: int = 0, samples: int = SAMPLES):
        if num < 1 or seed < 0 or first < 0 or samples < 1:
            raise WorldloomError(
                f"The lab needs num and samples of at least 1, seed and first of at least 0, found num={num}, "
                f"samples={samples}, seed={seed}, first={first}."
            )
        names = ("vx/3", "vy/3", "unused 1", "unused 2")
        action = Control("continuous", (4,), names=names, low=(-1.0,) * 4, high=(1.0,) * 4)
        self.spec = Spec({"camera": Sensor("image", (3, SIZE, SIZE))}, {"action": action})
        self.num, self._first, self._samples = num, first, samples
        self._seeds = np.full(num, seed - 1)
        self._place, self._velocity, self._start = (np.zeros((num, 2)) for _ in range(3))

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Begin at the samples of ``seed``, or at those of the seed after each world's last one."""
        for i in np.flatnonzero(np.ones(self.num, bool) if mask is None else mask).tolist():
            self._seeds[i] = self._seeds[i] + 1 if seed is None else seed
            index = self._first + (int(self._seeds[i]) * self.num + i) % self._samples
            path, velocity = lab_path(index, 1)
            self._place[i], self._velocity[i], self._start[i] = path[0], velocity, velocity
        return self._frames()

    def step(self, action: np.ndarray | None = None) -> Frames:
        """One of the lab's own steps; ``action`` is not looked at."""
        for i in range(self.num):
            self._place[i], self._velocity[i] = lab_step(self._place[i], self._velocity[i])
        return self._frames()

    def policy(self, frames: Frames, rng: np.random.Generator) -> np.ndarray:
        """The lab's action for each world, (N, 4)."""
        return np.concatenate([frames.truth["velocity"][:, 0] / 3, np.zeros((self.num, 2))], 1).astype(np.float32)

    def close(self) -> None:
        """Nothing to free."""

    def _frames(self) -> Frames:
        drawn = np.stack([draw(x, y) for x, y in self._place])
        never = np.zeros(self.num, bool)
        truth = {
            "position": self._place[:, None] + 0.5,
            "velocity": self._start[:, None].copy(),
            "radius": np.full((self.num, 1), float(RADIUS)),
        }
        return Frames({"camera": (drawn * 255).astype(np.uint8)}, never, never.copy(), None, truth)
