"""Factorised causal convolutions over video, and the memory that lets them run frame by frame.

Space first, frame by frame (1×3×3), then time (3×1×1) over a frame and the two before it; before the first frame it is
repeated (as in Cosmos, arXiv 2501.03575). Norms see one frame. So nothing ever depends on a later frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cache = dict[str, Tensor]
"""Tensors by name, batch first, of shapes that never depend on age. ``seen`` (B,) bool: rows that have a past; set it
to False where another video begins."""

PAST = 2
"""Frames before its own that a convolution over time sees."""


GROUPS = 1
"""Of channels that a norm sees together: all, as the grid of the latents may be so coarse that less says nothing."""


class Memory:
    """What the convolutions over time saw last. Without a cache every row begins here."""

    def __init__(self, cache: Mapping[str, Tensor] | None = None):
        self.old = cache
        self.new: Cache = {}

    def extend(self, name: str, x: Tensor) -> Tensor:
        """x (B, N, C, h, w) after its past: (B, PAST + N, C, h, w); its end is kept under ``name``."""
        past = x[:, :1].expand(-1, PAST, -1, -1, -1)
        if self.old is not None:
            past = torch.where(self.old["seen"][:, None, None, None, None], self.old[name].to(x.dtype), past)
        whole = torch.cat([past, x], 1)
        if self.old is not None:
            self.new[name] = whole[:, -PAST:].float()
        return whole

    def cache(self) -> Cache:
        """What the next piece of video needs."""
        assert self.old is not None
        return {"seen": torch.ones_like(self.old["seen"]), **self.new}


def framewise(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of images on every frame of (B, N, C, h, w)."""
    y: Tensor = layer(x.flatten(0, 1))
    return y.unflatten(0, x.shape[:2])


class SpaceBlock(nn.Module):
    """Residual block on single frames: two 3×3 convolutions. It begins as the identity."""

    def __init__(self, width: int):
        super().__init__()
        last = nn.Conv2d(width, width, 3, padding=1)
        self.net = nn.Sequential(
            nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(GROUPS, width), nn.SiLU(), last,
        )  # fmt: skip
        zeroed(last)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x: (B, N, width, h, w)."""
        return x + framewise(self.net, x)


class TimeBlock(nn.Module):
    """Residual convolution over a frame and the :data:`PAST` before it. It begins as the identity."""

    def __init__(self, width: int, name: str, scale: int):
        super().__init__()
        self.width, self.name, self.scale = width, name, scale
        self.norm = nn.GroupNorm(GROUPS, width)
        # 3×1×1 over time is 1×1 over three stacked frames: a plain matrix product on every device.
        self.conv = nn.Conv2d(width * (PAST + 1), width, 1)
        zeroed(self.conv)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x: (B, N, width, h, w)."""
        n = x.shape[1]
        whole = memory.extend(self.name, F.silu(framewise(self.norm, x)))
        stacked = torch.cat([whole[:, i : i + n] for i in range(PAST + 1)], 2)
        return x + framewise(self.conv, stacked)


class Frames(nn.Module):
    """A layer of images among blocks of video."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x: (B, N, C, h, w)."""
        return framewise(self.net, x)


class CausalNet(nn.Module):
    """Blocks one after the other; each scale has the pixels of a frame's side that one of its own stands for."""

    def __init__(self, parts: list[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """x: (B, N, C, h, w), frames or groups of frames."""
        for part in self.parts:
            x = part(x, memory)
        return x

    def empty(self, batch: int, height: int, width: int, device: torch.device) -> Cache:
        """The cache of rows that have seen nothing, for frames of height × width pixels."""
        cache = {"seen": torch.zeros(batch, dtype=torch.bool, device=device)}
        for part in self.parts:
            if isinstance(part, TimeBlock):
                shape = (batch, PAST, part.width, height // part.scale, width // part.scale)
                cache[part.name] = torch.zeros(shape, device=device)
        return cache


def blocks(width: int, count: int, temporal: bool, scale: int, name: str) -> list[nn.Module]:
    """``count`` residual blocks in space, each followed by one in time where ``temporal``."""
    out: list[nn.Module] = []
    for i in range(count):
        out.append(SpaceBlock(width))
        if temporal:
            out.append(TimeBlock(width, f"{name}{i}", scale))
    return out


def zeroed(conv: nn.Conv2d) -> None:
    """Set a convolution to 0."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
