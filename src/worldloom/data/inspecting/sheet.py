"""The contact sheet: some episodes over the dataset, some frames over each, one picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Control, Spec, WorldloomError
from worldloom.data.inspecting.reading import Entry
from worldloom.files import write_atomic

ROWS, COLUMNS = 8, 8
_CELL, _LINE, _GAP, _EDGE = 112, 15, 6, 14
_PAPER, _INK, _SOFT = (250, 248, 244), (29, 27, 24), (107, 101, 92)
_LARGEST = 256


@dataclass(frozen=True)
class Strip:
    """Frames of one episode."""

    title: str
    frames: np.ndarray
    """(n, H, W, 3) uint8."""
    numbers: list[int]
    """Which frames these are."""
    actions: list[str]
    """What led to each, in words; empty where unknown or nothing."""


def strip(entry: Entry, spec: Spec) -> Strip | None:
    """Some frames of an episode, evenly over its time; None where it shows no picture."""
    name = next(iter(spec.images), None)
    if name is None:
        return None
    shown = entry.episode.obs[name]
    at = np.unique(np.linspace(0, len(shown) - 1, min(COLUMNS, len(shown))).round().astype(int))
    x = shown[at].transpose(0, 2, 3, 1)
    step = max(1, -(-max(x.shape[1:3]) // _LARGEST))
    x = x[:, ::step, ::step]
    x = np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3]
    control = spec.action
    values = entry.episode.control.get("action") if control is not None and control.per == "frame" else None
    words = ["" if values is None or control is None else _say(control, np.asarray(values[t])) for t in at]
    return Strip(entry.where, np.ascontiguousarray(x), [entry.start + int(t) for t in at], words)


def _say(control: Control, value: np.ndarray) -> str:
    if control.kind == "discrete":
        n = int(value)
        if not 0 <= n < control.n:
            return ""
        return control.names[n] if control.names else str(n)
    if control.kind != "continuous" or not np.any(value):
        return ""
    listed = " ".join(f"{v:.2g}" for v in value[:3])
    return listed + (" …" if len(value) > 3 else "")


def choose(strips: list[Strip], rows: int = ROWS) -> list[Strip]:
    """Some of the strips, evenly over all."""
    if len(strips) <= rows:
        return strips
    return [strips[i] for i in np.linspace(0, len(strips) - 1, rows).round().astype(int)]


def draw_sheet(strips: list[Strip], rows: int = ROWS) -> bytes:
    """The sheet as PNG; each row an episode, each frame with its number and the action that led to it."""
    from PIL import Image, ImageDraw, ImageFont

    chosen = choose(strips, rows)
    if not chosen:
        raise WorldloomError("There are no pictures for a contact sheet: the data show only vectors.")
    high, wide = chosen[0].frames.shape[1:3]
    scale = _CELL / max(high, wide)
    scale = max(1, round(scale)) if scale >= 1 else scale
    cell_high, cell_wide = max(1, round(high * scale)), max(1, round(wide * scale))
    column = max(cell_wide, 64) + _GAP
    row = _LINE + cell_high + 2 * _LINE + 2 * _GAP
    columns = max(len(s.numbers) for s in chosen)
    sheet = Image.new("RGB", (2 * _EDGE + columns * column - _GAP, 2 * _EDGE + len(chosen) * row), _PAPER)
    pen: Any = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for r, s in enumerate(chosen):
        top = _EDGE + r * row
        pen.text((_EDGE, top), _fitting(s.title, font, columns * column), _INK, font)
        for c, (frame, number, action) in enumerate(zip(s.frames, s.numbers, s.actions, strict=True)):
            left = _EDGE + c * column
            how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
            sheet.paste(Image.fromarray(frame).resize((cell_wide, cell_high), how), (left, top + _LINE + 2))
            below = top + _LINE + 3 + cell_high
            pen.text((left, below), f"frame {number}", _SOFT, font)
            if action:
                pen.text((left, below + _LINE - 2), _fitting(action, font, column - _GAP), _INK, font)
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _fitting(text: str, font: Any, wide: int) -> str:
    if font.getlength(text) <= wide:
        return text
    while text and font.getlength(text + "…") > wide:
        text = text[:-1]
    return text + "…"


def write_sheet(path: str | Path, strips: list[Strip]) -> Path:
    """Write the sheet to ``path``, a .png."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise WorldloomError(f"Can't write {path.name}: the contact sheet is a .png.")
    write_atomic(path, draw_sheet(strips))
    return path
