"""A video from prompts that lie in files: a text, a picture or clip to begin with, one to end with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import WorldloomError, WorldModel
from worldloom.files import DamagedFileError, sweep
from worldloom.imagination.prompts import WINDOW, prompted
from worldloom.imagination.video import contact_sheet, read_video, write_image, write_video
from worldloom.models.saved import load_model
from worldloom.training.devices import pick_device

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Suffixes of files that are one picture; others are read as videos."""
SHOWN = 16
"""Frames of each video on a contact sheet, at most."""


def prompt_video(
    run: Path,
    out: Path,
    text: str | None = None,
    image: Path | None = None,
    clip: Path | None = None,
    last: Path | None = None,
    frames: int | None = None,
    table: str | None = None,
    steps: int | None = None,
    size: str | None = None,
    guidance: Sequence[str] = (),
    batch: int = 1,
    seed: int = 0,
    device: str = "auto",
    kind: type[WorldModel] | None = None,
) -> Iterator[str]:
    """Dream ``batch`` videos of what is asked for and write them to ``out`` side by side (.mp4, .gif, or .png for a
    contact sheet, a row each).

    image, clip: how they begin; last: how they end, a picture or a clip. frames: of the whole video, those that are
    given among them; by default 16, or 16 more than are given where these are many. size: ``HxW``. guidance:
    ``name=weight`` each. Yields lines that say what was done.
    """
    if image is not None and clip is not None:
        raise WorldloomError("Give --image for a picture to begin with, or --clip for a clip, not both.")
    if image is not None and image.suffix.lower() not in PICTURES:
        raise WorldloomError(f"--image is one of {', '.join(PICTURES)}, found {image.name}; for a video give --clip.")
    weights, asked = _weights(guidance), None if size is None else _size(size)
    model = load_model(run, pick_device(device), kind=kind)
    if len(model.spec.images) != 1:
        raise WorldloomError(
            f"The model in {run} shows {sorted(model.spec.shown)}: prompts are for one picture sensor."
        )
    ((sensor, kind_of),) = model.spec.images.items()
    shape = kind_of.shape if asked is None else (kind_of.shape[0], *asked)
    resizable = asked is None and hasattr(model, "at_size")
    parts: dict[str, Tensor | None] = {"first": None, "last": None}
    for name, path in (("first", image or clip), ("last", last)):
        if path is not None:
            found = _read(path)
            fitted = _fit(found, shape, path, run, resizable)
            if fitted.shape[-2:] != found.shape[1:3]:
                yield f"{path}: shrunk from {found.shape[1]}x{found.shape[2]} to {shape[1]}x{shape[2]}."
            parts[name] = torch.from_numpy(fitted)
    given = sum(len(x) for x in parts.values() if x is not None)
    frames = (WINDOW if 2 * given <= WINDOW else given + WINDOW) if frames is None else frames
    made = prompted(
        model, text=text, first=parts["first"], last=parts["last"], frames=frames, table=table, steps=steps,
        size=asked, guidance=weights or None, seed=seed, batch=batch,
    )  # fmt: skip
    videos = made.obs[sensor].numpy()
    sweep(out.parent, out.name)
    if out.suffix.lower() == ".png":
        write_image(out, sheet(videos))
    elif batch == 1:
        write_video(out, videos[0], model.spec.fps)
    else:
        write_video(out, side_by_side(videos), model.spec.fps, scale=1)
    yield f"{out}: {_what(videos, text, parts)}."


def sheet(videos: np.ndarray) -> np.ndarray:
    """One picture (H', W', 3) of videos (B, T, C, H, W): a row for each, or about square where there is one."""
    every = math.ceil(videos.shape[1] / (SHOWN if len(videos) > 1 else 24))
    shown = videos[:, ::every]
    flat = shown.reshape(-1, *shown.shape[2:])
    return contact_sheet(torch.from_numpy(flat), None if len(videos) == 1 else shown.shape[1])


def side_by_side(videos: np.ndarray) -> np.ndarray:
    """One video (T, H', W', 3) of several (B, T, C, H, W), in an about square grid, enlarged."""
    scale = max(1, math.ceil(160 / min(videos.shape[-2:])))
    return np.stack([contact_sheet(torch.from_numpy(videos[:, t]), scale=scale) for t in range(videos.shape[1])])


def _what(videos: np.ndarray, text: str | None, parts: dict[str, Tensor | None]) -> str:
    """What was made of what."""
    count, frames, _, height, width = videos.shape
    out = f"{f'{count} videos of ' if count > 1 else ''}{frames} frames of {height}x{width}"
    told = [] if text is None else [f"the text {text!r}"]
    for name, where in (("first", "begin with"), ("last", "end with")):
        clip = parts[name]
        if clip is not None:
            told.append(f"{'a picture' if len(clip) == 1 else f'{len(clip)} frames'} to {where}")
    return f"{out}, from {' and '.join(told) if told else 'nothing'}"


def _weights(guidance: Sequence[str]) -> dict[str, float]:
    """``text=2`` as a mapping."""
    out: dict[str, float] = {}
    for one in guidance:
        name, _, weight = one.partition("=")
        try:
            out[name] = float(weight)
        except ValueError:
            raise WorldloomError(f"--guidance is name=weight, such as text=2; found {one!r}.") from None
    return out


def _size(size: str) -> tuple[int, int]:
    """``64x96`` as (height, width)."""
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and int(p) for p in parts):
        raise WorldloomError(f"--size is height x width in pixels, such as 64x96; found {size!r}.")
    return int(parts[0]), int(parts[1])


def _read(path: Path) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of a picture or a video."""
    if path.suffix.lower() not in PICTURES:
        return read_video(path)[0]
    from PIL import Image

    if not path.is_file():
        raise WorldloomError(f"{path} is not a file.")
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))[None]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFileError(f"{path} can't be read as a picture: {error}.") from error


def _fit(x: np.ndarray, shape: tuple[int, ...], path: Path, run: Path, resizable: bool) -> np.ndarray:
    """Frames (T, C, H, W) as the model takes them. What was enlarged by a whole factor, as this library does to show
    small frames, is shrunk again; nothing else is resized behind a user's back."""
    channels, height, width = shape
    factor = x.shape[1] // height
    if x.shape[1:3] != (factor * height, factor * width) or factor < 1:
        near = resizable and x.shape[1] * x.shape[2] <= 4 * height * width
        other = f", or dream at its size: --size {x.shape[1]}x{x.shape[2]}" if near else ""
        raise WorldloomError(
            f"{path} is {x.shape[1]}x{x.shape[2]} (height x width), and {run} makes {height}x{width}. Resize it, or "
            f"enlarge {height}x{width} by a whole factor{other}."
        )
    blocks = x.reshape(len(x), height, factor, width, factor, 3).mean((2, 4))
    blocks = blocks.mean(-1, keepdims=True) if channels == 1 else blocks
    return np.ascontiguousarray(np.moveaxis(np.round(blocks).astype(np.uint8), -1, 1))
