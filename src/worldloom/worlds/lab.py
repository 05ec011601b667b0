"""The textbook lab's own data, rebuilt: one bouncing ball, sample by sample, seeded by the sample's index.

It is the baseline of this project's figures, so it is kept as a textbook writes it and not made faster. Unlike in
:mod:`~worldloom.worlds.balls` the motion is stepped, not solved: a ball that crosses a bound is put onto it, and what
it should have flown back is lost. Pixel (row, column) lies at the point (column, row), without the half pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from worldloom.contract import WorldloomError

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
        position = position + velocity
        for axis in range(2):
            if position[axis] < MARGIN or position[axis] > SIZE - MARGIN:
                velocity[axis] = -velocity[axis]
        position = np.clip(position, MARGIN, SIZE - MARGIN)
    return np.stack(path), first


def draw(x: float, y: float) -> np.ndarray:
    """(3, 64, 64) float32: a white disc on black, without antialiasing."""
    rows, columns = np.ogrid[:SIZE, :SIZE]
    disc = (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS**2
    frame = np.zeros((3, SIZE, SIZE), np.float32)
    frame[:, disc] = 1.0
    return frame
