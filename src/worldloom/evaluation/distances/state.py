"""Features that mean something: what the tracker sees in a clip, in pixels and frames.

The only features that see every fault of a world of objects (see docs/extractors.md). They need a world whose true
positions are known, for the tracker to learn from true clips what an object looks like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from worldloom.evaluation.tracker import Objects, Scene, background, calibrate, detect, match

CALIBRATION = 64
"""Clips from which the tracker learns what objects look like."""

TOLERANCES: dict[str, float] = {
    "count": 0.02, "count_spread": 0.02, "count_away": 0.05, "smudges": 0.02,
    "mass": 0.5, "mass_spread": 0.25, "mass_least": 0.5, "object_mass_spread": 0.25, "roundness": 0.02,
    "colour_change": 1.0, "place_x": 0.5, "place_y": 0.5, "place_spread": 0.5, "least_distance": 0.25,
    "contacts": 0.01, "speed": 0.05, "speed_spread": 0.05, "speed_most": 0.05, "speeding": 0.05,
    "turn": 0.05, "turn_most": 0.1, "turn_typical": 0.03, "pull_x": 0.02, "pull_y": 0.02, "unseen": 0.01,
}  # fmt: skip
"""Name of each feature and the smallest difference in it that counts: a scale below what the tracker can tell would
make much of its own noise (and where the truth is exactly constant, as a count is, infinitely much)."""


@dataclass(frozen=True)
class State:
    """Clips to 25 tracked quantities each, in the units of :data:`TOLERANCES`' names: px, px/frame, px/frame², px of
    mass, shares of frames. Where no object is seen there is no speed, and it counts as 0: ``count`` and ``unseen``
    tell."""

    scene: Scene
    """What the objects look like."""
    expected: int
    """K, objects in a true clip."""
    hash: str
    """Of the features' definition and of the clips the scene was learnt from."""
    name: str = "state"

    @classmethod
    def of(cls, clips: np.ndarray, position: np.ndarray) -> State:
        """Learn from true clips (n, T, C, H, W) uint8 with the positions (n, T, K, 2) px of their objects.

        Raises :class:`WorldloomError` where the tracker finds no objects there.
        """
        ground = background(clips)
        few = clips[:CALIBRATION]
        frames, places = few.reshape(-1, *few.shape[2:]), position[:CALIBRATION].reshape(-1, *position.shape[2:])
        scene = calibrate(frames, position.shape[2], ground, position=np.asarray(places, np.float64))
        digest = hashlib.sha256(repr((sorted(TOLERANCES), clips.shape)).encode())
        digest.update(np.ascontiguousarray(clips).data)
        return cls(scene, position.shape[2], digest.hexdigest())

    @property
    def least(self) -> np.ndarray:
        """(d,) the smallest spread of each feature that counts."""
        return np.array(list(TOLERANCES.values()))

    def __call__(self, clips: Tensor) -> Tensor:
        """(B, T, C, H, W) uint8 to (B, 25) float32."""
        rows, frames = clips.shape[:2]
        found = detect(clips.flatten(0, 1).numpy(), self.scene)
        out = np.zeros((rows, len(TOLERANCES)), np.float32)
        for i in range(rows):
            one = slice(i * frames, (i + 1) * frames)
            clip = Objects(**{name: value[one] for name, value in vars(found).items()})
            out[i] = list(self._measure(clip).values())
        return torch.from_numpy(out)

    def _measure(self, clip: Objects) -> dict[str, float]:
        here = np.isfinite(clip.mass)
        total = np.where(here, clip.mass, 0.0).sum(1)
        path = self._follow(clip)
        seen = np.isfinite(path).all(-1)
        velocity = np.diff(path, axis=0)
        speed = np.linalg.norm(velocity, axis=-1)
        pull = np.diff(velocity, axis=0)
        turn = np.linalg.norm(pull, axis=-1)
        middle = len(speed) // 2
        gaps, touching = self._gaps(clip)
        axes = clip.axes[here]
        values = {
            "count": clip.count.mean(),
            "count_spread": clip.count.std(),
            "count_away": np.abs(clip.count - self.expected).max(),
            "smudges": clip.smudges.mean(),
            "mass": total.mean(),
            "mass_spread": total.std(),
            "mass_least": total.min(),
            "object_mass_spread": _std(clip.mass[here]),
            "roundness": _mean(axes[:, 1] / np.maximum(axes[:, 0], 1e-6)),
            "colour_change": self._colour_change(clip, path),
            "place_x": _mean(path[..., 0]),
            "place_y": _mean(path[..., 1]),
            "place_spread": _std(path),
            "least_distance": gaps.min(initial=float(max(self.scene.background.shape))),
            "contacts": touching,
            "speed": _mean(speed),
            "speed_spread": _std(speed),
            "speed_most": _most(speed),
            "speeding": _mean(speed[middle:]) - _mean(speed[:middle]),
            "turn": _mean(turn),
            "turn_most": _most(turn),
            "turn_typical": _median(turn),
            "pull_x": _median(pull[..., 0]),
            "pull_y": _median(pull[..., 1]),
            "unseen": float(1 - seen.mean()) if seen.size else 1.0,
        }
        return {name: float(values[name]) for name in TOLERANCES}

    def _follow(self, clip: Objects) -> np.ndarray:
        """(T, K', 2) px, each object of the first frame that shows any linked on to where constant velocity leads."""
        some = np.flatnonzero(clip.count)
        first = clip.position[some[0]] if len(some) else np.zeros((0, 2))
        last = first[np.isfinite(first).all(-1)]
        out = np.full((len(clip.count), *last.shape), np.nan)
        velocity = np.zeros_like(last)
        for t, found in enumerate(clip.position):
            out[t], _ = match(found, last + velocity)
            seen = np.isfinite(out[t]).all(-1, keepdims=True)
            velocity = np.where(seen, out[t] - last, 0.0)
            last = np.where(seen, out[t], last)
        return out

    def _gaps(self, clip: Objects) -> tuple[np.ndarray, float]:
        """Distances of all pairs between their rims, px, and the share of frames in which two touch."""
        i, j = np.triu_indices(clip.position.shape[1], 1)
        radius = np.sqrt(clip.mass / np.pi)
        apart = np.linalg.norm(clip.position[:, i] - clip.position[:, j], axis=-1) - radius[:, i] - radius[:, j]
        known = np.isfinite(apart)
        touching = (np.where(known, apart, np.inf) < 1.0).any(1).mean() if apart.shape[1] else 0.0
        return apart[known], float(touching)

    def _colour_change(self, clip: Objects, path: np.ndarray) -> float:
        """Standard deviation over time of each object's colour along its path, 0 to 255, mean over the objects."""
        same = (path[:, :, None] == clip.position[:, None]).all(-1)  # (T, K', M): which detection is whose
        colour = np.full((*path.shape[:2], clip.colour.shape[-1]), np.nan)
        t, k, m = np.nonzero(same)
        colour[t, k] = clip.colour[t, m]
        spreads = [_std_over_time(colour[:, k]) for k in range(path.shape[1])]
        return _mean(np.array(spreads))


def _std_over_time(x: np.ndarray) -> float:
    """(T, C) to the mean over the channels of the standard deviations of the frames that hold no NaN."""
    known = x[np.isfinite(x).all(-1)]
    return float(known.std(0).mean()) if len(known) else float("nan")


def _mean(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(known.mean()) if known.size else 0.0


def _median(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(np.median(known)) if known.size else 0.0


def _std(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(known.std()) if known.size else 0.0


def _most(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(known.max()) if known.size else 0.0


__all__ = ["TOLERANCES", "State"]
