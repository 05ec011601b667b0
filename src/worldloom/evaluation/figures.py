"""From frames to figures: pictures against the truth, objects against their true positions, actions against others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from worldloom.evaluation.metrics import psnr, ssim
from worldloom.evaluation.schema import Curve, Figure
from worldloom.evaluation.statistics import Statistic, bootstrap, share_interval
from worldloom.evaluation.tracker import Objects, background, calibrate_each, detect, match_clip

HORIZONS = (1, 5, 10, 20, 50, 100)
"""The horizons, in frames, that stand at the top of report.json (as far as the dreams reach)."""
PSNR_CAP = 60.0
"""dB; equal frames would be infinitely alike. Rounding to 8 bits alone costs 59 dB."""


def _list(x: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in x)


def by_horizon(
    values: np.ndarray,
    groups: np.ndarray,
    seed: int,
    statistic: Statistic,
    floor: np.ndarray | None = None,
    baselines: dict[str, np.ndarray] | None = None,
    ceiling: np.ndarray | None = None,
    *,
    title: str,
    unit: str,
    better: Literal["lower", "higher", "neither"],
    n_of: str,
    meaning: str,
    blind_to: str = "",
    hashes: dict[str, str] | None = None,
    shares: bool = False,
) -> Figure:
    """A figure from ``values`` (N, H), one row a start (or object), with ``groups`` (N,) the episode of each row.

    ``floor``, ``ceiling`` and ``baselines``, of the same shape, are summed up in the same way. ``shares``: the values
    are 0 or 1.
    """
    take = np.median if statistic == "median" else np.mean
    middle, (low, high) = take(values, axis=0), bootstrap(values, groups, statistic, seed=seed)
    if shares:
        pairs = [share_interval(column, groups, seed=seed) for column in values.T]
        low, high = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    curve = Curve(
        tuple(range(1, values.shape[1] + 1)),
        _list(middle),
        _list(low),
        _list(high),
        None if floor is None else _list(take(floor, axis=0)),
        {name: _list(take(x, axis=0)) for name, x in (baselines or {}).items()},
        None if ceiling is None else _list(take(ceiling, axis=0)),
    )
    keys = [h for h in HORIZONS if h <= values.shape[1]]

    def at(row: Sequence[float | None]) -> dict[str, float | None]:
        return {str(h): row[h - 1] for h in keys}

    def pair(h: int) -> tuple[float, float] | None:
        a, b = curve.low[h - 1], curve.high[h - 1]
        return None if a is None or b is None else (a, b)

    return Figure(
        value=at(curve.value),
        interval={str(h): pair(h) for h in keys},
        n=len(values),
        seed=seed,
        statistic=statistic,
        floor=None if curve.floor is None else at(curve.floor),
        ceiling=None if curve.ceiling is None else at(curve.ceiling),
        baselines={name: at(row) for name, row in curve.baselines.items()},
        curve=curve,
        title=title,
        unit=unit,
        better=better,
        n_of=n_of,
        meaning=meaning,
        blind_to=blind_to,
        hashes=hashes or {},
    )


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().double().numpy()


def picture_figures(true: Tensor, dream: Tensor, last: Tensor, groups: np.ndarray, seed: int) -> dict[str, Figure]:
    """PSNR and SSIM by horizon. true, dream: (B, H, C, h, w) uint8; last: (B, C, h, w), the prompt's last frame."""
    still = last[:, None].expand_as(true)

    ours, copied = _array(psnr(true, dream, PSNR_CAP)), _array(psnr(true, still, PSNR_CAP))
    ours_s, copied_s = _array(ssim(true, dream)), _array(ssim(true, still))
    blind = "Small things that matter: where most of a frame is background, erasing an object costs little."
    return {
        "psnr_db": by_horizon(
            ours, groups, seed, "mean", baselines={"copy_last": copied}, title="PSNR", unit="dB", better="higher",
            n_of="starts", blind_to=blind,
            meaning="How alike dreamed and true frames are, pixel by pixel, against repeating the prompt's last frame.",
        ),
        "psnr_gain_db": by_horizon(
            ours - copied, groups, seed, "mean", title="PSNR over copy-last", unit="dB", better="higher",
            n_of="starts", blind_to=blind,
            meaning="PSNR of the dream less that of repeating the last frame, start by start: above 0 the model knows "
            "more than its prompt shows.",
        ),
        "ssim": by_horizon(
            ours_s, groups, seed, "mean", baselines={"copy_last": copied_s}, title="SSIM", unit="", better="higher",
            n_of="starts", blind_to=blind,
            meaning="Likeness of local structure (1 is equal), against repeating the prompt's last frame.",
        ),
    }  # fmt: skip


def action_figure(true: Tensor, dream: Tensor, other: Tensor, groups: np.ndarray, seed: int) -> dict[str, Figure]:
    """What actions are worth. other: (B, H, C, h, w), dreamed from the same prompts with another start's actions."""
    horizon = other.shape[1]
    ours = psnr(true[:, :horizon], dream[:, :horizon], PSNR_CAP)
    gain = _array(ours - psnr(true[:, :horizon], other, PSNR_CAP))
    figure = by_horizon(
        gain, groups, seed, "mean", title="What actions are worth", unit="dB", better="higher", n_of="starts",
        meaning="PSNR of dreams with the true actions less that of dreams with another start's actions, same prompts "
        "and same noise. 0: the model ignores its actions.",
        blind_to="Whether the actions do the right thing, and actions that change few pixels.",
    )  # fmt: skip
    return {"action_gain_db": figure}


