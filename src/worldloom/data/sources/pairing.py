"""Which action led to which frame: the one rule by which tables of actions become the contract's."""

from __future__ import annotations

from typing import Literal

import numpy as np

from worldloom.contract import Control
from worldloom.data.episode import DataError

MOST_CHOICES = 256


def pair(
    actions: np.ndarray, frames: int, control: Control, pairing: Literal["next", "same"], where: str
) -> np.ndarray:
    """(frames, *shape) actions in the contract's order: row t led to frame t, row 0 is null.

    ``next``: row t of ``actions`` was taken after seeing frame t. There may be one row a frame (nothing shows what the
    last one led to, and it is left out) or one less. ``same``: row t led to frame t, one row a frame; what stands in
    row 0 led to nothing that was seen and becomes null. Raises :class:`DataError` for any other number of rows, and for
    numbers that float32 can't hold.
    """
    rows = len(actions)
    fits = rows in (frames, frames - 1) if pairing == "next" else rows == frames
    if not fits:
        expected = f"{frames} or {frames - 1}" if pairing == "next" else str(frames)
        raise DataError(
            f"{where}: {rows} rows of actions for {frames} frames; expected {expected} (pairing {pairing!r})."
        )
    out: np.ndarray = control.null(frames).numpy()
    if control.kind in ("discrete", "tokens"):
        actions = actions.astype(np.int64)
    with np.errstate(over="ignore"):
        out[1:] = actions[: frames - 1] if pairing == "next" else actions[1:]
    bad = np.flatnonzero(~np.isfinite(out.reshape(frames, -1)).all(1))
    if len(bad):
        row = bad[0] - (pairing == "next")
        raise DataError(
            f"{where}: row {row} (counted from 0) holds a number that is infinite, or so large that float32 can't hold "
            "it. Mend or scale the column."
        )
    return out


def pairing_note(pairing: Literal["next", "same"]) -> str:
    """The rule in a sentence, for the print-out."""
    if pairing == "next":
        return (
            "Actions: row t of a table was taken after frame t and led to frame t+1 (--pairing same if row t led to "
            "frame t)."
        )
    return "Actions: row t of a table led to frame t (--pairing next if it was taken after frame t)."


def infer_control(
    parts: list[np.ndarray], names: tuple[str, ...], kind: Literal["auto", "discrete", "continuous"], where: str
) -> Control:
    """The control that fits the actions (rows,) or (rows, D) of all recordings.

    ``auto``: whole numbers from 0 in one column, with at most :data:`MOST_CHOICES` values, are choices; else numbers,
    unbounded. Raises :class:`DataError` for NaN, for widths that differ, and for choices that are no whole numbers.
    """
    widths = {1 if x.ndim == 1 else int(np.prod(x.shape[1:])) for x in parts}
    if len(widths) != 1:
        raise DataError(f"{where}: the recordings have {sorted(widths)} columns of actions; expected one number.")
    width = widths.pop()
    if width == 0 or not any(map(len, parts)):
        raise DataError(f"{where}: there are no actions in the tables.")
    flat = np.concatenate([np.asarray(x).reshape(len(x), -1) for x in parts if len(x)])
    if flat.dtype.kind not in "biuf":
        raise DataError(f"{where}: actions must be numbers, found {flat.dtype}.")
    if not np.isfinite(flat.astype(np.float64)).all():
        bad = int(np.flatnonzero(~np.isfinite(flat.astype(np.float64)).all(1))[0])
        raise DataError(f"{where}: actions hold NaN or infinite values (first in row {bad} of all).")
    whole = width == 1 and bool((flat == np.round(flat)).all()) and flat.min() >= 0
    integers = flat.dtype.kind in "biu"
    if kind == "discrete" or (kind == "auto" and whole and flat.max() < MOST_CHOICES and (integers or flat.max() > 1)):
        if not whole:
            raise DataError(f"{where}: choices are whole numbers from 0 in one column, found {flat[0].tolist()}.")
        return Control("discrete", n=int(flat.max()) + 1)
    return Control("continuous", (width,), names=names if len(names) == width else ())
