"""Do objects stay: how many are still there after so many frames, how often one vanishes, appears, merges or swaps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Curve, Figure
from worldloom.evaluation.statistics import share_interval
from worldloom.evaluation.survival import Lives, survival
from worldloom.evaluation.tracking import FADED, LOST, MERGED, Tracks

PATIENCE = 3
"""Frames in a row that make a loss, a birth, a merger or a swap; fewer may be the tracker's."""
OTHER = 60.0
"""Distance in colour, of 441, from which on two objects are told apart by it."""


@dataclass(frozen=True)
class Fates:
    """What became of the K objects of n starts."""

    end: np.ndarray
    """(n, K) frames until it was lost for the first time; T where it never was, or was last seen merged (censored)."""
    died: np.ndarray
    """(n, K) bool: lost at ``end``, rather than out of sight from then on (within a merged blob until the end)."""
    happened: dict[str, np.ndarray]
    """``vanish``, ``appear``, ``merge``, ``swap``: (n,) how often, in objects."""


def _starts(what: np.ndarray) -> np.ndarray:
    """First frames of the runs of at least :data:`PATIENCE` in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], what, [False]]).astype(int)))
    begin, end = edges[::2], edges[1::2]
    return begin[end - begin >= PATIENCE]


def fates(tracks: list[Tracks], looks: np.ndarray) -> Fates:
    """What became of the objects. looks: (n, K, C) their colours in the prompt, NaN where it does not show them."""
    count, frames = looks.shape[1], len(tracks[0].count)
    end = np.full((len(tracks), count), frames)
    died = np.zeros((len(tracks), count), bool)
    happened = {name: np.zeros(len(tracks)) for name in ("vanish", "appear", "merge", "swap")}
    for row, one in enumerate(tracks):
        gone = (one.reason == LOST) | (one.reason == FADED)
        for k in range(count):
            lost, merged = _starts(gone[:, k]), _starts(one.reason[:, k] == MERGED)
            happened["vanish"][row] += len(lost)
            happened["merge"][row] += len(merged)
            fused = np.flatnonzero(one.reason[:, k] != MERGED)
            last = int(fused[-1]) + 1 if len(fused) else 0
            if len(lost):
                end[row, k], died[row, k] = lost[0], True
            elif frames - last >= PATIENCE:
                end[row, k] = last
        extra = sum(len(_starts(one.seen[:, k])) > 0 for k in range(count, one.seen.shape[1]))
        happened["appear"][row] = max(extra, len(_starts(one.count > count)))
        happened["swap"][row] = _swaps(one, looks[row])
    return Fates(end, died, happened)


def _swaps(one: Tracks, looks: np.ndarray) -> int:
    """How often an object wears the colour of another one, or two are where the other one should be."""
    count = len(looks)
    if count < 2:
        return 0
    apart = np.linalg.norm(looks[:, None] - looks[None], axis=-1)
    found = 0
    for k in range(count):
        others = [j for j in range(count) if apart[k, j] > OTHER]
        if not others:
            continue
        far = np.linalg.norm(one.colour[:, k, None] - looks[[k, *others]], axis=-1)  # (T, 1 + others)
        with np.errstate(invalid="ignore"):
            found += len(_starts(far[:, 1:].min(1) < 0.5 * far[:, 0]))
    position = one.position[:, :count]
    due = 2 * position[1:-1] - position[:-2]  # where each should be by the two frames before
    now = position[2:]
    for i in range(count):
        for j in range(i + 1, count):
            crossed = np.hypot(*(now[:, i] - due[:, j]).T) + np.hypot(*(now[:, j] - due[:, i]).T)
            straight = np.hypot(*(now[:, i] - due[:, i]).T) + np.hypot(*(now[:, j] - due[:, j]).T)
            with np.errstate(invalid="ignore"):
                found += 2 * int(((crossed < 2) & (straight > crossed + 8)).sum())
    return found


def lives(of: Fates) -> Lives:
    """Of all objects of all starts, start by start, as :mod:`~worldloom.evaluation.survival` takes them."""
    died = of.died.ravel()
    return Lives(of.end.ravel() + died, died)  # lost at frame index t: it failed by the end of frame t + 1


def _survival(dreams: Dreams, dreamed: Fates, real: Fates) -> Figure:
    """The survival curve of the start's objects, with an interval from drawing episodes anew."""
    frames = dreams.horizon

    def there(of: Fates) -> np.ndarray:
        return ((of.end[..., None] > np.arange(frames)) | ~of.died[..., None]).mean(1)

    figure = dreams.figure(
        there(dreamed), share=True, floor=there(real), title="Objects still there", better="higher", n_of="starts",
        meaning="Share of the objects of the start that were never lost, frame by frame (Kaplan-Meier: an object that "
        f"is out of sight within another counts until then). Lost is unseen for {PATIENCE} frames.",
        blind_to="An object that is lost and found again, and objects that appear: see vanish and appear.",
    )  # fmt: skip
    labels = np.unique(dreams.episodes, return_inverse=True)[1].reshape(-1)
    count, objects = int(labels.max()) + 1, dreamed.end.shape[1]

    def curve(of: Fates, weights: np.ndarray | None = None) -> np.ndarray:
        return survival(lives(of), frames, weights)

    value, floor = curve(dreamed)[0], curve(real)[0]
    assert figure.curve is not None
    low, high = np.array(figure.curve.low, float), np.array(figure.curve.high, float)
    if dreamed.died.any() and count > 1:
        drawn = np.random.default_rng(dreams.seed).multinomial(count, np.full(count, 1 / count), 1000)
        draws = curve(dreamed, np.repeat(drawn[:, labels], objects, 1).astype(float))
        some = (value < 1) & (value > 0)  # where none or all are lost the exact limit of a share holds
        if some.any():
            low[some], high[some] = np.nanquantile(draws[:, some], [0.025, 0.975], axis=0)
    rows = [tuple(float(x) if np.isfinite(x) else None for x in row) for row in (value, low, high, floor)]
    keys = list(figure.value) if isinstance(figure.value, dict) else []

    def at(row: tuple[float | None, ...]) -> dict[str, float | None]:
        return {h: row[int(h) - 1] for h in keys}

    ends = {h: (a, b) for h, a, b in zip(keys, at(rows[1]).values(), at(rows[2]).values(), strict=True)}
    return dataclasses.replace(
        figure,
        value=at(rows[0]),
        interval={h: (a, b) if a is not None and b is not None else None for h, (a, b) in ends.items()},
        floor=at(rows[3]),
        curve=Curve(figure.curve.horizon, rows[0], rows[1], rows[2], rows[3]),
    )


