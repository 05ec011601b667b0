"""Dreamers that simulate: the truth itself, the truth from what the prompt shows, and worlds under a wrong law."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Spec, WorldloomError
from worldloom.evaluation.battery.fitting import fit_states
from worldloom.evaluation.battery.laws import Draws, Law, simulate
from worldloom.evaluation.dreamers import Mode
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.heldout import HeldOut
from worldloom.worlds.balls.world import spec_of

STATE = ("position", "velocity", "radius", "goal")


class BatteryError(WorldloomError):
    """A dreamer of the battery can't dream what it is asked for."""


@dataclass(frozen=True)
class Stretches:
    """What is dreamed in one go: one stretch a start when free, one every few frames when led by the truth."""

    start: dict[str, np.ndarray]
    """(m, ...) the true state before each stretch."""
    action: np.ndarray | None
    """(m, length, ...)."""
    first: np.ndarray
    """(m,) number of its first frame within the dream."""
    row: np.ndarray
    """(m,) the start that it belongs to."""
    length: int
    """Frames of a stretch."""

    def join(self, frames: np.ndarray, count: int) -> Tensor:
        """(m, length, ...) as (B, count, ...)."""
        rows = len(np.unique(self.row))
        return torch.from_numpy(frames.reshape(rows, -1, *frames.shape[2:])[:, :count].copy())


def stretches(held: HeldOut, control: Mapping[str, Tensor], frames: int, mode: Mode, every: int) -> Stretches:
    """Part a dream: ``free`` in one stretch from the prompt's last frame, ``teacher`` in stretches of ``every`` frames,
    each from the true frame before it."""
    if "position" not in held.truth or "velocity" not in held.truth:
        raise BatteryError(
            f"A simulator starts from true positions and velocities; these starts hold {sorted(held.truth)}."
        )
    length = frames if mode == "free" else min(every, frames)
    if mode == "teacher" and frames > held.horizon:
        raise BatteryError(f"The truth leads {held.horizon} frames here, asked for {frames}.")
    count, rows = -(-frames // length), len(held.episodes)
    first = np.arange(count) * length
    at = held.prompt - 1 + first
    truth = {n: np.asarray(x, np.float64) for n, x in held.truth.items() if n in STATE}
    start = {name: x[:, at].reshape(rows * count, *x.shape[2:]) for name, x in truth.items()}
    action = None
    if "action" in control:
        given = control["action"].numpy()
        index = np.minimum(first[:, None] + np.arange(length), given.shape[1] - 1)
        action = given[:, index].reshape(rows * count, length, *given.shape[2:])
    return Stretches(start, action, np.tile(first, rows), np.repeat(np.arange(rows), count), length)


class Truth:
    """The true simulator, started from the true state: what can't be done better."""

    def __init__(self, world: ExactWorld) -> None:
        self.world, self.spec = world, spec_of(world.config)

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`~worldloom.evaluation.dreamers.Dreamer`."""
        parts = stretches(held, control, frames, mode, every)
        radius = parts.start["radius"]  # starts of other sizes or numbers of balls follow the same laws
        low, high = (
            min(self.world.config.radii[0], float(radius.min())),
            max(self.world.config.radii[1], float(radius.max())),
        )
        world = self.world if radius.shape[1] == self.world.config.balls else self.world.changed(balls=radius.shape[1])
        world = world if high <= world.config.radii[1] else world.changed(radius=(max(low, 0.5), high))
        played = world.play(parts.start, parts.action if self.spec.action is not None else None, parts.length)
        return _shown(self.spec, sensors, parts.join(played.frames[:, 1:], frames))


Actions = Callable[[np.ndarray, ExactWorld, np.ndarray], np.ndarray]
"""(actions (B, T, ...), the world, the action before the first of them (B, ...)) to the actions that count instead."""


@dataclass
class Simulated:
    """A world under a law of its own, started from the true state."""

    world: ExactWorld
    """The true one."""
    law: Law = field(default_factory=Law)
    """What holds instead."""
    actions: Actions | None = None
    """What becomes of the actions."""
    tracked: bool = False
    """Whether it starts from what the tracker sees in as many true frames as the prompt has, not from the truth."""
    spec: Spec = field(init=False)
    """What it shows and is given."""

    def __post_init__(self) -> None:
        self.spec = spec_of(self.world.config)

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`~worldloom.evaluation.dreamers.Dreamer`."""
        given = dict(control) if self.spec.action is not None else {}
        if self.actions is not None and "action" in given:
            before = held.segment.control["action"][:, held.prompt - 1].numpy()
            given["action"] = torch.from_numpy(self.actions(given["action"].numpy(), self.world, before))
        parts = stretches(held, given, frames, mode, every)
        start = parts.start | fit_states(self.world, held, parts.first, parts.row) if self.tracked else parts.start
        draws = Draws.of(self.law, seed, parts.row, start["radius"].shape[1])
        made = simulate(self.world, self.law, start, parts.action, parts.length, parts.first, draws)
        return _shown(self.spec, sensors, parts.join(made, frames))


def _shown(spec: Spec, sensors: Sequence[str], frames: Tensor) -> dict[str, Tensor]:
    unknown = sorted(set(sensors) - {"camera"})
    if unknown:
        raise BatteryError(f"These worlds show 'camera', asked for {unknown}.")
    return {"camera": frames}


def tracked_truth(world: ExactWorld) -> Simulated:
    """The true law from what the tracker sees in the prompt: the ceiling for whoever sees nothing but frames."""
    return Simulated(world, tracked=True)


__all__ = ["Actions", "BatteryError", "Simulated", "Stretches", "Truth", "stretches", "tracked_truth"]
