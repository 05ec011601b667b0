"""The exact world behind a dataset, where it is one of ours: any start, any actions, what really follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worldloom.configs import from_json
from worldloom.contract import Segment, WorldloomError
from worldloom.evaluation.heldout import HeldOut
from worldloom.worlds.balls import Balls, BallsConfig
from worldloom.worlds.balls.world import spec_of
from worldloom.worlds.phyworld import PhyWorld, PhyWorldConfig

FRESH = 7_919_000_003
"""Added to the seed of fresh episodes: no dataset is collected with such a one."""
SIDE_BY_SIDE = 256


@dataclass(frozen=True)
class Played:
    """n true episodes of T frames, the start's frame first."""

    frames: np.ndarray
    """(n, T, C, H, W) uint8."""
    truth: dict[str, np.ndarray]
    """Exact state, name to (n, T, ...), as :class:`~worldloom.worlds.balls.Balls` gives it."""
    action: np.ndarray | None
    """(n, T, ...) the action that led to each frame, null for the first; None without actions."""


@dataclass(frozen=True)
class ExactWorld:
    """A simulator of balls with its configuration."""

    config: BallsConfig
    """Of the world whose dataset it is."""
    phyworld: PhyWorldConfig | None = None
    """Where its starts are drawn by one of PhyWorld's scenarios: which, and from which split."""

    def changed(self, **fields: Any) -> ExactWorld:
        """The same with other fields of its configuration: other gravity, other speeds. Its starts are drawn by them,
        and no longer by PhyWorld's scenario."""
        return ExactWorld(dataclasses.replace(self.config, **fields))

    @property
    def null(self) -> Any:
        """The null action of one world; None without actions."""
        control = spec_of(self.config).action
        if control is None:
            return None
        return control.n if control.kind == "discrete" else np.zeros(control.shape, np.float32)

    def play(self, start: Mapping[str, np.ndarray], action: np.ndarray | None, frames: int) -> Played:
        """What really follows: ``frames`` frames after the one that shows ``start``, which is the first of the result.

        start: ``position`` (n, K, 2), ``velocity`` (n, K, 2), ``radius`` (n, K) and, with a goal, ``goal`` (n, 2).
        action: (n, >= frames, ...), ``action[:, t]`` leads to frame t + 1 of the result; None for null actions.
        """
        n = len(start["position"])
        goal = start.get("goal")
        parts: list[list[dict[str, np.ndarray]]] = []
        for begin in range(0, n, SIDE_BY_SIDE):
            rows = slice(begin, min(begin + SIDE_BY_SIDE, n))
            world = Balls(dataclasses.replace(self.config, time_limit=None), rows.stop - rows.start)
            now = world.place(
                start["position"][rows],
                start["velocity"][rows],
                start["radius"][rows],
                None if goal is None else goal[rows],
            )
            seen = [now]
            for t in range(frames):
                if seen[-1].ended.any():  # a goal that was reached ends a world, and here it goes on
                    state = world.state
                    world.state = state | {"ended": np.zeros_like(state["ended"])}
                given = self._nulls(rows.stop - rows.start) if action is None else action[rows, t]
                seen.append(world.step(given))
            parts.append([{"camera": f.obs["camera"], **f.truth} for f in seen])
        names = parts[0][0]
        whole = {x: np.concatenate([np.stack([f[x] for f in part], 1) for part in parts]) for x in names}
        control = spec_of(self.config).action
        played = None
        if control is not None:
            rest = np.stack([self._nulls(n)] * frames, 1) if action is None else np.asarray(action)[:, :frames]
            played = np.concatenate([self._nulls(n)[:, None], rest], 1)
            played = played.astype(np.int64 if control.kind == "discrete" else np.float32)
        return Played(whole.pop("camera"), whole, played)

    def starts(self, count: int, seed: int) -> dict[str, np.ndarray]:
        """``count`` fresh starts, as the world draws them; no dataset holds them."""
        if self.phyworld is not None:
            world: Balls = PhyWorld(self.phyworld, count, FRESH + seed)
        else:
            world = Balls(self.config, count, FRESH + seed)
        truth = world.reset().truth
        return {name: truth[name] for name in ("position", "velocity", "radius", "goal") if name in truth}

    def actions(self, count: int, frames: int, seed: int) -> np.ndarray | None:
        """(count, frames, ...) uniform random actions, as ``random`` collects them; None without actions."""
        control = spec_of(self.config).action
        if control is None:
            return None
        draw = np.random.default_rng((FRESH, seed))
        if control.kind == "discrete":
            return draw.integers(0, control.n, (count, frames))
        return draw.uniform(-1, 1, (count, frames, *control.shape)).astype(np.float32)

    def fresh(self, count: int, prompt: int, horizon: int, seed: int, action: np.ndarray | None = None) -> HeldOut:
        """``count`` fresh episodes of ``prompt + horizon`` frames, each its own, with random actions or those given
        (count, prompt + horizon - 1, ...)."""
        frames = prompt + horizon - 1
        given = self.actions(count, frames, seed) if action is None else action
        return as_held(self.play(self.starts(count, seed), given, frames), prompt)

    def _nulls(self, count: int) -> np.ndarray:
        control = spec_of(self.config).action
        if control is None or control.kind == "discrete":
            return np.full(count, 0 if control is None else control.n)
        return np.zeros((count, *control.shape), np.float32)


def as_held(played: Played, prompt: int) -> HeldOut:
    """True episodes as starts: ``prompt`` frames given, the rest to be dreamed."""
    count, length = played.frames.shape[:2]
    first = torch.zeros(count, length, dtype=torch.bool)
    first[:, 0] = True
    control = {} if played.action is None else {"action": torch.from_numpy(played.action)}
    segment = Segment({"camera": torch.from_numpy(played.frames)}, control, first, torch.ones_like(first))
    later = {name: x[:, prompt:] for name, x in control.items()}
    return HeldOut(segment, played.truth, later, np.arange(count), prompt, ())


def find_exact(info: Mapping[str, Any]) -> ExactWorld | None:
    """The exact world that a dataset's ``info`` names; None where it is none of ours."""
    described = info.get("world")
    if not isinstance(described, Mapping) or described.get("env") not in ("balls", "phyworld"):
        return None
    try:
        if described["env"] == "phyworld":
            phyworld = from_json(PhyWorldConfig, described["config"], "the dataset's world")
            return ExactWorld(phyworld.balls, phyworld)
        return ExactWorld(from_json(BallsConfig, described["config"], "the dataset's world"))
    except (WorldloomError, KeyError):
        return None


__all__ = ["ExactWorld", "Played", "as_held", "find_exact"]
