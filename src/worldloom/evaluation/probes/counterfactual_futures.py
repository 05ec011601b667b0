"""Every action from the same state with the same noise: the futures, and how each moved the object it acts on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.probes.actions import (
    Choice,
    acted,
    choices,
    distance,
    held_still,
    nothing,
    played,
    where,
)
from worldloom.evaluation.probes.base import NotMeasurableError
from worldloom.evaluation.probes.dreams import Dreams

FRAMES = 10
"""Frames for which each action is held."""
BUDGET = 1600
"""Frames dreamed in all by the usual run: starts × actions × :data:`FRAMES`."""
MOVED = 0.25
"""px that an action must move its object in the exact world before its direction is asked for: ten times what the
tracker errs by."""


@dataclass(frozen=True)
class Futures:
    """What A actions do from each of the first m starts, each held for L frames, with the same noise."""

    actions: list[Choice]
    """The A actions."""
    frames: np.ndarray
    """(A, m, L, C, H, W) uint8, dreamed."""


@dataclass(frozen=True)
class Displaced:
    """Where the objects went under each of A actions, in m starts and L frames."""

    actions: list[Choice]
    """All A actions."""
    null: int
    """Which of them does nothing."""
    objects: tuple[int, ...]
    """Of each action, the object that it pushes."""
    dreamed: np.ndarray
    """(A, m, L, K, 2) px, in the dream; NaN where an object was lost."""
    seen: np.ndarray
    """(A, m, L, K, 2) px, in the exact world, by the same instrument."""
    true: np.ndarray
    """(A, m, L, K, 2) px, in the exact world, as it is."""
    shape: tuple[int, ...]
    """(C, H, W)."""

    def away(self, x: np.ndarray) -> np.ndarray:
        """(A, m, L, 2) px: how far each action moved its object away from where doing nothing leads, in x as above."""
        return np.stack([x[a, :, :, k] - x[self.null, :, :, k] for a, k in enumerate(self.objects)])

    def off(self, x: np.ndarray) -> np.ndarray:
        """(A, m, L) px between each action's object in x and the true one under the same action."""
        found = [(x[a, :, :, k], self.true[a, :, :, k]) for a, k in enumerate(self.objects)]
        return np.stack([distance(mine, true, self.shape) for mine, true in found])

    @property
    def asked(self) -> np.ndarray:
        """(A, m, L) bool: the true object moved, and the instrument sees it."""
        moved = np.linalg.norm(self.away(self.true), axis=-1) >= MOVED
        return moved & np.isfinite(self.away(self.seen)).all(-1)

    def right(self, x: np.ndarray) -> np.ndarray:
        """(A, m, L) bool: moved to the side that the truth moves to. A lost object did not obey."""
        return np.nan_to_num((self.away(x) * self.away(self.true)).sum(-1)) > 0


@dataclass(frozen=True)
class Obeyed:
    """Which dreams did what they were told to."""

    share: np.ndarray
    """(m,) of each of the first m starts: the share of its actions and frames whose displacement has the right sign;
    NaN where no action moves anything."""
    right: np.ndarray
    """(A, m) bool: the sign was right in most of the frames in which it was asked for."""
    asked: np.ndarray
    """(A, m) bool: it was asked for at all."""


def futures(dreams: Dreams) -> Futures:
    """Every action from the same states with the same noise. Made once a report."""

    def make() -> Futures:
        found = choices(dreams)
        starts = len(dreams) if dreams.full else min(len(dreams), max(8, BUDGET // (len(found) * FRAMES)))
        # one call an action, not one for all: the noise of a start goes by its place in the batch
        parts = [
            dreams.dream({"action": held_still(one, starts, FRAMES)}, FRAMES, rows=slice(0, starts))[dreams.camera]
            for one in found
        ]
        return Futures(found, np.stack(parts))

    return dreams.once("futures", make)


def displaced(dreams: Dreams) -> Displaced:
    """Where the actions moved their objects, against the exact world. Made once a report. Raises
    :class:`NotMeasurableError` where no action does nothing, or none moves an object that can be seen."""

    def make() -> Displaced:
        made, null = futures(dreams), nothing(dreams)
        labels = [one.label for one in made.actions]
        if null is None or null.label not in labels:
            raise NotMeasurableError(f"None of the actions {labels} is known to do nothing; displacements need one.")
        starts, frames = made.frames.shape[1:3]
        truly = [played(dreams, held_still(one, starts, frames), frames) for one in made.actions]
        found = Displaced(
            made.actions,
            labels.index(null.label),
            tuple(acted(dreams, one) for one in made.actions),
            np.stack([where(dreams, clip) for clip in made.frames]),
            np.stack([where(dreams, one.frames) for one in truly]),
            np.stack([one.truth["position"] for one in truly]),
            made.frames.shape[3:],
        )
        if not found.asked.any():
            raise NotMeasurableError(
                f"No action moves an object that can be seen by {MOVED:g} px within {FRAMES} frames of the exact "
                "world. Give a world with stronger pushes."
            )
        return found

    return dreams.once("displaced", make)


def obeyed(dreams: Dreams) -> Obeyed:
    """Which dreams did what they were told to, for probes that ask physics of those alone. Needs the exact world; made
    once a report."""

    def make() -> Obeyed:
        found = displaced(dreams)
        asked, right = found.asked, found.right(found.dreamed) & found.asked
        count = asked.sum((0, 2))
        share = np.where(count > 0, right.sum((0, 2)) / np.maximum(count, 1), np.nan)
        return Obeyed(share, np.asarray(right.sum(-1) * 2 > asked.sum(-1)), np.asarray(asked.any(-1)))

    return dreams.once("obeyed", make)


__all__ = ["BUDGET", "FRAMES", "MOVED", "Displaced", "Futures", "Obeyed", "displaced", "futures", "obeyed"]
