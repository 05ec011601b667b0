"""Plain encoders and decoders between frames and vectors."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm with eps 1e-4, in the precision of its weight: squares want more than bf16."""

    def __init__(self, width: int):
        super().__init__(width, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., width); the result has the dtype of ``x``."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def mlp(width_in: int, width: int, layers: int, width_out: int | None = None, *, zero: bool = False) -> nn.Sequential:
    """``layers`` of Linear, RMSNorm, SiLU, then a Linear to ``width_out`` where given (``zero``: initialised to 0)."""
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Linear(width if i else width_in, width), RMSNorm(width), nn.SiLU()]
    if width_out is not None:
        last = nn.Linear(width if layers else width_in, width_out)
        if zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        parts.append(last)
    return nn.Sequential(*parts)


def _plan(shape: tuple[int, ...], channels: int) -> tuple[tuple[int, int], list[int]]:
    """Height and width padded to what halves evenly down to about four pixels, and the channels of each halving."""
    _, height, width = shape
    stages = max(1, int(math.log2(max(height, width) / 4)))
    unit = 2**stages
    padded = (math.ceil(height / unit) * unit, math.ceil(width / unit) * unit)
    return padded, [channels * min(2**i, 4) for i in range(stages)]


def halvings(shape: tuple[int, ...]) -> int:
    """How often :class:`ConvEncoder` halves a frame (C, H, W)."""
    return len(_plan(shape, 1)[1])


def encoded(shape: tuple[int, ...], channels: int) -> tuple[int, int, int]:
    """Channels, height and width to which :class:`ConvEncoder` brings a frame (C, H, W)."""
    padded, widths = _plan(shape, channels)
    unit = 2 ** len(widths)
    return widths[-1], padded[0] // unit, padded[1] // unit


class ConvEncoder(nn.Module):
    """A frame (C, H, W) of any size to a vector, by halvings down to about 4×4."""

    def __init__(self, shape: tuple[int, ...], channels: int):
        super().__init__()
        self.padded, widths = _plan(shape, channels)
        parts: list[nn.Module] = []
        for before, after in zip([shape[0], *widths], widths, strict=False):
            parts += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(1, after), nn.SiLU()]
        self.net = nn.Sequential(*parts, nn.Flatten())
        self.width = math.prod(encoded(shape, channels))

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch features"]:
        """Features of each frame, (B, ``width``)."""
        extra_h, extra_w = self.padded[0] - x.shape[-2], self.padded[1] - x.shape[-1]
        return self.net(F.pad(x, (0, extra_w, 0, extra_h)))


class ConvDecoder(nn.Module):
    """A vector to a frame (C, H, W), the mirror of :class:`ConvEncoder`; outputs are unbounded."""

    def __init__(self, shape: tuple[int, ...], channels: int, width_in: int):
        super().__init__()
        self.shape = shape
        _, widths = _plan(shape, channels)
        self.small = encoded(shape, channels)
        self.project = nn.Linear(width_in, math.prod(self.small))
        parts: list[nn.Module] = []
        widths = widths[::-1]
        for before, after in zip(widths, [*widths[1:], None], strict=True):
            parts += [nn.GroupNorm(1, before), nn.SiLU(), nn.ConvTranspose2d(before, after or shape[0], 4, 2, 1)]
        self.net = nn.Sequential(*parts)

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch channel height width"]:
        """A frame for each vector."""
        out: Tensor = self.net(self.project(x).unflatten(-1, self.small))
        return out[..., : self.shape[1], : self.shape[2]]


def quarters(x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel 2 2"]:
    """Means over the four quarters of a grid, which share the middle row and column where a side is odd.

    It is ``adaptive_avg_pool2d(x, 2)``, which Apple's GPU has for even sides only.
    """
    h, w = x.shape[-2:]
    rows = (x[..., : (h + 1) // 2, :], x[..., h // 2 :, :])
    parts = [part.mean((-2, -1)) for r in rows for part in (r[..., : (w + 1) // 2], r[..., w // 2 :])]
    return torch.stack(parts, -1).unflatten(-1, (2, 2))


def image_floats(x: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]."""
    return x.to(torch.float32) / 255
