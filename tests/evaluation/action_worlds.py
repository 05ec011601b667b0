"""Dreamers that are the exact world of balls, or that world with a known fault in how it takes its actions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes.dreams import Dreams, gather
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.world import spec_of

Fault = Callable[[np.ndarray, "World"], np.ndarray]


class World:
    """Plays the exact world from the true state of the prompt's last frame, under actions that ``fault`` changes."""

    def __init__(self, world: ExactWorld, fault: Fault | None = None) -> None:
        self.world, self.fault, self.spec = world, fault, spec_of(world.config)
        self.calls: list[tuple[int, int]] = []

    def dream(
        self,
        held,
        control: Mapping[str, torch.Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode="free",
        every: int = 1,
        say=None,
    ):
        start = {name: held.truth[name][:, held.prompt - 1] for name in ("position", "velocity", "radius")}
        action = control["action"][:, :frames].numpy()
        self.calls.append(action.shape[:2])
        given = action if self.fault is None else self.fault(action, self)
        return {"camera": torch.from_numpy(self.world.play(start, given, frames).frames[:, 1:])}


def ignored(action: np.ndarray, world: World) -> np.ndarray:
    return np.zeros_like(action)  # stay, or no push


def delayed(action: np.ndarray, world: World) -> np.ndarray:
    return np.concatenate([np.zeros_like(action[:, :1]), action[:, :-1]], 1)


def swapped(action: np.ndarray, world: World) -> np.ndarray:
    """Left for right; along x, where pushes are continuous."""
    if action.dtype.kind == "f":
        return action * np.array([-1, 1] * (action.shape[-1] // 2), action.dtype)
    return np.array([0, 2, 1, 3, 4, 5])[action]


def timid(action: np.ndarray, world: World) -> np.ndarray:
    return action / 2


CONFIG = BallsConfig(action="discrete", radius=5.0, speed=1.0, push=0.5)


def dreams_of(fault: Fault | None = None, config: BallsConfig = CONFIG, starts=24, horizon=20, prompt=4, seed=0):
    """The report's dreams by such a world, from fresh starts."""
    world = ExactWorld(config)
    held = world.fresh(starts, prompt, horizon, seed)
    dreamer = World(world, fault)
    dreamed = dreamer.dream(held, held.control, horizon, seed=seed, sensors=["camera"])
    return dataclasses.replace(gather(dreamer, held, dreamed, seed), world=world)


__all__ = ["CONFIG", "Dreams", "World", "delayed", "dreams_of", "ignored", "swapped", "timid"]
