"""The pictures of one episode: a span of a video that holds several, or a column of encoded pictures."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.films.images import KINDS
from worldloom.data.sources.films.video import open_container
from worldloom.data.sources.lerobot.index import Span
from worldloom.data.sources.lerobot.layout import arrow, damaged, inside
from worldloom.data.sources.pictures import LARGEST_SIDE, Fit, as_uint8, fit

_AGAIN = "Copy that file again, or leave the episode out."
_ENDED = object()


def video_size(path: Path) -> tuple[int, int]:
    """(height, width) of a video's pictures, from its header. :class:`DataError` where it is none."""
    from av.error import FFmpegError

    if not path.is_file():
        raise DataError(f"{path} is missing, though the dataset names it. Copy the dataset again.")
    try:
        with open_container(path) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no video. {_AGAIN}")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError(f"{path} is of a kind that can't be decoded here. {_AGAIN}")
            high, wide = stream.height, stream.width
    except (FFmpegError, OSError, ValueError) as error:
        raise DataError(f"Can't read {path} as a video: {_said(error)}. {_AGAIN}") from error
    if not (1 <= high <= LARGEST_SIDE and 1 <= wide <= LARGEST_SIDE):
        raise DataError(f"{path} has pictures of {wide}×{high} pixels; at most {LARGEST_SIDE} a side can be read.")
    return high, wide


def span_frames(span: Span, times: np.ndarray, fps: float, how: Fit, where: str) -> Generator[np.ndarray, None, None]:
    """The frame (C, h, w) uint8 of a video that is nearest to each of the rising ``times`` of an episode, in seconds.

    It seeks to the last keyframe before the span and decodes from there to the last frame that is needed. A frame may
    be half an interval away from its time, as LeRobot adds up rounded lengths of episodes (its issue 3177). Raises
    :class:`DataError` that names file and episode where there is none so near, or the video can't be decoded.
    """
    from av.error import FFmpegError

    wanted, slack = span.start + times, 0.5 / fps + 1e-3 / fps
    done, tainted = 0, False
    last: tuple[float, Any, bool] | None = None
    picture: np.ndarray | None = None
    try:
        with open_container(span.path) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ValueError("no decoder knows its codec")
            if wanted[0] > 1 / fps:
                container.seek(
                    int((wanted[0] - 0.5 / fps) / float(stream.time_base or 1)), stream=stream, backward=True
                )
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                now = float(frame.pts * (frame.time_base or 1))
                while last is not None and done < len(wanted) and wanted[done] <= (last[0] + now) / 2:
                    _near(last[0], wanted[done], slack, span.path, where, done)
                    picture = _fitted(last[1], last[2], how, span.path, where) if picture is None else picture
                    yield picture
                    done += 1
                if done == len(wanted) or now > wanted[-1] + slack:
                    break
                tainted = frame.is_corrupt or (tainted and not frame.key_frame)  # until the next that stands alone
                last, picture = (now, frame, tainted), None
            while last is not None and done < len(wanted):
                _near(last[0], wanted[done], slack, span.path, where, done)
                picture = _fitted(last[1], last[2], how, span.path, where) if picture is None else picture
                yield picture
                done += 1
    except (FFmpegError, OSError, ValueError, IndexError) as error:
        raise DataError(f"{where}: can't decode {span.path} at frame {done}: {_said(error)}. {_AGAIN}") from error
    if done < len(wanted):
        raise DataError(
            f"{where}: {span.path} has no frame from {span.start:.3f} s on, where the episode should begin. {_AGAIN}"
        )


def _near(found: float, wanted: float, slack: float, path: Path, where: str, row: int) -> None:
    if abs(found - wanted) > slack:
        raise DataError(
            f"{where}: {path} has no frame at {wanted:.3f} s for row {row} of the episode; the nearest is at "
            f"{found:.3f} s. The video is shorter than the table, or its rate is not that of meta/info.json. {_AGAIN}"
        )


