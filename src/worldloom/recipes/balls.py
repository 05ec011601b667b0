"""One ball in a box, ours: the recipe of `make demo`.

    worldloom train balls --out runs/demo

Figures, hardware and seeds: docs/results/demo.md.
"""

from __future__ import annotations

from worldloom.models.diffusion import DiffusionConfig, FlowConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.balls import BallsConfig


def recipe() -> Recipe:
    """An elastic ball of radius 4 in a 64×64 box, without pushes: a deterministic world with an exact truth."""
    return Recipe(
        name="balls",
        about="a bouncing ball in a box, with exact truth (2 CPU cores, 6 minutes)",
        family="diffusion",
        model=DiffusionConfig(history=6, prompt=3, targets=4, steps=1, flow=FlowConfig(pure=0.9)),
        train=TrainConfig(
            minutes=5.8, batch=12, optimizer="muon", lr=2e-3, warmup=50, decay="linear", ema=0.99, log_every=50
        ),
        env="balls",
        world=BallsConfig(),
        collect=CollectConfig(episodes=1500, length=128, num=128),
    )
