"""Folders of videos, with or without tables of actions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.base import ImportConfig, Item, Problem
from worldloom.data.sources.cutting import episodes
from worldloom.data.sources.films.labels import Found
from worldloom.data.sources.films.recordings import Recordings
from worldloom.data.sources.names import file_part, files_under, hidden, natural, shown
from worldloom.data.sources.pictures import LARGEST_SIDE, Fit
from worldloom.data.sources.timing import Constant, Resampled, check_even

SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".gif", ".m4v"})
"""Names of files that are videos, whatever their case."""

# A file is read as what it claims to be and nothing else: a playlist called .mp4 would make libav open what it lists.
_OPEN = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,m4v,mpegts,mpeg,flv,asf,ogg",
    "protocol_whitelist": "file",
}
_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def open_container(path: Path) -> Any:
    """``av.open`` for a file that nobody vouches for: it is a video or an error, and no other file is opened."""
    import av

    return av.open(str(path.absolute()), options=dict(_OPEN), metadata_errors="replace")


def _counts(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not hidden(path.name) and path.is_file()


def holds_videos(path: Path) -> bool:
    """Whether ``path`` is a video, or a folder with one at any depth."""
    if path.is_dir():
        return any(Path(name).suffix.lower() in SUFFIXES for _, names in files_under(path) for name in names)
    return path.is_file() and path.suffix.lower() in SUFFIXES


class VideoSource(Recordings):
    """Videos (mp4, mkv, avi, mov, webm, gif) at any depth, each a recording, in natural order of their paths.

    Beside ``x.mp4`` may lie its actions: ``x.csv``, ``x.tsv``, ``x.parquet``, ``x.npz``, ``x.npy``, or any of them as
    ``x.actions.csv`` or ``x_actions.csv``; or one ``actions.csv`` for the whole folder, with a column ``video`` or
    ``episode``. Frames are shown upright (the turn that phones write is applied), as RGB; a file whose frames do not
    come at a constant rate is refused unless ``config.fps`` says to which it is to be resampled.
    """

    format: ClassVar[str] = "video"

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        if path.is_dir():
            paths = [
                at / name for at, names in files_under(path) for name in names if Path(name).suffix.lower() in SUFFIXES
            ]
        else:
            paths = [path]
        named: dict[str, Path] = {}
        for file in paths:
            name = shown(file.relative_to(path).as_posix() if path.is_dir() else file.name)
            while name in named:
                name += "~"
            named[name] = file
        found = []
        every = sorted(self._of_one_camera(named), key=natural)
        for name in every:
            try:
                found.append(self._probe(name, named[name]))
            except _BadVideoError as error:
                self.problems.append(Problem(name, str(error), error.kind))
        if path.is_file():  # a table that numbers the recordings of its folder counts its neighbours too
            every = sorted((shown(p.name) for p in path.parent.iterdir() if _counts(p)), key=natural)
        self._settle(found, every, "video", "videos")
        self._other_pictures()
        if config.fps is not None:
            rates = sorted({f"{f.rate:.4g}" for f in self._found.values()})
            if rates != [f"{config.fps:.4g}"]:
                self.notes.insert(1, f"Resampled from {', '.join(rates[:4])} frames a second: the nearest in time.")

    def _other_pictures(self) -> None:
        """Folders of pictures may be recordings too; a folder is read as one or the other."""
        from worldloom.data.sources.films.images import SUFFIXES as PICTURES

        if not self.path.is_dir():
            return
        left = [at / n for at, names in files_under(self.path) for n in names if Path(n).suffix.lower() in PICTURES]
        if left:
            first = shown(left[0].relative_to(self.path).as_posix())
            self.notes.append(f"Left out: {len(left)} pictures ({first} …). Import them from a folder without videos.")

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """A video, or a folder with one at any depth."""
        return holds_videos(path)

    def _of_one_camera(self, named: dict[str, Path]) -> list[str]:
        """Our own export writes a file for each camera: those of the one that is chosen."""
        cameras = list(self._about.images) if self._about else []
        if len(cameras) < 2 or self._about is None:
            return list(named)
        chosen = [c for c in self.config.cameras if c in cameras] or cameras
        self.notes.append(f"Of the cameras {', '.join(cameras)} {chosen[0]} is read (--cameras NAME).")
        self._about = replace(self._about, shown={chosen[0]: self._about.shown[chosen[0]]})
        return [name for name in named if Path(name).stem.endswith(f".{file_part(chosen[0])}")]

    # ------------------------------------------------------------------------------------------------- probing

    def _probe(self, name: str, path: Path) -> Found:
        """What the headers and the first frame tell."""
        with _Video(path) as video:
            first = next(video.frames(), None)
            if first is None:
                raise _BadVideoError("no frames", "holds no frames.")
            stem = path.stem
            calls = [(path.parent, stem), (path.parent, path.name)]
            if "." in stem:
                calls.append(
                    (path.parent, stem.rsplit(".", 1)[0])
                )  # one table for episode.left.mp4 and episode.right.mp4
            count, times = video.index()
            if self.config.fps is None and _uneven(times, video.tick):
                try:  # the index counts in order of decoding: now in order of showing, so that the message is right
                    check_even(np.diff(_Video(path).times()), video.tick, name)
                except DataError as error:
                    raise _BadVideoError("timing", str(error).removeprefix(f"{name}: ")) from error
            size = _turned((first.height, first.width), _turns(first))
            frames = count or video.declared or None
            return Found(name, path, {size: name}, video.rate, frames, bool(count), calls)

    # ------------------------------------------------------------------------------------------------- reading

    def read(self, item: Item) -> Iterator[Episode]:
        """See :class:`~worldloom.data.sources.base.Source`; memory holds one piece, however long the video."""
        found = self._found[item.name]
        alone = len(self.items) == 1
        try:
            with _Video(found.path, threads=alone) as video:
                rate = found.rate or self.spec.fps
                frames: Constant[Any] | Resampled[Any]
                if self.config.fps is None:
                    frames = Constant(video.timed(), self.spec.fps, video.tick, item.name)
                else:
                    frames = Resampled(video.timed(), rate, self.config.fps, item.name)
                show = _Shower(item.name, next(iter(found.sizes)), self._fits)
                yield from episodes(frames, show, self._cutter(item), found.frames)
        except _BadVideoError as error:
            raise DataError(f"{item.name}: {error}") from error


class _BadVideoError(Exception):
    """What is wrong with a file: a kind, and a sentence without the file's name."""

    def __init__(self, kind: str, what: str):
        super().__init__(what)
        self.kind = kind


