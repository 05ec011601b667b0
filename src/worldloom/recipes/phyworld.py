"""PhyWorld's three laws, each learnt alone: what a model that saw some speeds and sizes makes of others.

    worldloom train phyworld --world.scenario uniform --out runs/phyworld-uniform
    worldloom evaluate runs/phyworld-uniform --probes phyworld

Figures, hardware and seeds: docs/results/phyworld.md.
"""

from __future__ import annotations

from worldloom.models.diffusion import DiffusionConfig, FlowConfig
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig
from worldloom.worlds.phyworld import FRAMES, PROMPT, PhyWorldConfig


def recipe() -> Recipe:
    """The model of `balls`, on 3,000 clips of 32 frames; the paper's smallest setting has 30,000."""
    return Recipe(
        name="phyworld",
        about="uniform motion, collision or parabola, to be tested off their training range (2 CPU cores, 6 minutes)",
        family="diffusion",
        model=DiffusionConfig(history=6, prompt=PROMPT, targets=4, steps=1, flow=FlowConfig(pure=0.9)),
        train=TrainConfig(
            minutes=5.8, batch=12, lr=1e-3, warmup=50, decay="linear", ema=0.99, log_every=50, prompt=PROMPT
        ),
        env="phyworld",
        world=PhyWorldConfig(),
        collect=CollectConfig(episodes=3000, length=FRAMES, num=100),
    )
