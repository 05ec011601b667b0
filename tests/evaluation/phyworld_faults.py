"""PhyWorld dreamed by the exact world, or by one with a known fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes import Dreams, gather
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.world import spec_of
from worldloom.worlds.phyworld import BANDS, FRAMES, PROMPT, STEP, UNIT, PhyWorldConfig


class Faulty:
    """Plays on from the given frames' true state, with a fault.

    ``none``; ``faster`` (×1.2); ``snap`` (to the nearest trained speed); ``ghost`` (balls pass through each other);
    ``stick`` (they go on together); ``weightless``; ``vanish`` (ten frames in); ``grow`` (by 2 % a frame).
    """

    def __init__(self, world: ExactWorld, fault: str = "none") -> None:
        self.world, self.fault, self.spec = world, fault, spec_of(world.config)

    def dream(self, held, control, frames, *, seed, sensors, mode="free", every=1, say=None):
        at = held.prompt - 1
        x, v, r = (held.truth[name][:, at].copy() for name in ("position", "velocity", "radius"))
        world = self.world
        if self.fault == "faster":
            v *= 1.2
        if self.fault == "snap":
            bands = np.array(BANDS).ravel() * UNIT * STEP
            v[..., 0] = bands[np.abs(v[..., :1] - bands).argmin(-1)]
        if self.fault == "weightless":
            world = world.changed(gravity=(0.0, 0.0))
        played = world.play({"position": x, "velocity": v, "radius": r}, None, frames)
        position, shown = played.truth["position"][:, 1:].copy(), played.frames[:, 1:]
        if self.fault == "ghost":
            steps = np.arange(1, frames + 1)[None, :, None, None]
            position = x[:, None] + steps * v[:, None]
        if self.fault == "stick":
            mass = np.square(r)[..., None] / np.square(r).sum(1)[:, None, None]
            together = (mass * v).sum(1, keepdims=True)
            for row, hit in enumerate(np.cumsum(played.truth["ball_hits"][:, 1:].sum((2, 3)), 1) > 0):
                met = int(hit.argmax())
                position[row, met:] = position[row, met] + np.arange(frames - met)[:, None, None] * together[row]
        radius = np.repeat(r[:, None], frames, 1)
        if self.fault == "vanish":
            position[:, 10:, 0] = -100.0
        if self.fault == "grow":
            radius = radius * 1.02 ** np.arange(1, frames + 1)[None, :, None]
        if self.fault in ("ghost", "stick", "vanish", "grow"):
            box = np.array([world.config.width, world.config.height])
            position = np.where(position < 0, position, np.clip(position, radius[..., None], box - radius[..., None]))
            draw = Renderer(world.config).draw
            shown = np.stack([draw(position[:, t], radius[:, t]) for t in range(frames)], 1)
        return {"camera": torch.from_numpy(shown)}


def dreams_of(scenario: str, split: str = "in", fault: str = "none", seed: int = 0, starts: int = 4) -> Dreams:
    """What the probe is given, by a run trained on that split, without a dataset."""
    config = PhyWorldConfig(scenario, split)  # type: ignore[arg-type]
    world = ExactWorld(config.balls, config)
    held = world.fresh(starts, PROMPT, FRAMES - PROMPT, seed)
    dreamer = Faulty(world, fault)
    first = dreamer.dream(held, held.control, held.horizon, seed=seed, sensors=["camera"])
    return dataclasses.replace(gather(dreamer, held, first, seed), world=world)


def values(figures: Mapping[str, object]) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.items()}  # type: ignore[attr-defined]
