"""Pictures of an environment as the images of a :class:`~worldloom.contract.Spec`: uint8, channels first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from worldloom.contract import ContractError

SMALLEST = 16
"""Arrays with a side below this many entries are grids of symbols (as MiniGrid's 7 x 7), not pictures."""
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in the brightness of a picture (ITU-R BT.601)."""
COLOURS = (1, 3, 4)
"""Channel counts that can be a picture: grey, RGB, RGB with an alpha that is dropped."""

Order = Literal["auto", "HWC", "CHW"]


def looks_like_picture(shape: tuple[int, ...], dtype: Any, low: float, high: float, order: Order = "auto") -> bool:
    """Whether a Box of this shape, dtype and range holds pictures: uint8, or floats within [0, 1] or [0, 255]."""
    if np.dtype(dtype) != np.uint8 and not (np.dtype(dtype).kind == "f" and low == 0 and high in (1, 255)):
        return False
    if len(shape) == 2:
        return np.dtype(dtype) == np.uint8 and min(shape) >= SMALLEST
    if len(shape) != 3:
        return False
    sides = {"HWC": shape[:2], "CHW": shape[1:]}.get(order) or (shape[1:] if shape[0] < shape[2] else shape[:2])
    return min(sides) >= SMALLEST


@dataclass(frozen=True)
class Picture:
    """How to read one environment's pictures: layout, crop, colours, size."""

    name: str
    """Sensor name, for messages."""
    order: Literal["HW", "HWC", "CHW"]
    """Layout of the environment's arrays."""
    source: tuple[int, ...]
    """Shape of the environment's arrays."""
    scale: float
    """Factor that brings the environment's values to [0, 255]."""
    size: tuple[int, int] | None
    """(height, width) of the result; None keeps the environment's."""
    channels: int
    """1 (brightness) or 3 (RGB)."""
    crop: tuple[int, int, int, int] | None
    """Pixels cut away at the (top, bottom, left, right) before resizing."""
    shrink: Literal["area", "max"]
    """How pixels that fall together are joined."""

    @classmethod
    def detect(
        cls,
        name: str,
        shape: tuple[int, ...],
        *,
        high: float = 255.0,
        order: Order = "auto",
        size: tuple[int, int] | None = (64, 64),
        channels: int = 3,
        crop: tuple[int, int, int, int] | None = None,
        shrink: Literal["area", "max"] = "area",
    ) -> Picture:
        """Find the channel order from the shape, or raise :class:`ContractError` where it can't be known."""
        found: Literal["HW", "HWC", "CHW"]
        if len(shape) == 2:
            found = "HW"
        elif order != "auto":
            found = order
            if shape[2 if order == "HWC" else 0] not in COLOURS:
                raise ContractError(f"Sensor {name!r} has shape {shape}, which is not {order} with 1, 3 or 4 channels.")
        else:
            last, lead = shape[2] in COLOURS, shape[0] in COLOURS
            if last and lead:
                raise ContractError(
                    f"Sensor {name!r} has shape {shape}: its channels may be first or last. Say channel_order='HWC' or "
                    "channel_order='CHW'."
                )
            if not last and not lead:
                raise ContractError(
                    f"Sensor {name!r} has shape {shape}: a picture has 1, 3 or 4 channels, first or last. If it is a "
                    "stack of frames, unwrap the stacking; a model sees one frame at a time."
                )
            if lead and shape[0] == 4:
                raise ContractError(
                    f"Sensor {name!r} has shape {shape}, which looks like a stack of 4 frames. Unwrap the stacking (a "
                    "model sees one frame at a time), or say channel_order='CHW' if it is RGB with alpha."
                )
            found = "HWC" if last else "CHW"
        picture = cls(name, found, tuple(shape), 255.0 / high, size, channels, crop, shrink)
        if min(picture.cropped) < 1:
            raise ContractError(f"crop={crop} (top, bottom, left, right) leaves nothing of {name!r} of shape {shape}.")
        return picture

    @property
    def cropped(self) -> tuple[int, int]:
        """(height, width) after cropping, before resizing."""
        height, width = self.source[1:] if self.order == "CHW" else self.source[:2]
        top, bottom, left, right = self.crop or (0, 0, 0, 0)
        return height - top - bottom, width - left - right

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the sensor."""
        return (self.channels, *(self.size or self.cropped))

    def read(self, value: Any) -> np.ndarray:
        """One picture of the environment as a new uint8 array of :attr:`shape`."""
        x = np.asarray(value)
        if x.shape != self.source:
            raise ContractError(f"Sensor {self.name!r} was declared with shape {self.source}, found {x.shape}.")
        if self.order == "CHW":
            x = x.transpose(1, 2, 0)
        x = x.reshape(*x.shape[:2], -1)
        if self.crop:
            top, _, left, _ = self.crop
            height, width = self.cropped
            x = x[top : top + height, left : left + width]
        x = x[..., :3]
        if x.dtype != np.uint8 or self.scale != 1.0:
            x = np.clip(np.rint(x.astype(np.float32) * self.scale), 0, 255).astype(np.uint8)
        if x.shape[2] == 3 and self.channels == 1:
            x = np.rint((x * LUMA).sum(2, keepdims=True)).astype(np.uint8)
        x = resize(x, self.size or self.cropped, self.shrink)
        if x.shape[2] == 1 and self.channels == 3:
            x = np.repeat(x, 3, axis=2)
        return np.array(x.transpose(2, 0, 1), order="C")


def resize(image: np.ndarray, size: tuple[int, int], shrink: Literal["area", "max"] = "area") -> np.ndarray:
    """(H, W, 1 or 3) uint8 to (*size, same).

    ``area``: each new pixel is the mean of the area that it covers, parts of pixels included, so that a small thing
    sheds the same light wherever it stands. (Pillow's box filter takes whole pixels only: under it Breakout's ball
    changes its light by half from place to place.) ``max``: the brightest value that it touches, channel by channel,
    which keeps bright things smaller than a pixel at full brightness but makes them up to a pixel larger.
    """
    if image.shape[:2] == tuple(size):
        return image
    if shrink == "max":
        for axis, new in ((0, size[0]), (1, size[1])):
            old = image.shape[axis]
            left = np.arange(new) * old // new
            right = np.maximum(-(-(np.arange(new) + 1) * old // new), left + 1)
            spans = np.arange((right - left).max())[:, None]  # (k, new): every source index under a new pixel
            index = np.minimum(left + spans, right - 1)
            image = np.take(image, index, axis=axis).max(axis=axis)
        return image
    x = _means(image.reshape(image.shape[0], -1), size[0])
    x = _means(x.reshape(size[0], image.shape[1], -1).transpose(1, 0, 2), size[1])
    return np.rint(x.transpose(1, 0, 2)).clip(0, 255).astype(np.uint8)


def _means(x: np.ndarray, new: int) -> np.ndarray:
    """(old, ...) to (new, ...) float32: the mean of ``x``, constant within each entry, over ``new`` equal spans.

    A product of matrices would do as well, but its threads stand in each other's way where several processes collect
    at once.
    """
    index, weights = _spans(x.shape[0], new)
    out = np.zeros((new, *x.shape[1:]), dtype=np.float32)
    for places, weight in zip(index, weights, strict=True):
        out += x[places] * weight.reshape(-1, *[1] * (x.ndim - 1))
    return out


@lru_cache(maxsize=64)
def _spans(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """(k, new) indices of the entries under each of the ``new`` spans, and the share of the span that each covers."""
    edges = np.arange(new + 1) * (old / new)
    low, high = edges[:-1], edges[1:]
    index = low.astype(np.int64) + np.arange(int(np.ceil(old / new)) + 1)[:, None]
    shared = np.minimum(high, index + 1) - np.maximum(low, index)
    return np.minimum(index, old - 1), (shared.clip(0) * (new / old)).astype(np.float32)
