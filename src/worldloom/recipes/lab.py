"""The textbook lab, rebuilt: its model, its data, its optimiser. The baseline of every figure.

    worldloom train lab --out runs/lab

Its episodes are the lab's samples, four frames long: too short to dream on. `python -m benchmarks.lab` trains it for as
long as the recipe `balls` and measures both on longer held-out episodes; docs/lab.md has the table.
"""

from __future__ import annotations

from worldloom.models.lab import LabConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.lab import SAMPLES, LabWorldConfig


def recipe() -> Recipe:
    """AdamW at 1e-4 with weight decay 0.01, batch 32, no warm-up, decay, clipping or averaging, as in the textbook.

    50 epochs of 10,000 samples are 15,625 steps: hours on two cores. Of the samples, 90 % train.
    """
    return Recipe(
        name="lab",
        about="the textbook's baseline: a patch transformer with DDPM, rebuilt exactly (hours; figures: docs/lab.md)",
        family="lab",
        model=LabConfig(),
        train=TrainConfig(
            steps=15_625,
            batch=32,
            lr=1e-4,
            betas=(0.9, 0.999),
            weight_decay=0.01,
            warmup=0,
            decay="constant",
            clip=None,
            ema=0.0,
            precision="float32",
            sample_every=0,
        ),
        env="lab",
        world=LabWorldConfig(),
        collect=CollectConfig(episodes=SAMPLES, length=4, num=16),
    )
