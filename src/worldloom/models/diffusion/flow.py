"""Corruption, levels and weights of rectified flow. Time t: 0 is noise, 1 is clean; x_t = t x + (1 - t) e.

The network emits x; the loss lives in the space of the velocity v = x - e, which weighs the squared error of x by
1/(1 - t)^2 (Li & He 2025, "Back to Basics: Let Denoising Generative Models Denoise").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from worldloom.configs import ConfigError, within


@dataclass(frozen=True)
class FlowConfig:
    """What noise levels are trained, and how their errors are weighed."""

    pure: float = 0.5
    """Share of training windows whose targets are trained at pure noise (t = 0), where sampling starts. In a nearly
    deterministic world all that is to be learnt is learnt there: a target that shows through its noise teaches
    denoising, not dynamics."""
    mean: float = -0.8
    """Mean of the other levels' logit."""
    spread: float = 0.8
    """Standard deviation of the other levels' logit."""
    target: Literal["x", "v"] = "x"
    """Space of the network's output. ``x`` for pixels, ``v`` for compact latents."""
    clip: float = 0.05
    """Smallest 1 - t in the loss weight."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "pure", "clip")
        if self.spread < 0 or self.clip == 0:
            raise ConfigError(f"spread is at least 0 and clip above 0, found {self.spread} and {self.clip}.")


def draw_levels(
    config: FlowConfig, shape: Sequence[int], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Training levels t in (0, 1), logit-normal."""
    return torch.sigmoid(torch.randn(*shape, device=device, generator=generator) * config.spread + config.mean)


def corrupt(clean: Float[Tensor, "rows ..."], noise: Float[Tensor, "rows ..."], t: Float[Tensor, " rows"]) -> Tensor:
    """x_t = t x + (1 - t) e, with one level a row."""
    t = t.reshape(-1, *[1] * (clean.ndim - 1))
    return torch.lerp(noise, clean, t)


def to_clean(config: FlowConfig, output: Tensor, noisy: Tensor, t: Float[Tensor, " rows"]) -> Tensor:
    """The clean frame that a network's output stands for: itself, or x = x_t + (1 - t) v."""
    if config.target == "x":
        return output
    return noisy + (1 - t.reshape(-1, *[1] * (output.ndim - 1))) * output


def visible(noisy: Float[Tensor, "rows ..."], t: Float[Tensor, " rows"]) -> Tensor:
    """What the network is shown of a noisy frame: x_t scaled by t / sqrt(t^2 + (1 - t)^2).

    At t = 0 the frame is noise alone, independent of x, and the best estimate of x does not depend on it. Showing
    nothing there spares the network from learning to ignore it, and makes the first denoising step a function of the
    past alone.
    """
    t = t.reshape(-1, *[1] * (noisy.ndim - 1))
    return noisy * (t / torch.sqrt(t**2 + (1 - t) ** 2))


def loss_weight(config: FlowConfig, t: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Weight of the squared error of x that makes it the squared error of v: 1/(1 - t)^2."""
    return (1 - t).clamp_min(config.clip) ** -2


def times(steps: int) -> list[float]:
    """A sampling schedule: ``steps`` + 1 times from 0 (noise) to 1 (clean), evenly spaced."""
    return [i / steps for i in range(steps + 1)]


def euler(noisy: Tensor, clean: Tensor, now: float, then: float) -> Tensor:
    """One Euler step of dx/dt = (x - x_t)/(1 - t) from time ``now`` to ``then``; lands on ``clean`` at 1."""
    return torch.lerp(noisy, clean, (then - now) / (1 - now))