def _fitted(frame: Any, tainted: bool, how: Fit, path: Path, where: str) -> np.ndarray:
    """A decoded frame as (C, h, w), shrunk by the decoder's own scaler where it is a resize and nothing else."""
    if tainted:
        raise DataError(f"{where}: {path} is damaged at {frame.time or 0:.3f} s. {_AGAIN}")
    if (frame.height, frame.width) != how.source:
        raise DataError(f"{where}: {path} changes its size to {frame.width}×{frame.height} midway. {_AGAIN}")
    if how.plain and how.size != how.source:
        small = frame.reformat(width=how.size[1], height=how.size[0], format="rgb24", interpolation="AREA")
        return np.ascontiguousarray(small.to_ndarray().transpose(2, 0, 1))
    return how.pictures(frame.to_ndarray(format="rgb24")[None])[0]


def column_frames(
    path: Path,
    key: str,
    rows: np.ndarray,
    size: tuple[int, int],
    config: ImportConfig,
    root: Path,
    where: str,
) -> Generator[np.ndarray, None, None]:
    """The pictures (C, h, w) uint8 that stand in the rising ``rows`` of a parquet file's column ``key``."""
    fits: dict[tuple[int, int], Fit] = {}
    cells = column_cells(path, key, int(rows[0]), int(rows[-1]) + 1)
    picture: np.ndarray | None = None
    at = -1
    for row in rows.tolist():
        if picture is None or row != at:
            at, cell = next(((r, c) for r, c in cells if r == row), (row, _ENDED))
            if cell is _ENDED:
                raise DataError(f"{path} ends before row {row}, which belongs to {where}. {_AGAIN}")
            raw = picture_of(cell, root, f"{where}, {key} in {path}")
            shape = (raw.shape[0], raw.shape[1])
            if shape not in fits:
                fits[shape] = fit(shape, size, config, f"{where}, {key} in {path}")
            picture = fits[shape].pictures(raw[None])[0]
        yield picture


def column_cells(path: Path, key: str, start: int, stop: int) -> Iterator[tuple[int, Any]]:
    """(row, cell) of the rows from ``start`` to ``stop``; only the groups of rows that hold them are read."""
    pq = arrow()
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            begin, groups, first = 0, [], None
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if end > start and begin < stop:
                    groups.append(group)
                    first = begin if first is None else first
                begin = end
            row = first or 0
            for batch in file.iter_batches(batch_size=64, row_groups=groups, columns=[key]):
                batch.validate(full=True)
                column = batch.column(key)
                for i in range(len(column)):
                    if start <= row < stop:
                        yield row, column[i].as_py()
                    row += 1
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(path, error) from error


def picture_of(cell: Any, root: Path, where: str) -> np.ndarray:
    """A cell of an image column, a struct of ``bytes`` and ``path``, as uint8 (H, W, 3)."""
    from PIL import Image

    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is None and isinstance(path, str):
        below = inside(path)
        if below is None:
            raise DataError(
                f"{where}: the picture {path!r:.80} lies outside the dataset. Put its bytes into the table."
            )
        try:
            data = (root / below).read_bytes()
        except OSError as error:
            raise DataError(f"{where}: can't read the picture {root / below}: {error.strerror or error}.") from error
    if not isinstance(data, bytes):
        raise DataError(f"{where}: expected an encoded picture, found {type(data).__name__}.")
    try:
        image = Image.open(io.BytesIO(data), formats=KINDS)
        if not (1 <= image.height <= LARGEST_SIDE and 1 <= image.width <= LARGEST_SIDE):
            raise DataError(f"{where}: a picture of {image.width}×{image.height} pixels is too large.")
        deep = image.mode.startswith("I;16")
        array = np.array(image if deep else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{where}: a picture can't be decoded: {_said(error)}. {_AGAIN}") from error
    x, _ = as_uint8(array[None, ..., None] if array.ndim == 2 else array[None], where)
    return np.repeat(x[0], 3, -1) if x.shape[-1] == 1 else x[0]


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).partition("\n")[0][:200]
