"""The denoising network: a U-Net over one frame's grid, a stem of neighbouring frames, attention, a level per frame.

It knows nothing of corruption, loss or sampling: it maps (noisy frame, its surroundings, condition) to an output. Other
frames enter in two ways. The *stem* stacks the neighbours exactly: there a velocity is read off, at full precision,
before any down-sampling. *Memory* is what attention may recall of frames farther back: keys and values made of each
frame alone, so that a cache of them is exact (docs/diffusion.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least
from worldloom.nn import attention


class Sizes(NamedTuple):
    """The numbers behind the dial."""

    width: int
    deep_width: int
    blocks: int
    deep_blocks: int
    condition: int


SIZES = {
    "debug": Sizes(16, 32, 1, 1, 32),
    "S": Sizes(64, 128, 2, 4, 128),
    "M": Sizes(96, 256, 2, 4, 256),
    "L": Sizes(128, 512, 3, 8, 512),
    "XL": Sizes(256, 1024, 3, 16, 1024),
}


@dataclass(frozen=True)
class BackboneConfig:
    """Size and shape of the denoiser. ``size`` sets all numbers that are 0 here."""

    size: Literal["debug", "S", "M", "L", "XL"] = "S"
    """The one dial."""
    fold: int = 4
    """Pixels folded into channels along each side: a 64×64 frame becomes a 16×16 grid for ``fold`` 4."""
    width: int = 0
    """Channels on the fine grid."""
    deep_width: int = 0
    """Channels on the coarse grid (half the fine one's height and width)."""
    blocks: int = 0
    """Residual blocks on the fine grid, before and again after the coarse ones."""
    deep_blocks: int = 0
    """Residual blocks on the coarse grid."""
    condition: int = 0
    """Width of the condition vector that modulates every block."""
    attention: int = 0
    """Attention layers, spread over the coarse blocks: each looks over the grid, then into memory, then at a text."""
    remembered: int = 64
    """Channels of what is remembered of a frame, on the coarse grid."""
    local: bool = True
    """Whether blocks mix neighbouring cells, by 3×3 convolutions. Without it attention alone mixes the grid."""

    def __post_init__(self) -> None:
        at_least(self, 1, "fold")
        at_least(self, 0, *Sizes._fields, "attention")
        full = self.sizes
        for name, value in (("width", full.width), ("deep_width", full.deep_width), ("remembered", self.remembered)):
            if value < 8 or value % 8:
                raise ConfigError(f"{name} must be a multiple of 8, found {value}.")
        if self.attention and full.deep_width % 32:
            raise ConfigError(f"Heads are 32 wide: with attention deep_width is a multiple, found {full.deep_width}.")
        if self.attention > full.deep_blocks:
            raise ConfigError(
                f"Attention follows a coarse block: {self.attention} layers need as many, found {full.deep_blocks}."
            )

    @property
    def sizes(self) -> Sizes:
        """The dial's numbers, and in their place those that were given."""
        return Sizes(*(getattr(self, name) or value for name, value in SIZES[self.size]._asdict().items()))

    @property
    def multiple(self) -> int:
        """Height and width of a frame are multiples of this."""
        return self.fold * 2


class Recall(NamedTuple):
    """Remembered frames, as T target frames of each of B rows may recall them."""

    keys: list[Float[Tensor, "b m 2 cells d"]]
    """Keys and values for each attention layer."""
    behind: Float[Tensor, "b t m"]
    """How many frames each remembered one lies behind each target; negative for later ones."""
    allowed: Bool[Tensor, "b t m"]
    """Which are seen."""


class Around(NamedTuple):
    """What the network is given beside the N noisy frames: the same at every denoising step."""

    stem: Float[Tensor, "n d_fine h w"]
    """What :meth:`Backbone.stem` made of the neighbours."""
    base: Float[Tensor, "n condition"]
    """What is known beside the frames: which neighbours are seen how clearly, controls."""
    last: Float[Tensor, "n c H W"]
    """The frame before, as far as it is trusted: a share of it is added to the output."""
    recall: Recall | None = None
    """Remembered frames; always there for a network with memory."""
    text: tuple[Float[Tensor, "n l e"], Bool[Tensor, "n l"]] | None = None
    """Tokens of a text, and which are not padding; always there for a network that reads one."""


class Modulated(nn.Module):
    """Residual block: two convolutions, the second's input scaled and shifted by the condition (FiLM)."""

    def __init__(self, width: int, condition: int, local: bool = True):
        super().__init__()
        kernel, padding = (3, 1) if local else (1, 0)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, kernel, padding=padding)
        self.norm2 = nn.GroupNorm(8, width, affine=False)
        self.film = nn.Linear(condition, 2 * width)
        self.conv2 = nn.Conv2d(width, width, kernel, padding=padding)
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