def _both(dreams: Dreams) -> tuple[Fates, Fates]:
    def make() -> tuple[Fates, Fates]:
        found = followed(dreams)
        looks = prompt_colour(found.shown, found.radius.shape[1])
        return fates(found.real, looks), fates(found.dreamed, looks)

    return dreams.once("fates", make)


def prompt_colour(shown: list[Tracks], count: int) -> np.ndarray:
    """(n, K, C) median colour of each object over the prompt's frames; NaN where none shows it."""
    return np.stack([median_seen(one.colour[:, :count]) for one in shown])


def median_seen(values: np.ndarray) -> np.ndarray:
    """Median over the first axis of what is not NaN; NaN where there is nothing."""
    out = np.full(values.shape[1:], np.nan)
    some = np.isfinite(values).any(0)
    out[some] = np.nanmedian(values[:, some], 0)
    return out


def staying(dreams: Dreams) -> Invariant:
    """Objects lost by the end, as an invariant."""
    real, dreamed = _both(dreams)
    objects = dreamed.end.shape[1]
    return Invariant(
        "lost", "Objects lost", "Share of the start's objects that were lost at some time in the dream.",
        dreamed.died.ravel().astype(float), np.repeat(np.arange(len(dreams)), objects),
        real.died.ravel().astype(float), "objects", statistic="mean", share=True, tolerance=0.1,
        blind_to="What becomes of an object within another one's blob.",
    )  # fmt: skip


@probe(name="permanence", truth=("position",), about="Do the objects of the start stay, and no others come?")
def permanence(dreams: Dreams) -> dict[str, Figure]:
    """Survival of the start's objects; how often one vanishes, appears, merges or swaps; dreams without any of it."""
    real, dreamed = _both(dreams)
    out = {"survival": _survival(dreams, dreamed, real), "lost": staying(dreams).figure(dreams)}
    words = {
        "vanish": ("Objects that vanish", f"An object of the start is unseen for {PATIENCE} frames or more."),
        "appear": ("Objects that appear", "An object that was not there at the start is seen."),
        "merge": ("Objects that merge", "Two objects are one blob that can't be parted."),
        "swap": ("Identities swapped", "An object looks as another one did, or is where another one should be."),
    }
    frames = dreams.horizon
    for name, (title, meaning) in words.items():
        out[name] = dreams.figure(
            100 / frames * dreamed.happened[name], floor=100 / frames * real.happened[name], better="lower",
            title=title, unit="per 100 frames", meaning=f"{meaning} Lasting for {PATIENCE} frames.",
            blind_to="Objects that swap and look alike, where they meet." if name == "swap" else "",
        )  # fmt: skip
        if not dreamed.happened[name].any():
            # never seen is not never: in what share of dreams it may still happen once
            most = share_interval(np.zeros(len(dreams)), dreams.episodes)[1]
            out[name] = dataclasses.replace(out[name], interval=(0.0, 100 / frames * most))
    whole = [np.sum(list(x.happened.values()), 0) == 0 for x in (dreamed, real)]
    out["whole"] = dreams.figure(
        whole[0].astype(float), floor=whole[1].astype(float), share=True, better="higher",
        title="Dreams that keep their objects", meaning="Share of dreams in which none of this happens.",
    )  # fmt: skip
    return out


__all__ = ["Fates", "fates", "lives", "median_seen", "permanence", "prompt_colour", "staying"]
