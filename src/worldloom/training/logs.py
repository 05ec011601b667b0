"""log.jsonl: one JSON object a line, appended as training goes, cut back to the checkpoint on resuming."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from worldloom.contract import WorldloomError
from worldloom.files import parse_json, reason, write_atomic

RESERVED = frozenset(
    ("kind", "step", "loss", "lr", "grad_norm", "frames_per_second", "steps_per_second", "seconds", "check")
)
"""Names of the log's own fields; a model's metric of such a name is logged as ``model_<name>``."""


def plain(value: Any) -> Any:
    """``value`` as valid JSON: NaN and infinite numbers, which JSON lacks, become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole records of a log, in order. A line torn by a crash is left out."""
    return read_lines(path)[0]


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """As :func:`read_log`, and the number of damaged lines, a last one without its end not among them."""
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise WorldloomError(f"Can't read {path}: {reason(error)}.") from error
    *lines, torn = data.split(b"\n")
    sealed = b'"check": "' in data  # a log of an earlier version, or of somebody else, has no checks
    records = [_record(line, sealed) for line in lines]
    last = _record(torn, sealed)
    return [r for r in [*records, last] if r is not None], sum(r is None for r in records)


def _record(line: bytes, sealed: bool) -> dict[str, Any] | None:
    """The record of a line; None where it is no record, or not the one that was written."""
    try:
        record = parse_json(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    check = record.pop("check", None)
    return record if check == (_check(record) if sealed else None) else None


def _check(record: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(record).encode()):08x}"


def _line(record: Mapping[str, Any]) -> bytes:
    flat = plain(record)
    return (json.dumps({**flat, "check": _check(flat)}, allow_nan=False) + "\n").encode()


class JsonLog:
    """An open log. ``upto`` is the step resumed from: later records are dropped, since they will be written again."""

    def __init__(self, path: Path, upto: int):
        self.path = path
        records, self.damaged = read_lines(path)
        """Lines that were found damaged and are left out."""
        kept = b"".join(_line(r) for r in records if r["step"] <= upto)
        write_atomic(path, kept)
        self._waiting = b""
        self._size = len(kept)
        try:
            self._file: BinaryIO = path.open("ab", buffering=0)
        except OSError as error:
            raise WorldloomError(f"Can't write {path}: {reason(error)}. Choose a folder you may write to.") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Raises :class:`WorldloomError` on a full disk, leaving no torn line behind; the record
        then waits, and is written with the next one."""
        self._waiting += _line(record)
        self._flush()

    def _flush(self) -> None:
        try:
            if self._file.tell() != self._size:
                self._file.truncate(self._size)  # a part that the disk took before it refused the rest
            if self._waiting and self._file.write(self._waiting) != len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise WorldloomError(
                f"Can't write {self.path}: {reason(error)}. Free some space; what was logged is untouched."
            ) from error
        self._size += len(self._waiting)
        self._waiting = b""

    def sync(self) -> None:
        """Make all records durable: a checkpoint must never know more than the log."""
        self._flush()
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WorldloomError(f"Can't keep {self.path}: {reason(error)}. Check the disk.") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Means:
    """Sums of metrics since the last line of the log. They travel in checkpoints, so a resumed log is the same."""

    def __init__(self, state: Mapping[str, Iterable[float]] | None = None):
        self._sums = {name: [float(x) for x in pair] for name, pair in (state or {}).items()}

    def add(self, values: Mapping[str, float]) -> None:
        """Add one step's metrics; those that are not finite are left out of their mean."""
        for name, value in values.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            if math.isfinite(value):
                pair[0] += value
                pair[1] += 1

    def state(self) -> dict[str, list[float]]:
        """Sum and count by name, plain JSON."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def take(self) -> dict[str, float]:
        """The means, NaN for a metric that never was finite; then begin anew."""
        means = {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means


__all__ = ["RESERVED", "JsonLog", "Means", "plain", "read_log"]