class _Video:
    """One open file and its first real video stream. Every failure of libav becomes a :class:`_BadVideoError`."""

    def __init__(self, path: Path, threads: bool = False):
        self.path = path
        try:
            size = path.stat().st_size
            path.open("rb").close()
        except OSError as error:
            raise _BadVideoError("unreadable", f"can't be read: {error.strerror or error}.") from error
        if size == 0:
            raise _BadVideoError("empty", "is empty (0 bytes): copy it again.")
        try:
            self.container = open_container(path)
        except _failures() as error:
            raise _BadVideoError("corrupt", f"can't be read as a video ({_reason(error)}); is it whole?") from error
        try:
            self._choose(threads)
        except BaseException:
            self.container.close()
            raise

    def _choose(self, threads: bool) -> None:
        streams = [s for s in self.container.streams.video if not _is_cover(s)]
        if not streams:
            what = "only sound, no pictures" if self.container.streams.audio else "neither pictures nor sound"
            raise _BadVideoError("audio only", f"holds {what}.")
        self.stream: Any = streams[0]
        context = self.stream.codec_context
        if context is None or context.codec is None:
            raise _BadVideoError("codec", "is in a format that this PyAV can't decode; write it anew as H.264.")
        if not (context.width and context.height):
            raise _BadVideoError("size", "has pictures without a size that can be read: is it whole?")
        if not (0 < context.width <= LARGEST_SIDE and 0 < context.height <= LARGEST_SIDE):
            raise _BadVideoError(
                "size",
                f"claims pictures of {context.width}×{context.height} pixels; from 1 to {LARGEST_SIDE} a side can be "
                "read.",
            )
        # Files are decoded side by side, which a decoder's own threads would only slow down.
        self.stream.thread_type = "AUTO" if threads else "NONE"
        self.tick = float(self.stream.time_base or 0)
        self.declared = int(self.stream.frames or 0)
        self.rate = self._rate()
        self.packets = self.hidden = 0

    def _rate(self) -> float:
        """Frames a second, as the headers say; 0 where they do not."""
        rate = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        if self.container.format.name == "gif" and self.declared and self.stream.duration:
            ticks = self.stream.duration  # a gif rounds its delays to a hundredth of a second: the whole counts
            rate, low, high = (self.declared / (self.tick * (ticks + d)) for d in (0, 0.5, -0.5))
            rate = float(round(rate)) if low <= round(rate) <= high else rate
        return rate if math.isfinite(rate) and 0 < rate < 1e4 else 0.0

    def index(self) -> tuple[int, np.ndarray]:
        """How many frames the file's index lists, and when each is decoded in seconds; 0 and none where there is none.

        An index (of mp4 and mov) is not a claim: it says where the bytes of each frame lie.
        """
        entries = getattr(self.stream, "index_entries", None) or []
        if not self._indexed or len(entries) != self.declared:
            return 0, np.zeros(0)
        times = [e.timestamp for e in entries if not e.is_discard]
        if len(times) != len(entries):
            return 0, np.zeros(0)
        return len(times), np.array(times, np.float64) * self.tick

    def times(self) -> np.ndarray:
        """(frames,) when each is shown, in seconds, without decoding them; closes the file."""
        with self:
            try:
                shown = [p.pts * self.tick for p in self.container.demux(self.stream) if p.pts is not None]
            except _failures() as error:
                raise self._damaged(0, _reason(error)) from error
        return np.sort(np.array(shown, np.float64))

    @property
    def _indexed(self) -> bool:
        return self.container.format.name.startswith("mov")

    def frames(self) -> Iterator[Any]:
        """Decoded frames in order of showing; :class:`_BadVideoError` at the first damaged or missing one."""
        count = 0
        try:
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt:
                    raise self._damaged(count)
                self.packets += packet.size > 0
                self.hidden += packet.is_discard
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise self._damaged(count)
                    yield frame
                    count += 1
        except _failures() as error:
            raise self._damaged(count, _reason(error)) from error

    def _damaged(self, count: int, why: str = "") -> _BadVideoError:
        listed = f" of {self.declared}" if count < self.declared else ""
        because = f" ({why})" if why else ""
        if not count:
            return _BadVideoError("corrupt", f"can't be decoded from its first frame on{because}: is it whole?")
        return _BadVideoError(
            "corrupt", f"is damaged or cut off after {count}{listed} frames{because}. Copy it again, or cut it there."
        )

    def timed(self) -> Iterator[tuple[float | None, Any]]:
        """Frames with their times in seconds; :class:`_BadVideoError` where the file ends before its header says."""
        count, end, start = 0, 0.0, None
        tells = self.container.format.name != "avi"  # which knows only the order of decoding
        for frame in self.frames():
            if tells and frame.time is not None:
                start = frame.time if start is None else start
                end = frame.time + (frame.duration or 0) * self.tick - start
            yield frame.time if tells else None, frame
            count += 1
        if not count:
            raise _BadVideoError("no frames", "holds no frames.")
        few = self.packets < (self.declared if self._indexed else 0.98 * self.declared)
        few |= self._indexed and count < self.packets - self.hidden
        length = self._duration()
        if few or (length and end and length - end > max(0.02 * length, 0.25)):
            raise self._damaged(count)
        if self.container.format.name == "gif":
            with self.path.open("rb") as file:
                file.seek(-min(16, self.path.stat().st_size), 2)
                if b";" not in file.read():
                    raise self._damaged(count)

    def _duration(self) -> float:
        """Seconds that a matroska's header claims; 0 where none does."""
        match = _DURATION.match(self.stream.metadata.get("DURATION", ""))
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *exc: object) -> None:
        self.container.close()