@dataclass(frozen=True)
class Tracked:
    """Objects of true and dreamed frames, as :func:`track` measures them."""

    error: np.ndarray
    """(B, H, K) px between dreamed and true position; a lost object has the frame's diagonal."""
    lost: np.ndarray
    """(B, H, K) bool: no detection was left for the object."""
    floor: np.ndarray
    """(B, H, K) px, the tracker's own error on the true frames."""
    still: np.ndarray
    """(B, H, K) px, error of leaving every object where the prompt's last frame shows it."""
    straight: np.ndarray | None
    """(B, H, K) px, error of going on as between the prompt's last two frames; None for a prompt of one frame."""
    count_ok: np.ndarray
    """(B, L) bool: the dreamed frame holds exactly the true number of objects."""
    count_floor: np.ndarray
    """(B, H) bool, the same of the true frames."""
    radius: float
    """px, of a typical object."""


def track(prompt: np.ndarray, true: np.ndarray, dream: np.ndarray, position: np.ndarray) -> Tracked:
    """Track the objects. prompt: (B, P, C, h, w), true: (B, H, ...), dream: (B, L >= H, ...), all uint8;
    position: (B, P + H, K, 2) true positions in px, of prompt and continuation.

    What an object looks like is learnt from each start's prompt alone, the background from all true frames together.
    """
    shown, horizon = prompt.shape[1], true.shape[1]
    ground = background(np.concatenate([prompt, true], 1))
    diagonal = float(np.hypot(*true.shape[-2:]))
    steps = np.arange(1, horizon + 1)[:, None, None]
    rows: list[tuple[np.ndarray, ...]] = []
    counts: list[tuple[np.ndarray, np.ndarray]] = []
    masses: list[np.ndarray] = []

    def error(found: np.ndarray, known: np.ndarray) -> np.ndarray:
        distance = np.sqrt(np.square(found - known).sum(-1))
        return np.where(np.isfinite(distance), np.minimum(distance, diagonal), diagonal)

    objects = position.shape[2]
    scenes = calibrate_each(list(prompt), [ground] * len(prompt), list(position[:, :shown]))
    for clip, future, dreamt, where, scene in zip(prompt, true, dream, position, scenes, strict=True):
        before, _ = match_clip(detect(clip, scene), where[:shown])
        truth: Objects = detect(future, scene)
        dreams: Objects = detect(dreamt, scene)
        known = where[shown:]
        seen, _ = match_clip(truth, known)
        got, reason = match_clip(Objects(*(x[:horizon] for x in vars(dreams).values())), known)
        on = before[-1] + steps * (before[-1] - before[-2]) if shown > 1 else np.full(known.shape, np.nan)
        rows.append((error(got, known), reason != 0, error(seen, known), error(before[-1], known), error(on, known)))
        counts.append((dreams.count == objects, truth.count == objects))
        masses.append(scene.masses)
    errors, lost, floor, still, straight = (np.stack(x) for x in zip(*rows, strict=True))
    return Tracked(
        errors, lost, floor, still, straight if shown > 1 else None,
        np.stack([c[0] for c in counts]), np.stack([c[1] for c in counts]),
        float(np.sqrt(np.median(np.concatenate(masses)) / np.pi)),
    )  # fmt: skip


def object_figures(tracked: Tracked, groups: np.ndarray, seed: int) -> dict[str, Figure]:
    """Position error, share of lost objects and share of frames with the right number of objects."""
    objects = tracked.error.shape[2]
    each = np.repeat(groups, objects)

    def rows(x: np.ndarray) -> np.ndarray:  # (B, H, K) -> (B * K, H)
        return x.transpose(0, 2, 1).reshape(-1, x.shape[1]).astype(np.float64)

    baselines = {"copy_last": rows(tracked.still)}
    if tracked.straight is not None:
        baselines["constant_velocity"] = rows(tracked.straight)
    right = tracked.count_ok.astype(np.float64)
    count = by_horizon(
        right, groups, seed, "mean", shares=True, title="Right number of objects", unit="", better="higher",
        n_of="dreams",
        meaning="Share of dreamed frames with exactly the true number of objects: none has faded, torn or doubled.",
        blind_to="An object that vanishes while another appears, and objects of the wrong size or shape.",
    )  # fmt: skip
    share = right.mean(1)
    return {
        "position_error_px": by_horizon(
            rows(tracked.error), each, seed, "median", rows(tracked.floor), baselines, title="Position error",
            unit="px", better="lower", n_of="starts × objects",
            meaning="Median distance between an object in the dream and the true one. A lost object counts as the "
            "frame's diagonal. The floor is the tracker's error on the true frames.",
            blind_to="Which of several alike objects is which: each is matched to the nearest arrangement.",
        ),
        "position_lost": by_horizon(
            rows(tracked.lost), each, seed, "mean", shares=True, title="Lost objects", unit="", better="lower",
            n_of="starts × objects", meaning="Share of true objects for which the dreamed frame holds none.",
        ),
        "object_count_ok": replace(
            count, value=float(share.mean()), interval=_finite(share_interval(share, groups, seed=seed)),
            floor=float(tracked.count_floor.mean()), baselines={}, statistic="share",
        ),
    }  # fmt: skip


def _finite(pair: tuple[float, float]) -> tuple[float, float] | None:
    return pair if bool(np.isfinite(pair).all()) else None
