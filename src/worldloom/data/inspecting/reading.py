"""A bounded, seeded sample of what lies at a path: a dataset, or recordings not yet imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Spec, WorldloomError
from worldloom.data.episode import DataError, Episode
from worldloom.data.importing import WHOLE
from worldloom.data.sources import ImportConfig, Problem, Source, open_source
from worldloom.data.splits import assign
from worldloom.data.store import Dataset

_SHORTEST_WINDOW = 100


@dataclass(frozen=True)
class Entry:
    """An episode, or a run of its frames."""

    where: str
    """What messages call it."""
    number: int
    """Its place among all episodes (of a source: among those read)."""
    episode: Episode
    """The frames that are looked at."""
    start: int = 0
    """Number of the first of them in its episode or recording."""
    split: str = ""
    """``train``, ``val``, ``test``; empty where not decided yet."""
    recording: str = ""
    """What it was cut out of, where that is known."""


@dataclass
class Opened:
    """What lies at a path, before its frames are read."""

    path: str
    """As given."""
    format: str
    """``worldloom``, or the name of a source's format."""
    spec: Spec
    """What every episode shows and is given."""
    episodes: int
    """Episodes of a dataset; recordings of a source."""
    lengths: list[int] | None
    """Frames of each, where all are known."""
    bytes: int | None
    """Of the files, where known."""
    splits: dict[str, int]
    """Episodes by split; empty where not decided."""
    notes: list[str]
    """What the source's reader understood."""
    problems: list[Problem] = field(default_factory=list)
    """What can't be read; more are added while reading."""
    verified: bool | None = None
    """Whether every hash is right; None for a source, which has none."""
    collected: bool = False
    """Whether this library collected it, so that actions stand where they belong."""
    pairing: str = ""
    """By which rule the actions were paired, where they were imported and that is known."""
    dataset: Dataset | None = None
    source: Source | None = None

    def read(self, episodes: int, frames: int, seed: int) -> Iterator[Entry]:
        """At most ``episodes`` of them and about ``frames`` frames in all; the choice is a function of the seed."""
        if self.dataset is not None:
            yield from _from_dataset(self.dataset, episodes, frames, seed, self.problems)
        elif self.source is not None:
            yield from _from_source(self.source, episodes, frames, seed, self.problems)


def open_path(path: str | Path, config: ImportConfig | None = None, *, verify: bool = True) -> Opened:
    """Open a dataset, or whatever :func:`~worldloom.data.sources.open_source` can."""
    path = Path(path)
    if not (path / "dataset.json").is_file():
        source = open_source(path, config)
        counts = [item.frames for item in source.items]
        known = [n for n in counts if n is not None]
        return Opened(
            str(path),
            source.format,
            source.spec,
            len(source.items),
            known if len(known) == len(counts) else None,
            _size(path),
            {},
            list(source.notes),
            list(source.problems),
            pairing=_rule(source.format, source.config.pairing) if source.spec.action is not None else "",
            source=source,
        )
    dataset = Dataset(path)
    problems, verified = [], None
    if verify:
        try:
            dataset.verify()
            verified = True
        except DataError as error:
            verified = False
            problems.append(Problem(str(path), str(error), "damaged"))
    imported = dataset.info.get("import")
    settings: Any = imported.get("config") if isinstance(imported, dict) else None
    return Opened(
        str(path),
        "worldloom",
        dataset.spec,
        len(dataset),
        dataset.lengths.tolist(),
        int(dataset.index.bytes.sum()),
        {name: len(part) for name, part in dataset.splits.items()},
        [],
        problems,
        verified,
        collected="world" in dataset.info,
        pairing=_rule(imported.get("format"), settings.get("pairing"))
        if imported and isinstance(settings, dict)
        else "",
        dataset=dataset,
    )


def _rule(format: Any, pairing: Any) -> str:
    """``next`` or ``same``; empty where the files themselves decided (or Minari's rule, which nothing changes)."""
    if format == "minari" or (pairing == "auto" and format in ("npz", "hdf5")):
        return ""
    return "same" if pairing == "same" else "next"


def from_episodes(spec: Spec, episodes: Sequence[Episode], path: str = "episodes") -> Opened:
    """The same for episodes in memory."""
    return Opened(path, "memory", spec, len(episodes), [e.length for e in episodes], None, {}, [])


def _size(path: Path) -> int | None:
    try:
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        return sum(p.stat().st_size for p in files)
    except OSError:
        return None


def _window(length: int, most: int, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, length - most + 1)) if length > most else 0
    return start, min(length, start + most)


def _from_dataset(dataset: Dataset, episodes: int, frames: int, seed: int, problems: list[Problem]) -> Iterator[Entry]:
    rng = np.random.default_rng([seed, 1])
    chosen = np.arange(len(dataset))
    if len(chosen) > episodes:  # val and test are small and matter for leaks: at most a third of the sample
        held = np.concatenate([dataset.splits["val"], dataset.splits["test"]])
        held = rng.permutation(held)[: max(2, episodes // 3)]
        train = rng.permutation(dataset.splits["train"])[: episodes - len(held)]
        chosen = np.sort(np.concatenate([held, train]))
    part = {int(n): name for name, numbers in dataset.splits.items() for n in numbers}
    total = int(dataset.lengths[chosen].sum())
    most = int(dataset.lengths.max()) if total <= frames else max(_SHORTEST_WINDOW, frames // len(chosen))
    for number in chosen.tolist():
        start, stop = _window(int(dataset.lengths[number]), most, rng)
        try:
            episode = dataset.episode(number, start, stop)
        except WorldloomError as error:
            problems.append(Problem(f"episode {number}", str(error), "unreadable"))
            continue
        yield Entry(f"episode {number}", number, episode, start, part[number], str(episode.info.get("source", "")))


def _from_source(source: Source, episodes: int, frames: int, seed: int, problems: list[Problem]) -> Iterator[Entry]:
    rng = np.random.default_rng([seed, 1])
    items = source.items
    if len(items) > episodes:
        items = [items[i] for i in sorted(rng.permutation(len(items))[:episodes].tolist())]
    most = max(_SHORTEST_WINDOW, frames // max(1, len(items)))
    # What import_data would make of it: recordings held out whole where there are enough; else pieces, numbered in
    # order as long as all are read.
    whole, number = len(items) == len(source.items), 0
    place = {item.name: n for n, item in enumerate(source.items)} if len(source.items) >= WHOLE else None
    for item in items:
        start = 0
        try:
            for episode in source.read(item):
                if start >= most:
                    whole = False
                    break
                where = item.name if not start else f"{item.name}, from frame {start}"
                split = _part(place[item.name]) if place else _part(number) if whole else ""
                yield Entry(where, number, episode, start, split, item.name)
                start, number = start + episode.length, number + 1
        except WorldloomError as error:
            problems.append(Problem(item.name, str(error), "unreadable"))


def _part(number: int) -> str:
    """The split of an episode (or whole recording) with this number, in a dataset made with the default seed."""
    return next(name for name, numbers in assign(number + 1, 0).items() if number in numbers)
