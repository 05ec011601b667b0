"""The two ways in which a diffusion model is trained: next frames from clean pasts, and whole clips at mixed levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldloom.contract import ContractError, Segment
from worldloom.models.diffusion.clip import reachable
from worldloom.models.diffusion.flow import corrupt, draw_levels, loss_weight

if TYPE_CHECKING:
    from worldloom.models.diffusion.model import Diffusion


class Sums(NamedTuple):
    """Sums over the targets of a batch."""

    loss: Tensor
    """Weighted squared errors."""
    total: Tensor
    """How many there were."""
    mse: Tensor
    """Squared errors."""
    onestep_mse: Tensor
    """Squared errors of targets at pure noise."""
    pure: Tensor
    """How many those were."""

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        """Of no targets."""
        return cls(*torch.zeros(len(cls._fields), device=device))

    def plus(self, error: Tensor, t: Tensor, weight: Tensor, real: Tensor) -> Sums:
        """With more targets: their errors, levels and weights, and whether they count, all of one shape."""
        at_noise = real * (t == 0)
        return Sums(
            self.loss + (weight * error * real).sum(),
            self.total + real.sum(),
            self.mse + (error * real).sum().detach(),
            self.onestep_mse + (error * at_noise).sum().detach(),
            self.pure + at_noise.sum(),
        )


def next_frames(model: Diffusion, segment: Segment, generator: torch.Generator | None) -> Sums:
    """Errors of the window's last ``targets`` frames, each at its own noise level, from clean pasts.

    The targets are visited in order. Where one was predicted from pure noise, and well, the prediction takes the
    truth's place in the past of the next: the model learns on what it will see when it dreams, and no pass is without a
    loss. (Feeding detached predictions back is the pushforward trick of Brandstetter et al. 2022.)
    """
    cfg, k = model.config, model.config.history
    b, length = segment.first.shape
    if length <= cfg.prompt:
        raise ContractError(f"Training windows need more than prompt = {cfg.prompt} frames, found {length}.")
    device, begin = segment.first.device, max(cfg.prompt, length - cfg.targets)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    truth = model.enter(segment)
    level = torch.ones(b, length, device=device)
    past = truth
    if cfg.context_noise:
        level = 1 - rand(b, length) * cfg.context_noise * (rand(b, length) < 0.5)
        past = corrupt(truth, torch.randn(truth.shape, device=device, generator=generator), level)
    keep = model.conditions.draw_kept(cfg.drop, b, device, generator)
    clip = model.clip(past, level, segment.control, keep=keep)
    reach = reachable(segment.first, segment.valid)
    cut = torch.randint(cfg.prompt, k + 1, (b, 1), device=device, generator=generator)
    full = rand(b, 1) >= cfg.short
    pure = rand(b) < cfg.flow.pure
    sums = Sums.zero(device)
    for i in range(begin, length):
        near = torch.arange(length, device=device) >= i - cut
        around = model.around(clip, [i], (reach[:, i] & (full | near))[:, None], segment.first)
        target = truth[:, i]
        t = torch.where(pure, 0.0, draw_levels(cfg.flow, (b,), device, generator))
        noisy = corrupt(target, torch.randn(target.shape, device=device, generator=generator), t)
        predicted = model.denoise(noisy, t, around)
        error = model.squared_error(predicted, target)
        sums = sums.plus(error, t, loss_weight(cfg.flow, t), segment.valid[:, i].to(error.dtype))
        if cfg.own_past and i + 1 < length:
            # Only a dream that still follows the truth is worth going on from.
            fed = pure & (error.detach() < cfg.own_past * model.squared_error(around.last, target))
            frame = torch.where(fed[:, None, None, None], model.tidy(predicted.detach()), past[:, i])
            model.show(clip, frame, torch.where(fed, 1.0, level[:, i]), i)
    return sums


def draw_clip_levels(
    model: Diffusion, b: int, t: int, device: torch.device, generator: torch.Generator | None
) -> Float[Tensor, "b t"]:
    """Levels of whole clips, each frame its own, so that every sampling table lies inside what is trained.

    In two fifths of the clips all noisy frames share one level, which a quarter of the time is 0, where sampling
    starts; in two fifths each has its own, a tenth of them 0; in the others they fall with time, slowly as in a pyramid
    or at once as frame by frame. Some frames are clean: in half of the clips a prefix of random length (a prompt), in
    the others any frames (keyframes, an ending).
    """

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    own = draw_levels(model.config.flow, (b, t), device, generator)
    own = torch.where(rand(b, t) < 0.1, 0.0, own)
    one = draw_levels(model.config.flow, (b, 1), device, generator)
    one = torch.where(rand(b, 1) < 0.25, 0.0, one).expand(b, t)
    which = rand(b, 1)
    share = rand(b, 1) * (rand(b, 1) < 0.75)
    prefix = torch.arange(t, device=device) < share * t
    clean = torch.where(rand(b, 1) < 0.5, prefix, rand(b, t) < share)
    behind = ((~prefix).cumsum(1) - 1).clamp_min(0)
    falling = (draw_levels(model.config.flow, (b, 1), device, generator) - behind * rand(b, 1) ** 2).clamp_min(0)
    levels = torch.where(which < 0.4, own, torch.where(which < 0.8, one, falling))
    return torch.where(clean, 1.0, levels)


def whole_clips(model: Diffusion, segment: Segment, generator: torch.Generator | None) -> Sums:
    """Errors of all frames of a window at once, each frame seen by the others as noisy as it is.

    Diffusion forcing (Chen et al. 2024). Without ``ahead`` a frame sees earlier ones alone; with it, half of the clips
    are seen both ways.
    """
    cfg = model.config
    b, length = segment.first.shape
    device = segment.first.device
    truth = model.enter(segment)
    t = draw_clip_levels(model, b, length, device, generator)
    noisy = corrupt(truth, torch.randn(truth.shape, device=device, generator=generator), t)
    keep = model.conditions.draw_kept(cfg.drop, b, device, generator)
    clip = model.clip(noisy, t, segment.control, keep=keep)
    both = torch.rand(b, device=device, generator=generator) < 0.5 if cfg.ahead else None
    reach = reachable(segment.first, segment.valid, both)
    around = model.around(clip, range(length), reach, segment.first)
    predicted = model.denoise(noisy.flatten(0, 1), t.flatten(), around)
    error = model.squared_error(predicted, truth.flatten(0, 1)).unflatten(0, (b, length))
    real = (segment.valid & (t < 1)).to(error.dtype)
    return Sums.zero(device).plus(error, t, loss_weight(cfg.flow, t), real)
