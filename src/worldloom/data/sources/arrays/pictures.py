"""Arrays of pictures of any usual dtype as the dataset's, by a rule that is settled once and not per slice.

Whether floats lie in [0, 1] or [0, 255] can't be told from a dark slice, so a sample decides it for the whole source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.pictures import as_uint8, fit


@dataclass(frozen=True)
class Look:
    """How the pictures of one sensor are turned into the dataset's."""

    channels: int
    """1 (grey) or 3 (colour)."""
    size: tuple[int, int]
    """Height and width in the dataset."""
    unit: bool
    """Whether floats lie in [0, 1], else in [0, 255]."""
    deep: bool
    """Whether 16-bit integers use more than the lowest 8 bits."""
    config: ImportConfig
    """For how shapes are fitted."""
    note: str = ""
    """What is done, in words."""

    def convert(self, value: np.ndarray, where: str) -> np.ndarray:
        """(T, C, H, W), (T, H, W, C) or (T, H, W) as uint8 (T, channels, *size). Raises :class:`DataError`."""
        x, _ = as_uint8(self.bytes(value, where), where)
        if x.shape[-1] != self.channels:
            raise DataError(f"{where}: pictures have {x.shape[-1]} channels, elsewhere {self.channels}.")
        return fit((x.shape[1], x.shape[2]), self.size, self.config, where).pictures(x)

    def bytes(self, value: np.ndarray, where: str) -> np.ndarray:
        """The same values as uint8 (16 bits are left to :func:`as_uint8` where they are all used)."""
        kind = value.dtype.kind
        if kind == "b" or value.dtype == np.uint8 or (value.dtype == np.uint16 and self.deep) or not value.size:
            return value
        low, high = float(value.min()), float(value.max())
        top = 1.0 if kind == "f" and self.unit else 255.0
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > top * (1 + 1e-6):
            raise DataError(
                f"{where}: pictures of {value.dtype} must lie in [0, {top:g}] as those looked at first do, found "
                f"{low:g} to {high:g}. Save them as uint8."
            )
        scaled = np.minimum(value.astype(np.float32) * (255.0 / top), 255.0) if kind == "f" else value
        return np.round(scaled).astype(np.uint8)


def look_at(samples: list[np.ndarray], size: tuple[int, int], config: ImportConfig, name: str) -> Look:
    """Settle the rule for a sensor from a few of its frames, and say it."""
    tops = {x.dtype.kind: max((float(y.max()) for y in samples if y.dtype == x.dtype and y.size), default=0.0)
            for x in samples}  # fmt: skip
    unit, deep = tops.get("f", 0.0) <= 1.0, tops.get("u", 0.0) > 255
    draft = Look(1, size, unit, deep, config)
    plain, done = as_uint8(draft.bytes(samples[0], name), name)
    found = samples[0].dtype
    said = []
    if found.kind == "f":
        said.append(f"{found} in [0, {1 if unit else 255}] made uint8")
    elif found != np.uint8 and not (found == np.uint16 and deep):
        said.append(f"{found} made uint8")
    if done:
        said.append(done)
    (high, wide), (h, w) = plain.shape[1:3], size
    if (high, wide) != size:
        said.append(f"{wide}×{high} pixels made {w}×{h}")
    note = f"{name}: {'colour' if plain.shape[-1] == 3 else 'grey'} pictures of {w}×{h}"
    return Look(plain.shape[-1], size, unit, deep, config, f"{note} ({', '.join(said)})." if said else f"{note}.")
