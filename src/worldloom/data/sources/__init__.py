"""What users hold, read as episodes: folders of video or pictures, LeRobot, Minari, HDF5, npz.

:func:`open_source` finds out what a path is; :func:`worldloom.data.importing.import_data` turns it into a dataset.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig, Item, Problem, Source

FORMATS: dict[str, tuple[str, str]] = {
    "lerobot": ("worldloom.data.sources.lerobot.source", "LeRobotSource"),
    "minari": ("worldloom.data.sources.minari.source", "MinariSource"),
    "hdf5": ("worldloom.data.sources.arrays.source", "Hdf5Source"),
    "npz": ("worldloom.data.sources.arrays.source", "NpzSource"),
    "images": ("worldloom.data.sources.films.images", "ImagesSource"),
    "video": ("worldloom.data.sources.films.video", "VideoSource"),
}
"""Name of a format to (module, class), in the order in which a path is tried."""


def source_class(name: str) -> type[Source]:
    """The reader of a format, by name; an unknown name raises with the known ones."""
    if name not in FORMATS:
        raise DataError(f"There is no format {name!r} to import from: choose one of {', '.join(FORMATS)}.")
    module, cls = FORMATS[name]
    found: Any = getattr(importlib.import_module(module), cls)
    return found


def detect(path: Path) -> str:
    """The format of what lies at ``path``; :class:`DataError` where it is none that is known."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if (path / "dataset.json").is_file():
        raise DataError(f"{path} is a worldloom dataset already: use it as it is, by --data.")
    for name in FORMATS:
        if source_class(name).sniff(path):
            return name
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(f"{path} is an empty folder. Give one that holds videos, pictures, npz or HDF5 files.")
    raise DataError(
        f"{path} holds nothing that can be imported: no video (.mp4, .mkv, .avi, .mov, .webm, .gif), no folders of "
        "pictures (.png, .jpg), no .npz, .hdf5 or .h5, no LeRobot meta/info.json, no Minari data/."
    )


def open_source(path: str | Path, config: ImportConfig | None = None, format: str = "auto") -> Source:
    """The source at ``path``, its episodes listed and its spec known, no frame kept.

    Raises :class:`DataError` where the format is unknown, or nothing there can be used.
    """
    path = Path(path)
    return source_class(detect(path) if format == "auto" else format)(path, config or ImportConfig())


__all__ = ["FORMATS", "ImportConfig", "Item", "Problem", "Source", "detect", "open_source", "source_class"]