class Attend(nn.Module):
    """Attention over the grid, into memory and at a text, each with a scale, a shift and a gate by the condition.

    Gates begin at zero (adaLN-Zero, Peebles & Xie 2023): the layer begins as the identity.
    """

    def __init__(self, width: int, condition: int, remembered: int, tokens: int):
        super().__init__()
        self.grid = attention.Grid(width)
        self.memory = attention.Memory(width, remembered) if remembered else None
        self.cross = attention.Cross(width, tokens) if tokens else None
        self.parts = 1 + (self.memory is not None) + (self.cross is not None)
        self.modulation = nn.Linear(condition, 3 * width * self.parts)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, cond: Tensor, around: Around, layer: int) -> Tensor:
        """x: (N, width, h, w); cond: (N, condition)."""
        x = x.permute(0, 2, 3, 1)
        modulation = iter(self.modulation(cond)[:, None, None].chunk(3 * self.parts, -1))

        def normed() -> Tensor:
            return torch.addcmul(next(modulation), F.layer_norm(x, x.shape[-1:]), 1 + next(modulation))

        x = torch.addcmul(x, self.grid(normed()), next(modulation))
        if self.memory is not None:
            keys, behind, allowed = around.recall  # type: ignore[misc]
            x = torch.addcmul(x, self.memory(normed(), keys[layer], behind, allowed), next(modulation))
        if self.cross is not None:
            tokens, real = around.text  # type: ignore[misc]
            x = torch.addcmul(x, self.cross(normed(), tokens.to(x.dtype), real), next(modulation))
        return x.permute(0, 3, 1, 2)


