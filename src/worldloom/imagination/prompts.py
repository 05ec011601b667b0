"""Videos from prompts: a text, a picture or a clip to begin with, one to end with, or any of these together.

To a model that fills clips these are one task: some frames are known, the others are dreamed. A video longer than what
a model sees at once is dreamed in windows that overlap: what one has dreamed is known to the next.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from worldloom.contract import ContractError, Segment, UnsupportedError, WorldModel, mix
from worldloom.imagination.settings import otherwise
from worldloom.nn import tables
from worldloom.nn.words import batch_of_tokens

STEPS = 8
"""Steps of a named table unless told otherwise: of the whole clip (joint), of each frame (autoregressive)."""
WINDOW = 16
"""Frames that are dreamed together by a model that does not say how many suit it (its attribute ``window``)."""
OPTIONS: dict[str, dict[str, int]] = {"keyframes": {"every": 4}}
"""What named tables are told beside steps."""


def prompted(
    model: WorldModel,
    *,
    text: str | Sequence[str] | None = None,
    first: Tensor | None = None,
    last: Tensor | None = None,
    frames: int = 16,
    table: str | Tensor | None = None,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    guidance: Mapping[str, float] | None = None,
    control: Mapping[str, Tensor] | None = None,
    chunk: int | None = None,
    overlap: int | None = None,
    seed: int = 0,
    batch: int = 1,
) -> Segment:
    """Videos (B, ``frames``) of a model that can ``fill``; given frames stand in them unchanged.

    text: for all videos, or one for each. Left out, the model is told nothing. Words are those of the world's captions;
        a model that reads more of them says so by a method ``reading``.
    first: how the videos begin, last: how they end: uint8 (C, H, W) a picture, (T, C, H, W) a clip, or (B, T, C, H, W)
        one for each. First alone is image-to-video or extension, last alone extension backward, both infilling.
    table: a name of :data:`~worldloom.nn.tables.TABLES`, or a table (S + 1, T) of your own; None: the model's default.
        Where a window's known frames lie at its end alone, the table is turned around in time.
    steps: of a named table (without a name: of ``joint`` for a model that may begin with nothing, of
        ``autoregressive`` for others), :data:`STEPS` by default; they lie where the model's
        attribute ``shift`` says, if it has one (:func:`~worldloom.nn.tables.times`).
    size: (height, width) other than those trained on, for a model with a method ``at_size``.
    guidance: weight of each condition that is guided by, in place of the model's own.
    control: values of further controls, (B, frames, ...) or, given once, (B, ...). Of what is left out an action
        rests (:meth:`~worldloom.contract.Control.rest`), all else is null.
    chunk: frames that are dreamed together in longer videos, by default as many as the model was trained on (or as a
        table of your own has); overlap: how many of them it shares at least with the ones before, by default half.
    seed: makes the draws; row i of the first window uses (seed, i).
    batch: number of videos, where text, first and last leave it open.

    Raises :class:`ContractError` for prompts that do not fit the model, the video or each other, and
    :class:`UnsupportedError` for what the model can't be given.
    """
    model.require("fill")
    if frames < 1 or batch < 1:
        raise ContractError(f"frames and batch must be at least 1, found {frames} and {batch}.")
    if size is not None:
        model = _at_size(model, size)
    reading = getattr(model, "reading", None)
    if text is not None and reading is not None:
        model = reading([text] if isinstance(text, str) else text)
    if guidance is not None:
        model = _guided(model, guidance)
    sensor, shape = _only_image(model)
    ends = {"first": _given(first, "first", shape, size), "last": _given(last, "last", shape, size)}
    rows = _rows(text, ends, control or {}, batch)
    head, tail = (0 if x is None else x.shape[1] for x in ends.values())
    if head + tail >= frames:
        raise ContractError(
            f"The prompt is longer than the video: {head} frames to begin with and {tail} to end with leave nothing to "
            f"dream of {frames}. Ask for more frames, or give fewer."
        )
    controls = _controls(model, text, control or {}, rows, frames)
    video = torch.zeros(rows, frames, *shape, dtype=torch.uint8)
    known = torch.zeros(rows, frames, dtype=torch.bool)
    for place, clip in zip((slice(0, head), slice(frames - tail, frames)), ends.values(), strict=True):
        if clip is not None:
            video[:, place], known[:, place] = clip, True
    if isinstance(table, Tensor):
        if steps is not None:
            raise ContractError("A table of your own holds its own steps: leave `steps` out.")
        chunk = min(frames, table.shape[-1]) if chunk is None else chunk
    chunk = min(frames, int(getattr(model, "window", WINDOW))) if chunk is None else min(frames, chunk)
    overlap = chunk // 2 if overlap is None else overlap
    parts = windows(frames, head, tail, chunk, overlap)
    shift = float(getattr(model, "shift", 1.0))
    plan = _table(table, steps, parts[0].end - parts[0].begin, shift, model.capabilities)
    start = torch.zeros_like(known)
    start[:, 0] = True
    whole = Segment({sensor: video}, controls, start, torch.ones_like(known), once=model.spec.once)
    training = model.training
    model.eval()
    try:
        for i, (begin, end, kept) in enumerate(parts):
            part = slice(begin, end)
            backward = bool(known[0, end - 1]) and not bool(known[0, begin])
            turned = plan.flip(1) if plan is not None and backward else plan
            made = model.fill(whole.time(part), known[:, part], _seed_of(seed, i), turned)
            video[:, part] = made.obs[sensor].cpu()
            known[:, begin:kept] = True
    finally:
        model.train(training)
    return whole


class Window(NamedTuple):
    """Frames that are dreamed together."""

    begin: int
    """The first of them, in the video."""
    end: int
    """The one behind the last."""
    kept: int
    """What it dreams from here on, the next window dreams anew."""


def windows(frames: int, head: int, tail: int, chunk: int, overlap: int) -> list[Window]:
    """The windows, in the order in which they are dreamed, of a video that begins with ``head`` known frames and ends
    with ``tail``.

    All are ``chunk`` frames long (or as long as a shorter video), each with something to dream, and at least
    ``overlap`` frames that were known before, if there were any. They go forward, and backward from an end alone. Where
    both ends are known, the last window has room to join them: at least half of what a window dreams.
    """
    least = 3 if head and tail else 2
    if frames <= chunk:
        return [Window(0, frames, frames)]
    if chunk < least:
        raise ContractError(f"At least {least} frames are dreamed together in a longer video, found chunk {chunk}.")
    if not 1 <= overlap < chunk:
        raise ContractError(f"Windows of {chunk} frames overlap by 1 to {chunk - 1}, found {overlap}.")
    if tail and not head:
        turned = windows(frames, tail, 0, chunk, overlap)
        return [Window(frames - one.end, frames - one.begin, frames - one.begin) for one in turned]
    stop = frames
    if tail:
        overlap = min(overlap, chunk - 2)  # a frame of the ending, and one before it
        stop = max(chunk, min(frames, frames - tail + (chunk - overlap) // 2))
    start = max(0, min(head - overlap, stop - chunk))
    count = math.ceil((stop - start - overlap) / (chunk - overlap))
    begins = [start + round(i * (stop - start - chunk) / max(count - 1, 1)) for i in range(count)]
    out = [Window(begin, begin + chunk, begin + chunk) for begin in begins]
    if tail and count > 1:
        out[-2] = out[-2]._replace(kept=max(head, out[-1].begin + overlap))
    return out


def _seed_of(seed: int, window: int) -> int:
    """Draws of each window of its own; those of the first are the seed's."""
    return seed if window == 0 else int(mix(torch.tensor(seed), window))


