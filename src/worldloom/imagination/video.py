"""Frames to video files and pictures: mp4, gif, png; real and dreamed side by side, and as a filmstrip."""

from __future__ import annotations

import io
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, write_atomic

Frames: TypeAlias = Tensor | np.ndarray

ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""Video encoders in order of preference. The last is MPEG-4 part 2, which players know and browsers do not."""

VIEWABLE = 256
"""Shorter side in pixels to which small frames are enlarged by default, by a whole factor."""

_CELL = 96  # the same for the pictures of a filmstrip or sheet
_PAPER, _INK, _GIVEN = (255, 255, 255), (20, 20, 20), (150, 150, 150)
_LINE = 16  # height of a line of text


class VideoError(WorldloomError):
    """Frames that can't be shown, or a video that can't be written or read."""


def as_frames(frames: Frames) -> np.ndarray:
    """Frames as uint8 RGB (T, H, W, 3).

    Takes (T, C, H, W), (T, H, W, C) with C of 1 or 3, or (T, H, W): uint8, or floats in [0, 1]. Where both readings are
    possible tensors are taken channels first, as the library keeps them, and arrays channels last.
    """
    tensor = isinstance(frames, Tensor)
    x = frames.detach().cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    if x.ndim == 3:
        x = x[..., None]
    elif x.ndim == 4:
        front, back = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
        if front and (tensor or not back):
            x = np.moveaxis(x, 1, -1)
    if x.ndim != 4 or x.shape[-1] not in (1, 3) or min(x.shape) < 1:
        raise VideoError(f"Frames must be (T, C, H, W) or (T, H, W, C) with C of 1 or 3, found {tuple(frames.shape)}.")
    if x.dtype.kind == "f":
        if not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
            raise VideoError("Frames of floats must lie in [0, 1]; these do not. Scale or clip them.")
        x = np.round(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise VideoError(f"Frames must be uint8 or floats in [0, 1], found {x.dtype}.")
    return np.repeat(x, 3, -1) if x.shape[-1] == 1 else x


def write_video(path: str | Path, frames: Frames, fps: float | int = 15.0, *, scale: int | None = None) -> Path:
    """Write frames (see :func:`as_frames`) to ``path``, whole or not at all; the suffix chooses the format.

    ``.mp4``: H.264, yuv420p (MPEG-4 part 2, with a logged warning, where PyAV comes without H.264). Odd sizes get
    their last row or column twice, as the format needs even ones. ``.gif``: one palette for all frames, delays in
    hundredths of a second that keep time on average; players show at most 50 frames a second. ``.png``: a sheet of all
    frames. ``scale`` enlarges by a whole factor, nearest neighbour; by default until the shorter side has
    :data:`VIEWABLE` pixels (``.png``: 96), in an mp4 by an even factor.
    """
    path = Path(path)
    x = as_frames(frames)
    if not (fps > 0 and math.isfinite(fps)):
        raise VideoError(f"fps must be a positive number, found {fps}.")
    if scale is not None and scale < 1:
        raise VideoError(f"scale must be a whole number of at least 1, found {scale}.")
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        data = _mp4(x, fps, scale)
    elif suffix == ".gif":
        data = _gif(x, fps, scale)
    elif suffix == ".png":
        data = _png(contact_sheet(x, scale=scale))
    else:
        raise VideoError(f"Can't write {path.name}: {suffix or 'no suffix'} is not one of .mp4, .gif, .png.")
    write_atomic(path, data)
    return path


def write_image(path: str | Path, image: np.ndarray) -> Path:
    """Write one uint8 picture (H, W, 3), such as a filmstrip, as ``.png``."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise VideoError(f"Can't write {path.name}: pictures are written as .png.")
    write_atomic(path, _png(as_frames(image[None])[0]))
    return path


