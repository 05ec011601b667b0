"""The layout of LeRobot's datasets, as both the reader and the writer need it.

Facts from the public sources of LeRobot 0.4 to 0.6 (``src/lerobot/datasets``: ``utils.py``, ``dataset_metadata.py``,
``dataset_writer.py``, ``feature_utils.py``) and their page "LeRobotDataset v3.0". A folder of version 3.0 holds

* ``meta/info.json``: the version, the rate, sizes and totals, templates of paths, and the *features*: name to
  ``dtype`` (``video``, ``image``, or numpy's name), ``shape``, ``names`` and, for videos, ``info``;
* ``meta/tasks.parquet`` (``task_index``, and the text as pandas' index), ``meta/stats.json``;
* ``meta/episodes/chunk-000/file-000.parquet``: one row an episode: its length, its tasks, the data file that holds its
  rows, and for each camera the video file with the seconds from which and to which it runs;
* ``data/chunk-000/file-000.parquet``: one row a frame; features of shape (1,) as plain columns, longer ones as lists;
* ``videos/{key}/chunk-000/file-000.mp4``: several episodes one after the other.

Versions 2.0 and 2.1 had one parquet file and one video an episode, and JSON lines instead of tables.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.data.episode import DataError
from worldloom.files import read_json

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{_FILE}.parquet"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
CHUNK_FILES, DATA_MB, VIDEO_MB = 1000, 100, 200
BOOKKEEPING = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has, of shape (1,): seconds since the episode began, the frame's number in the episode,
the episode's number, the frame's number among all, the number of its task."""
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
OURS = "worldloom."
"""Prefix of what this library adds to a feature's ``info``, which LeRobot keeps and does not read."""

_SPEC = re.compile(r"0?\d{0,2}d?")


def arrow() -> Any:
    """The module ``pyarrow.parquet``; :class:`WorldloomError` that names the extra where it is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise WorldloomError(
            "LeRobot datasets need pyarrow, which is not installed: pip install 'worldloom[data]'."
        ) from error
    return pyarrow.parquet


@dataclass(frozen=True)
class Feature:
    """One entry of ``features`` in ``meta/info.json``."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Any
    info: dict[str, Any]

    @property
    def picture(self) -> bool:
        """Whether it is a camera's colour pictures, as a video or one by one."""
        return self.dtype in ("video", "image") and not self.depth

    @property
    def depth(self) -> bool:
        """Whether it is a depth map, stored as a video of quantized values or as 16-bit pictures."""
        return bool(self.info.get("is_depth_map") or self.info.get("video.is_depth_map"))

    @property
    def numbers(self) -> bool:
        """Whether it is one number or a vector of them a frame."""
        return len(self.shape) == 1 and bool(re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)|bool", self.dtype))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the entries, from whichever form ``names`` has; empty where they do not fit the shape.

        Seen in public datasets: a list, null, ``{"motors": [...]}``, several such lists, and name to position.
        """
        names = self.names
        if isinstance(names, dict):
            values = list(names.values())
            if values and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
                names = sorted(names, key=lambda name: names[name])
            else:
                names = [n for v in values for n in (v if isinstance(v, list) else [v])]
        if isinstance(names, list) and len(names) == 1 and isinstance(names[0], list):
            names = names[0]
        if not isinstance(names, list) or (len(names),) != self.shape or not all(isinstance(n, str) for n in names):
            return ()
        return tuple(names)


@dataclass(frozen=True)
class Info:
    """What ``meta/info.json`` says, checked."""

    root: Path
    version: tuple[int, int]
    fps: float
    features: dict[str, Feature]
    data_path: str
    video_path: str | None
    chunks_size: int

    @property
    def path(self) -> Path:
        """The file itself, for messages."""
        return self.root / INFO

    def place(self, template: str, **fields: int | str) -> Path:
        """The path that ``template`` gives, which is certain to be inside the dataset's folder (see :func:`place`)."""
        return self.root / place(template, self.path, **fields)


def place(template: str, where: Path, **fields: int | str) -> PurePosixPath:
    """The relative path that a template of ``info.json`` gives; nothing but ``fields`` is ever put into it.

    Raises :class:`DataError` that names ``where`` for other fields, attributes, widths that are no widths, and results
    that are absolute or climb out of the folder. Symbolic links are followed, as the Hub's cache is made of them.
    """
    refused = DataError(
        f"{where}: the template {template!r} is not a path inside the dataset with fields "
        f"{', '.join(sorted(fields))}. Put back the one that LeRobot wrote, such as {DATA_PATH}."
    )
    out = ""
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            out += literal
            if name is None:
                continue
            number = isinstance(fields.get(name), int)
            if name not in fields or conversion or not _SPEC.fullmatch(spec or "") or (spec and not number):
                raise refused
            out += format(fields[name], spec or "")
    except ValueError as error:
        raise refused from error
    path = inside(out)
    if path is None:
        raise refused
    return path


def inside(text: str) -> PurePosixPath | None:
    """``text`` as a path below some folder, or None where it is absolute or climbs out, on any system."""
    path, windows = PurePosixPath(text), PureWindowsPath(text)
    outside = path.is_absolute() or windows.drive or windows.root or ".." in (*path.parts, *windows.parts)
    return path if path.parts and not outside and text.isprintable() else None