def _table(
    table: str | Tensor | None, steps: int | None, frames: int, shift: float, capabilities: Collection[str]
) -> Tensor | None:
    """The table of a window of so many frames; None: the model's own."""
    if isinstance(table, Tensor):
        tables.check_table(table, frames)
        return table
    if table is None and steps is None:
        return None
    name = table or ("joint" if "unprompted" in capabilities else "autoregressive")
    return tables.make(name, frames, STEPS if steps is None else steps, shift=shift, **OPTIONS.get(name, {}))


def _at_size(model: WorldModel, size: tuple[int, int]) -> WorldModel:
    make = getattr(model, "at_size", None)
    if make is None:
        raise UnsupportedError(
            f"{type(model).__name__} makes frames of the size that it was trained on alone: leave `size` out."
        )
    return make(*size)


def _guided(model: WorldModel, guidance: Mapping[str, float]) -> WorldModel:
    """The same model, guided otherwise."""
    for name, weight in guidance.items():
        if name not in model.spec.given and name != "history":
            raise ContractError(
                f"There is no control {name!r} to guide by: this model is given {sorted(model.spec.given) or 'none'}."
            )
        if not math.isfinite(weight):
            raise ContractError(f"The guidance on {name!r} is a finite weight (1: none), found {weight}.")
    return otherwise(model, guidance=dict(guidance))


