"""Small videos whose pictures say which frame they are, even after a codec and a resize."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ROWS, COLUMNS = 3, 4  # blocks, one bit each


def stamp(t: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(height, width, 3) uint8: the bits of t, as light and dark blocks."""
    bits = np.array([(t >> i) & 1 for i in range(ROWS * COLUMNS)], np.uint8).reshape(ROWS, COLUMNS)
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    return np.repeat((40 + 160 * bits)[rows][:, columns, None], 3, -1)


def stamped(pictures: np.ndarray) -> list[int]:
    """The t of each of (T, 3, h, w) pictures."""
    _, _, h, w = pictures.shape
    rows = (2 * np.arange(ROWS) + 1) * h // (2 * ROWS)
    columns = (2 * np.arange(COLUMNS) + 1) * w // (2 * COLUMNS)
    bits = pictures.mean(1)[:, rows][:, :, columns].reshape(len(pictures), -1) > 120
    return [int((b * 2 ** np.arange(b.size)).sum()) for b in bits]


def movie(
    path: Path,
    count: int,
    *,
    fps: int = 20,
    size: tuple[int, int] = (48, 64),
    times: Sequence[int] | None = None,
    turned: int = 0,
    picture: Callable[[int, int, int], np.ndarray] = stamp,
    options: dict[str, str] | None = None,
) -> Path:
    """Frames 0 to ``count`` as a video; ``times`` in 1/fps s, if they are not 0, 1, 2, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {".webm": ("libvpx-vp9", "yuv420p"), ".gif": ("gif", "rgb8"), ".avi": ("mpeg4", "yuv420p")}
    codec, pixels = kinds.get(path.suffix.lower(), ("libx264", "yuv420p"))
    form = {".mkv": "matroska", ".m4v": "mp4"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    fast = {"movflags": "+faststart"} if form == "mp4" else {}
    with av.open(str(path), "w", format=form, options=fast) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        if turned:
            stream.set_display_rotation(turned)
        container.start_encoding()
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(picture(t, *size), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = t if times is None else times[t], Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(path: Path) -> Path:
    """A video file that holds only sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"  # type: ignore[assignment]
        for t in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, 1024 * t
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut(path: Path, part: float, to: Path | None = None) -> Path:
    """Only the first part of a file."""
    data = path.read_bytes()
    (to or path).write_bytes(data[: int(len(data) * part)])
    return to or path
