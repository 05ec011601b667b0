"""Which files hold which episode of a LeRobot dataset, of version 2 or 3."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldloom.data.episode import DataError
from worldloom.data.sources.base import Problem
from worldloom.data.sources.lerobot.layout import Info, read_columns

_JSONL = "meta/episodes.jsonl"


@dataclass(frozen=True)
class Span:
    """The part of a video that shows an episode, in seconds of the file."""

    path: Path
    start: float
    stop: float


@dataclass
class Recording:
    """One episode and where it lies."""

    number: int
    length: int
    data: Path
    tasks: tuple[str, ...]
    spans: dict[str, Span] = field(default_factory=dict)
    """Key of a camera to its span."""
    first: int = 0
    """The row of the data file at which it begins, known once that file has been read."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"episode {self.number}"


def recordings(info: Info, cameras: list[str], problems: list[Problem]) -> list[Recording]:
    """All episodes by number; what is wrong with single ones goes to ``problems`` instead.

    Raises :class:`DataError` where the list of episodes itself can't be read. No file of data or video is opened.
    """
    rows = _tables(info, cameras) if info.version[0] == 3 else _lines(info)
    found: dict[int, Recording] = {}
    for where, row in rows:
        try:
            one = _recording(info, cameras, row)
            if one.number in found:
                raise DataError(f"{where} lists the episode {one.number} twice.")
            found[one.number] = one
        except DataError as error:
            problems.append(Problem(f"episode {row.get('episode_index')}", str(error)))
    return [found[number] for number in sorted(found)]


def _tables(info: Info, cameras: list[str]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The rows of meta/episodes/*/*.parquet, without the statistics."""
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    for key in cameras:
        columns += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    paths = sorted((info.root / "meta" / "episodes").glob("*/*.parquet"))
    if not paths:
        raise DataError(
            f"{info.root / 'meta' / 'episodes'} holds no parquet file: the list of episodes is missing. Copy the "
            "dataset again, with its whole folder meta."
        )
    rows: list[tuple[Path, Mapping[str, Any]]] = []
    for path in paths:
        table = read_columns(path, columns)
        try:
            tasks = read_columns(path, ["tasks"]).column("tasks").to_pylist()
        except DataError:
            tasks = [None] * table.num_rows  # texts are a help, not a need
        if len(tasks) != table.num_rows:
            raise DataError(f"{path} is damaged: its columns differ in length. Copy the dataset again.")
        rows += [(path, {**row, "tasks": t}) for row, t in zip(table.to_pylist(), tasks, strict=True)]
    return rows


def _lines(info: Info) -> list[tuple[Path, Mapping[str, Any]]]:
    """The rows of meta/episodes.jsonl, as versions 2.0 and 2.1 have it."""
    path = info.root / _JSONL
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"Can't read {path}, the list of episodes: {error}. Copy the dataset again.") from error
    rows: list[tuple[Path, Mapping[str, Any]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no JSON ({error}). Copy the dataset again.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} must be a JSON object, found {line:.40}. Copy the dataset again.")
        rows.append((path, row))
    return rows


def _recording(info: Info, cameras: list[str], row: Mapping[str, Any]) -> Recording:
    number, length = _whole(row, "episode_index"), _whole(row, "length")
    if length < 1:
        raise DataError(f"The list of episodes gives it {length} frames; expected at least one.")
    tasks = row.get("tasks")
    texts = tuple(t for t in tasks if isinstance(t, str)) if isinstance(tasks, list) else ()
    if info.version[0] == 2:
        where: dict[str, int | str] = {"episode_chunk": number // info.chunks_size, "episode_index": number}
        one = Recording(number, length, info.place(info.data_path, **where), texts)
        for key in cameras:
            one.spans[key] = Span(_video(info, key, where), 0.0, math.inf)
        return one
    where = {"chunk_index": _whole(row, "data/chunk_index"), "file_index": _whole(row, "data/file_index")}
    one = Recording(number, length, info.place(info.data_path, **where), texts)
    for key in cameras:
        where = {n: _whole(row, f"videos/{key}/{n}") for n in ("chunk_index", "file_index")}
        start, stop = (_seconds(row, f"videos/{key}/{name}_timestamp") for name in ("from", "to"))
        one.spans[key] = Span(_video(info, key, where), start, stop)
    return one


def _video(info: Info, key: str, where: Mapping[str, int | str]) -> Path:
    if info.video_path is None:
        raise DataError(f"{info.path} says nothing of where videos are (video_path), but {key} is one.")
    return info.place(info.video_path, video_key=key, **where)


def _whole(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise DataError(f"The list of episodes must give {name} as a whole number, found {value!r:.40}.")
    return value


def _seconds(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise DataError(f"The list of episodes must give {name} in seconds, found {value!r:.40}.")
    return float(value)
