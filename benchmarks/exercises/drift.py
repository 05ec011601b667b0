"""Exercise 2: how the error grows, in which direction, and up to where."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.engines import _stay
from benchmarks.exercises.laws import compare
from benchmarks.trust import PROMPT, dreamed
from worldloom.evaluation.objects import followed
from worldloom.evaluation.statistics import bootstrap

SPANS = ((1, 10), (10, 50), (50, 200), (1, 200))
"""Ranges of horizons in which the laws are compared; cut to what was dreamed."""
AT = (1, 2, 5, 10, 20, 50, 100, 200)
TEXTBOOK = {"px_a_frame": 0.5, "frames": 100, "far": 1000}
"""The exercise's own numbers."""


def means(values: np.ndarray, seed: int) -> dict[str, list[float]]:
    """(n, H): mean over starts with its interval of 95 %, at :data:`AT`; what is unknown is left out."""
    out = {}
    for h in (h for h in AT if h <= values.shape[1]):
        column = values[:, h - 1][np.isfinite(values[:, h - 1])]
        if len(column) < 2:
            continue
        low, high = bootstrap(column, seed=seed)
        out[str(h)] = [float(column.mean()), float(low), float(high)]
    return out


def unrelated(position: np.ndarray) -> float:
    """Mean px between a ball of one start and the same ball of another, (n, T, K, 2): where an error ends that has
    forgotten its start."""
    return float(np.sqrt(np.square(position - np.roll(position, 1, 0)).sum(-1)).mean())


def apart(error: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, H) px, mean over balls of the length of ``error`` (n, H, K, 2), ``most`` at most and where a ball is lost
    (NaN); and (n, H, K) which are lost."""
    length = np.hypot(error[..., 0], error[..., 1])
    lost = ~np.isfinite(length)
    return np.where(lost, most, np.minimum(length, most)).mean(-1), lost


def signed(error: np.ndarray, motion: np.ndarray, seed: int) -> dict[str, Any]:
    """The error's direction. error, motion: (n, H, 2) px of dreamed minus true place, and true px/frame.

    ``x``, ``y``: means over starts; ``along``: along the true motion, above 0 where the dream is ahead.
    """
    unit = motion / np.maximum(np.hypot(*np.moveaxis(motion, -1, 0)), 1e-9)[..., None]
    parts = {"x": error[..., 0], "y": error[..., 1], "along": (error * unit).sum(-1)}
    return {name: means(x, seed) for name, x in parts.items()}


def straightness(error: np.ndarray, frames: int) -> list[float] | None:
    """(starts' mean, and its interval) of |e(h)| over the sum of |e(t) - e(t-1)| up to h: 1 where every frame adds in
    one direction, near 0 where what is added turns about; None where balls are lost on the way. error: (n, H, 2)."""
    steps = np.diff(np.concatenate([np.zeros_like(error[:, :1]), error[:, :frames]], 1), axis=1)
    way = np.hypot(*np.moveaxis(steps, -1, 0)).sum(1)
    share = np.hypot(*error[:, frames - 1].T) / np.maximum(way, 1e-9)
    share = share[np.isfinite(share)]
    if len(share) < 2:
        return None
    low, high = bootstrap(share)
    return [float(share.mean()), float(low), float(high)]


def measure(context: dict[str, Any], count: int, frames: int, seed: int) -> dict[str, Any]:
    """Dreams of ``frames`` frames from ``count`` fresh starts in which nothing is pushed."""
    world = context["world"]
    stay = _stay(world, count, PROMPT + frames - 1)
    held = world.fresh(count, PROMPT, frames, seed, stay)
    dreams = dreamed(context, held, seed)
    where = dreams.truth["position"].astype(np.float64)
    found = followed(dreams)
    error, floor = (
        np.stack([one.position[:, : where.shape[2]] for one in part]) - where for part in (found.dreamed, found.real)
    )
    distance, lost = apart(error, float(np.hypot(*dreams.real[dreams.camera].shape[-2:])))
    error = error[:, :, 0]
    spans = [(low, min(high, frames)) for low, high in SPANS if low < frames]
    first = distance[:, 0]
    low, high = bootstrap(first, seed=seed)
    at = min(TEXTBOOK["frames"], frames)
    return {
        "starts": count,
        "frames": frames,
        "distance_px": means(distance, seed),
        "median_px": {str(h): float(np.median(distance[:, h - 1])) for h in AT if h <= frames},
        "by_frame": [float(x) for x in distance.mean(0)],
        "by_frame_interval": [[float(v) for v in part] for part in bootstrap(distance, seed=seed)],
        "lost": float(lost[:, -1].mean()),
        "floor_px": float(np.nanmean(np.hypot(floor[..., 0], floor[..., 1]))),
        "unrelated_px": unrelated(where),
        "signed_px": signed(error, dreams.truth["velocity"].astype(np.float64)[:, :, 0], seed),
        "straightness": {"frames": at, "value": straightness(error, at)},
        "per_frame_px": [float(first.mean()), float(low), float(high)],
        "laws": [compare(distance, span, seed) for span in dict.fromkeys(spans)],
    }
