"""The Haar wavelet in space and time: no parameters, nothing lost, values stay in the range of the pixels.

A pair (a, b) becomes its mean (a + b) / 2 and half its difference (a - b) / 2 (Haar 1910, not orthonormal: the mean of
pixels in [-1, 1] lies there too). All bands are split again at the next level, not only the mean: a network that takes
them all as channels gains nothing from a pyramid. Cosmos' tokenizer begins so (arXiv 2501.03575).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

TIME, CHANNEL, HEIGHT, WIDTH = 1, 2, 3, 4


def split(x: Tensor, dim: int) -> Tensor:
    """Halve ``dim`` of a video (B, T, C, H, W) and double its channels: the means first, then the half differences."""
    first, second = x.unflatten(dim, (-1, 2)).unbind(dim + 1)
    return torch.cat([(first + second) / 2, (first - second) / 2], CHANNEL)


def join(x: Tensor, dim: int) -> Tensor:
    """Undo :func:`split`."""
    mean, half = x.chunk(2, CHANNEL)
    return torch.stack([mean + half, mean - half], dim + 1).flatten(dim, dim + 1)


def haar(
    video: Float[Tensor, "batch time channel height width"], space: int, time: int
) -> Float[Tensor, "batch groups bands h w"]:
    """(B, T, C, H, W) to (B, T / 2^time, C · 4^space · 2^time, H / 2^space, W / 2^space)."""
    for dim, levels in ((TIME, time), (HEIGHT, space), (WIDTH, space)):
        for _ in range(levels):
            video = split(video, dim)
    return video


def unhaar(
    bands: Float[Tensor, "batch groups bands h w"], space: int, time: int
) -> Float[Tensor, "batch time channel height width"]:
    """Undo :func:`haar`."""
    for dim, levels in ((WIDTH, space), (HEIGHT, space), (TIME, time)):
        for _ in range(levels):
            bands = join(bands, dim)
    return bands
