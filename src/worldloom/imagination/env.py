"""A dream as a Gymnasium environment. Nothing is registered: make it, hand it over.

Importing this module imports Gymnasium; ``worldloom.imagination`` does so only when the class is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from worldloom.contract import ContractError, Segment, State, UnsupportedError, WorldloomError, WorldModel
from worldloom.imagination.rollout import absorb, check_segment, given_once
from worldloom.imagination.starts import load_starts
from worldloom.models.saved import load_model
from worldloom.nn.devices import place
from worldloom.nn.noise import uniform
from worldloom.shipped import resolve

Obs: TypeAlias = np.ndarray | dict[str, np.ndarray]
RewardFunction: TypeAlias = Callable[[Any, Any], Any]
Ends: TypeAlias = Literal["sample", "threshold", "never"]

_END_DRAW = 0x454E4453  # the place of the draw that ends a dream; models number their own places from small numbers


class Dreams:
    """What one environment and many have in common: a model, starts to dream from, and how frames look outside."""

    def __init__(
        self,
        model: WorldModel | str | Path,
        prompts: Segment | str | Path | None,
        max_steps: int,
        reward: RewardFunction | None,
        ends: Ends,
        device: str | torch.device | None,
        kind: type[WorldModel] | None = None,
    ) -> None:
        if ends not in ("sample", "threshold", "never"):
            raise ContractError(f"ends must be 'sample', 'threshold' or 'never', found {ends!r}.")
        if max_steps < 1:
            raise ContractError(f"max_steps must be at least 1, found {max_steps}.")
        if not isinstance(model, WorldModel):
            run = resolve(model)
            if prompts is None and run.is_dir():
                prompts = run
            model = load_model(run, kind=kind)
        if device is not None:
            model = place(model, device)
        if prompts is None:
            model.require("unprompted")
        elif not isinstance(prompts, Segment):
            prompts = load_starts(prompts)
        model.require("decode")
        spec = model.spec
        others = sorted(n for n, c in spec.given.items() if c.per == "frame" and n != "action")
        if others:
            raise UnsupportedError(
                f"An environment gives a model its action alone; this model also needs {others} at every frame. "
                "Dream with imagine() instead."
            )
        if spec.action is not None and spec.action.kind not in ("discrete", "continuous"):
            raise UnsupportedError(f"An action of kind {spec.action.kind!r} has no Gymnasium space here.")
        self.model, self.spec, self.max_steps, self.ends, self.reward = model.eval(), spec, max_steps, ends, reward
        self.prompts = None if prompts is None else check_segment(spec, prompts, "prompt").to(model.device)
        self.count = 1
        if self.prompts is not None:
            self.count = self.prompts.batch
            valid = self.prompts.valid
            if self.count < 1 or not bool(valid.any(1).all()):
                raise ContractError("Give at least one prompt, each with at least one valid frame.")
            self.last = valid.shape[1] - 1 - valid.flip(1).int().argmax(1)  # (starts,) newest valid frame of each
        self.observation_space = self._observation_space()
        self.action_space = self._action_space()

    def _observation_space(self) -> spaces.Space[Any]:
        parts: dict[str, spaces.Space[Any]] = {}
        for name, sensor in self.spec.shown.items():
            shape = (*sensor.shape[1:], sensor.shape[0]) if len(sensor.shape) == 3 else sensor.shape
            if sensor.kind == "image":
                parts[name] = spaces.Box(0, 255, shape, np.uint8)
            else:
                parts[name] = spaces.Box(-np.inf, np.inf, shape, np.float32)
        return next(iter(parts.values())) if len(parts) == 1 else spaces.Dict(parts)

    def _action_space(self) -> spaces.Space[Any]:
        control = self.spec.action
        if control is None:
            return spaces.Discrete(1)
        if control.kind == "discrete":
            return spaces.Discrete(control.n)
        low = np.array(control.low or [-np.inf] * control.shape[0], np.float32)
        high = np.array(control.high or [np.inf] * control.shape[0], np.float32)
        return spaces.Box(low, high, control.shape, np.float32)

    def action(self, action: Any, rows: int) -> Tensor | None:
        """Actions of ``rows`` dreams as a checked tensor on the CPU; None for plain video."""
        control = self.spec.action
        n = 1 if control is None else control.n
        found = np.asarray(action)
        if control is not None and control.kind == "continuous":
            if found.dtype.kind not in "fiu":
                raise ContractError(f"Actions of this dream are numbers {control.shape}, found {action!r}.")
            value = torch.from_numpy(found.astype(np.float32, copy=True))
            control.check(value, (rows,), "action")
            return value
        if found.dtype.kind not in "iu" or found.shape != (rows,) or found.min() < 0 or found.max() >= n:
            raise ContractError(f"Actions of this dream are whole numbers 0..{n - 1}, one a dream; found {action!r}.")
        return None if control is None else torch.from_numpy(found.astype(np.int64))

    @torch.inference_mode()
    def begin(self, starts: Sequence[int], seeds: Sequence[int]) -> tuple[State, list[Obs]]:
        """New dreams from the prompts ``starts``, with these seeds: their states, and what is seen at first.

        That is the last frame of the prompt as it was, or without prompts the first dreamed frame.
        """
        model, prompts = self.model, self.prompts
        if prompts is None:
            state = model.start(len(seeds), seeds)
            control = None if self.spec.action is None else self.spec.action.null(len(seeds), device=model.device)
            state = model.step(state, control, donate=True)
            return state, self.show(model.decode(state))
        rows = prompts.rows(list(starts))
        state = model.start(len(seeds), seeds, given_once(self.spec, rows.control))
        state = absorb(model, state, rows, donate=True)
        at = self.last[list(starts)]
        own = torch.arange(len(seeds), device=at.device)
        return state, self.show({name: x[own, at] for name, x in rows.obs.items()})

    @torch.inference_mode()
    def advance(
        self, state: State, action: Any, checked: Tensor | None
    ) -> tuple[State, list[Obs], np.ndarray, np.ndarray]:
        """One frame of every dream: the states (the given ones are used up), observations, float64 rewards and
        true ends."""
        model, able = self.model, self.model.capabilities
        state = model.step(state, None if checked is None else checked.to(model.device), donate=True)
        obs = self.show(model.decode(state))
        rewards = np.zeros(state.batch)
        if self.reward is not None:
            rewards[:] = [float(self.reward(o, a)) for o, a in zip(obs, action, strict=True)]
        elif "reward" in able:
            rewards[:] = model.reward(state).float().cpu().numpy()
        ended = np.zeros(state.batch, dtype=bool)
        if self.ends != "never" and "terminal" in able:
            chance = model.terminal(state)
            bar = uniform(state.key, state.frame, _END_DRAW) if self.ends == "sample" else 0.5
            ended[:] = (chance > bar).cpu().numpy()
        return state, obs, rewards, ended

    def show(self, obs: dict[str, Tensor]) -> list[Obs]:
        """Rows of sensors as arrays of the observation space, which share no memory with the model's state."""

        def arrays(x: Tensor) -> list[np.ndarray]:
            x = x.movedim(1, -1) if x.ndim == 4 else x
            return [np.array(row, order="C") for row in x.cpu().numpy()]

        parts = {name: arrays(obs[name]) for name in self.spec.shown}
        if len(parts) == 1:
            return list(next(iter(parts.values())))
        return [{name: rows[i] for name, rows in parts.items()} for i in range(len(next(iter(parts.values()))))]

    def picture(self, obs: Obs) -> np.ndarray:
        """The first image of an observation as (H, W, 3) uint8."""
        if not self.spec.images:
            raise UnsupportedError("This world shows no image, so there is nothing to render.")
        image = obs[next(iter(self.spec.images))] if isinstance(obs, dict) else obs
        return np.array(image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1))

    def start_index(self, start: Any) -> int:
        """A user's choice of prompt, checked."""
        if not isinstance(start, (int, np.integer)) or not 0 <= int(start) < self.count:
            raise ContractError(f"There are {self.count} starts, numbered from 0; found start={start!r}.")
        return int(start)

    def draw(self, rng: np.random.Generator, start: Any = None) -> tuple[int, int]:
        """A prompt and a seed for one dream. Both are always drawn, so that a chosen start moves nothing else."""
        drawn, seed = int(rng.integers(self.count)), int(rng.integers(1 << 62))
        return (drawn if start is None else self.start_index(start)), seed