def _only_image(model: WorldModel) -> tuple[str, tuple[int, ...]]:
    """Name and (C, H, W) of the one sensor."""
    spec = model.spec
    if len(spec.shown) != 1 or len(spec.images) != 1:
        raise UnsupportedError(
            f"Prompts are for models of one image and nothing else; this shows {sorted(spec.shown)}."
        )
    ((name, sensor),) = spec.images.items()
    return name, sensor.shape


def _given(value: Tensor | None, name: str, shape: tuple[int, ...], asked: tuple[int, int] | None) -> Tensor | None:
    """Frames (B or 1, T, C, H, W) of a picture or clip that is given."""
    if value is None:
        return None
    if value.dtype != torch.uint8 or not 3 <= value.ndim <= 5 or not value.numel():
        raise ContractError(
            f"`{name}` is uint8, (C, H, W) for a picture, (T, C, H, W) for a clip, (B, T, C, H, W) for one each; found "
            f"{value.dtype} {tuple(value.shape)}."
        )
    if value.shape[-3] != shape[0]:
        raise ContractError(
            f"`{name}` has {value.shape[-3]} channels, and the model's frames have {shape[0]}: found "
            f"{tuple(value.shape)}; colours come before height and width."
        )
    height, width = value.shape[-2:]
    if (height, width) != shape[1:]:
        other = "" if asked is not None else f", or dream at its size: size=({height}, {width})"
        raise ContractError(
            f"`{name}` has frames of {height}x{width}, and the model makes {shape[1]}x{shape[2]}. Resize them "
            f"(torch.nn.functional.interpolate){other}."
        )
    return value.cpu().reshape(-1 if value.ndim == 5 else 1, value.shape[-4] if value.ndim > 3 else 1, *shape)


def _rows(
    text: str | Sequence[str] | None,
    ends: Mapping[str, Tensor | None],
    control: Mapping[str, Tensor],
    batch: int,
) -> int:
    """How many videos all that is given makes."""
    found = {} if batch == 1 else {"batch": batch}
    if text is not None and not isinstance(text, str):
        found["text"] = len(text)
    found |= {name: len(x) for name, x in ends.items() if x is not None and len(x) > 1}
    found |= {f"control {name!r}": len(x) for name, x in control.items()}
    if len(set(found.values())) > 1 or 0 in found.values():
        raise ContractError(f"Prompts must be for the same number of videos, one at least: found {found}.")
    return next(iter(found.values()), 1)


def _controls(
    model: WorldModel,
    text: str | Sequence[str] | None,
    control: Mapping[str, Tensor],
    rows: int,
    frames: int,
) -> dict[str, Tensor]:
    """All that the model is given: the text's tokens, what was handed in, and else nothing: an action that rests where
    one is known, or the null value."""
    given = model.spec.given
    out = {name: kind.null(rows, *([frames] if kind.per == "frame" else [])) for name, kind in given.items()}
    for name, kind in given.items():
        rest = kind.rest(rows, frames - 1)
        if kind.per == "frame" and rest is not None:
            out[name][:, 1:] = rest
    for name, value in control.items():
        if name not in given:
            raise ContractError(f"Unknown control {name!r}: this model is given {sorted(given) or 'none'}.")
        given[name].check(value.cpu(), (rows, frames) if given[name].per == "frame" else (rows,), name)
        out[name] = value.cpu().to(given[name].dtype)
    if text is not None:
        names = [name for name, kind in given.items() if kind.kind == "tokens" and kind.per == "once"]
        if not names:
            raise UnsupportedError(
                f"This model is given no text: its controls are {sorted(given) or 'none'}. Train one on a world with "
                "captions, such as the recipe sora, or leave the text out."
            )
        if len(names) > 1 or names[0] in control:
            raise ContractError(f"Which text? Give {names} once each, by `control` alone.")
        texts = [text] * rows if isinstance(text, str) else list(text)
        out[names[0]] = batch_of_tokens(texts, given[names[0]], names[0])
    return out


__all__ = ["STEPS", "WINDOW", "Window", "prompted", "windows"]
