"""Sora in small: videos from a text, from a picture, from a clip, forward, backward and in between, by one model.

    worldloom train sora --out runs/sora
    worldloom imagine runs/sora --text "three small red balls, strong gravity, fast"

All frames are denoised together, each at a level of its own, seen both ways in time (Brooks et al. 2024, "Video
generation models as world simulators"; diffusion forcing, Chen et al. 2024). What is a prompt is only a matter of which
frames are known. Figures, hardware and seeds: docs/results/sora.md.
"""

from __future__ import annotations

from worldloom.models.diffusion import BackboneConfig, DiffusionConfig, FlowConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.tokenizers.continuous import ContinuousConfig
from worldloom.training import TrainConfig
from worldloom.worlds.balls import CaptionsConfig


def recipe() -> Recipe:
    """Captioned balls, 64×64, in latents of 8×16×16; clips of 16 frames."""
    return Recipe(
        name="sora",
        about="videos of balls from a text, a picture or a clip (2 CPU cores, 90 minutes)",
        family="diffusion",
        model=DiffusionConfig(
            history=3,
            ahead=3,
            memory=12,
            prompt=1,
            targets=4,
            joint=0.75,
            drop={"text": 0.1},
            steps=1,
            told_noise=0.1,
            flow=FlowConfig(pure=0.9, mean=-0.6, spread=1.0),
            codec=ContinuousConfig(halvings=0),
            backbone=BackboneConfig(attention=2, fold=2),
        ),
        train=TrainConfig(
            minutes=88.0, batch=16, lr=2e-3, optimizer="muon", warmup=100, decay="linear", ema=0.998, log_every=50
        ),
        env="captions",
        world=CaptionsConfig(),
        collect=CollectConfig(episodes=6000, length=32, num=64),
    )
