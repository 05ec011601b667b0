"""A small recurrent state-space model: compact states, reward and end heads, images and vectors together.

worldloom train recurrent --env CartPole-v1 --out runs/cartpole
"""

from __future__ import annotations

from worldloom.models.recurrent import RecurrentConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.gym import GymConfig


def recipe() -> Recipe:
    """CartPole from its rendered pixels and its four numbers."""
    return Recipe(
        name="recurrent",
        about="a small recurrent state-space model on CartPole's pixels and numbers (2 CPU cores, 10 minutes)",
        family="recurrent",
        model=RecurrentConfig(),
        train=TrainConfig(minutes=8.0, batch=16, length=24, lr=6e-4, decay="linear"),
        env="CartPole-v1",
        world=GymConfig(size=(64, 64)),
        collect=CollectConfig(episodes=300, length=200, num=8),
    )