def read_video(path: str | Path) -> tuple[np.ndarray, float]:
    """All frames of a video as uint8 (T, H, W, 3), and its frames per second (of a gif: on average).

    Raises :class:`VideoError` where there is no such file, :class:`DamagedFileError` where it is not a video. A gif
    holds frames that repeat the one before as longer delays, so that it may have fewer than were written.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path} is not a file.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DamagedFileError(f"{path} holds no video.")
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            rate = stream.average_rate or stream.guessed_rate
            if path.suffix.lower() == ".gif" and stream.duration and stream.time_base:
                rate = len(frames) / (stream.duration * stream.time_base)  # delays vary: the average counts
    except FFmpegError as error:
        raise DamagedFileError(f"Can't read {path} as a video: {error.strerror or error}.") from error
    if not frames:
        raise DamagedFileError(f"{path} holds no frames.")
    return np.stack(frames), float(rate or 0.0)


def side_by_side(
    real: Frames, dream: Frames, labels: Sequence[str] = ("real", "dream"), *, prompt: int = 0, scale: int | None = None
) -> np.ndarray:
    """A video of the true world beside the dream, (T, H', W', 3), enlarged and labelled.

    ``real`` has T frames, ``dream`` as many or, without the first ``prompt`` frames, T - prompt; in those both sides
    show the truth and say so.
    """
    left, right = _pair(real, dream, prompt)
    factor = scale or _factor(left.shape[1:3], VIEWABLE)
    gap, height, width = 8, left.shape[1] * factor, left.shape[2] * factor
    out = np.full((len(left), height + _LINE, 2 * width + gap, 3), 255, np.uint8)
    titles = [
        _line(2 * width + gap, [(0, labels[0]), (width + gap, text)]) for text in (f"{labels[1]}: given", labels[1])
    ]
    for t, (a, b) in enumerate(zip(left, right, strict=True)):
        out[t, :_LINE] = titles[0 if t < prompt else 1]
        out[t, _LINE:, :width] = _enlarge(a, factor)
        out[t, _LINE:, width + gap :] = _enlarge(b, factor)
    return out


def filmstrip(real: Frames, dream: Frames, prompt: int = 4, every: int = 1, *, scale: int | None = None) -> np.ndarray:
    """One picture (H', W', 3): true frames above dreamed ones, a gap between.

    ``dream`` as in :func:`side_by_side`. Columns are numbered by horizon: 1 is the first dreamed frame, grey numbers up
    to 0 are the prompt. With ``every`` = k only the horizons that are multiples of k are shown.
    """
    if every < 1:
        raise VideoError(f"every must be at least 1, found {every}.")
    above, below = _pair(real, dream, prompt)
    shown = [t for t in range(len(above)) if (t - prompt + 1) % every == 0]
    if not shown:
        raise VideoError(f"{len(above)} frames hold none of every {every}th: choose a smaller `every`.")
    factor = scale or _factor(above.shape[1:3], _CELL)
    gap, margin = 2, 40
    height, width = above.shape[1] * factor, above.shape[2] * factor
    total = margin + len(shown) * (width + gap)
    out = np.full((_LINE + 2 * height + 4 * gap, total, 3), 255, np.uint8)
    places = [margin + i * (width + gap) for i in range(len(shown))]
    numbers = [t - prompt + 1 for t in shown]
    out[:_LINE] = _line(total, [(x, str(n)) for x, n in zip(places, numbers, strict=True)], [n < 1 for n in numbers])
    for row, (title, frames) in enumerate((("real", above), ("dream", below))):
        top = _LINE + row * (height + 4 * gap)
        out[top : top + min(_LINE, height), :margin] = _line(margin, [(0, title)])[:height]
        for x, t in zip(places, shown, strict=True):
            out[top : top + height, x : x + width] = _enlarge(frames[t], factor)
    return out


def contact_sheet(frames: Frames, columns: int | None = None, *, scale: int | None = None) -> np.ndarray:
    """All frames on one picture (H', W', 3), row by row, about square unless ``columns`` is given."""
    x = as_frames(frames)
    columns = columns or math.ceil(math.sqrt(len(x)))
    factor = scale or _factor(x.shape[1:3], _CELL)
    gap, height, width = 2, x.shape[1] * factor, x.shape[2] * factor
    rows = math.ceil(len(x) / columns)
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, frame in enumerate(x):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[top : top + height, left : left + width] = _enlarge(frame, factor)
    return out


def _pair(real: Frames, dream: Frames, prompt: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as (T, H, W, 3), the dream with the prompt before it."""
    a, b = as_frames(real), as_frames(dream)
    if not 0 <= prompt <= len(a):
        raise VideoError(f"The prompt has {prompt} frames, the real video {len(a)}: it must hold them all.")
    if prompt and len(b) == len(a) - prompt:
        b = np.concatenate([a[:prompt], b])
    if a.shape != b.shape:
        raise VideoError(
            f"Real and dreamed frames must match, with or without the {prompt} of the prompt: "
            f"found {a.shape} and {b.shape}."
        )
    return a, b