class DreamEnv(gymnasium.Env[Any, Any]):
    """One dream as a Gymnasium environment.

    model: a world model, or the path of a run or model file.
    prompts: the starts: a segment (N, P, ...), a starts file, or a run's folder. May be left out where ``model`` is a
        run's folder, which has its own, and for models that can dream unprompted.
    max_steps: a dream is truncated after so many steps.
    reward: ``reward(obs, action) -> float`` for arriving at ``obs``; by default the model's reward head, and zero
        where it has none.
    ends: how the terminal head's probability p ends a dream: ``sample`` with chance p (a draw of the dream's seed),
        ``threshold`` where p > 0.5, or ``never``.
    seed: for the first ``reset`` that is given none. device: where to put the model; by default it stays.
    kind: the class of the model in ``model`` where it is your own, of no registered family.

    Observations: one sensor as a Box, several as a Dict of them. Images and range images are channels last,
    (H, W, C), as Gymnasium's tools expect. ``reset`` shows the last frame of the prompt. Actions: Discrete(n) without
    the null choice, or a Box; plain video has Discrete(1), whose only action means "go on". Reset with
    ``options={"start": i}`` begins from prompt i; ``info["start"]`` tells which it was. The same seed and actions give
    the same dream, bit for bit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        model: WorldModel | str | Path,
        prompts: Segment | str | Path | None = None,
        *,
        max_steps: int = 1000,
        reward: RewardFunction | None = None,
        ends: Ends = "sample",
        seed: int | None = None,
        render_mode: str | None = "rgb_array",
        device: str | torch.device | None = None,
        kind: type[WorldModel] | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ContractError(f"render_mode must be 'rgb_array' or None, found {render_mode!r}.")
        self.dreams = dreams = Dreams(model, prompts, max_steps, reward, ends, device, kind)
        self.observation_space, self.action_space = dreams.observation_space, dreams.action_space
        self.metadata = {**type(self).metadata, "render_fps": dreams.spec.fps}
        self.render_mode = render_mode
        self._seed = seed
        self._state: State | None = None
        self._obs: Obs | None = None
        self._steps, self._over = 0, False

        # A function shares the model with its copies, where deep-copied keyword arguments would double it.
        def make(**changes: Any) -> gymnasium.Env[Any, Any]:
            same: dict[str, Any] = {"max_steps": max_steps, "reward": reward, "ends": ends, "seed": seed}
            return DreamEnv(dreams.model, dreams.prompts, **{**same, "render_mode": render_mode, **changes})

        self.spec = EnvSpec("worldloom/Dream-v0", entry_point=make)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new dream; see the class for ``options``."""
        seed, self._seed = (self._seed if seed is None else seed), None
        super().reset(seed=seed)
        start, dream_seed = self.dreams.draw(self.np_random, (options or {}).get("start"))
        self._state, (obs,) = self.dreams.begin([start], [dream_seed])
        self._obs, self._steps, self._over = obs, 0, False
        return _copy(obs), {"start": start}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Dream one frame."""
        if self._state is None or self._over:
            raise WorldloomError("This dream has ended: call reset()." if self._over else "Call reset() before step().")
        batch = np.asarray(action)[None]
        checked = self.dreams.action(batch, 1)
        # The state is handed over and used up: after an error within, the dream can't go on.
        state, self._state = self._state, None
        self._state, (obs,), rewards, ended = self.dreams.advance(state, [action], checked)
        self._obs = obs
        self._steps += 1
        truncated = self._steps >= self.dreams.max_steps
        self._over = bool(ended[0]) or truncated
        return _copy(obs), float(rewards[0]), bool(ended[0]), truncated, {}

    def render(self) -> Any:
        """The newest frame's first image, (H, W, 3) uint8."""
        if self.render_mode is None:
            return None
        if self._obs is None:
            raise WorldloomError("Call reset() before render().")
        return self.dreams.picture(self._obs)


def _copy(obs: Obs) -> Obs:
    return {name: x.copy() for name, x in obs.items()} if isinstance(obs, dict) else obs.copy()
