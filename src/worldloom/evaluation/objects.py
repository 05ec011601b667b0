"""The tracked objects of a report's dreams: found once, for all probes that ask about objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.tracker import calibrate_each
from worldloom.evaluation.tracking import Scene, Tracks, background, track_clip

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
    scenes, shown, real, radius = dreams.once("followed true frames", lambda: _true(dreams))
    now = dreams.prompt - 1
    dreamed = [
        track_clip(dream, scene, where[now], velocity[now], occluder=hidden_by(dreams))
        for dream, scene, where, velocity in zip(frames, scenes, *_motion(dreams), strict=True)
    ]
    return Followed(shown, real, dreamed, scenes, radius)


def _true(dreams: Dreams) -> tuple[list[Scene], list[Tracks], list[Tracks], np.ndarray]:
    """Scenes, tracks of the prompts and of the true frames, and radii (n, K)."""
    prompt, occluder = dreams.prompt, hidden_by(dreams)
    frames = np.concatenate([dreams.shown[dreams.camera], dreams.real[dreams.camera]], 1)
    ground = dreams.once("background", lambda: background(frames))
    known = dreams.truth.get("radius")
    position, _ = _motion(dreams)
    grounds = [ground] * len(frames)
    if "goal" in dreams.truth and known is not None:
        grounds = [_still(*one, ground) for one in zip(frames, position, known[:, 0], strict=True)]
    some = np.unique(np.linspace(0, frames.shape[1] - 1, LEARNT).round().astype(int))
    scenes = calibrate_each([clip[some] for clip in frames], grounds, [where[some] for where in position])
    shown, real = [], []
    for clip, where, velocity, scene in zip(frames, *_motion(dreams), scenes, strict=True):
        before = where[0] - velocity[0]
        shown.append(track_clip(clip[:prompt], scene, before, velocity[0], occluder=occluder))
        real.append(track_clip(clip[prompt:], scene, where[prompt - 1], velocity[prompt - 1], occluder=occluder))
    sizes = np.stack([x.masses if x.sizes is None else x.sizes for x in scenes])
    radius = np.sqrt(sizes / np.pi) if known is None else known[:, 0]
    return scenes, shown, real, np.asarray(radius, np.float64)


def hidden_by(dreams: Dreams) -> tuple[float, float, float, float] | None:
    """The world's occluder (left, top, right, bottom) in px, where it has one."""
    return None if dreams.world is None else dreams.world.config.occluder


def _motion(dreams: Dreams) -> tuple[np.ndarray, np.ndarray]:
    """True positions and velocities (n, P + T, K, 2); where the data don't tell these, the way from frame to frame."""
    position = np.concatenate([dreams.truth_shown["position"], dreams.truth["position"]], 1).astype(np.float64)
    if "velocity" in dreams.truth:
        return position, np.concatenate([dreams.truth_shown["velocity"], dreams.truth["velocity"]], 1)
    way = np.diff(position, axis=1)
    return position, np.concatenate([way[:, :1], way], 1)


def _still(clip: np.ndarray, where: np.ndarray, radius: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The background of one episode, which shows a goal of its own: each pixel's mean over the frames in which no
    object is near it; the common background where there is none."""
    height, width = clip.shape[-2:]
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    bare = np.ones((len(clip), height, width), bool)
    for k, r in enumerate(radius):
        away = np.square(x - where[:, k, 0, None, None]) + np.square(y - where[:, k, 1, None, None])
        bare &= away > (r + 1.5) ** 2
    times = bare.sum(0)
    mean = np.einsum("fchw,fhw->chw", clip.astype(np.float32), bare.astype(np.float32)) / np.maximum(times, 1)
    return np.where(times > 0, mean, ground).astype(np.float32)


__all__ = ["Followed", "follow_frames", "followed", "hidden_by"]
