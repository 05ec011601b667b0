"""What a model is given, in the three forms that reach the network: vectors, maps, and the tokens of a text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldloom.contract import Spec
from worldloom.models.adopt import reach
from worldloom.models.diffusion.texts import TextConfig, make_text


class Given(NamedTuple):
    """Embedded controls. What is absent, dropped or unknown is zero, or a token that is not real."""

    frame: Float[Tensor, "b t d"] | None
    """Sum of what is given with each frame as a vector."""
    noted: Float[Tensor, "b t d"] | None
    """The part of it that is remembered with the frame: not what may be dropped, or a dream without it would still
    recall it."""
    once: Float[Tensor, "b d"] | None
    """Sum of what is given once as a vector, and a linear layer of the mean of the text's tokens: its bias for none."""
    maps: Float[Tensor, "b t m H W"] | None
    """Maps, side by side."""
    text: tuple[Float[Tensor, "b l e"], Bool[Tensor, "b l"]] | None
    """The text's tokens, and which are real."""


class Conditions(nn.Module):
    """Embeds the controls of a :class:`Spec`, and drops them where it is told to.

    dropped: names of controls that are ever dropped.
    """

    def __init__(self, spec: Spec, width: int, text: TextConfig, dropped: Collection[str] = ()):
        super().__init__()
        self.spec, self.width, self.dropped = spec, width, frozenset(dropped)
        self.vectors = nn.ModuleDict()
        self.texts = nn.ModuleDict()
        self.pooled = nn.ModuleDict()
        self.map_names = [name for name, c in spec.given.items() if c.kind == "map"]
        for name, control in spec.given.items():
            if control.kind == "discrete":
                self.vectors[name] = nn.Embedding(control.n + 1, width)
            elif control.kind == "continuous":
                self.vectors[name] = nn.Linear(control.shape[0], width)
                self.register_buffer(f"reach_{name}", torch.tensor(reach(control)), persistent=False)
            elif control.kind == "tokens":
                self.texts[name] = make_text(control, text)
                self.pooled[name] = nn.Linear(text.width, width)

    @staticmethod
    def supports(spec: Spec, size: tuple[int, ...]) -> str | None:
        """Why these controls can't be taken, or None; ``size`` is the frame's (H, W)."""
        if "history" in spec.given:
            return "a control named 'history' can't be told from the past in guidance; give it another name"
        for name, c in spec.given.items():
            if c.kind == "tokens" and c.per == "frame":
                return f"it takes a text once for a sequence, and {name!r} comes with every frame"
            if c.kind == "map" and (c.per == "once" or c.shape[1:] != size):
                return (
                    f"it takes maps with every frame, of the frame's size {size}, and {name!r} is {c.shape} per {c.per}"
                )
        if sum(c.kind == "tokens" for c in spec.given.values()) > 1:
            return "it takes one text"
        return None

    @property
    def maps(self) -> int:
        """Channels of all maps."""
        return sum(self.spec.given[name].shape[0] for name in self.map_names)

    def forward(
        self,
        control: Mapping[str, Tensor],
        hidden: Collection[str] = (),
        keep: Mapping[str, Bool[Tensor, " b"]] | None = None,
    ) -> Given:
        """Embed controls (B, T, ...) or, given once, (B, ...). Those named in ``hidden`` are dropped in all rows, the
        others in the rows (B,) where ``keep`` is false for them; a control that is not there counts as zero."""
        frame: list[Tensor] = []
        noted: list[Tensor] = []
        once: list[Tensor] = []
        maps: list[Tensor] = []
        text = None
        for name, kind in self.spec.given.items():
            if name not in control:
                continue
            value = control[name]
            kept = None if keep is None or name not in keep else keep[name]
            if name in hidden:
                kept = torch.zeros(len(value), dtype=torch.bool, device=value.device)
            if name in self.texts:
                tokens, real = self.texts[name](value)
                real = real if kept is None else real & kept[:, None]
                tokens = tokens * real[..., None]
                text = (tokens, real)
                once.append(self.pooled[name](tokens.sum(1) / real.sum(1, keepdim=True).clamp_min(1)))
                continue
            if kind.kind == "map":
                x = value
            elif kind.kind == "discrete":
                x = self.vectors[name](value)
            else:
                x = self.vectors[name](value / self.get_buffer(f"reach_{name}"))
            if kept is not None:
                x = x * kept.reshape(-1, *[1] * (x.ndim - 1))
            (maps if kind.kind == "map" else frame if kind.per == "frame" else once).append(x)
            if kind.kind != "map" and kind.per == "frame" and name not in self.dropped:
                noted.append(x)
        return Given(
            torch.stack(frame).sum(0) if frame else None,
            torch.stack(noted).sum(0) if noted else None,
            torch.stack(once).sum(0) if once else None,
            torch.cat(maps, 2) if maps else None,
            text,
        )

    def draw_kept(
        self, drop: Mapping[str, float], batch: int, device: torch.device, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Which rows keep each control that is dropped at random in training, name to (B,) bool."""
        return {n: torch.rand(batch, device=device, generator=generator) >= p for n, p in sorted(drop.items()) if p}
