"""From somebody's recordings to a dataset: in parallel, resumable, the source untouched."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.configs import to_json
from worldloom.contract import WorldloomError
from worldloom.data.episode import DataError, Episode
from worldloom.data.index import HEADER, read_header, read_index
from worldloom.data.sources import ImportConfig, Item, Problem, Source, open_source
from worldloom.data.store import Dataset, DatasetWriter
from worldloom.files import read_json, write_json

MARK = "import.json"
"""Written into the dataset when an import is complete: what was left out, and why."""
_AHEAD = 2  # episodes of a recording that wait to be written, so that memory stays flat
_LISTED = 10  # problems named in an error
WHOLE = 10
"""From so many recordings on each is held out whole or not at all."""
_CODEC = 4.0  # grey levels by which another version of a decoder may differ, in the mean


class ChangedError(DataError):
    """A recording is no longer what was imported from it before."""


def import_data(
    path: str | Path,
    out: str | Path,
    config: ImportConfig | None = None,
    *,
    format: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Import the recordings at ``path`` into the dataset ``out``; called again, it goes on where it stopped.

    skip_bad: keep the good part where some recordings can't be used. workers: threads that decode, by default one a
    core; the dataset is the same for any number. say: told what was understood and done, line by line. progress: told
    (recordings done, of how many).

    Recordings that were added to the source since are appended; those that are there already are read again and
    compared, and one that changed raises :class:`ChangedError`. From ten recordings on the split into train, val and
    test keeps the pieces of each together; with fewer it is by piece, and said. Raises :class:`DataError` where nothing
    can be used, something can't and ``skip_bad`` is not set, or ``out`` was imported from elsewhere or with other
    settings.
    """
    out = Path(out)
    if workers is not None and workers < 1:
        raise DataError(f"workers must be at least 1, found {workers}.")
    source = open_source(path, config, format)
    for note in source.notes:
        say(note)
    problems = list(source.problems)
    if problems and not skip_bad:
        raise DataError(_listed(problems, source))
    if not source.items:
        raise DataError(_listed(problems, source) if problems else f"{path} holds no recording.")
    info = {
        "source": str(source.path.resolve()),
        "format": source.format,
        "config": _plain(source.config),
    }
    done = _stored(out, source, info)
    if done:
        say(f"{out} holds {sum(map(len, done.values()))} episodes of {len(done)} recordings already: going on.")
        gone = len(done.keys() - {item.name for item in source.items} - {p.where for p in problems})
        if gone:
            say(f"{gone} of these recordings are no longer in {path}; their episodes stay.")
    by = "recording" if len(source.items) >= WHOLE else "piece"
    pieces = Counter({name: len(numbers) for name, numbers in done.items()})
    begun, frames = time.monotonic(), 0
    with DatasetWriter(out, source.spec, {"import": {**info, "split_by": by}}) as writer:
        before, by = len(writer), writer.info["import"].get("split_by", by)
        if before != pieces.total():
            raise DataError(f"{out} was written to by another command just now. Run the same import again.")
        with closing(
            _side_by_side(source, done, Dataset(out) if done else None, workers or os.cpu_count() or 1)
        ) as arriving:
            for number, item, arrived in arriving:
                if isinstance(arrived, Episode):
                    writer.add(arrived)
                    pieces[item.name] += 1
                    frames += arrived.length
                    continue
                if isinstance(arrived, ChangedError):
                    raise arrived
                if arrived is not None:
                    kept = f" Kept: the {pieces[item.name]} episodes before that." if pieces[item.name] else ""
                    problems.append(Problem(item.name, str(arrived).removeprefix(f"{item.name}: ") + kept))
                    if not skip_bad:
                        raise DataError(_listed(problems, source)) from arrived
                if progress is not None:
                    progress(number + 1, len(source.items))
        added, total = len(writer) - before, len(writer)
    if not total:
        raise DataError(_listed(problems, source))
    for problem in problems:
        say(f"Left out: {problem.where}: {problem.what}")
    write_json(
        out / MARK,
        {
            "format": "worldloom-import",
            "version": 1,
            **info,
            "recordings": len(source.items),
            "left_out": [{"where": p.where, "what": p.what} for p in problems],
            "notes": source.notes,
        },
    )
    dataset, seconds = Dataset(out), time.monotonic() - begun
    rate = f", {frames / seconds:,.0f} frames/s" if frames and seconds > 0 else ""
    if by == "piece" and len(dataset) > len(source.items):
        say(
            "Held-out episodes may come from the same recordings as those that are trained on; an import that begins "
            f"with {WHOLE} recordings or more holds out whole ones."
        )
    say(f"{out}: {added} episodes added, {len(dataset)} in all, {dataset.frames:,} frames ({seconds:.1f} s{rate}).")
    return dataset


def imported_from(out: Path) -> Path | None:
    """Where the recordings of a dataset lay; None unless it was imported, to the end."""
    if not (out / HEADER).is_file() or not (out / MARK).is_file():
        return None
    mark = read_json(out / MARK)
    if not isinstance(mark, dict) or not isinstance(mark.get("source"), str):
        raise DataError(f"{out / MARK} is damaged. Delete it and run the same import again.")
    return Path(mark["source"])


def changed_settings(out: Path, config: ImportConfig | None) -> list[str]:
    """In what ``config`` differs from the one that the dataset ``out`` was imported by, as ``--name then -> now``."""
    found = read_header(out)[1]["info"].get("import") or {}
    return _changes(found, {"config": _plain(config or ImportConfig())})


