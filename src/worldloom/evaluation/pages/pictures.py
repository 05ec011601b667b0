"""What was seen and what was dreamed, as pictures that a page can hold."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from torch import Tensor

from worldloom.evaluation.figures import PSNR_CAP, Tracked
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.pages.command import Asked

GAP = 6  # px between the pictures of the animation


@dataclass(frozen=True)
class Evidence:
    """What the page shows beside the figures: frames (B, T, C, h, w) uint8, on the CPU."""

    prompt: Tensor
    """True frames that the dreams began with."""
    true: Tensor
    """What really followed."""
    dream: Tensor
    """What was dreamed; may be longer than ``true``."""
    tracked: Tracked | None
    """Tracked objects, where the world has some."""
    fps: float
    """Playback speed."""
    asked: Asked | None = None
    """What the measurement was asked for, for the command that repeats it."""


def _rgb(frames: Tensor) -> np.ndarray:
    """(T, C, h, w) uint8 as (T, h, w, 3); one channel is grey, of more than three the first three are shown."""
    x = frames.permute(0, 2, 3, 1).numpy()
    return np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3]


def data_uri(mime: str, data: bytes) -> Markup:
    """Bytes as a ``data:`` address."""
    return Markup(f"data:{mime};base64,{base64.b64encode(data).decode()}")


def _png(frame: np.ndarray) -> Markup:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", optimize=True)
    return data_uri("image/png", out.getvalue())


def best_first(evidence: Evidence) -> np.ndarray:
    """Rows from the best dream to the worst: by position error or PSNR, summed over the first ten frames."""
    frames = min(10, evidence.true.shape[1])
    if evidence.tracked is not None:
        return np.argsort(evidence.tracked.error[:, :frames].mean((1, 2)), kind="stable")
    score = psnr(evidence.true[:, :frames], evidence.dream[:, :frames], PSNR_CAP).mean(1).numpy()
    return np.argsort(-score, kind="stable")


def filmstrip(evidence: Evidence, row: int) -> Markup:
    """An SVG: true frames above dreamed ones, the prompt's last two first, horizons written above."""
    horizon, cell, gap, left, top = evidence.true.shape[1], 64.0, 5.0, 46.0, 20.0
    columns = [h for h in (-1, 0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50) if 1 - evidence.prompt.shape[1] <= h <= horizon]
    height, width = evidence.true.shape[-2:]
    tall = cell * height / width
    start = _rgb(evidence.prompt[row])
    true, dream = (np.concatenate([start, _rgb(x[row, :horizon])]) for x in (evidence.true, evidence.dream))
    total = left + len(columns) * (cell + gap)
    parts = [
        f'<svg class="strip" viewBox="0 0 {total:.0f} {top + 2 * (tall + gap):.0f}" role="img" '
        f'aria-label="True frames above dreamed ones at horizons up to {columns[-1]}">'
    ]
    for place, frames in enumerate((true, dream)):
        y = top + place * (tall + gap)
        parts.append(f'<text class="side" x="0" y="{y + tall / 2 + 4:.1f}">{("true", "dream")[place]}</text>')
        for i, h in enumerate(columns):
            if place and h < 1:
                continue
            x = left + i * (cell + gap)
            source = _png(np.ascontiguousarray(frames[len(start) - 1 + h]))
            parts.append(
                f'<image x="{x:.1f}" y="{y:.1f}" width="{cell}" height="{tall:.1f}" href="{source}" '
                'preserveAspectRatio="none"/>'
            )
    for i, h in enumerate(columns):
        text, given = (str(h), "") if h > 0 else ("given", " given")
        x = left + i * (cell + gap) + cell / 2
        parts.append(f'<text class="at{given}" x="{x:.1f}" y="12" text-anchor="middle">{text}</text>')
    return Markup("".join([*parts, "</svg>"]))


def animation(evidence: Evidence, rows: list[int]) -> tuple[bytes, tuple[int, int]]:
    """An endless WebP, truth above dream for each of the rows, and its size (width, height).

    A bar between the two is grey while the prompt is shown, and coloured while the lower one is dreamed.
    """
    from PIL import Image

    shown, horizon = evidence.prompt.shape[1], evidence.true.shape[1]
    height, width = evidence.true.shape[-2:]
    size = (2 * height + GAP, len(rows) * (width + GAP) - GAP)
    canvas = np.zeros((shown + horizon, *size, 4), np.uint8)
    for i, row in enumerate(rows):
        left = slice(i * (width + GAP), i * (width + GAP) + width)
        start = _rgb(evidence.prompt[row])
        canvas[:, :height, left, :3] = np.concatenate([start, _rgb(evidence.true[row])])
        canvas[:, height + GAP :, left, :3] = np.concatenate([start, _rgb(evidence.dream[row, :horizon])])
        canvas[:, :height, left, 3] = canvas[:, height + GAP :, left, 3] = 255
        bar = slice(height + GAP // 2 - 1, height + GAP // 2 + 1)
        canvas[:shown, bar, left] = (150, 150, 150, 255)
        canvas[shown:, bar, left] = (232, 121, 61, 255)
    images = [Image.fromarray(frame) for frame in canvas]
    times = [max(40, round(1000 / evidence.fps))] * len(images)
    times[-1] += 900
    out = io.BytesIO()
    images[0].save(out, "WEBP", save_all=True, append_images=images[1:], duration=times, loop=0, lossless=True)
    return out.getvalue(), (size[1], size[0])


def film(evidence: Evidence, order: np.ndarray) -> dict[str, Any]:
    """The animation of a few starts, evenly from the best to the worst."""
    width = evidence.true.shape[-1]
    few = min(len(order), 6 if width <= 96 else 3)
    rows = [int(order[i]) for i in np.linspace(0, len(order) - 1, few).round().astype(int)]
    data, size = animation(evidence, rows)
    return {"source": data_uri("image/webp", data), "size": size, "count": few, "frames": evidence.true.shape[1]}
