"""Two balls that collide, in gravity, one of them pushed.

    worldloom train duo --out runs/duo

Figures, hardware and seeds of the model of this recipe that ships with the package: docs/results/checkpoints.md.
"""

from __future__ import annotations

from worldloom.recipes import balls
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.balls import BallsConfig


def recipe() -> Recipe:
    """Two elastic balls of radius 5 in a 64×64 box; of five actions four push the first ball by 0.5 px/frame."""
    return Recipe(
        name="duo",
        about="two balls that collide, one of them pushed, with exact truth (2 CPU cores, an hour)",
        family="diffusion",
        model=balls.recipe().model,
        train=TrainConfig(
            minutes=60.0, batch=12, optimizer="muon", lr=2e-3, warmup=100, decay="linear", ema=0.998, log_every=50
        ),
        env="balls",
        world=BallsConfig(balls=2, radius=5.0, speed=2.0, gravity=(0.0, 0.1), action="discrete", push=0.5),
        collect=CollectConfig(episodes=3000, length=64, num=128),
    )
