"""What is kept of an episode once its pictures have been looked at: a few numbers a frame."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from worldloom.contract import Spec
from worldloom.data.inspecting.reading import Entry

THUMB = 16
"""Side of the grey thumbnails by which nearly equal frames are found."""


@dataclass
class Digest:
    """One episode of the sample."""

    where: str
    number: int
    start: int
    split: str
    recording: str
    length: int
    terminal: bool | None
    part: int
    """Which piece of its recording, -1 where unknown."""
    hashes: list[bytes]
    """(T) of all that a frame shows."""
    action: np.ndarray | None
    """(T, ...) as stored."""
    reward: np.ndarray | None
    """(T,)"""
    thumbs: np.ndarray | None = None
    """(T, 256) uint8: the first picture, grey, small."""
    bright: np.ndarray | None = None
    """(T,) mean brightness of the brightest picture, 0 to 255."""
    contrast: np.ndarray | None = None
    """(T,) its largest standard deviation."""
    change: np.ndarray | None = None
    """(T-1,) mean absolute difference from frame to frame, grey levels, of the first picture."""
    travel: np.ndarray | None = None
    """(T-1,) how far the middle of what differs from the episode's median picture moved, in sides; NaN if unknown."""
    largest: dict[str, int] = field(default_factory=dict)
    """Largest value of each picture stream."""
    interleaved: dict[str, float] = field(default_factory=dict)
    """Of each picture stream: difference of pixels three apart over that of neighbours, along a row."""
    notfinite: list[tuple[str, int, int, int]] = field(default_factory=list)
    """(what, first frame, last frame, frames) with NaN or infinite values."""


def digest(entry: Entry, spec: Spec) -> Digest:
    """Look at an episode that fits ``spec``."""
    episode = entry.episode
    part = episode.info.get("part", -1)
    action = episode.control.get("action") if spec.action is not None and spec.action.per == "frame" else None
    out = Digest(
        entry.where,
        entry.number,
        entry.start,
        entry.split,
        entry.recording,
        episode.length,
        episode.terminal,
        part if isinstance(part, int) else -1,
        _hashes([episode.obs[name] for name in spec.shown]),
        action,
        episode.reward,
    )
    for name, sensor in spec.shown.items():
        if sensor.kind == "image":
            _look(out, name, episode.obs[name])
    checked = {f"sensor {n!r}": episode.obs[n] for n in spec.shown}
    checked |= {f"control {n!r}": episode.control[n] for n, c in spec.given.items() if c.per == "frame"}
    if episode.reward is not None:
        checked["the rewards"] = episode.reward
    for what, values in checked.items():
        if values.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
            if len(bad):
                out.notfinite.append((what, entry.start + int(bad[0]), entry.start + int(bad[-1]), len(bad)))
    return out


def _hashes(arrays: list[np.ndarray]) -> list[bytes]:
    arrays = [np.ascontiguousarray(a) for a in arrays]
    out = []
    for t in range(len(arrays[0])):
        h = hashlib.blake2b(digest_size=12)
        for a in arrays:
            h.update(a[t].reshape(-1).view(np.uint8).data)
        out.append(h.digest())
    return out


def _look(out: Digest, name: str, frames: np.ndarray) -> None:
    x = torch.from_numpy(np.ascontiguousarray(frames)).float()
    flat = x.flatten(1)
    bright = flat.mean(1).numpy()
    contrast = np.sqrt(np.maximum((flat * flat).mean(1).numpy() - bright**2, 0))
    out.bright = bright if out.bright is None else np.maximum(out.bright, bright)
    out.contrast = contrast if out.contrast is None else np.maximum(out.contrast, contrast)
    out.largest[name] = int(frames.max())
    some = x[:: max(1, len(x) // 8)]
    if some.shape[-1] > 6:
        near = float((some[..., 1:] - some[..., :-1]).abs().mean())
        far = float((some[..., 3:] - some[..., :-3]).abs().mean())
        out.interleaved[name] = far / near if near > 0.5 else 1.0
    if out.thumbs is None:
        grey = x.mean(1, keepdim=True)
        out.thumbs = F.adaptive_avg_pool2d(grey, THUMB).flatten(1).round().to(torch.uint8).numpy()
        out.change = (x[1:] - x[:-1]).abs().mean((1, 2, 3)).numpy()
        out.travel = _travel(grey[:, 0])


def _travel(grey: torch.Tensor) -> np.ndarray:
    """(T-1,) in sides of the picture."""
    if len(grey) < 8:
        return np.full(max(0, len(grey) - 1), np.nan)
    weight = (grey - grey[:: max(1, len(grey) // 64)].median(0).values).abs()
    weight = torch.where(weight > 20, weight, torch.zeros_like(weight))
    mass = weight.sum((1, 2))
    high, wide = grey.shape[-2:]
    y = (weight.sum(2) @ (torch.arange(high) / high)) / mass.clamp(min=1)
    x = (weight.sum(1) @ (torch.arange(wide) / wide)) / mass.clamp(min=1)
    moved = torch.hypot(y[1:] - y[:-1], x[1:] - x[:-1])
    usual = mass.median()
    whole = (mass > 0.7 * usual) & (mass < 1.4 * usual) & (usual > 100)  # the same things are seen before and after
    return torch.where(whole[1:] & whole[:-1], moved, torch.full_like(moved, torch.nan)).numpy()