class Backbone(nn.Module):
    """U-Net on a folded grid, with a stem of neighbours, and attention on the coarse grid.

    channels: of a frame. neighbours: frames in the stem. memory: whether frames are remembered. tokens: width of a
    text's tokens, 0 for none. maps: channels of maps given with each frame.
    """

    def __init__(
        self,
        config: BackboneConfig,
        channels: int,
        neighbours: int,
        memory: bool = False,
        tokens: int = 0,
        maps: int = 0,
    ):
        super().__init__()
        c, n = config, config.sizes
        w, d = n.width, n.deep_width
        self.config, self.channels = config, channels
        folded = channels * c.fold**2
        # A convolution of the stacked [noisy, neighbours] is the sum of one of each: the neighbours' half is computed
        # once a frame, whatever the number of denoising steps.
        self.past = nn.Conv2d(folded * neighbours + maps * c.fold**2, w, 1)
        self.noisy = nn.Conv2d(folded, w, 1, bias=False)
        self.enter = nn.ModuleList(Modulated(w, n.condition, c.local) for _ in range(n.blocks))
        self.down = nn.Conv2d(w, d, 2, stride=2)
        self.deep = nn.ModuleList(Modulated(d, n.condition, c.local) for _ in range(n.deep_blocks))
        remembered = c.remembered if memory else 0
        self.attend = nn.ModuleList(Attend(d, n.condition, remembered, tokens) for _ in range(c.attention))
        ends = [round((i + 1) * n.deep_blocks / c.attention) for i in range(c.attention)]
        self.after = {end - 1: i for i, end in enumerate(ends)}  # coarse block to the attention layer behind it
        self.up = nn.Conv2d(d, w * 4, 1)
        self.leave = nn.ModuleList(Modulated(w, n.condition, c.local) for _ in range(n.blocks))
        self.norm = nn.GroupNorm(8, w)
        self.out = nn.Conv2d(w, folded, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        if memory:
            e = c.remembered
            self.see = nn.Conv2d(folded * 4, e, 1)
            self.note = nn.Linear(n.condition, e)
            self.mix = nn.Sequential(nn.GroupNorm(8, e), nn.SiLU(), nn.Conv2d(e, e, 3, padding=1))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: a network that was cast to bfloat16 computes in it, whatever it is given."""
        return self.noisy.weight.dtype

    def stem(
        self, shown: Float[Tensor, "n stacked H W"], maps: Float[Tensor, "n m H W"] | None = None
    ) -> Float[Tensor, "n d_fine h w"]:
        """The neighbours' half of the stem: (N, neighbours·C, H, W), oldest first, and the frame's own maps."""
        stacked = shown if maps is None else torch.cat([shown, maps], 1)
        return folded(self.past, stacked.to(self.dtype))

    def remember(
        self, shown: Float[Tensor, "n c H W"], note: Float[Tensor, "n condition"]
    ) -> list[Float[Tensor, "n 2 cells d"]]:
        """What each attention layer may later recall of N frames: keys and values, of each frame alone.

        note: how clearly the frame is seen, and what led to it.
        """
        x = folded(self.see, shown.to(self.dtype))
        x = x + self.note(note.to(self.dtype))[:, :, None, None].to(x.dtype)
        x = (x + self.mix(x)).flatten(2).transpose(1, 2)
        return [layer.memory.keys(x) for layer in self.attend]  # type: ignore[operator, union-attr]

    def trunk(self, noisy: Tensor, around: Around, cond: Tensor) -> tuple[Tensor, Tensor]:
        """(fine, coarse) features of frames (N, C, H, W) in their surroundings."""
        cond = cond.to(self.dtype)
        x = around.stem + folded(self.noisy, noisy.to(self.dtype))
        for block in self.enter:
            x = block(x, cond)
        deep = self.down(x)
        for i, block in enumerate(self.deep):
            deep = block(deep, cond)
            if i in self.after:
                deep = self.attend[self.after[i]](deep, cond, around, self.after[i])
        return x, deep

    def forward(self, noisy: Tensor, around: Around, cond: Tensor) -> Tensor:
        """(N, C, H, W) from noisy frames (N, C, H, W), their surroundings, and the condition (N, D)."""
        x, deep = self.trunk(noisy, around, cond)
        cond = cond.to(self.dtype)
        x = x + F.pixel_shuffle(self.up(deep), 2)
        for block in self.leave:
            x = block(x, cond)
        return F.pixel_shuffle(self.out(F.silu(self.norm(x))), self.config.fold)


def folded(layer: nn.Conv2d, x: Float[Tensor, "n c H W"]) -> Float[Tensor, "n d h w"]:
    """A 1×1 convolution of folded pixels (``pixel_unshuffle``), done as one of the pixels themselves whose kernel and
    stride are the fold: frames need not be rearranged."""
    fold = math.isqrt(layer.in_channels // x.shape[1])
    kernel = layer.weight.reshape(layer.out_channels, x.shape[1], fold, fold)
    if x.device.type != "mps":  # where convolutions of other layouts have been wrong (see worldloom.nn.devices)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
    return F.conv2d(x, kernel, layer.bias, stride=fold)


def fourier(level: Float[Tensor, " rows"], size: int) -> Float[Tensor, "rows size"]:
    """Sines and cosines of a noise level in [0, 1] at frequencies that rise geometrically, (N,) to (N, size)."""
    frequency = math.pi * 2.0 ** torch.linspace(-1, 5, size // 2, device=level.device)
    angle = level[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)
