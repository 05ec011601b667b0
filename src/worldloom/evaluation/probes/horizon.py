"""The long dream that the probes of long horizons share, and the exact world begun where a tracker can know it to be.

Half of the episodes dream on to ten times the training length; the others are the real world that these dreams, and
the true frames beside them, are compared with. So dream and floor are measured at one n, neither against itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from worldloom.contract import Segment
from worldloom.evaluation.battery.fitting import fit_states
from worldloom.evaluation.dreamers import extend
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes.base import NotMeasurableError
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Curve, Figure

TIMES = 10
"""A long dream has this multiple of the frames that the model was trained on."""
STARTS, FRAMES = 32, 3200
"""Long dreams, and frames of all of them together, unless ``dreams.full`` ..."""
LEAST = 8
"""... but not fewer starts than this."""


@dataclass(frozen=True)
class Long:
    """Dreams of L frames, and what is known of the truth beside and beyond them."""

    dreams: Dreams
    """The n starts that dream on; its T frames reach as far as the truth does: to L where the exact world can be
    played, else to the end of the recorded frames."""
    frames: np.ndarray
    """(n, L, C, H, W) uint8 dreamed."""
    reference: HeldOut
    """The other starts with their true frames, as far: the real world to compare with."""

    @property
    def length(self) -> int:
        """L."""
        return self.frames.shape[1]

    @property
    def true_to_the_end(self) -> bool:
        """Whether the truth is known for all L frames."""
        return self.dreams.horizon >= self.length


def long_dreams(dreams: Dreams) -> Long:
    """Dream on from the starts of half the episodes, for :data:`TIMES` times the training length. Made once a report.

    Raises :class:`NotMeasurableError` where all starts come from one episode: nothing real is left to compare with.
    """
    return dreams.once("long", lambda: _dream_on(dreams))


def _dream_on(dreams: Dreams) -> Long:
    length = max(TIMES * dreams.trained_frames, dreams.horizon)
    names = np.unique(dreams.episodes)
    if len(names) < 2:
        raise NotMeasurableError(
            "All starts come from one held-out episode, and half of the episodes is needed as the real world that the "
            "long dreams are compared with. Collect more episodes."
        )
    ours = np.isin(dreams.episodes, names[: (len(names) + 1) // 2])
    rows, others = np.flatnonzero(ours), np.flatnonzero(~ours)
    if not dreams.full:
        most = max(LEAST, min(STARTS, FRAMES // length))
        rows, others = rows[:most], others[:most]
    held, reference = (_known(dreams, dreams.held.rows(part), length) for part in (rows, others))
    frames = dreams.dream(frames=length, rows=rows)
    return Long(dreams.of(held, frames), frames[dreams.camera], reference)


def _known(dreams: Dreams, held: HeldOut, length: int) -> HeldOut:
    """``held`` with the truth up to ``length`` frames after the prompt, where the exact world can be played on."""
    known, world = held.horizon, dreams.world
    if world is None or known >= length or not {"position", "velocity", "radius"} <= set(held.truth):
        return held
    control = extend(held.control, length)
    later = {name: x[:, known:] for name, x in control.items()}
    start = {n: x[:, -1].astype(np.float64) for n, x in held.truth.items() if x.dtype.kind == "f"}
    played = world.play(start, later["action"].numpy() if "action" in later else None, length - known)
    seen = torch.cat([held.segment.obs[dreams.camera], torch.from_numpy(played.frames[:, 1:])], 1)
    whole = torch.zeros(seen.shape[:2], dtype=torch.bool)
    whole[:, : held.segment.length] = held.segment.first
    given = {n: torch.cat([x, later[n].to(x.dtype)], 1) for n, x in held.segment.control.items() if n in later}
    segment = Segment({dreams.camera: seen}, given, whole, torch.ones_like(whole))
    truth = {n: np.concatenate([x, played.truth[n][:, 1:]], 1) for n, x in held.truth.items() if n in played.truth}
    return HeldOut(segment, truth, control, held.episodes, held.prompt, held.notes)


def window_length(long: Long) -> int:
    """Frames of the windows that long dreams are cut into: those of training, but four windows at least, and none
    longer than the truth that is known. Raises :class:`NotMeasurableError` where that is a single frame."""
    known = min(long.dreams.horizon, long.reference.horizon)
    if known < 2:
        raise NotMeasurableError("A single true frame is known after the prompt, and 2 are needed to compare windows.")
    return max(2, min(long.dreams.trained_frames, long.length // 4, known))


def windowed(values: np.ndarray, frames: int, length: int) -> np.ndarray:
    """(n, J, length, ...) of values (n, T', ...) that belong to the last T' of ``frames`` frames: cut into windows, NaN
    before the first value, what is left over at the end dropped."""
    count = frames // length
    lead = np.full((len(values), frames - values.shape[1], *values.shape[2:]), np.nan)
    whole = np.concatenate([lead, values], 1)[:, : count * length]
    return whole.reshape(len(values), count, length, *values.shape[2:])


Windowed: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A curve (J,) over windows, from those of our starts (n,) and of the other ones (m,) that are kept, both bool."""


def late(values: np.ndarray) -> float:
    """The mean over all windows but the first, of those that could be measured; NaN where none could."""
    known = values[1:] if len(values) > 1 else values
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")


def worst(values: np.ndarray) -> float:
    """The largest value of all windows that could be measured; NaN where none could."""
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else float("nan")


def jackknife(
    curve: Windowed, summary: Callable[[np.ndarray], float], ours: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(J + 1,) low and high ends of the intervals of 95 % of a curve's values and, last, of its summary, by leaving
    out one episode at a time (Efron & Stein 1981). Drawing anew with replacement, as elsewhere, would itself move two
    samples apart. NaN where one side has a single episode. ours, others: the episodes of the starts."""

    def whole(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        values = curve(mine, theirs)
        return np.append(values, summary(values))

    every = np.ones(len(ours), bool), np.ones(len(others), bool)
    middle, variance = whole(*every), np.zeros(1)
    for side, groups in enumerate((ours, others)):
        names = np.unique(groups)
        if len(names) < 2:
            return np.full_like(middle, np.nan), np.full_like(middle, np.nan)
        left = np.stack([whole(*(groups != name if i == side else every[i] for i in range(2))) for name in names])
        variance = variance + (len(names) - 1) / len(names) * np.square(left - left.mean(0)).sum(0)
    half = 1.96 * np.sqrt(variance)
    return middle - half, middle + half


def window_figure(
    long: Long,
    curve: Windowed,
    floor: np.ndarray,
    length: int,
    summary: Callable[[np.ndarray], float],
    *,
    title: str,
    unit: str,
    meaning: str,
    blind_to: str,
    signed: bool = False,
) -> Figure:
    """A distance from the real world, smaller being better: its curve over windows of ``length`` frames, and the
    curve's ``summary`` as the figure's value. floor: the same curve of the true frames. signed: it may fall below 0."""
    ours, others = long.dreams.episodes, long.reference.episodes
    values = curve(np.ones(len(ours), bool), np.ones(len(others), bool))
    low, high = jackknife(curve, summary, ours, others)
    low = low if signed else np.maximum(low, 0)
    unknown = int((~np.isfinite(values)).sum())
    if unknown:
        meaning += f" {unknown} of {len(values)} windows hold too little to be measured."
    interval = listed(np.array([low[-1], high[-1]]))
    return Figure(
        value=listed(np.array([summary(values)]))[0],
        interval=None if interval[0] is None or interval[1] is None else (interval[0], interval[1]),
        n=len(ours),
        n_of="dreams",
        seed=long.dreams.seed,
        title=title,
        unit=unit,
        statistic="mean",
        better="lower",
        meaning=meaning,
        blind_to=blind_to,
        floor=listed(np.array([summary(floor)]))[0],
        curve=Curve(
            tuple(length * (j + 1) for j in range(len(values))),
            listed(values),
            listed(low[:-1]),
            listed(high[:-1]),
            listed(floor),
        ),
    )


def listed(x: np.ndarray) -> tuple[float | None, ...]:
    """For a report: what is not finite is None."""
    return tuple(float(v) if np.isfinite(v) else None for v in x)


def best_guess(dreams: Dreams) -> np.ndarray | None:
    """(n, T, K, 2) px where the exact world leads the objects, begun where the tracker sees them in the prompt: what
    can be known of the future by whoever sees pictures. None without an exact world, or for a prompt of one frame,
    which shows no velocity. Made once for these dreams."""
    return dreams.once("best guess", lambda: _guess(dreams))


def _guess(dreams: Dreams) -> np.ndarray | None:
    world, n = dreams.world, len(dreams)
    if world is None or dreams.prompt < 2 or "velocity" not in dreams.truth:
        return None
    state = fit_states(world, dreams.held, np.zeros(n, int), np.arange(n))
    now = {name: x[:, -1].astype(np.float64) for name, x in dreams.truth_shown.items() if name in ("radius", "goal")}
    box = np.array([world.config.width, world.config.height], float)
    state["position"] = settled(state["position"], now["radius"], box)
    control = extend(dreams.held.control, dreams.horizon)
    action = control["action"].numpy() if "action" in control else None
    return np.asarray(world.play(state | now, action, dreams.horizon).truth["position"][:, 1:])


def settled(position: np.ndarray, radius: np.ndarray, box: np.ndarray, rounds: int = 50) -> np.ndarray:
    """(n, K, 2) the nearest places at which discs lie in the box and do not overlap (by parting pairs in turn)."""
    edge = radius[:, :, None]
    x = np.clip(position, edge, box - edge)
    first, second = np.triu_indices(radius.shape[1], 1)
    for _ in range(rounds if len(first) else 0):
        away = x[:, second] - x[:, first]
        distance = np.sqrt(np.square(away).sum(-1)).clip(1e-9)
        deep = (radius[:, first] + radius[:, second] - distance).clip(0)
        if deep.max() <= 1e-4:
            break
        shift = (0.5 * deep / distance)[..., None] * away
        for pair, (i, j) in enumerate(zip(first, second, strict=True)):
            x[:, i] -= shift[:, pair]
            x[:, j] += shift[:, pair]
        x = np.clip(x, edge, box - edge)
    return x


__all__ = [
    "Long",
    "best_guess",
    "long_dreams",
    "settled",
    "window_figure",
    "window_length",
    "windowed",
]