def _factor(size: Sequence[int], target: int) -> int:
    return max(1, math.ceil(target / min(size)))


def _enlarge(frame: np.ndarray, factor: int) -> np.ndarray:
    return frame.repeat(factor, 0).repeat(factor, 1) if factor > 1 else frame


def _line(width: int, texts: Sequence[tuple[int, str]], grey: Sequence[bool] = ()) -> np.ndarray:
    """One line of text as (16, width, 3): (left edge in pixels, text) pairs."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, _LINE), _PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    for i, (x, text) in enumerate(texts):
        draw.text((x + 2, 2), text, fill=_GIVEN if i < len(grey) and grey[i] else _INK, font=font)
    return np.asarray(image)


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG")
    return out.getvalue()


def _gif(x: np.ndarray, fps: float | int, scale: int | None) -> bytes:
    from PIL import Image

    factor = scale or _factor(x.shape[1:3], VIEWABLE)
    pixels = x.reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // 1_000_000)]  # enough to choose 256 colours from
    palette = Image.fromarray(np.ascontiguousarray(pixels)[None]).quantize(256)

    def images() -> Iterator[Any]:
        for frame in x:
            small = Image.fromarray(np.ascontiguousarray(frame)).quantize(palette=palette, dither=Image.Dither.NONE)
            yield small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)

    ticks = np.round(np.arange(len(x) + 1) * 100.0 / min(fps, 50.0)).astype(int)  # 1/100 s, the format's clock
    each = images()
    out = io.BytesIO()
    next(each).save(
        out, "GIF", save_all=True, append_images=each, duration=[int(d) * 10 for d in np.diff(ticks)], loop=0
    )
    return out.getvalue()


def _encoder() -> str:
    """The first of :data:`ENCODERS` that this PyAV was built with."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    for name in ENCODERS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            continue
        if name == "mpeg4":
            logging.getLogger(__name__).warning(
                "PyAV was built without H.264: writing MPEG-4 part 2, which browsers do not show."
            )
        return name
    raise VideoError(f"PyAV has none of the encoders {', '.join(ENCODERS)}. Install its wheel, or write a .gif.")


def _mp4(x: np.ndarray, fps: float | int, scale: int | None) -> bytes:
    import av
    from av.error import FFmpegError
    from av.video.reformatter import ColorRange, Colorspace

    factor = _factor(x.shape[1:3], VIEWABLE)
    # An even factor puts every edge between pairs of pixels, where halving the colours' resolution loses nothing.
    factor = scale or factor + (factor % 2 if factor > 1 else 0)
    height, width = x.shape[1] * factor, x.shape[2] * factor
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    name = _encoder()
    options = {"libx264": {"crf": "16", "preset": "medium"}, "mpeg4": {"qscale": "2"}}.get(name, {})
    # The muxer must go back in its file to put the index first, which lets players begin before they have all of it.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        try:
            with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream: Any = container.add_stream(name, rate=Fraction(fps).limit_denominator(10_000), options=options)
                stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
                if name != "libx264":
                    stream.bit_rate = 4 * stream.width * stream.height
                # BT.709 throughout (1 in H.273's tables), said in the file: players guess otherwise, differently.
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = 1
                context.color_range = ColorRange.MPEG
                for frame in x:
                    picture = np.pad(_enlarge(frame, factor), pad, mode="edge")
                    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                    yuv = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
                    container.mux(stream.encode(yuv))
                container.mux(stream.encode())
        except (FFmpegError, OSError) as error:
            raise VideoError(f"Can't encode the video ({name}): {error}. Try a .gif.") from error
        return file.read_bytes()
