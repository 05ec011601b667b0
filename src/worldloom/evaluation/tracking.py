"""From frames to objects and what became of them: births, losses and their reasons. Nothing is ever filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.tracker import Scene, TrackerConfig, background, calibrate, detect, follow

SEEN, UNBORN, LOST, MERGED, FADED, HIDDEN = 0, 1, 2, 3, 4, 5
"""Reason codes of :class:`Tracks`: seen; not born yet; gone, nothing is near; inside a blob with another object that
could not be parted; only a smudge is left where it should be; behind a known occluder."""


@dataclass(frozen=True)
class Tracks:
    """What became of the objects of F frames: N tracks, the K objects of the start first, in its order, then those
    that were born later, in the order of their birth."""

    position: np.ndarray
    """(F, N, 2) x and y, px; NaN where not seen."""
    mass: np.ndarray
    """(F, N) px of full contrast (an opaque disc: π r²); NaN where not seen."""
    colour: np.ndarray
    """(F, N, C) mean colour of the object's inner pixels, 0 to 255; NaN where not seen."""
    axes: np.ndarray
    """(F, N, 2) px, standard deviations of its mass along the longer and the shorter axis (a disc: r/2 both)."""
    reason: np.ndarray
    """(F, N) int8: :data:`SEEN`, or why not."""
    count: np.ndarray
    """(F,) objects detected."""
    smudges: np.ndarray
    """(F,) blobs too faint, too small or too large to be objects."""

    @property
    def seen(self) -> np.ndarray:
        """(F, N) bool."""
        return self.reason == SEEN


def track_clip(
    frames: np.ndarray,
    scene: Scene,
    start: np.ndarray,
    velocity: np.ndarray | None = None,
    config: TrackerConfig | None = None,
) -> Tracks:
    """Follow the objects of F frames (F, C, H, W) uint8 from where they were in the frame before the first.

    start: (K, 2) px; velocity: (K, 2) px/frame, zero unless given.
    """
    found = detect(frames, scene, config)
    position = follow(found, start)
    seen = np.isfinite(position).all(-1)
    same = (position[:, :, None] == found.position[:, None]).all(-1)  # (F, K, M)
    which, row = same.argmax(-1), np.arange(len(frames))[:, None]

    def pick(values: np.ndarray) -> np.ndarray:
        chosen = values[row, which].astype(np.float64)
        chosen[~seen] = np.nan
        return chosen

    return Tracks(
        position,
        pick(found.mass),
        pick(found.colour),
        pick(found.axes),
        np.where(seen, SEEN, LOST).astype(np.int8),
        found.count,
        found.smudges,
    )


__all__ = [
    "FADED",
    "HIDDEN",
    "LOST",
    "MERGED",
    "SEEN",
    "UNBORN",
    "Scene",
    "TrackerConfig",
    "Tracks",
    "background",
    "calibrate",
    "track_clip",
]