def _plain(config: ImportConfig) -> Any:
    return json.loads(json.dumps(to_json(config)))


def _changes(found: dict[str, Any], now: dict[str, Any]) -> list[str]:
    old, new = ({**x, **{f"--{k}": v for k, v in x.get("config", {}).items()}} for x in (found, now))
    return [f"{k} {old.get(k)} -> {v}" for k, v in new.items() if k != "config" and old.get(k) != v]


def _listed(problems: list[Problem], source: Source) -> str:
    """The problems as one message, and what to do about them."""
    lines = [f"  {p.where}: {p.what}" for p in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"  and {len(problems) - _LISTED} more")
    good = len(source.items) - sum(p.where in {i.name for i in source.items} for p in problems)
    keep = f"\nMend them, or keep the other {good} by --skip-bad." if good > 0 else ""
    return f"{len(problems)} of the recordings in {source.path} can't be used:\n" + "\n".join(lines) + keep


def _stored(out: Path, source: Source, info: dict[str, Any]) -> dict[str, list[int]]:
    """Numbers of the pieces of each recording that the dataset holds already. Refuses a dataset of another import."""
    if not (out / HEADER).is_file():
        return {}
    spec, header = read_header(out)
    found = header["info"].get("import")
    if found is None:
        raise DataError(f"{out} is a dataset that was collected, not imported. Choose another --out.")
    changed = _changes(found, info)
    if changed:
        raise DataError(
            f"{out} was imported otherwise (then -> now): {'; '.join(changed)}. Delete {out}, choose another place, "
            "or give what it was begun with."
        )
    if spec.to_json() != source.spec.to_json():
        raise DataError(
            f"{out} holds episodes of another spec than {source.path} has now: the recordings changed since the import "
            "began (another size, rate or set of actions). Import into a new --out."
        )
    done: dict[str, list[int]] = {}
    if len(read_index(out, spec).length):
        dataset = Dataset(out)
        for number in range(len(dataset)):
            done.setdefault(str(dataset.info_of(number).get("source")), []).append(number)
    return done


# --------------------------------------------------------------------------------------------- reading side by side

Arrived = tuple[int, Item, Episode | WorldloomError | None]
"""(number of the recording, the recording, an episode of it; or what is wrong with it; or None at its end)."""


class _Recording:
    """A recording that is being read by a thread, a few episodes ahead of who takes them."""

    def __init__(self, source: Source, item: Item, stored: Dataset | None, numbers: list[int], stop: threading.Event):
        self.source, self.item, self.stored, self.numbers, self.stop = source, item, stored, numbers, stop
        self.waiting: queue.Queue[Episode | BaseException | None] = queue.Queue(_AHEAD)

    def run(self) -> None:
        """Read all; what goes wrong is handed over too."""
        try:
            part = -1
            for part, episode in enumerate(self.source.read(self.item)):
                if part < len(self.numbers):
                    self._compare(part, episode)
                    continue
                episode.info.update(source=self.item.name, part=part)
                if not self._put(episode):
                    return
            if part + 1 < len(self.numbers):
                raise self._changed(part + 1)
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _compare(self, part: int, new: Episode) -> None:
        """Raise unless a piece is what was stored of it."""
        if self.stop.is_set() or self.stored is None:
            return
        old = self.stored.episode(self.numbers[part])
        same = old.length == new.length and old.terminal == new.terminal
        same = same and all(np.array_equal(old.control[name], x) for name, x in new.control.items())
        same = same and (old.reward is None or new.reward is None or np.array_equal(old.reward, new.reward))
        for name, sensor in self.source.spec.shown.items() if same else ():
            a, b = old.obs[name], new.obs[name]
            if sensor.kind == "image":
                same = same and (np.array_equal(a, b) or float(np.abs(a.astype(np.int16) - b).mean()) <= _CODEC)
            else:
                same = same and np.array_equal(a, b)
        if not same:
            raise self._changed(part)

    def _changed(self, part: int) -> ChangedError:
        return ChangedError(
            f"{self.item.name}: is no longer what was imported from it (episode {self.numbers[part]} of the dataset "
            "differs): the recording or its table changed. Import into a new --out."
        )

    def take(self) -> Episode | BaseException | None:
        """The next episode, what went wrong, or None at the end."""
        while True:
            try:
                return self.waiting.get(timeout=0.5)  # a wait without end could not be interrupted on Windows
            except queue.Empty:
                continue

    def _put(self, value: Episode | BaseException | None) -> bool:
        while not self.stop.is_set():
            try:
                self.waiting.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def _side_by_side(
    source: Source, done: dict[str, list[int]], stored: Dataset | None, workers: int
) -> Generator[Arrived, None, None]:
    """All recordings' episodes in their order, while ``workers`` threads read ahead."""
    stop = threading.Event()
    items = list(enumerate(source.items))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="import")
    running: dict[int, _Recording] = {}
    following = 0
    try:
        for number, item in items:
            while following < len(items) and following <= number + workers:
                coming = items[following][1]
                running[following] = _Recording(source, coming, stored, done.get(coming.name, []), stop)
                pool.submit(running[following].run)
                following += 1
            recording = running.pop(number)
            while True:
                value = recording.take()
                if value is None:
                    yield number, item, None
                    break
                if isinstance(value, WorldloomError):
                    yield number, item, value
                    break
                if isinstance(value, BaseException):
                    raise value
                yield number, item, value
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
