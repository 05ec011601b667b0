"""How alike two images are: PSNR and SSIM, plain or weighted, one value a frame; any number of leading dimensions."""

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


def _ssim(x: Tensor, y: Tensor, down: Tensor, across: Tensor, weight: Tensor | None = None) -> Tensor:
    """(N,) SSIM of float images (N, C, H, W), windowed by products with banded matrices: a tenth of conv2d's time.

    weight: (N, 1, H, W); each place then counts by the weight that its window sees.
    """
    maps = down @ torch.stack((x, y, x * x, y * y, x * y)) @ across.T
    mx, my, xx, yy, xy = maps
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    if weight is None:
        return score.mean((1, 2, 3))
    seen = down @ weight @ across.T
    return (score * seen).mean(1).sum((1, 2)) / seen.sum((1, 2, 3))


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
    return _windowed(a, b, None, size, sigma)


def weighted_psnr(
    a: Shaped[Tensor, "*lead channels height width"],
    b: Shaped[Tensor, "*lead channels height width"],
    weight: Float[Tensor, "*lead height width"],
    cap: float = math.inf,
) -> Float[Tensor, "*lead"]:
    """:func:`psnr` in which each pixel counts by its weight >= 0: 10 log10(Σ w / Σ w e²), e² the mean over channels.

    Equal weights give the plain PSNR. Raises :class:`ContractError` where the weights of a frame sum to nothing.
    """
    x, y = _pair(a, b, "weighted_psnr")
    w = _weights(weight, a)
    parts = []
    for p, q, v in zip(x.split(_CHUNK), y.split(_CHUNK), w.split(_CHUNK), strict=True):
        error = (_unit(p) - _unit(q)).square().mean(1)
        parts.append((error * v).sum((1, 2)) / v.sum((1, 2)))
    return (-10.0 * torch.log10(torch.cat(parts))).clamp(max=cap).reshape(a.shape[:-3])


def weighted_ssim(
    a: Shaped[Tensor, "*lead channels height width"],
    b: Shaped[Tensor, "*lead channels height width"],
    weight: Float[Tensor, "*lead height width"],
    size: int = 11,
    sigma: float = 1.5,
) -> Float[Tensor, "*lead"]:
    """:func:`ssim` whose mean over places is weighted by the weight that each place's window sees (as Wang and Li 2011
    pool by content). Equal weights give the plain SSIM."""
    return _windowed(a, b, _weights(weight, a), size, sigma)


def _weights(weight: Tensor, images: Tensor) -> Tensor:
    """(N, H, W) float32 from (..., H, W), checked."""
    if weight.shape != images.shape[:-3] + images.shape[-2:]:
        raise ContractError(f"Weights (..., H, W) of images {tuple(images.shape)}, found {tuple(weight.shape)}.")
    flat = weight.to(torch.float32).reshape(-1, *weight.shape[-2:])
    if not bool((flat >= 0).all()) or not bool((flat.sum((1, 2)) > 0).all()):
        raise ContractError("Weights must be at least 0, and above it somewhere in every frame.")
    return flat


def _windowed(a: Tensor, b: Tensor, weight: Tensor | None, size: int, sigma: float) -> Tensor:
    """SSIM, whole frames at a time."""
    x, y = _pair(a, b, "ssim")
    fits = min(size, *x.shape[-2:])
    fits -= 1 - fits % 2
    down, across = (_blur(length, fits, sigma, a.device) for length in x.shape[-2:])
    parts = []
    for begin in range(0, len(x), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        counted = None if weight is None else weight[rows, None]
        parts.append(_ssim(_unit(x[rows]), _unit(y[rows]), down, across, counted))
    return torch.cat(parts).reshape(a.shape[:-3])
