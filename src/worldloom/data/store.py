"""Episodes on disk: append-only, whole or absent, readable at any frame.

The layout of the folder, field by field, is in docs/data.md. What it promises: an episode is visible only when all of
it is durably written; a crash at any moment costs at most the episodes of the last second and never harms an earlier
one; there is one writer at a time and any number of readers; every byte is covered by a hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldloom.contract import Segment
from worldloom.data.episode import DataError, Episode
from worldloom.data.index import INDEX, Index, read_header, read_index
from worldloom.data.layout import ALIGN, join, starts
from worldloom.data.shards import Shards, shard_path
from worldloom.data.splits import assign, stored_seed
from worldloom.data.writer import DatasetWriter

if TYPE_CHECKING:
    from worldloom.data.gather import Piece
    from worldloom.data.windows import Windows


class Dataset:
    """A dataset on disk, as it was when opened (episodes that are appended later need a new ``Dataset``).

    Raises :class:`DataError` where the folder is no dataset, holds no episode, or its index or the size of a shard does
    not fit. Damage inside the bytes of frames is found by :meth:`verify`. Safe to read from several threads.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.spec, self.header = read_header(self.path)
        self.info: dict[str, Any] = self.header["info"]
        """What was said about the dataset when it was made."""
        self.index: Index = read_index(self.path, self.spec)
        if not len(self.index.length):
            raise DataError(f"{self.path} holds no episode yet. Collect or import some first.")
        self.shards = Shards(self.path)
        self.shards.check(self.index.extents())
        self.lengths: np.ndarray = self.index.length
        """(episodes,) int64: frames of each episode."""
        self.streams = _places(self.index)
        """Stream name to (episodes,) int64: where in its shard the stream of each episode begins, -1 where absent."""
        self._splits: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, {len(self)} episodes, {self.frames:,} frames)"

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.lengths.sum())

    @property
    def fingerprint(self) -> str:
        """A hash of the spec and of every episode, so that a run can tell whether its data changed."""
        return self.stored

    @property
    def stored(self) -> str:
        """The fingerprint of what lies on disk, however it is read."""
        return self.index.seal

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Episode numbers of ``train``, ``val``, ``test``: made once, stored, stable when episodes are appended.

        The pieces of an imported recording are kept together where there were recordings enough (see
        :mod:`worldloom.data.importing`).
        """
        if self._splits is None:
            seed = stored_seed(self.path)
            if (self.info.get("import") or {}).get("split_by") == "recording":
                recording = self._recordings()
                parts = assign(int(recording.max()) + 1, seed)
                self._splits = {name: np.flatnonzero(np.isin(recording, part)) for name, part in parts.items()}
            else:
                self._splits = assign(len(self), seed)
        return self._splits

    def _recordings(self) -> np.ndarray:
        """(episodes,) number of the recording that each is a piece of, in the order in which they first appear."""
        known: dict[str, int] = {}
        return np.array([known.setdefault(str(self.info_of(n).get("source")), len(known)) for n in range(len(self))])

    @property
    def has_reward(self) -> bool:
        """Whether rewards are known (in all episodes or in none)."""
        return "reward" in self.streams

    @property
    def has_terminal(self) -> bool:
        """Whether it is known which episodes truly ended (of all or of none)."""
        return bool(self.index.terminal[0] >= 0)

    def episode(self, number: int, start: int = 0, stop: int | None = None, *, verify: bool = False) -> Episode:
        """Episode ``number``, or its frames ``start`` to ``stop``, in memory of its own.

        A part that begins mid-episode keeps the real action of its first frame; ``terminal`` is None or False unless it
        holds the last frame. With ``verify`` the whole episode is first checked against its hash.
        """
        record = self._record(number)
        if verify:
            self._check(number, record)
        length = int(self.lengths[number])
        stop = length if stop is None else stop
        if not 0 <= start < stop <= length:
            raise DataError(f"Episode {number} has {length} frames; frames {start} to {stop} are not among them.")
        layout = self.index.layouts[self.index.layout[number]]
        places, _ = starts(layout, length)
        arrays = []
        for stream, place in zip(layout, places, strict=True):
            lead = () if stream.once else (stop - start,)
            value = np.empty((*lead, *stream.shape), stream.dtype)
            begin = int(self.index.offset[number]) + place + (0 if stream.once else start * stream.item)
            if value.size:
                flat = value.reshape(-1).view(np.uint8).data
                self.shards.read_into(flat, int(self.index.shard[number]), begin)
            arrays.append(value)
        ended = int(self.index.terminal[number])
        terminal = None if ended < 0 else ended == 1 and stop == length
        return join(layout, arrays, terminal, record["info"])

    def info_of(self, number: int) -> dict[str, Any]:
        """The remarks stored with an episode, without reading its frames."""
        return dict(self._record(number)["info"])

    def gather(self, pieces: Iterable[Piece], batch: int, length: int, stride: int = 1, pin: bool = False) -> Segment:
        """Pieces of episodes as one segment (batch, length, ...), see :func:`worldloom.data.gather.gather`."""
        from worldloom.data.gather import gather

        return gather(self, pieces, batch, length, stride, pin)

    def windows(self, split: str = "train", length: int = 16) -> Windows:
        """What training draws its batches from."""
        from worldloom.data.windows import Windows

        return Windows(self, split, length)

    def remembered(self, run: Path) -> dict[str, Any]:
        """What the config.json of a run in the folder ``run`` says of its data, as plain JSON.

        The path is relative where the data lie inside the run, so that both can be moved together.
        """
        data, run = self.path.resolve(), run.resolve()
        path = data.relative_to(run).as_posix() if data.is_relative_to(run) else str(data)
        return {"path": path, "fingerprint": self.fingerprint}

    def _record(self, number: int) -> dict[str, Any]:
        """An episode's index line."""
        if not 0 <= number < len(self):
            raise DataError(f"There is no episode {number}: {self.path} has episodes 0 to {len(self) - 1}.")
        begin, end = self.index.line[number : number + 2].tolist()
        with (self.path / INDEX).open("rb") as file:
            file.seek(begin)
            line = file.read(end - begin)
        try:
            return dict(json.loads(line))
        except ValueError as error:
            raise DataError(f"{self.path / INDEX} was altered while in use, at line {number + 1}.") from error

    def _check(self, number: int, record: Mapping[str, Any]) -> None:
        shard = int(self.index.shard[number])
        data = bytearray(int(self.index.bytes[number]))
        self.shards.read_into(memoryview(data), shard, int(self.index.offset[number]))
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise DataError(
                f"Episode {number} is damaged: its bytes in {shard_path(self.path, shard)} do not match their hash. "
                "Restore that file from a copy."
            )

    def verify(self) -> int:
        """Check every byte against its hash; returns the number of episodes.

        Raises :class:`DataError` that names the first damaged episode and shard, and all other damaged episodes.
        """
        damaged: list[tuple[int, DataError]] = []
        for number in range(len(self)):
            try:
                self._check(number, self._record(number))
            except DataError as error:
                damaged.append((number, error))
        if damaged:
            rest = [number for number, _ in damaged[1:]]
            also = f" Also damaged: episodes {rest}." if rest else ""
            raise DataError(f"{damaged[0][1]}{also}") from damaged[0][1]
        return len(self)

    def describe(self) -> dict[str, Any]:
        """What the dataset holds and what it lacks, as plain JSON."""
        layout = self.index.layouts[0]
        return {
            "path": str(self.path),
            "episodes": len(self),
            "frames": self.frames,
            "bytes": int(self.index.bytes.sum()),
            "lengths": {"min": int(self.lengths.min()), "max": int(self.lengths.max())},
            "sensors": {n: [s.kind, *s.shape] for n, s in self.spec.shown.items()},
            "controls": {n: [c.kind, *(c.shape or (c.n,))] for n, c in self.spec.given.items()},
            "action": "known" if self.spec.action is not None else "missing: plain video",
            "reward": "known" if self.has_reward else "missing",
            "terminal": "known" if self.has_terminal else "unknown",
            "truth": [s.name.removeprefix("truth/") for s in layout if s.name.startswith("truth/")],
            "splits": {name: len(part) for name, part in self.splits.items()},
            "fps": self.spec.fps,
            "fingerprint": self.fingerprint,
            "info": self.info,
        }


def _places(index: Index) -> dict[str, np.ndarray]:
    """Absolute offsets in the shards, by stream, for all episodes."""
    places: dict[str, np.ndarray] = {}
    for code, layout in enumerate(index.layouts):
        chosen = np.flatnonzero(index.layout == code)
        begin = index.offset[chosen].copy()
        for stream in layout:
            begin = -(-begin // ALIGN) * ALIGN
            places.setdefault(stream.name, np.full(len(index.length), -1, np.int64))[chosen] = begin
            begin = begin + stream.item * (1 if stream.once else index.length[chosen])
    return places


__all__ = ["Dataset", "DatasetWriter"]