def read_info(root: Path) -> Info:
    """Read and check ``meta/info.json``. Raises :class:`DataError` (also for versions that can't be read)."""
    path = root / INFO
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise DataError(f"{path} must hold a JSON object, found {type(raw).__name__}. Copy the dataset again.")
    version = _version(raw.get("codebase_version"), path)
    fps, chunks = raw.get("fps"), raw.get("chunks_size", CHUNK_FILES)
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < 1e4:  # NaN fails both
        raise DataError(f"{path}: fps must be a positive number, found {fps!r:.80}.")
    if not isinstance(chunks, int) or isinstance(chunks, bool) or chunks < 1:
        raise DataError(f"{path}: chunks_size must be a whole number from 1, found {chunks!r}.")
    data_path, video_path = raw.get("data_path"), raw.get("video_path")
    if not isinstance(data_path, str) or not isinstance(video_path, str | None):
        raise DataError(f"{path}: data_path and video_path must be templates of paths, such as {DATA_PATH}.")
    features = raw.get("features")
    if not isinstance(features, dict) or not features:
        raise DataError(f"{path} names no features: there is nothing to read. Copy the dataset again.")
    known = {key: _feature(key, value, path) for key, value in features.items()}
    return Info(root, version, float(fps), known, data_path, video_path, chunks)


def _version(value: Any, path: Path) -> tuple[int, int]:
    match = re.fullmatch(r"v?(\d{1,4})\.(\d{1,4})(\.\d+)?", value) if isinstance(value, str) else None
    if match is None:
        raise DataError(f"{path}: codebase_version must be a version such as {VERSION!r}, found {value!r}.")
    major, minor = int(match[1]), int(match[2])
    if major > 3:
        raise DataError(
            f"{path} is of LeRobot's format {value}; this version of worldloom reads up to {VERSION}. Update "
            f"worldloom, or take the dataset's revision {VERSION}."
        )
    if major < 2:
        raise DataError(
            f"{path} is of LeRobot's format {value}; worldloom reads v2.0 to {VERSION}. Convert it with LeRobot's own "
            "scripts (convert_dataset_v1_to_v2, convert_dataset_v20_to_v21, convert_dataset_v21_to_v30)."
        )
    return major, minor


def _feature(key: str, value: Any, path: Path) -> Feature:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        raise DataError(f"{path}: the feature {key!r} must have a dtype, a shape and names, found {value!r:.80}.")
    shape = value.get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape):
        raise DataError(f"{path}: the shape of the feature {key!r} must be a list of sizes, found {shape!r:.80}.")
    info = {**(value.get("video_info") or {}), **(value.get("info") or {})} if _objects(value) else {}
    return Feature(key, value["dtype"], tuple(shape), value.get("names"), info)


def _objects(value: dict[str, Any]) -> bool:
    return all(isinstance(value.get(name) or {}, dict) for name in ("video_info", "info"))


def read_columns(path: Path, columns: list[str] | None = None) -> Any:
    """A parquet file's columns as a table, by name; without ``columns`` all of them.

    Raises :class:`DataError` that names the file where it is missing, no parquet, or lacks one of the columns.
    """
    pq = arrow()
    from pyarrow import ArrowException

    if not path.is_file():
        raise DataError(f"{path} is missing, though the dataset names it. Copy the dataset again.")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            lacking = sorted(set(columns or ()) - set(file.schema_arrow.names))
            if lacking:
                raise DataError(f"{path} lacks the columns {', '.join(lacking)}, which the dataset must have.")
            table = file.read(columns)
            table.validate(full=True)  # offsets and texts, which reading does not look at
            return table if columns is None else table.select(columns)  # a name also brings those it is a prefix of
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: BaseException) -> DataError:
    """The message for a parquet file that can't be read."""
    said = str(error).partition("\n")[0][:200]
    return DataError(f"Can't read {path} as parquet: {said}. It is truncated or damaged; copy it again.")


def matrix(column: Any, path: Path, name: str, width: int | None = None) -> np.ndarray:
    """A column of numbers, or of lists of one length, as (rows,) or (rows, width).

    Raises :class:`DataError` for empty cells, lists of other lengths, and what are no numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows, uneven = len(values), False
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or _fixed(values.type):
        uneven = uneven or values.null_count > 0 or len(pc.unique(pc.list_value_length(values))) > 1
        values = values.flatten()
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"{path}: the column {name} must hold numbers, found {column.type}.")
    if values.null_count:
        raise DataError(f"{path}: the column {name} has empty cells. Fill them, or leave the episode out.")
    out = values.to_numpy(zero_copy_only=False)
    if uneven or len(out) != rows * (width or 1):
        raise DataError(
            f"{path}: the column {name} must hold {width or 1} numbers in each of its {rows} rows, found {len(out)} in "
            "all. Its shape in meta/info.json and the table do not fit together."
        )
    return out if width is None else out.reshape(rows, width)


def _fixed(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_fixed_size_list(kind))
