"""Shortcut training: a network that is told how far a step goes learns that one step equals two of half its length.

Frans et al. 2024, "One step diffusion via shortcut models". The finest steps are learnt from data as ever (they are
told a length of 0); longer ones from the model itself, without a teacher that was trained before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from worldloom.contract import Segment
from worldloom.models.diffusion.clip import reachable
from worldloom.models.diffusion.flow import as_level, corrupt, loss_weight

if TYPE_CHECKING:
    from worldloom.models.diffusion.model import Diffusion
    from worldloom.models.diffusion.training import Sums

FINEST = 4
"""The shortest step that is a target of its own is 2^-FINEST; its teacher are two infinitely short ones, as trained on
data, each taken for half of it."""


def aim(x: Tensor, end: Tensor, t: Tensor, span: Tensor) -> Tensor:
    """The clean frame at which one straight step of length ``span`` from ``x`` at t must aim to arrive at ``end``."""
    return x + (end - x) * as_level((1 - t) / span, x)


def towards(x: Tensor, clean: Tensor, t: Tensor, span: Tensor) -> Tensor:
    """A straight step of length ``span`` from ``x`` at time t, aimed at ``clean``."""
    return torch.lerp(x, clean, as_level((span / (1 - t).clamp_min(1e-6)).clamp(0, 1), x))


def learnt(t: Tensor, span: Tensor) -> Tensor:
    """The length that is told of a step: its own where it was trained, a half, a quarter, ... of all times and on their
    grid, and 0, an infinitely short one, elsewhere."""
    halvings = -torch.log2(span.clamp_min(1e-9))
    places = t / span.clamp_min(1e-9)
    known = (span > 0) & (halvings < FINEST + 0.5)
    for x in (halvings, places):
        known = known & ((x - x.round()).abs() < 1e-3)
    return torch.where(known, span, 0.0)


def shortcut_clips(model: Diffusion, segment: Segment, generator: torch.Generator | None, sums: Sums) -> Sums:
    """``sums`` with the errors of long steps over whole clips, against two steps of half their length.

    All noisy frames of a clip stand at one level, as in joint sampling, behind a clean prefix of random length.
    """
    b, length = segment.first.shape
    device = segment.first.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    truth = model.enter(segment)
    half = 2.0 ** -torch.randint(1, FINEST + 2, (b, 1), device=device, generator=generator).to(truth.dtype)
    begin = (rand(b, 1) / (2 * half)).floor() * 2 * half  # on the grid of whole steps
    noisy_from = (rand(b, 1) * (rand(b, 1) < 0.75) * length).floor()
    known = torch.arange(length, device=device) < noisy_from
    t, half = torch.where(known, 1.0, begin), torch.where(known, 0.0, half)
    x = corrupt(truth, torch.randn(truth.shape, device=device, generator=generator), t)
    both = rand(b) < 0.5 if model.config.ahead else None
    reach = reachable(segment.first, segment.valid, both)
    keep = model.conditions.draw_kept(model.config.drop, b, device, generator)

    def estimate(x: Tensor, t: Float[Tensor, "b t"], span: Float[Tensor, "b t"]) -> Tensor:
        clip = model.clip(x, t, segment.control, keep=keep)
        around = model.around(clip, range(length), reach, segment.first)
        out = model.denoise(x.flatten(0, 1), t.flatten(), around, span.flatten())
        return out.unflatten(0, (b, length))

    with torch.no_grad():
        middle = towards(x, model.tidy(estimate(x, t, half)), t, half)
        then = t + half
        end = towards(middle, model.tidy(estimate(middle, then, half)), then, half)
    target = torch.where(as_level(known, x), truth, aim(x, end, t, (2 * half).clamp_min(1e-6)))
    error = model.squared_error(estimate(x, t, 2 * half).flatten(0, 1), target.flatten(0, 1)).unflatten(0, (b, length))
    real = (segment.valid & ~known).to(error.dtype)
    return sums.plus(error, t, loss_weight(model.config.flow, t), real)
