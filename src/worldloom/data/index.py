"""The index of a dataset: one line of JSON per episode, each sealed by a hash that also covers all lines before it.

The index alone decides what a dataset holds. A line is written after the episode's bytes are safely on disk. A last
line without its newline is a write that was cut short, and is ignored; anything else that does not fit its seal is
damage, and is said so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Spec, WorldloomError
from worldloom.data.episode import DataError
from worldloom.data.layout import Layout, parse, starts
from worldloom.files import DamagedFileError, read_json, write_json

FORMAT, VERSION = "worldloom-dataset", 1
HEADER, INDEX = "dataset.json", "index.jsonl"
_SEAL = 32  # hexadecimal digits
_TAIL = len(',"check":""}') + _SEAL


def canonical(value: Any) -> str:
    """Compact JSON, ASCII, keys in the given order; :class:`DataError` for what JSON can't say."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"info must be plain JSON (numbers, strings, lists, objects; no NaN): {error}.") from error


def _seal(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()[:_SEAL]


def first_seal(spec: Spec) -> str:
    """What the first line's seal continues from: the spec."""
    return _seal("", canonical(spec.to_json()).encode())


# ------------------------------------------------------------------------------------------- header


def write_header(folder: Path, spec: Spec, info: Mapping[str, Any], created: str) -> None:
    """Write ``dataset.json``, sealed."""
    canonical(dict(info))
    header = {"format": FORMAT, "version": VERSION, "created": created, "spec": spec.to_json(), "info": dict(info)}
    write_json(folder / HEADER, {**header, "check": _header_seal(header)})


def _header_seal(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:_SEAL]


def read_header(folder: Path) -> tuple[Spec, dict[str, Any]]:
    """The spec and the header of a dataset; :class:`DataError` where the folder is none, or it is damaged."""
    path = folder / HEADER
    if not path.is_file():
        what = "is not a dataset: it has no dataset.json" if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {what}. Give the folder that `worldloom data collect` or `data import` wrote.")
    try:
        header = read_json(path)
    except DamagedFileError as error:
        raise DataError(f"{error} The episodes beside it are untouched.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise DataError(f"{path} does not describe a worldloom dataset (expected format {FORMAT!r}).")
    if header.get("version") != VERSION:
        raise DataError(f"{path} has format version {header.get('version')!r}; this worldloom reads {VERSION}.")
    check = header.pop("check", None)
    if check != _header_seal(header):
        raise DataError(f"{path} is damaged: its contents do not match its check. Restore it from a copy.")
    if not isinstance(header.get("info"), dict):
        raise DataError(f"{path} is damaged: its info is not an object. Restore it from a copy.")
    try:
        return Spec.from_json(header.get("spec", {})), header
    except WorldloomError as error:
        raise DataError(f"{path} holds no valid spec: {error}") from error


# -------------------------------------------------------------------------------------------- lines


def make_line(previous: str, record: Mapping[str, Any]) -> tuple[bytes, str]:
    """One line with its newline, and its seal, which the next line continues from."""
    body = canonical(record)[:-1].encode()
    seal = _seal(previous, body)
    return body + f',"check":"{seal}"}}\n'.encode(), seal


@dataclass
class Index:
    """What an index file says, as arrays with one entry per episode."""

    spec: Spec
    """The dataset's spec."""
    seal: str = ""
    """Of the last whole line: a fingerprint of spec and index."""
    size: int = 0
    """Bytes of the whole lines; a torn line may follow them."""
    layouts: list[Layout] = field(default_factory=list)
    """The different layouts that occur."""
    layout: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Which of ``layouts``."""
    shard: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Number of the shard."""
    offset: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Where in the shard the episode begins, in bytes."""
    bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Bytes of the episode."""
    length: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Frames."""
    terminal: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    """1 true end, 0 cut or time limit, -1 unknown."""
    line: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    """Where each line begins in the file, and where the last one ends."""

    def extents(self) -> dict[int, int]:
        """Shard number to the bytes that the index lays claim to."""
        ends = np.zeros(int(self.shard.max(initial=-1)) + 1, np.int64)
        np.maximum.at(ends, self.shard, self.offset + self.bytes)
        return {int(n): int(ends[n]) for n in np.unique(self.shard)}


def read_index(folder: Path, spec: Spec) -> Index:
    """Read and check every whole line. A missing file is an empty index."""
    path = folder / INDEX
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise DataError(f"Can't read {path}: {error.strerror or error}.") from error
    *lines, tail = data.split(b"\n")
    if tail:
        _check_torn(path, tail, len(lines))
    index = Index(spec, first_seal(spec))
    known: dict[str, int] = {}
    columns: list[tuple[int, ...]] = []
    places = [0]
    for number, line in enumerate(lines):
        record, index.seal = _read_line(path, line, index.seal, number)
        streams = record.get("streams")
        key = json.dumps(streams)
        try:
            if key not in known:
                index.layouts.append(parse(streams, spec))
                known[key] = len(index.layouts) - 1
            columns.append(_columns(record, known[key], index.layouts[known[key]]))
        except DataError as error:
            raise DataError(f"{path}, line {number + 1}: {error}") from error
        places.append(places[-1] + len(line) + 1)
    index.line = np.array(places, np.int64)
    index.size = places[-1]
    if columns:
        index.layout, index.shard, index.offset, index.bytes, index.length, terminal = np.array(columns, np.int64).T
        index.terminal = terminal.astype(np.int8)
    return index


def _check_torn(path: Path, tail: bytes, number: int) -> None:
    """A torn line is the beginning of a line. A whole one with something else than a newline after it is damage."""
    try:
        _, end = json.JSONDecoder().raw_decode(tail.decode("latin-1"))
    except (ValueError, RecursionError):
        return
    if end < len(tail):
        raise _damaged(path, number)


def _damaged(path: Path, number: int) -> DataError:
    return DataError(
        f"{path} is damaged at line {number + 1}: the line does not match its check. Restore the index from a copy "
        f"(the {number} episodes before it are intact)."
    )


def _read_line(path: Path, line: bytes, previous: str, number: int) -> tuple[dict[str, Any], str]:
    body, tail = line[:-_TAIL], line[-_TAIL:]
    seal = _seal(previous, body)
    if tail != f',"check":"{seal}"}}'.encode():
        raise _damaged(path, number)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number) from error
    if not isinstance(record, dict) or record.get("episode") != number:
        raise _damaged(path, number)
    if not isinstance(record.get("sha256"), str) or not isinstance(record.get("info"), dict):
        raise _damaged(path, number)
    return record, seal


def _columns(record: Mapping[str, Any], layout: int, streams: Layout) -> tuple[int, ...]:
    values: list[Any] = [record.get(name) for name in ("shard", "offset", "bytes", "length")]
    terminal = record.get("terminal")
    if any(type(v) is not int or not 0 <= v < 2**62 for v in values) or terminal not in (None, True, False):
        raise DataError(f"shard, offset, bytes and length must be whole numbers, found {values}.")
    shard, offset, size, length = values
    if length < 1 or starts(streams, length)[1] != size or shard >= 10**6:
        raise DataError(f"{size} bytes in shard {shard} can't hold {length} frames of {[s.name for s in streams]}.")
    return layout, shard, offset, size, length, -1 if terminal is None else int(terminal)
