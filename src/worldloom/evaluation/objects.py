"""The tracked objects of a report's dreams: found once, for all probes that ask about objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.tracking import Scene, Tracks, background, calibrate, track_clip

LEARNT = 32
"""True frames, spread over prompt and future, from which a start's objects are learnt."""


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
    occluder = None if dreams.world is None else dreams.world.config.occluder
    now = dreams.prompt - 1
    parts: list[tuple[Tracks, Tracks, Tracks, Scene]] = []
    for clip, future, dream, where in zip(shown, real, frames, position, strict=True):
        true = np.concatenate([clip, future])
        some = np.unique(np.linspace(0, len(true) - 1, LEARNT).round().astype(int))
        scene = calibrate(true[some], where.shape[1], ground, position=where[some])
        begin = where[1] - where[0]
        before = track_clip(clip, scene, where[0] - begin, begin, occluder=occluder)
        velocity = where[now] - where[now - 1] if now else begin
        ahead = [track_clip(x, scene, where[now], velocity, occluder=occluder) for x in (future, dream)]
        parts.append((before, ahead[0], ahead[1], scene))
    known = dreams.truth.get("radius")
    sizes = np.stack([np.full(0, np.nan) if p[3].sizes is None else p[3].sizes for p in parts])
    radius = known[:, 0] if known is not None else np.sqrt(sizes / np.pi)
    return Followed(
        [p[0] for p in parts],
        [p[1] for p in parts],
        [p[2] for p in parts],
        [p[3] for p in parts],
        np.asarray(radius, np.float64),
    )


__all__ = ["Followed", "follow_frames", "followed"]
