"""Datasets in other people's formats: LeRobot, Minari, a folder of video."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from worldloom.data.episode import DataError
from worldloom.data.store import Dataset

FORMATS: dict[str, tuple[str, str]] = {
    "lerobot": ("worldloom.data.sinks.lerobot.export", "export_lerobot"),
    "minari": ("worldloom.data.sinks.minari", "export_minari"),
    "video": ("worldloom.data.sinks.video", "export_video"),
}
"""Name of a format to (module, function). A function is called as ``(dataset, out, progress)``."""


def export_data(
    dataset: Dataset, out: str | Path, format: str, progress: Callable[[int], None] | None = None
) -> list[str]:
    """Write ``dataset`` to the new folder ``out`` in a foreign format; returns what to know about it, one line each.

    ``progress`` is told how many episodes are written. What the format can't say (ground truth, say) is left out and
    said. Raises :class:`DataError` where ``out`` holds something already, the format can't hold such data, or the disk
    refuses.
    """
    if format not in FORMATS:
        raise DataError(f"There is no format {format!r} to export to: choose one of {', '.join(FORMATS)}.")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder. Choose a new one.")
    module, name = FORMATS[format]
    write: Callable[[Dataset, Path, Callable[[int], None]], list[str]] = getattr(importlib.import_module(module), name)
    return write(dataset, out, progress or (lambda _: None))


__all__ = ["FORMATS", "export_data"]
