"""Random draws that are a pure function of (row's key, frame, place of the draw), whatever else shares the batch."""

from __future__ import annotations

import math
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from worldloom.contract import mix


@cache
def exact(device: str) -> bool:
    """Whether a device's 64-bit integers are right to the last bit, by hashing a few numbers there and on the CPU.

    Apple's GPU has got several operations on them wrong, from version to version (pytorch issues 78848, 190052).
    """
    keys = torch.tensor([0, 1, -1, 2**31, -(2**31) - 1, 2**62 + 12345, -(2**63), 2**63 - 1])
    there = keys.to(device)
    return torch.equal(mix(there, there.flip(0)).cpu(), mix(keys, keys.flip(0)))


def home(device: torch.device) -> torch.device:
    """Where the draws for a device are made: there, or on the CPU if it is not :func:`exact`."""
    known = device.type in ("cpu", "cuda", "meta")
    return device if known or exact(str(device)) else torch.device("cpu")


def _hashes(key: Tensor, frame: Tensor, place: int, shape: tuple[int, ...]) -> Tensor:
    """(B, prod(shape)) int64 hashes, one an element, at :func:`home`."""
    at = home(key.device)
    row = mix(mix(key.to(at), frame.to(at)), place)
    return mix(row[:, None], torch.arange(math.prod(shape), device=at)[None])


def _unit(bits: Tensor) -> Tensor:
    """23 low bits of each int64 as a float32 in (0, 1): one bit more, and the half would round the last one to 1."""
    return ((bits & 0x7FFFFF).to(torch.float32) + 0.5) * (1.0 / (1 << 23))


def uniform(
    key: Int64[Tensor, " batch"], frame: Int64[Tensor, " batch"], place: int, shape: tuple[int, ...] = ()
) -> Float[Tensor, "batch ..."]:
    """Uniform draws in (0, 1), (B, *shape). ``place`` names the draw within the frame: every use needs its own."""
    return _unit(_hashes(key, frame, place, shape)).reshape(-1, *shape).to(key.device)


def normal(
    key: Int64[Tensor, " batch"], frame: Int64[Tensor, " batch"], place: int, shape: tuple[int, ...] = ()
) -> Float[Tensor, "batch ..."]:
    """Standard normal draws, (B, *shape), by Box and Muller's transform of the two halves of each hash."""
    bits = _hashes(key, frame, place, shape)
    radius = torch.sqrt(-2.0 * torch.log(_unit(bits)))
    return (radius * torch.cos((2.0 * math.pi) * _unit(bits >> 32))).reshape(-1, *shape).to(key.device)


def gumbel(
    key: Int64[Tensor, " batch"], frame: Int64[Tensor, " batch"], place: int, shape: tuple[int, ...] = ()
) -> Float[Tensor, "batch ..."]:
    """Gumbel draws, (B, *shape): ``argmax(logits + gumbel)`` samples a categorical distribution."""
    return -torch.log(-torch.log(uniform(key, frame, place, shape)))
