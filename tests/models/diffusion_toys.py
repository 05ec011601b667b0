"""Tiny diffusion models, random clips, and the slow and obvious ways to do what the family does at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from worldloom.contract import Control, Segment, Sensor, Spec, State
from worldloom.models.diffusion import Diffusion, DiffusionConfig

SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
RICH = Spec(
    {"camera": Sensor("image", (3, 16, 16))},
    {
        "action": Control("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0)),
        "layout": Control("map", (2, 16, 16)),
        "text": Control("tokens", (5,), n=7, per="once"),
        "mass": Control("continuous", (3,), per="once"),
    },
)


def make(spec: Spec = SPEC, seed: int = 0, **changes: Any) -> Diffusion:
    """A debug model whose zero-initialised layers are awake, so that no mechanism can hide behind them."""
    torch.manual_seed(seed)
    model = Diffusion(spec, dataclasses.replace(DiffusionConfig.debug(), **changes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def random_clip(spec: Spec = SPEC, batch: int = 2, length: int = 8, seed: int = 0) -> Segment:
    """Frames and controls of a spec, all random."""
    g = torch.Generator().manual_seed(seed)
    control = {}
    for name, c in spec.given.items():
        shape = (batch, *c.shape) if c.per == "once" else (batch, length, *c.shape)
        if c.kind in ("discrete", "tokens"):
            control[name] = torch.randint(0, c.n, shape, generator=g)
        else:
            control[name] = torch.rand(shape, generator=g) * 2 - 1
    frames = torch.randint(0, 256, (batch, length, *spec.images["camera"].shape), generator=g, dtype=torch.uint8)
    flags = torch.zeros(batch, length, dtype=torch.bool)
    return Segment({"camera": frames}, control, flags, ~flags, once=spec.once)


def but(segment: Segment, **changes: Tensor) -> Segment:
    """The same clip with other frames (``camera``), flags (``first``, ``valid``) or controls."""
    obs = {"camera": changes.pop("camera")} if "camera" in changes else segment.obs
    flags = {name: changes.pop(name) for name in ("first", "valid") if name in changes}
    return dataclasses.replace(segment, obs=obs, control={**segment.control, **changes}, **flags)


def floats(segment: Segment) -> Tensor:
    """The frames as the network works on them, in [-1, 1]."""
    return segment.obs["camera"].float() / 127.5 - 1.0


def prompt(segment: Segment, frames: int) -> Tensor:
    """(B, T) bool: so many frames are known, at the beginning."""
    known = torch.zeros_like(segment.first)
    known[:, :frames] = True
    return known


def at(segment: Segment, t: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is shown and given at one frame."""
    given = {name: x[:, t] for name, x in segment.control.items() if name not in segment.once}
    return {"camera": segment.obs["camera"][:, t]}, given


@torch.no_grad()
def play(model: Diffusion, segment: Segment, seen: int, seed: int = 0) -> tuple[Tensor, State]:
    """Observe the first frames of a clip and dream the others, frame by frame: (B, T, C, H, W) in [0, 1], the state."""
    state = model.start(segment.batch, seed, {name: segment.control[name] for name in segment.once} or None)
    frames = []
    for t in range(segment.length):
        obs, given = at(segment, t)
        if t < seen:
            state = model.observe(state, obs, given or None, first=segment.first[:, t])
        else:
            state = model.step(state, given or None)
        frames.append(model.decode(state, raw=True)["camera"])
    return torch.stack(frames, 1), state


def loss_of(model: Diffusion, segment: Segment, seed: int = 0) -> float:
    """The training loss with the draws of a seed."""
    with torch.no_grad():
        return float(model.loss(segment, torch.Generator().manual_seed(seed)).total)


def influence(model: Diffusion, segment: Segment, seed: int = 0) -> Tensor:
    """(B, N, T) bool: in the training loss, which of the clip's frames each of N estimates depends on."""
    frames = floats(segment).requires_grad_()
    estimates: list[Tensor] = []
    denoise = model.denoise
    model.enter = lambda _: frames  # type: ignore[method-assign]
    model.denoise = lambda *a: (estimates.append(denoise(*a)), estimates[-1])[1]  # type: ignore[method-assign]
    try:
        model.loss(segment, torch.Generator().manual_seed(seed))
    finally:
        del model.enter, model.denoise
    single = [x for e in estimates for x in e.unflatten(0, (segment.batch, -1)).unbind(1)]
    grads = [torch.autograd.grad(x.sum(), frames, retain_graph=True)[0].abs().amax((2, 3, 4)) > 0 for x in single]
    return torch.stack(grads, 1)
