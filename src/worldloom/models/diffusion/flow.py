"""Corruption, levels, targets and weights of rectified flow. Time t: 0 is noise, 1 is clean; x_t = t x + (1 - t) e.

Whatever the network emits stands for a clean frame (:func:`to_clean`); the loss is a weighted squared error of that
frame. By default the network emits x and the loss lives in the space of the velocity x - e, which weighs the squared
error of x by 1/(1 - t)^2 (Li & He 2025, "Back to Basics: Let Denoising Generative Models Denoise").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from worldloom.configs import ConfigError, within


@dataclass(frozen=True)
class FlowConfig:
    """What noise levels are trained, and how their errors are weighed."""

    pure: float = 0.5
    """Share of next-frame training windows whose targets are trained at pure noise (t = 0), where sampling starts. In a
    nearly deterministic world all that is to be learnt is learnt there: a target that shows through its noise teaches
    denoising, not dynamics."""
    mean: float = -0.8
    """Mean of the other levels' logit."""
    spread: float = 0.8
    """Standard deviation of the other levels' logit."""
    target: Literal["x", "flow", "v", "noise"] = "x"
    """What the network emits. ``x``: the clean frame, for pixels; ``flow``: the velocity x - e of the straight path;
    ``v``: the velocity of the variance-preserving path (Salimans & Ho 2022); ``noise``: e, as DDPM, which says nothing
    of x at t = 0 and is here to be compared with."""
    weighting: Literal["flow", "min_snr", "noise", "none"] = "flow"
    """Weight of the squared error of x: ``flow``: 1/(1 - t)^2, ``min_snr``: min(SNR, snr_cap) + 1 with SNR = t^2/(1 -
    t)^2 (Hang et al. 2023; the 1 keeps pure noise), ``noise``: SNR, which is the plain squared error of e that DDPM
    trains and counts nothing at pure noise, ``none``: 1."""
    snr_cap: float = 5.0
    """Largest SNR of ``min_snr``."""
    shift: float = 1.0
    """Above 1, sampling takes more of its steps near noise (:func:`worldloom.nn.tables.times`): the more pixels an
    object has, the more noise it shows through, and the earlier it is settled where it stands."""
    clip: float = 0.05
    """Smallest 1 - t in the loss weight, and smallest t by which a ``noise`` target is divided."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "pure", "clip")
        if self.spread < 0 or min(self.clip, self.snr_cap, self.shift) <= 0:
            raise ConfigError(
                "spread is at least 0; clip, snr_cap and shift are above 0; found "
                f"{self.spread}, {self.clip}, {self.snr_cap}, {self.shift}."
            )


def draw_levels(
    config: FlowConfig, shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Training levels t in (0, 1), logit-normal."""
    return torch.sigmoid(torch.randn(*shape, device=device, generator=generator) * config.spread + config.mean)


def as_level(t: Shaped[Tensor, "*lead"], like: Float[Tensor, "*lead ..."]) -> Tensor:
    """Levels (*lead) with as many axes of size one as it takes to multiply frames (*lead, C, H, W)."""
    return t.reshape(*t.shape, *[1] * (like.ndim - t.ndim))


def corrupt(clean: Float[Tensor, "*lead c h w"], noise: Float[Tensor, "*lead c h w"], t: Tensor) -> Tensor:
    """x_t = t x + (1 - t) e, with one level (*lead) a frame."""
    return torch.lerp(noise, clean, as_level(t, clean))


def spread_at(t: Tensor) -> Tensor:
    """sqrt(t^2 + (1 - t)^2): the standard deviation of x_t where x and e have unit variance."""
    return torch.sqrt(t**2 + (1 - t) ** 2)


def to_clean(config: FlowConfig, output: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
    """The clean frame that a network's output stands for, at levels t (*lead)."""
    if config.target == "x":
        return output
    t = as_level(t, output)
    if config.target == "flow":
        return noisy + (1 - t) * output
    if config.target == "v":  # of z = x_t / s, with alpha = t / s, sigma = (1 - t) / s: x = alpha z - sigma v
        s = spread_at(t)
        return (t / s) * (noisy / s) - ((1 - t) / s) * output
    return (noisy - (1 - t) * output) / t.clamp_min(config.clip)


def visible(noisy: Float[Tensor, "*lead c h w"], t: Float[Tensor, "*lead"]) -> Tensor:
    """What is shown of a noisy frame: x_t scaled by t / sqrt(t^2 + (1 - t)^2), which is nothing at t = 0.

    At t = 0 a frame is noise alone, independent of x, and no estimate of x depends on it. Showing nothing there spares
    the network from learning to ignore it, and makes "a frame of pure noise" and "no frame" the same thing.
    """
    return noisy * as_level(t / spread_at(t), noisy)


def whole(noisy: Float[Tensor, "*lead c h w"], t: Float[Tensor, "*lead"]) -> Tensor:
    """What is shown where the noise matters too: x_t at unit variance, at t = 0 the noise itself."""
    return noisy / as_level(spread_at(t), noisy)


def loss_weight(config: FlowConfig, t: Tensor) -> Tensor:
    """Weight of the squared error of x at levels t."""
    if config.weighting == "none":
        return torch.ones_like(t)
    if config.weighting == "min_snr":
        return (t / (1 - t).clamp_min(1e-3)).square().clamp_max(config.snr_cap) + 1
    if config.weighting == "noise":
        return (t / (1 - t).clamp_min(config.clip)).square()
    return (1 - t).clamp_min(config.clip) ** -2


def euler(noisy: Tensor, clean: Tensor, now: float, then: float) -> Tensor:
    """One Euler step of dx/dt = (x - x_t)/(1 - t) from time ``now`` to ``then``; lands on ``clean`` at 1."""
    return torch.lerp(noisy, clean, (then - now) / (1 - now))
