"""How the prompt moves, measured on its pictures: by which acceleration, and whether training starts move so too.

A change of the law of motion hides from the model's own surprise as long as it is smaller than the model's error of one
frame, and from statistics of pictures. The centre of mass of what differs from the background is told by all its pixels
together to a hundredth of a pixel or so, needs no tracker and knows no objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 5
FINEST = 0.001
"""px/frame²: distances below it are none. Discs in free flight lie about as near to training starts as this. With a
larger one familiar starts hardly differ, and the few that bounce are so many spreads away that the limit of
strangeness, which they share in, rises for all signals."""
FAINT = 4
"""Grey levels, summed over the colours, that are taken off what a pixel differs from the background: compression and
noise. Taken off, and not only cut off below, so that no pixel jumps in or out of the sum."""


@dataclass(frozen=True)
class Motion:
    """How training starts move."""

    background: np.ndarray
    """(C, H, W) uint8: what each pixel shows mostly."""
    points: np.ndarray
    """(N, 2) px/frame², :func:`least_acceleration` of each; NaN where there is none to tell."""

    @classmethod
    def fit(cls, shown: np.ndarray) -> Motion | None:
        """Of training prompts (N, P, C, H, W) uint8; None where fewer than three frames show no acceleration."""
        if shown.shape[1] < 3:
            return None
        frames = shown.reshape(-1, *shown.shape[2:])
        background = np.partition(frames, (len(frames) - 1) // 2, axis=0)[(len(frames) - 1) // 2]
        return cls(background, least_acceleration(shown, background))

    def distance(self, shown: np.ndarray) -> np.ndarray:
        """(B,) px/frame² of prompts (B, P, C, H, W): mean distance to the nearest training starts.

        A start that shows nothing before the background, in one frame of each three, has no acceleration, and none is
        made up: it is a point of its own, at no distance from training starts that show nothing either, and a frame's
        diagonal from all others. Thus it is as familiar as such starts were common in training.
        """
        one, many = least_acceleration(shown, self.background)[:, None], self.points[None]
        away = np.sqrt(np.square(one - many).sum(-1))
        nothing, none = np.isnan(one).any(-1), np.isnan(many).any(-1)
        away = np.where(nothing & none, 0.0, np.where(nothing | none, math.hypot(*shown.shape[-2:]), away))
        return np.asarray(np.sort(away, 1)[:, :NEIGHBOURS].mean(1))


def least_acceleration(shown: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(B, 2) px/frame², x and y, of prompts (B, P, C, H, W) uint8, P >= 3: second differences of their centres of mass,
    and of these the one with the least norm: a bounce or a push between two frames is in two of them at most. NaN
    where no three frames on end show anything."""
    centre = np.stack([centres(x, background) for x in shown])
    bend = np.diff(centre, 2, axis=1)
    size = np.where(np.isnan(bend).any(-1), math.inf, np.square(bend).sum(-1))
    return np.asarray(np.take_along_axis(bend, size.argmin(1)[:, None, None], 1)[:, 0])


def centres(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(T, 2) px, x and y, of frames (T, C, H, W): where what differs from the background lies on average, each pixel
    weighing as much as it differs; NaN where nothing does."""
    weight = np.maximum(np.abs(frames.astype(np.int32) - background).sum(1) - FAINT, 0).astype(np.float64)
    total = weight.sum((1, 2))
    x = weight.sum(1) @ np.arange(weight.shape[2])
    y = weight.sum(2) @ np.arange(weight.shape[1])
    return np.stack([x, y], 1) / np.where(total > 0, total, math.nan)[:, None]


__all__ = ["Motion", "centres", "least_acceleration"]
