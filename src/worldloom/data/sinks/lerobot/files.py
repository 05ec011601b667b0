"""Files of a LeRobot dataset that grow to a size and then roll over: tables, videos; and the statistics of features."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.lerobot.layout import VIDEO_PATH, arrow, place

CRF, GOP, PRESET = 12, 2, "fast"
"""Near-lossless H.264 in which every other frame is a keyframe, as LeRobot found best for training (its PR 92)."""


class _Rolling:
    """Numbers of chunk and file, and when the next file begins."""

    def __init__(self, root: Path, template: str, limit: int, chunk_files: int, **fields: str):
        self.root, self.template, self.limit, self.chunk_files, self.fields = root, template, limit, chunk_files, fields
        self.number = self.rows = 0

    @property
    def place(self) -> tuple[int, int]:
        """(chunk, file)."""
        return divmod(self.number, self.chunk_files)

    @property
    def path(self) -> Path:
        """The file that is being written."""
        chunk, file = self.place
        where = place(self.template, self.root, chunk_index=chunk, file_index=file, **self.fields)
        return self.root / where

    def full(self, more: int, size: int, rows: int) -> bool:
        """Whether ``more`` rows would take the file over its limit, if they are of the size that ``rows`` had."""
        return rows > 0 and size / rows * (self.rows + more) >= self.limit

    def roll(self) -> None:
        """Go on to the next file."""
        self.number, self.rows = self.number + 1, 0


class Tables:
    """Parquet files of one schema, one group of rows a call."""

    def __init__(self, root: Path, template: str, limit: int, chunk_files: int, schema: Any):
        self._rolling, self._schema = _Rolling(root, template, limit, chunk_files), schema
        self._writer: Any = None

    def place(self, rows: int) -> tuple[int, int]:
        """(chunk, file) that the next ``rows`` rows go to."""
        written = self._rolling.rows
        if written and self._rolling.full(rows, self._rolling.path.stat().st_size, written):
            self.close()
            self._rolling.roll()
        return self._rolling.place

    def write(self, table: Any) -> None:
        """Append a table to the file that :meth:`place` told."""
        if self._writer is None:
            self._rolling.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = arrow().ParquetWriter(
                self._rolling.path, self._schema, compression="snappy", write_page_checksum=True
            )
        self._writer.write_table(table)
        self._rolling.rows += table.num_rows

    def close(self) -> None:
        """Write the footer, without which a parquet file can't be read."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Videos:
    """The mp4 files of one camera: H.264 in yuv420p, several episodes one after the other, each from a keyframe."""

    def __init__(self, root: Path, key: str, fps: float, size: tuple[int, int], limit: int, chunk_files: int):
        self._rolling = _Rolling(root, VIDEO_PATH, limit, chunk_files, video_key=key)
        self._rate, self._size = Fraction(fps).limit_denominator(10_000), size
        self._container: Any = None
        self._first = self._bytes = self._packets = 0
        self._stream: Any = None

    def begin(self, count: int) -> None:
        """Begin an episode of so many frames."""
        if self._rolling.full(count, self._bytes, self._packets):
            self.close()
            self._rolling.roll()
        if self._container is None:
            self._open()
        self._first = self._rolling.rows

    def add(self, frame: np.ndarray) -> None:
        """Append a frame (C, H, W) uint8."""
        import av
        from av.video.frame import PictureType
        from av.video.reformatter import Colorspace

        rgb = av.VideoFrame.from_ndarray(_rgb(frame, self._size), format="rgb24")
        yuv = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601)
        yuv.pts, yuv.time_base = self._rolling.rows, 1 / self._rate
        if self._rolling.rows == self._first:
            yuv.pict_type = PictureType.I
        for packet in self._stream.encode(yuv):  # some frames later: the encoder looks ahead, the file is buffered
            self._bytes, self._packets = self._bytes + packet.size, self._packets + 1
            self._container.mux(packet)
        self._rolling.rows += 1

    def end(self) -> tuple[int, int, float, float]:
        """Chunk and file of the episode, and its seconds there: from, to."""
        return (*self._rolling.place, float(self._first / self._rate), float(self._rolling.rows / self._rate))

    def _open(self) -> None:
        import av
        from av.video.reformatter import ColorRange

        path = self._rolling.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._bytes = self._packets = 0
        name = encoder()
        options = {"g": str(GOP), "bf": "0"}
        if name == "libx264":
            options |= {"crf": str(CRF), "preset": PRESET, "forced-idr": "1"}
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(name, rate=self._rate, options=options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = *self._size, "yuv420p"
        if name != "libx264":
            self._stream.bit_rate = 8 * self._size[0] * self._size[1] * max(1, int(self._rate))
        # BT.601 (6 in H.273's tables), said in the file: what decoders assume that do not read what it says.
        context = self._stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 6
        context.color_range = ColorRange.MPEG

    def close(self) -> None:
        """Flush the encoder and write the index."""
        container, self._container = self._container, None
        if container is not None:
            try:
                container.mux(self._stream.encode())
            finally:
                container.close()


def encoder() -> str:
    """The H.264 encoder that this PyAV has."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    for name in ("libx264", "libopenh264"):
        try:
            Codec(name, "w")
        except UnknownCodecError:
            continue
        return name
    raise DataError("PyAV was built without an encoder for H.264: install its wheel by pip install --upgrade av.")


def even(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) rounded up to even numbers, which yuv420p needs."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _rgb(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W) of one or three channels as (H', W', 3); the last row and column are repeated where they must be."""
    picture = np.repeat(frame, 3, 0) if len(frame) == 1 else frame
    pad = ((0, 0), (0, size[0] - frame.shape[1]), (0, size[1] - frame.shape[2]))
    return np.ascontiguousarray(np.pad(picture, pad, mode="edge").transpose(1, 2, 0))


QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def number_stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of numbers (T, D): (D,) each, and ``count`` (1,) rows."""
    x = values.astype(np.float64)
    stats = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0), "count": np.array([len(x)])}
    return stats | {name: np.quantile(x, q, axis=0) for name, q in QUANTILES.items()}


class PictureStats:
    """Statistics of pictures by channel, (3, 1, 1) each in [0, 1], of some frames spread over the episode.

    As many frames as LeRobot's ``compute_stats.py`` takes: all up to 100, and about the power 0.75 of longer ones.
    """

    def __init__(self, length: int):
        count = max(min(length, 100), min(int(length**0.75), 10_000))
        self._wanted = set(np.round(np.linspace(0, length - 1, count)).astype(int).tolist())
        self._counts = np.zeros((3, 256), np.int64)

    def add(self, t: int, frame: np.ndarray) -> None:
        """Take note of frame ``t`` (C, H, W) if it is one of them."""
        if t in self._wanted:
            for c in range(3):
                self._counts[c] += np.bincount(frame[min(c, len(frame) - 1)].ravel(), minlength=256)

    def result(self) -> dict[str, np.ndarray]:
        """The statistics; ``count`` (1,) is of frames."""
        level, total = np.arange(256) / 255, self._counts.sum(1)
        mean = self._counts @ level / total
        above = np.cumsum(self._counts, 1)
        some = self._counts > 0
        stats = {
            "min": level[some.argmax(1)],
            "max": level[255 - some[:, ::-1].argmax(1)],
            "mean": mean,
            "std": np.sqrt(np.maximum(self._counts @ level**2 / total - mean**2, 0)),
        }
        stats |= {name: level[(above >= q * total[:, None]).argmax(1)] for name, q in QUANTILES.items()}
        shaped = {name: x.reshape(3, 1, 1) for name, x in stats.items()}
        return shaped | {"count": np.array([len(self._wanted)])}


class TotalStats:
    """Statistics of all episodes from those of each, as LeRobot puts them together: quantiles are averaged too."""

    def __init__(self) -> None:
        self._n = 0
        self._sums: dict[str, np.ndarray] = {}

    def add(self, stats: dict[str, np.ndarray]) -> None:
        """Take an episode's in."""
        n, s = int(stats["count"][0]), self._sums
        parts = {"mean": n * stats["mean"], "square": n * (stats["std"] ** 2 + stats["mean"] ** 2)}
        parts |= {q: n * stats[q] for q in QUANTILES}
        low, high = stats["min"], stats["max"]
        self._sums = {name: x + s[name] if s else x for name, x in parts.items()}
        self._sums |= {"min": np.minimum(low, s["min"]) if s else low, "max": np.maximum(high, s["max"]) if s else high}
        self._n += n

    def result(self) -> dict[str, np.ndarray]:
        """The statistics of them all."""
        s, n = self._sums, self._n
        mean = s["mean"] / n
        std = np.sqrt(np.maximum(s["square"] / n - mean**2, 0))
        out = {"min": s["min"], "max": s["max"], "mean": mean, "std": std, "count": np.array([n])}
        return out | {q: s[q] / n for q in QUANTILES}
