"""From frames to objects and what became of them: births, losses and their reasons. Nothing is ever filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.linking import FADED, HIDDEN, LOST, MERGED, SEEN, UNBORN, LinkConfig, Track, link
from worldloom.evaluation.tracker import Objects, Scene, TrackerConfig, background, calibrate, detect


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
    parted: np.ndarray
    """(F, N) bool: parted from a blob of several by fitting discs, so that its axes say nothing of its shape."""

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
    occluder: tuple[float, float, float, float] | None = None,
    links: LinkConfig | None = None,
) -> Tracks:
    """Follow the objects of F frames (F, C, H, W) uint8 from where they were in the frame before the first.

    start: (K, 2) px; velocity: (K, 2) px/frame, where None anything up to an eighth of the frame. occluder: (left,
    top, right, bottom), px: an object that reaches behind it is :data:`HIDDEN`, also where a part of it shows. Sizes
    and colours of the first frames are those of the scene, where it tells whose they are.
    """
    found = detect(frames, scene, config)
    known = scene.sizes is not None and scene.colours is not None and len(scene.sizes) == len(start)
    unknown = np.full(frames.shape[1], np.nan)
    tracks = []
    for k, at in enumerate(np.asarray(start, np.float64)):
        speed = max(frames.shape[-2:]) / 8 if velocity is None else float(np.hypot(*velocity[k]))
        tracks.append(
            Track(
                at,
                np.zeros(2) if velocity is None else np.asarray(velocity[k], np.float64),
                speed,
                float(scene.sizes[k]) if known and scene.sizes is not None else np.nan,
                scene.colours[k] if known and scene.colours is not None else unknown,
            )
        )
    return _gather(found, link(found, tracks, (frames.shape[-2], frames.shape[-1]), occluder, links))


def _gather(found: Objects, tracks: list[Track]) -> Tracks:
    """Columns of detections, one a track."""
    frames, channels = len(found.count), found.colour.shape[-1]
    which = np.full((frames, len(tracks)), -1)
    reason = np.full((frames, len(tracks)), UNBORN, np.int8)
    for n, one in enumerate(tracks):
        for t, why in one.reason.items():
            reason[t, n] = why
        for t, m in one.which.items():
            which[t, n], reason[t, n] = m, SEEN
    row = np.arange(frames)[:, None]
    seen = which >= 0

    def pick(values: np.ndarray) -> np.ndarray:
        chosen = values[row, which]
        return np.where(seen.reshape(*seen.shape, *[1] * (chosen.ndim - 2)), chosen, np.nan)

    return Tracks(
        pick(found.position),
        pick(found.mass),
        pick(found.colour).reshape(frames, len(tracks), channels),
        pick(found.axes),
        reason,
        found.count,
        found.smudges,
        seen & (found.parts[row, which] > 1),
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
