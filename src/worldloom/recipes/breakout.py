"""Breakout, the real Atari game, from the Arcade Learning Environment (needs the extra ``worldloom[envs]``).

    worldloom train breakout --out runs/breakout

Figures, hardware and seeds: docs/results/breakout.md.
"""

from __future__ import annotations

from worldloom.models.diffusion import DiffusionConfig, FlowConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.gym import GymConfig


def recipe() -> Recipe:
    """64×64 RGB, four console frames a step, actions that repeat now and then: stochastic and partly observed."""
    return Recipe(
        name="breakout",
        about="the Atari game, collected from ALE (2 CPU cores, 10 minutes)",
        family="diffusion",
        model=DiffusionConfig(history=4, prompt=2, targets=4, steps=1, flow=FlowConfig(pure=0.9)),
        train=TrainConfig(minutes=8.0, batch=12, lr=1e-3, warmup=100, decay="linear", ema=0.998),
        env="ALE/Breakout-v5",
        world=GymConfig(size=(64, 64), frame_skip=4, crop=(32, 14, 8, 8), shrink="max", env_options={"frameskip": 1}),
        collect=CollectConfig(episodes=200, length=500, policy="sticky", num=8),
    )
