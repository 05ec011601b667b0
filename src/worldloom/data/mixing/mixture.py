"""Several datasets as one: batches mixed by weight, whatever their sizes and actions, as the user says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from worldloom.configs import to_json
from worldloom.contract import Segment, Spec, mix, row_keys
from worldloom.data.episode import DataError
from worldloom.data.gather import empty
from worldloom.data.index import canonical
from worldloom.data.mixing.actions import Actions, describe_action
from worldloom.data.mixing.adapt import NOWHERE, Reading, View
from worldloom.data.mixing.agree import Terms, agree
from worldloom.data.store import Dataset
from worldloom.data.windows import Windows

_PLACE = 0x6D6978  # of the draw that decides which dataset a row comes from


class Mixture:
    """Datasets that are trained on together: each row of a batch comes from one of them, drawn by ``weights``.

    datasets: :class:`Dataset` or the folders of such. weights: a positive number each; by default their numbers of
    frames, so that every frame counts the same. Datasets of one spec are simply mixed. What differs must be settled:

    * ``size``: (height, width) of all pictures, or ``"first"``; they are resized when read. ``fit`` says what happens
      to pictures of another shape.
    * ``sensors``: those to keep. ``"camera=image"``: the one called camera, or image where there is none.
    * ``actions``: ``"same"`` (equal in number, they mean what the first's mean), ``"union"`` (side by side, those of
      one name merged; choices become entries of 0 and 1 where others have numbers; plain video has null actions),
      ``"drop"`` (plain video), or a map from a dataset's name to ``{its choice or entry: the first's, or "none"}``.
    * ``fps``: ``"stride"`` (every k-th frame of the faster ones) or ``"ignore"``.

    Rewards and true ends are known of a mixture where they are known of all parts. Raises :class:`DataError` that lists
    all that differs and is not settled.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset | str | Path],
        weights: Sequence[float | int] | None = None,
        *,
        size: tuple[int, int] | Literal["first"] | None = None,
        fit: Literal["strict", "crop", "pad", "stretch"] = "strict",
        sensors: Sequence[str] | None = None,
        actions: Actions | None = None,
        fps: Literal["stride", "ignore"] | None = None,
    ):
        if not datasets:
            raise DataError("Give at least one dataset to mix.")
        sources = [d if isinstance(d, Dataset) else Dataset(d) for d in datasets]
        self.names = part_names([s.path for s in sources])
        """What the parts are called: the folder's name, with as much of its path as tells them apart."""
        _check(self.names, sources, weights)
        terms = Terms(size, fit, None if sensors is None else tuple(sensors), actions, fps)
        self.spec, readings = agree(self.names, [s.spec for s in sources], terms)
        known = {n: all(getattr(s, f"has_{n}") for s in sources) for n in ("reward", "terminal")}
        self.readings = [
            Reading(r.sensors, r.fit, r.stride, r.action, known["reward"], known["terminal"]) for r in readings
        ]
        self.sources = sources
        self.parts: list[Dataset] = [read(s, self.spec, r) for s, r in zip(sources, self.readings, strict=True)]
        """The datasets as they are read: themselves where nothing has to be changed, else as a :class:`View`."""
        counts = np.array([p.frames for p in self.parts] if weights is None else list(weights), np.float64)
        self.shares: np.ndarray = counts / counts.sum()
        """(parts,) float64: expected share of the rows of a batch; they sum to 1."""
        self.path = sources[0].path

    def __repr__(self) -> str:
        parts = ", ".join(f"{n} {share:.1%}" for n, share in zip(self.names, self.shares, strict=True))
        return f"Mixture({parts}; {self.frames:,} frames)"

    @property
    def frames(self) -> int:
        """Number of frames of all parts, as they are read."""
        return sum(part.frames for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """A hash of the parts, of how they are read, and of their shares."""
        named = [[p.fingerprint, share] for p, share in zip(self.parts, self.shares.tolist(), strict=True)]
        return hashlib.sha256(canonical({"mixture": named}).encode()).hexdigest()[: len(self.parts[0].fingerprint)]

    def windows(self, split: str = "train", length: int = 16) -> MixedWindows:
        """What training draws its batches from."""
        return MixedWindows(self, split, length)

    def remembered(self, run: Path) -> dict[str, Any]:
        """What the config.json of a run in the folder ``run`` says of its data, as plain JSON."""
        parts = []
        for name, source, reading, share in zip(self.names, self.sources, self.readings, self.shares, strict=True):
            entry = {"name": name, **source.remembered(run), "share": float(share), "spec": source.spec.to_json()}
            parts.append(entry | {"reading": to_json(reading)})
        paths = [part["path"] for part in parts]
        return {"path": paths, "fingerprint": self.fingerprint, "spec": self.spec.to_json(), "parts": parts}

    def notes(self) -> list[str]:
        """What is mixed and how each part is read, a line each."""
        lines = []
        for name, source, part, share in zip(self.names, self.sources, self.parts, self.shares, strict=True):
            how = describe_reading(source, part)
            lines.append(f"{share:.1%} of {name} ({part.frames:,} frames){': ' + how if how else ''}.")
        for what in ("reward", "terminal"):
            known = [n for n, s in zip(self.names, self.sources, strict=True) if getattr(s, f"has_{what}")]
            if 0 < len(known) < len(self.names):
                word = {"reward": "Rewards", "terminal": "True ends"}[what]
                lines.append(f"{word} are known of {', '.join(known)} alone, so they are left out.")
        return lines


class MixedWindows:
    """Windows of a mixture, with the face of :class:`Windows`. Episodes are numbered through all parts, in order.

    A part without an episode in the split is left out (its share goes to the others), unless none has any.
    """

    def __init__(self, mixture: Mixture, split: str = "train", length: int = 16):
        self.dataset, self.length = mixture, length
        found: list[tuple[int, Windows]] = []
        missing: dict[str, DataError] = {}
        for number, part in enumerate(mixture.parts):
            try:
                found.append((number, part.windows(split, length)))
            except DataError as error:
                missing[mixture.names[number]] = error
        if not found:
            raise next(iter(missing.values()))
        self.left_out = tuple(missing)
        """Parts without an episode in the split."""
        shares = mixture.shares[[n for n, _ in found]]
        self._shares = shares / shares.sum()
        self._cumulative = np.cumsum(self._shares)
        self._windows = [w for _, w in found]
        self._names = [mixture.names[n] for n, _ in found]
        firsts = np.cumsum([0, *(len(p) for p in mixture.parts)])
        self._first = firsts[[n for n, _ in found]]
        self.episodes: np.ndarray = np.concatenate(
            [w.episodes + first for w, first in zip(self._windows, self._first, strict=True)]
        )
        """(n,) int64: numbers of the episodes."""
        self.count = sum(w.count for w in self._windows)
        """Number of different windows."""

    def __len__(self) -> int:
        """Number of different windows."""
        return self.count

    @property
    def parts(self) -> tuple[tuple[str, float, Windows], ...]:
        """Name, share of the rows and windows of each dataset."""
        return tuple(zip(self._names, self._shares.tolist(), self._windows, strict=True))

    @property
    def longest(self) -> int:
        """Frames that the longest episode has in the part where that is least, single frames aside: so that starts are
        found in all parts."""
        return min((w.longest for w in self._windows if w.longest > 1), default=1)

    def place(self, keys: Tensor) -> np.ndarray:
        """(B,) which of :attr:`parts` the rows with these (B,) int64 keys come from."""
        draws = mix(keys, _PLACE).numpy().view(np.uint64) >> np.uint64(11)
        places = np.searchsorted(self._cumulative, draws.astype(np.float64) * 2.0**-53, side="right")
        return np.minimum(places, len(self._windows) - 1)  # shares may sum to a little less than 1

    def batch(self, size: int, seed: int, step: int, device: str | torch.device = "cpu") -> Segment:
        """As :meth:`Windows.batch`: the dataset of row i, and its window, depend on (seed, step, i) alone."""
        if size < 1:
            raise DataError(f"A batch needs at least one row, found {size}.")
        keys = mix(row_keys(size, seed), step)
        places = self.place(keys)
        rows = [np.flatnonzero(places == n) for n in range(len(self._windows))]
        drawn = [(r, w.drawn(keys[torch.from_numpy(r)])) for r, w in zip(rows, self._windows, strict=True) if len(r)]
        segment = join_rows(drawn, size, torch.device(device).type == "cuda")
        return segment if str(device) == "cpu" else segment.to(device)

    def sequence(self, episode: int, start: int = 0, length: int | None = None) -> Segment:
        """One window (1, length, ...) of an episode."""
        return self.segment([(episode, start)], length)

    def segment(self, starts: Sequence[tuple[int, int]], length: int | None = None) -> Segment:
        """Windows from given (episode, start) pairs, (len(starts), length, ...)."""
        if not starts:
            raise DataError("Give at least one (episode, start).")
        numbers = np.array([episode for episode, _ in starts])
        places = np.searchsorted(self._first, numbers, side="right") - 1
        if (unknown := numbers[~np.isin(numbers, self.episodes)]).size:
            raise DataError(f"There is no episode {unknown[0]} among these: see MixedWindows.episodes.")
        drawn = []
        for place, windows in enumerate(self._windows):
            rows = np.flatnonzero(places == place)
            own = [(starts[r][0] - int(self._first[place]), starts[r][1]) for r in rows.tolist()]
            if own:
                drawn.append((rows, windows.segment(own, length)))
        return join_rows(drawn, len(starts), False)

    def starts(self, count: int, prompt: int, horizon: int, seed: int = 0) -> list[tuple[int, int]]:
        """As :meth:`Windows.starts`, taken from the parts in turn; those without a long enough episode have none."""
        found: list[list[tuple[int, int]]] = []
        short: list[DataError] = []
        for windows, first in zip(self._windows, self._first.tolist(), strict=True):
            try:
                found.append([(e + first, t) for e, t in windows.starts(count, prompt, horizon, seed)])
            except DataError as error:
                short.append(error)
        if not found:
            raise short[0]
        return [start for turn in zip_longest(*found) for start in turn if start is not None][:count]


def join_rows(parts: Sequence[tuple[np.ndarray, Segment]], size: int, pin: bool) -> Segment:
    """Segments of one spec as one of ``size`` rows, each part's rows at the places given with it."""
    segments = [segment for _, segment in parts]
    first = segments[0]
    if len(parts) == 1 and not pin:
        return first  # all rows, in order

    def joined(tensors: list[Tensor]) -> Tensor:
        arrays = [tensor.numpy() for tensor in tensors]
        out, array = empty((size, *arrays[0].shape[1:]), arrays[0].dtype, pin)
        for (rows, _), values in zip(parts, arrays, strict=True):
            array[rows] = values
        return out

    return Segment(
        {name: joined([s.obs[name] for s in segments]) for name in first.obs},
        {name: joined([s.control[name] for s in segments]) for name in first.control},
        joined([s.first for s in segments]),
        joined([s.valid for s in segments]),
        None if first.reward is None else joined([s.reward for s in segments if s.reward is not None]),
        None if first.terminal is None else joined([s.terminal for s in segments if s.terminal is not None]),
        first.once,
    )


def read(source: Dataset, spec: Spec, reading: Reading) -> Dataset:
    """``source`` read as ``spec``: itself where that changes nothing."""
    loses = (source.has_reward and not reading.reward) or (source.has_terminal and not reading.terminal)
    plain = reading.stride == 1 and reading.action is None and not loses
    if plain and source.spec == spec and all(a == b for a, b in reading.sensors.items()):
        return source
    return View(source, spec, reading)


def describe_reading(source: Dataset, part: Dataset) -> str:
    """What is changed in a dataset when it is read, in words; empty for nothing."""
    if not isinstance(part, View):
        return ""
    said = []
    for name, how in part.fits.items():
        (h, w), (high, wide) = how.source, how.size
        said.append(f"{name} {h}×{w} read as {high}×{wide}")
    renamed = [f"{own} read as {name}" for name, own in part.reading.sensors.items() if name != own]
    kept = {*part.reading.sensors.values(), *part.spec.given, "action"}
    left = [n for n in (*source.spec.shown, *source.spec.given) if n not in kept]
    said += renamed + ([f"left out {', '.join(left)}"] if left else [])
    if part.reading.stride > 1:
        said.append(f"every {part.reading.stride}. frame")
    elif source.spec.fps != part.spec.fps:
        said.append(f"{source.spec.fps:g} frames/s taken for {part.spec.fps:g}")
    own, common, places = source.spec.action, part.spec.action, part.reading.action
    if own is not None and common is not None and places is not None:
        labels = [common.names[p] if common.names else str(p) for p in places if p != NOWHERE]
        said.append(f"its {describe_action(own)} read as {', '.join(labels)}" if len(labels) <= 8 else "actions mapped")
    elif own is None and common is not None:
        said.append("no actions known, so null ones")
    elif own != common:
        said.append(f"actions {describe_action(own)} read as {describe_action(common)}")
    return "; ".join(said)


def part_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    whole = [p.resolve().parts for p in paths]
    for size in range(1, max(map(len, whole)) + 1):
        names = ["/".join(p[-size:]) for p in whole]
        if len(set(names)) == len(names):
            return names
    twice = next(path for i, path in enumerate(paths) if whole[i] in whole[:i])
    raise DataError(f"{twice} is given twice. Give it once, and a weight.")


def _check(names: Sequence[str], sources: Sequence[Dataset], weights: Sequence[float | int] | None) -> None:
    """Raise :class:`DataError` unless all are different and have a good weight."""
    seen: dict[str, str] = {}
    for name, source in zip(names, sources, strict=True):
        if source.fingerprint in seen:
            raise DataError(
                f"{seen[source.fingerprint]} and {name} hold the same episodes. Give one of them, and a weight."
            )
        seen[source.fingerprint] = name
    if weights is None:
        return
    if len(weights) != len(names):
        raise DataError(f"{len(names)} datasets need {len(names)} weights, found {len(weights)}: {list(weights)}.")
    for name, weight in zip(names, weights, strict=True):
        if not (weight > 0 and math.isfinite(weight)):
            raise DataError(f"The weight of {name} must be a positive number, found {weight:g}. Leave it out instead.")


__all__ = ["MixedWindows", "Mixture", "describe_reading", "part_names", "read"]
