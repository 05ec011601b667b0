"""A clip on its way through the network: what is shown of each frame, and what each frame may see of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from worldloom.models.diffusion.conditions import Given

Keys = list[Tensor]
"""For each attention layer what it may recall of one frame, (B, 2, cells, D)."""


@dataclass
class Clip:
    """T frames of B rows. Frames are exchanged one by one, as they are denoised or predicted."""

    shown: list[Float[Tensor, "b c h w"]]
    """What is shown of each frame as a neighbour: nothing (zeros) at level 0."""
    told: list[Float[Tensor, " b"]]
    """The level that is told of each frame; 0: nothing is seen of it."""
    given: Given
    """The controls, embedded."""
    keys: list[Keys] = field(default_factory=list)
    """What may be recalled of each frame; empty for a model without memory."""

    @property
    def length(self) -> int:
        """T."""
        return len(self.shown)


@dataclass(frozen=True)
class Neighbours:
    """The frames in a stem: ``back`` before a frame and ``ahead`` behind it, in order of time."""

    back: int
    ahead: int = 0

    @property
    def offsets(self) -> list[int]:
        """Their places relative to the frame."""
        return [*range(-self.back, 0), *range(1, self.ahead + 1)]

    def gather(
        self, clip: Clip, targets: Sequence[int], reach: Bool[Tensor, "b n t"]
    ) -> tuple[Float[Tensor, "bn stacked h w"], Float[Tensor, "bn k"], Float[Tensor, "bn slots d"] | None]:
        """For n target frames of each row, row after row: their neighbours stacked in channels; the level told of each;
        and the vectors given with them and, in its place among them, with the target itself. Zeros stand for what is
        outside of the clip or out of ``reach``.
        """
        b = len(reach)
        nothing, silence = torch.zeros_like(clip.shown[0]), torch.zeros_like(clip.told[0])
        frames, levels = [], []
        for i in targets:
            places = [i + o for o in self.offsets]
            inside = [0 <= j < clip.length for j in places]
            frames.append(
                torch.stack([clip.shown[j] if ok else nothing for j, ok in zip(places, inside, strict=True)], 1)
            )
            levels.append(
                torch.stack([clip.told[j] if ok else silence for j, ok in zip(places, inside, strict=True)], 1)
            )
        index = torch.tensor([[i + o for o in self.offsets] for i in targets], device=reach.device)
        within = (index >= 0) & (index < clip.length)
        index = index.clamp(0, clip.length - 1)
        seen = torch.gather(reach, 2, index.expand(b, -1, -1)) & within  # (B, n, K)
        stacked = torch.stack(frames, 1) * seen[..., None, None, None]
        told = torch.stack(levels, 1) * seen
        vectors = None
        if clip.given.frame is not None:
            around = clip.given.frame[:, index] * seen[..., None]  # (B, n, K, D)
            own = clip.given.frame[:, list(targets), None]
            vectors = torch.cat([around[:, :, : self.back], own, around[:, :, self.back :]], 2).flatten(0, 1)
        return stacked.flatten(2, 3).flatten(0, 1), told.flatten(0, 1), vectors


def reachable(
    first: Bool[Tensor, "b t"], valid: Bool[Tensor, "b t"], both_ways: Bool[Tensor, " b"] | None = None
) -> Bool[Tensor, "b t t"]:
    """[b, i, j]: whether frame i may see frame j: real, of the same episode, and earlier, or in rows marked by
    ``both_ways`` later too; never itself."""
    episode = torch.where(valid, first.cumsum(1) + 1, 0)
    same = (episode[:, :, None] == episode[:, None]) & valid[:, None]
    t = torch.arange(first.shape[1], device=first.device)
    order = t[:, None] > t
    if both_ways is not None:
        order = torch.where(both_ways[:, None, None], t[:, None] != t, order)
    return same & order


def pad_to(x: Tensor, multiple: int, value: float) -> Tensor:
    """Pad (..., H, W) below and to the right to multiples."""
    h, w = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, w, 0, h), value=value) if h or w else x