class _Shower:
    """Decoded frames to pictures (3, h, w) uint8, as cheaply as they can be.

    A resize, and one with a border, is done while the colours are converted; only a cut takes the whole picture.
    """

    def __init__(self, name: str, size: tuple[int, int], fits: dict[tuple[int, int], Fit]):
        from av.video.reformatter import Interpolation, VideoReformatter

        self.name, self.size, self.fit = name, size, fits[size]
        self.reformatter = VideoReformatter()
        # Without the two flags swscale darkens by two grey levels. Bilinear, as :meth:`Fit.planes` is.
        self.how = int(Interpolation.BILINEAR) | _ACCURATE
        self.extra: dict[str, Any] = {"threads": 1}
        self.whole = self.fit.box == (0, 0, *self.fit.source)

    def __call__(self, frame: Any) -> np.ndarray:
        turns = _turns(frame)
        if _turned((frame.height, frame.width), turns) != self.size:
            raise DataError(
                f"{self.name}: its pictures change from {self.size[1]}×{self.size[0]} to {frame.width}×{frame.height} "
                "pixels on the way; cut the file where they do."
            )
        if not self.whole:
            rgb = np.rot90(self._rgb(frame, (frame.height, frame.width)), turns)
            return self.fit.pictures(rgb[None])[0]
        picture = np.rot90(self._rgb(frame, _turned(self.fit.inner, turns)), turns).transpose(2, 0, 1)
        if self.fit.inner == self.fit.size:
            return picture
        out = np.zeros((3, *self.fit.size), np.uint8)
        (top, left), (high, wide) = self.fit.place, self.fit.inner
        out[:, top : top + high, left : left + wide] = picture
        return out

    def _rgb(self, frame: Any, size: tuple[int, int]) -> np.ndarray:
        def convert() -> np.ndarray:
            shown = self.reformatter.reformat(frame, size[1], size[0], "rgb24", interpolation=self.how, **self.extra)
            rgb: np.ndarray = shown.to_ndarray()
            return rgb

        try:
            return convert()
        except TypeError:  # an older PyAV, which knows no threads here and uses one
            self.extra = {}
            return convert()


_ACCURATE = 0x40000 | 0x2000 | 0x4000  # SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP in every libswscale


def _turns(frame: Any) -> int:
    """Quarter turns against the clock that bring a frame upright."""
    return round((getattr(frame, "rotation", 0) or 0) / 90) % 4


def _turned(size: tuple[int, int], turns: int) -> tuple[int, int]:
    return size[::-1] if turns % 2 else size


def _is_cover(stream: Any) -> bool:
    """Whether a video stream is the picture on the sleeve of a song."""
    disposition = getattr(stream, "disposition", None)
    return bool(disposition is not None and disposition & type(disposition).attached_pic)


def _failures() -> tuple[type[Exception], ...]:
    """What PyAV raises over a bad file."""
    from av.error import FFmpegError

    return FFmpegError, OSError, ValueError, ArithmeticError, MemoryError


def _uneven(times: np.ndarray, tick: float) -> bool:
    try:
        check_even(np.diff(times), tick, "")
    except DataError:
        return True
    return False


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
