"""The denoising network: recent frames in a causal temporal stem, local mixing on two grids, one noise level a frame.

It knows nothing of corruption, loss or sampling: it maps (noisy frame, its past, conditions) to a clean frame. Frames
are independent rows here; time enters through the stem alone, which stacks the past frames of each row. A frame's
velocity is read off there, at full precision, before any down-sampling (the trials: docs/experiments.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least


@dataclass(frozen=True)
class BackboneConfig:
    """Size and shape of the denoiser."""

    fold: int = 4
    """Pixels folded into channels along each side: a 64×64 frame becomes a 16×16 grid for ``fold`` 4."""
    width: int = 64
    """Channels on the fine grid."""
    deep_width: int = 128
    """Channels on the coarse grid (half the fine one's height and width)."""
    blocks: int = 2
    """Residual blocks on the fine grid, before and again after the coarse ones."""
    deep_blocks: int = 4
    """Residual blocks on the coarse grid."""
    condition: int = 128
    """Width of the condition vector that modulates every block."""

    def __post_init__(self) -> None:
        at_least(self, 1, "fold", "blocks", "deep_blocks", "condition")
        for name in ("width", "deep_width"):
            if getattr(self, name) < 8 or getattr(self, name) % 8:
                raise ConfigError(f"{name} must be a multiple of 8, found {getattr(self, name)}.")


class Modulated(nn.Module):
    """Residual block: two 3×3 convolutions, the second's input scaled and shifted by the condition (FiLM)."""

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width, affine=False)
        self.film = nn.Linear(condition, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.film.bias)
        nn.init.normal_(self.film.weight, std=0.02)
        nn.init.zeros_(self.conv2.weight)  # a block begins as the identity
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """x: (N, width, h, w); cond: (N, condition)."""
        scale, shift = self.film(cond)[:, :, None, None].chunk(2, 1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return x + self.conv2(F.silu(h))


class Backbone(nn.Module):
    """U-Net on a folded grid with a temporal stem."""

    def __init__(self, config: BackboneConfig, channels: int, history: int):
        super().__init__()
        c, w, d = config, config.width, config.deep_width
        self.config, self.channels = config, channels
        folded = channels * c.fold**2
        # A convolution of the stacked [noisy, past] is the sum of one of each: the past's half is computed once a
        # frame, whatever the number of denoising steps.
        self.past = nn.Conv2d(folded * history, w, 1)
        self.noisy = nn.Conv2d(folded, w, 1, bias=False)
        self.enter = nn.ModuleList(Modulated(w, c.condition) for _ in range(c.blocks))
        self.down = nn.Conv2d(w, d, 2, stride=2)
        self.deep = nn.ModuleList(Modulated(d, c.condition) for _ in range(c.deep_blocks))
        self.up = nn.Conv2d(d, w * 4, 1)
        self.leave = nn.ModuleList(Modulated(w, c.condition) for _ in range(c.blocks))
        self.norm = nn.GroupNorm(8, w)
        self.out = nn.Conv2d(w, folded, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.config.fold * 2

    def stem(self, past: Float[Tensor, "rows stacked height width"]) -> Tensor:
        """The past's half of the stem: (N, history*C, H, W), newest frame last, to (N, width, H/fold, W/fold)."""
        return self.past(F.pixel_unshuffle(past, self.config.fold))

    def trunk(self, noisy: Tensor, stem: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """(fine, coarse) features of a frame (N, C, H, W) seen after its past."""
        x = stem + self.noisy(F.pixel_unshuffle(noisy, self.config.fold))
        for block in self.enter:
            x = block(x, cond)
        deep = self.down(x)
        for block in self.deep:
            deep = block(deep, cond)
        return x, deep

    def forward(self, noisy: Tensor, stem: Tensor, cond: Tensor) -> Tensor:
        """(N, C, H, W) from the noisy frame (N, C, H, W), what :meth:`stem` gave, and the condition (N, D)."""
        x, deep = self.trunk(noisy, stem, cond)
        x = x + F.pixel_shuffle(self.up(deep), 2)
        for block in self.leave:
            x = block(x, cond)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.config.fold)


def fourier(level: Float[Tensor, " rows"], size: int) -> Float[Tensor, "rows size"]:
    """Sines and cosines of a noise level in [0, 1] at octave-spaced frequencies, (N,) to (N, size)."""
    frequency = math.pi * 2.0 ** torch.linspace(-1, 5, size // 2, device=level.device)
    angle = level[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
