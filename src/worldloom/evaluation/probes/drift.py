"""Drift: how far the plain properties of a dream leave those of the real world, at its worst moment."""

from __future__ import annotations

import warnings

import numpy as np

from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.fidelity import quantities, usual_speed
from worldloom.evaluation.probes.horizon import Long, long_dreams, window_figure, window_length, windowed, worst
from worldloom.evaluation.probes.survival import positions
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.tracker import background

LEAST_SPREAD = 0.01
"""Real windows count as spread by this share of their mean at least: a world of one disc is always equally bright,
and no difference would be small beside that."""
BEYOND = 2.0
"""A dream has left the real world where a window lies outside of what real windows show by this many of their σ."""

WORDS = {
    "brightness": "mean brightness",
    "contrast": "contrast (standard deviation within a frame)",
    "sharpness": "sharpness (mean squared difference of neighbouring pixels)",
    "area": "area of all that is not background",
    "count": "number of objects",
    "energy": "mechanical energy",
}

Three = tuple[np.ndarray, np.ndarray, np.ndarray]


@probe(
    name="drift",
    about="Do brightness, sharpness, number, size and energy stay what they are, or does the dream leave its world, "
    "even for a while?",
)
def drift(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/drift.md."""
    long = long_dreams(dreams)
    length = window_length(long)
    frames = (long.length, long.dreams.horizon, long.reference.horizon)
    fewer = _fewer(long, length)
    out: dict[str, Figure] = {}
    left, left_really = (np.zeros(len(long.dreams)) for _ in range(2))
    for name, series in (_pictures(long) | _objects(long)).items():
        dreamed, real, other = (window_means(x, end, length) for x, end in zip(series, frames, strict=True))
        out[name] = _figure(long, name, dreamed, real, other, length)
        left, left_really = np.maximum(left, beyond(dreamed, other)), np.maximum(left_really, beyond(real, other))
    out["left_the_world"] = long.dreams.figure(
        left,
        share=True,
        title="Dreams that leave the real world",
        better="lower",
        meaning=f"Share of dreams with a window of {length} frames outside of all that the real windows of other "
        f"episodes show, by {BEYOND:g} of their standard deviations, in {', '.join(out)}. The floor is the share of "
        f"true clips{fewer}.",
        floor=left_really,
        blind_to="Properties other than these, and dreams that stay usual but impossible.",
    )
    return out


def _fewer(long: Long, length: int) -> str:
    """What is to be said of a floor that has fewer windows than the dreams: the worst of more is worse."""
    dreamed, real = long.length // length, long.dreams.horizon // length
    return (
        "" if real >= dreamed else f", of {real} windows each where the dreams have {dreamed}: it is too low for them"
    )


def window_means(values: np.ndarray, frames: int, length: int) -> np.ndarray:
    """(n, J) mean of each window of values (n, T'), of those that are known; NaN where none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of windows without a value, which are NaN
        means: np.ndarray = np.nanmean(windowed(values, frames, length), 2)
    return means


def spread_of(windows: np.ndarray) -> float:
    """Standard deviation of real windows (n, J), or :data:`LEAST_SPREAD` of their mean if that is more."""
    return float(max(np.nanstd(windows), LEAST_SPREAD * abs(np.nanmean(windows)), 1e-9))


def beyond(windows: np.ndarray, real: np.ndarray) -> np.ndarray:
    """(n,) 1 where some window (n, J) lies outside of all real ones by :data:`BEYOND` of their spread, 0 elsewhere."""
    margin = BEYOND * spread_of(real)
    outside = (windows < np.nanmin(real) - margin) | (windows > np.nanmax(real) + margin)
    return np.asarray(outside.any(1), np.float64)


def _figure(long: Long, name: str, dreamed: np.ndarray, real: np.ndarray, other: np.ndarray, length: int) -> Figure:
    spread = spread_of(other)
    together = other.shape[1] < dreamed.shape[1]  # the truth ends earlier: all of its windows stand for the later ones

    def away(windows: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of windows without a value, which are NaN
            usual = np.nanmean(other[theirs]) if together else np.nanmean(other[theirs], 0)[: windows.shape[1]]
            means = np.nanmean(windows[mine], 0)
        return np.asarray(np.abs(means - usual) / spread)

    floor = away(real, np.ones(len(real), bool), np.ones(len(other), bool))
    against = "all real windows" if together else "real windows of the same frames"
    return window_figure(
        long,
        lambda mine, theirs: away(dreamed, mine, theirs),
        np.concatenate([floor, np.full(dreamed.shape[1] - len(floor), np.nan)]),
        length,
        worst,
        title=f"Drift of {WORDS[name].split(' (')[0]}",
        unit="σ",
        meaning=f"How far the {WORDS[name]} of windows of {length} dreamed frames is, on average over the dreams, from "
        f"that of {against} of other episodes, in standard deviations of real windows (1 % of their mean at least): "
        "the worst window. The floor is the same for the true frames of these starts"
        f"{_fewer(long, length)}.",
        blind_to="What changes within a window, and single dreams that go wrong (see left_the_world).",
    )


def _pictures(long: Long) -> dict[str, Three]:
    camera, prompt = long.dreams.camera, long.dreams.prompt
    other = long.reference.segment.obs[camera][:, prompt:].numpy()
    return _together([picture_series(x) for x in (long.frames, long.dreams.real[camera], other)])


def picture_series(frames: np.ndarray) -> dict[str, np.ndarray]:
    """``brightness``, ``contrast`` and ``sharpness``, each (n, T), of frames (n, T, C, H, W) uint8 (0 to 255)."""
    out = {name: np.empty(frames.shape[:2]) for name in ("brightness", "contrast", "sharpness")}
    for i, clip in enumerate(frames):
        light = clip.astype(np.float32)
        out["brightness"][i], out["contrast"][i] = light.mean((1, 2, 3)), light.std((1, 2, 3))
        across, down = np.square(np.diff(light, axis=3)), np.square(np.diff(light, axis=2))
        out["sharpness"][i] = across.mean((1, 2, 3)) + down.mean((1, 2, 3))
    return out


def _objects(long: Long) -> dict[str, Three]:
    """``area``, ``count`` and ``energy``; empty where the data do not tell where objects are."""
    if "position" not in long.dreams.truth:
        return {}
    dreams, truth, found = long.dreams, long.reference.truth, followed(long.dreams)
    other = long.reference.segment.obs[dreams.camera][:, dreams.prompt :].numpy()
    contrast = float(np.median([s.contrast for s in found.scenes]))
    ground = background(other)  # of all starts together: one start's own may hold its goal
    area = tuple(foreground(x, ground, contrast) for x in (long.frames, dreams.real[dreams.camera], other))
    known = truth["position"][:, dreams.prompt :].astype(np.float64)
    objects = known.shape[2]
    fixed = np.full(known.shape[:2], float(objects))
    counts = (*(np.stack([t.count for t in part]).astype(float) for part in (found.dreamed, found.real)), fixed)
    radius = truth["radius"][:, 0] if "radius" in truth else np.broadcast_to(found.radius.mean(0), known.shape[::2])
    gravity = dreams.world.config.gravity if dreams.world is not None else (0.0, 0.0)
    paths = [(positions(part, objects), found.radius) for part in (found.dreamed, found.real)]
    usual = usual_speed(known)
    energy = tuple(
        quantities(where, size, gravity, usual)["energy"][..., 0]
        for where, size in [*paths, (known, np.asarray(radius, np.float64))]
    )
    return {"area": area, "count": counts, "energy": energy}  # type: ignore[dict-item]


def foreground(frames: np.ndarray, ground: np.ndarray, contrast: float) -> np.ndarray:
    """(n, T) px, how much of frames (n, T, C, H, W) is not background: the sum of the difference over the contrast."""
    out = np.empty(frames.shape[:2])
    for i, clip in enumerate(frames):
        apart = np.sqrt(np.square(clip.astype(np.float32) - ground).sum(1)) / contrast
        out[i] = np.where(apart > 0.03, apart, 0).sum((1, 2))
    return out


def _together(parts: list[dict[str, np.ndarray]]) -> dict[str, Three]:
    return {name: (parts[0][name], parts[1][name], parts[2][name]) for name in parts[0]}
