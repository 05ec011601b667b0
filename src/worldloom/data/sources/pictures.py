"""From pictures of any size and kind to the dataset's: uint8, RGB, channels first, one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig

LARGEST_SIDE = 8192
"""No picture is larger: a file that claims so is damaged or hostile."""
KEPT, SHORT = 128, 64
_ALIKE = 0.02  # shapes whose aspect ratios differ by less count as one


@dataclass(frozen=True)
class Fit:
    """How a picture (height, width) becomes one of ``size``: cut ``box`` (top, left, height, width) out, resize it to
    ``inner`` (height, width), and put it at ``place`` (top, left) of a black picture of ``size``."""

    source: tuple[int, int]
    box: tuple[int, int, int, int]
    inner: tuple[int, int]
    place: tuple[int, int]
    size: tuple[int, int]

    @property
    def plain(self) -> bool:
        """Whether it is a resize and nothing else."""
        return self.box == (0, 0, *self.source) and self.inner == self.size

    def pictures(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, C) uint8 to (T, C, h, w) uint8, shrunk with antialiasing."""
        return self.planes(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)).contiguous().numpy()

    def planes(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) uint8 to (N, C, h, w) uint8, in whatever order they lie in memory."""
        top, left, high, wide = self.box
        x = x[:, :, top : top + high, left : left + wide]
        if (high, wide) != self.inner:
            x = F.interpolate(x, self.inner, mode="bilinear", antialias=True)
        if self.inner != self.size:
            canvas = x.new_zeros((*x.shape[:2], *self.size))
            rows = slice(self.place[0], self.place[0] + self.inner[0])
            canvas[:, :, rows, self.place[1] : self.place[1] + self.inner[1]] = x
            x = canvas
        return x


def choose_size(sources: set[tuple[int, int]], config: ImportConfig) -> tuple[int, int]:
    """(height, width) of the dataset for pictures of these sizes: ``config.size``, or by the rule stated there.

    Where sizes differ and ``config.size`` is not given, the smallest of them counts.
    """
    if config.size is not None:
        return config.size
    high, wide = min(sources, key=lambda s: (s[0] * s[1], s))
    scale = 1.0 if max(high, wide) <= KEPT else SHORT / min(high, wide)
    return max(8, 8 * round(high * scale / 8)), max(8, 8 * round(wide * scale / 8))


def fit(source: tuple[int, int], size: tuple[int, int], config: ImportConfig, where: str) -> Fit:
    """How pictures of ``source`` become ``size``. Raises :class:`DataError` where that takes a choice not made yet."""
    (high, wide), (h, w) = source, size
    if not (1 <= high <= LARGEST_SIDE and 1 <= wide <= LARGEST_SIDE):
        raise DataError(f"{where}: pictures of {wide}×{high} pixels; at most {LARGEST_SIDE} a side can be read.")
    whole = Fit(source, (0, 0, high, wide), size, (0, 0), size)
    ratio = (wide / high) / (w / h)
    scales = [((a - 4) / b if a > 8 else 0.0, (a + 4) / b) for a, b in ((h, high), (w, wide))]
    least, most = max(low for low, _ in scales), min(top for _, top in scales)
    rounded = config.size is None and least <= most  # one scale gives both sides, but for rounding to multiples of 8
    if config.fit == "stretch" or abs(ratio - 1) <= _ALIKE or (config.fit == "strict" and rounded):
        return whole
    if config.fit == "crop":
        if ratio > 1:
            cut = max(1, round(high * w / h))
            return Fit(source, (0, (wide - cut) // 2, high, cut), size, (0, 0), size)
        cut = max(1, round(wide * h / w))
        return Fit(source, ((high - cut) // 2, 0, cut, wide), size, (0, 0), size)
    if config.fit == "pad":
        scale = min(h / high, w / wide)
        inner = (max(1, min(h, round(high * scale))), max(1, min(w, round(wide * scale))))
        return Fit(source, (0, 0, high, wide), inner, ((h - inner[0]) // 2, (w - inner[1]) // 2), size)
    raise DataError(
        f"{where}: pictures of {wide}×{high} pixels do not have the shape of {w}×{h}. Say how: --fit crop (cuts the "
        "middle out), pad (adds black) or stretch (distorts), or give another --size HEIGHT WIDTH."
    )


def as_uint8(frames: np.ndarray, where: str) -> tuple[np.ndarray, str | None]:
    """Pictures (T, H, W, C), (T, C, H, W) or (T, H, W) of any usual dtype as uint8 (T, H, W, C) with C of 1 or 3.

    Returns also what was done to them, in words, or None. Floats in [0, 1] or [0, 255] and uint16 are scaled, a fourth
    channel (alpha) is left out. Raises :class:`DataError` for anything else, NaN among it.
    """
    done: list[str] = []
    x = frames
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{where}: pictures must be (T, H, W), (T, H, W, C) or (T, C, H, W), found {frames.shape}.")
    if x.shape[-1] not in (1, 3, 4):
        if x.shape[1] not in (1, 3, 4):
            raise DataError(f"{where}: pictures must have 1, 3 or 4 channels, found {frames.shape}.")
        x = np.moveaxis(x, 1, -1)
        done.append("channels moved last")
    if x.shape[-1] == 4:
        x = x[..., :3]
        done.append("alpha left out")
    if x.dtype.kind == "f":
        low, high = float(x.min()), float(x.max())
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 255:
            raise DataError(f"{where}: pictures of floats must lie in [0, 1] or [0, 255], found {low:g} to {high:g}.")
        scale = 255.0 if high <= 1 else 1.0
        x = np.round(x * scale).astype(np.uint8)
        done.append(f"floats in [0, {255 / scale:g}] made uint8")
    elif x.dtype == np.uint16:
        x = (x >> 8).astype(np.uint8)
        done.append("uint16 shifted to uint8")
    elif x.dtype == np.bool_:
        x = x.astype(np.uint8) * 255
        done.append("booleans made uint8")
    elif x.dtype != np.uint8:
        raise DataError(f"{where}: pictures must be uint8, uint16 or floats, found {x.dtype}.")
    return x, ", ".join(done) or None
