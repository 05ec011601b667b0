"""The tracked objects of a report's dreams: found once, for all probes that ask about objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.tracking import Scene, Tracks, background, calibrate, track_clip


@dataclass(frozen=True)
class Followed:
    """Tracks of n starts. The first K tracks of each are the world's objects, in the truth's order; any further ones
    were born later."""

    shown: list[Tracks]
    """Of the prompt's P frames."""
    real: list[Tracks]
    """Of the T true frames after it: the instrument's own errors."""
    dreamed: list[Tracks]
    """Of the T dreamed frames."""
    scenes: list[Scene]
    """What each start's objects look like, learnt from its prompt and the true frames."""
    radius: np.ndarray
    """(n, K) px, true radii where the data tell them, else from the objects' masses."""


def followed(dreams: Dreams) -> Followed:
    """Tracks of a report's true and dreamed frames. Needs the truth ``position``. Made once a report."""
    return dreams.once("followed", lambda: follow_frames(dreams, dreams.dreamed[dreams.camera]))


def follow_frames(dreams: Dreams, frames: np.ndarray) -> Followed:
    """The same for other dreams (n, T', C, H, W) uint8 from the same starts, such as those under other actions."""
    camera = dreams.camera
    shown, real = dreams.shown[camera], dreams.real[camera]
    position = np.concatenate([dreams.truth_shown["position"], dreams.truth["position"]], 1)
    ground = dreams.once("background", lambda: background(np.concatenate([shown, real], 1)))
    parts: list[tuple[Tracks, Tracks, Tracks, Scene]] = []
    for clip, future, dream, where in zip(shown, real, frames, position, strict=True):
        scene = calibrate(clip, where.shape[1], ground)
        before = track_clip(clip, scene, where[0])
        velocity = where[dreams.prompt - 1] - where[max(dreams.prompt - 2, 0)]
        start = where[dreams.prompt - 1]
        parts.append(
            (before, track_clip(future, scene, start, velocity), track_clip(dream, scene, start, velocity), scene)
        )
    known = dreams.truth.get("radius")
    radius = known[:, 0] if known is not None else np.sqrt(np.stack([p[3].masses for p in parts]) / np.pi)
    return Followed(
        [p[0] for p in parts],
        [p[1] for p in parts],
        [p[2] for p in parts],
        [p[3] for p in parts],
        np.asarray(radius, np.float64),
    )


__all__ = ["Followed", "follow_frames", "followed"]
