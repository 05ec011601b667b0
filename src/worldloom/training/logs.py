"""log.jsonl: one JSON object a line, appended as training goes, cut back to the checkpoint on resuming."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from worldloom.contract import WorldloomError
from worldloom.files import write_atomic

RESERVED = frozenset(("kind", "step", "loss", "lr", "grad_norm", "frames_per_second", "steps_per_second", "seconds"))
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
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain(record), allow_nan=False) + "\n").encode()


class JsonLog:
    """An open log. ``upto`` is the step resumed from: later records are dropped, since they will be written again."""

    def __init__(self, path: Path, upto: int):
        self.path = path
        kept = [r for r in read_log(path) if r["step"] <= upto]
        write_atomic(path, b"".join(_line(r) for r in kept))
        self._file: BinaryIO = path.open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record. Raises :class:`WorldloomError` on a full disk, leaving no torn line behind."""
        before = self._file.tell()
        data = _line(record)
        try:
            if self._file.write(data) != len(data):
                raise OSError("only part of a line was written")
        except OSError as error:
            self._file.truncate(before)
            raise WorldloomError(
                f"Can't write {self.path}: {error.strerror or error}. Free some space; what was logged is untouched."
            ) from error

    def sync(self) -> None:
        """Make all records durable: a checkpoint must never know more than the log."""
        os.fsync(self._file.fileno())

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
