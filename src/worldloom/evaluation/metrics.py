"""How alike two images are: PSNR and SSIM, one value a frame, for any number of leading dimensions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from worldloom.contract import ContractError

_CHUNK = 256  # frames turned into floats at a time, so that memory stays flat


def _unit(x: Tensor) -> Tensor:
    """Images as float32 in [0, 1]; uint8 is divided by 255, floats are taken as they are."""
    return x.to(torch.float32) / 255.0 if x.dtype == torch.uint8 else x.to(torch.float32)


def _pair(a: Tensor, b: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.ndim < 3:
        raise ContractError(
            f"{name} compares images (..., C, H, W) of one shape, found {tuple(a.shape)} and {tuple(b.shape)}."
        )
    return a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])


def psnr(
    a: Shaped[Tensor, "*lead channels height width"],
    b: Shaped[Tensor, "*lead channels height width"],
    cap: float = math.inf,
) -> Float[Tensor, "*lead"]:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / MSE), of images uint8 or float in [0, 1].

    Equal images are infinitely alike; ``cap`` bounds the value, so that means over frames exist.
    """
    x, y = _pair(a, b, "psnr")
    parts = [
        (_unit(p) - _unit(q)).square().mean((1, 2, 3)) for p, q in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True)
    ]
    return (-10.0 * torch.log10(torch.cat(parts))).clamp(max=cap).reshape(a.shape[:-3])


def _blur(length: int, size: int, sigma: float, device: torch.device) -> Tensor:
    """(length - size + 1, length) matrix whose rows are a Gaussian window at each of its places.

    Made on the CPU: not every device has float64.
    """
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    window = torch.exp(-0.5 * (at / sigma).square())
    rows = torch.zeros(length - size + 1, length, dtype=torch.float64)
    rows.as_strided((len(rows), size), (length + 1, 1))[:] = window / window.sum()
    return rows.to(device, torch.float32)


def _ssim(x: Tensor, y: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """(N,) SSIM of float images (N, C, H, W), windowed by products with banded matrices: a tenth of conv2d's time."""
    maps = down @ torch.stack((x, y, x * x, y * y, x * y)) @ across.T
    mx, my, xx, yy, xy = maps
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return score.mean((1, 2, 3))


def ssim(
    a: Shaped[Tensor, "*lead channels height width"],
    b: Shaped[Tensor, "*lead channels height width"],
    size: int = 11,
    sigma: float = 1.5,
) -> Float[Tensor, "*lead"]:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, equation 13) of images uint8 or float in [0, 1].

    Gaussian window of ``size`` pixels and ``sigma``, K1 = 0.01, K2 = 0.03, only windows that lie wholly inside the
    image, mean over positions and colour channels. An image smaller than the window gets the largest odd window that
    fits, with the same sigma.
    """
    x, y = _pair(a, b, "ssim")
    fits = min(size, *x.shape[-2:])
    fits -= 1 - fits % 2
    down, across = (_blur(length, fits, sigma, a.device) for length in x.shape[-2:])
    pieces = zip(x.split(_CHUNK), y.split(_CHUNK), strict=True)
    parts = [_ssim(_unit(p), _unit(q), down, across) for p, q in pieces]
    return torch.cat(parts).reshape(a.shape[:-3])
