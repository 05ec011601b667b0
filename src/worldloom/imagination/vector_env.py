"""Many dreams side by side as a Gymnasium vector environment, all rows in one batch of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from worldloom.contract import ContractError, Segment, State, WorldloomError, WorldModel
from worldloom.imagination.env import Dreams, Ends, Obs, RewardFunction


class DreamVectorEnv(VectorEnv[Any, Any, Any]):
    """``num_envs`` dreams, stepped together. The arguments are those of :class:`~worldloom.imagination.DreamEnv`.

    Autoreset is SAME_STEP (``metadata["autoreset_mode"]``): a dream that ends returns the first frame of its next
    dream, and its true last frame in ``info["final_obs"][row]``, with ``info["_final_obs"]`` marking the rows and
    ``info["final_info"]`` their info. No transition is invented. Seeds follow Gymnasium: ``reset(seed=s)`` makes row i
    dream what ``DreamEnv`` would after ``reset(seed=s + i)``, over all its later resets too; a list gives each row its
    own. Options: ``start`` (one for all or one a row) and ``reset_mask`` (num_envs,) bool, for some rows alone.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        model: WorldModel | str | Path,
        prompts: Segment | str | Path | None = None,
        *,
        num_envs: int = 1,
        max_steps: int = 1000,
        reward: RewardFunction | None = None,
        ends: Ends = "sample",
        seed: int | None = None,
        render_mode: str | None = "rgb_array",
        device: str | torch.device | None = None,
        kind: type[WorldModel] | None = None,
    ) -> None:
        if num_envs < 1:
            raise ContractError(f"num_envs must be at least 1, found {num_envs}.")
        if render_mode not in (None, "rgb_array"):
            raise ContractError(f"render_mode must be 'rgb_array' or None, found {render_mode!r}.")
        self.dreams = Dreams(model, prompts, max_steps, reward, ends, device, kind)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self.dreams.observation_space
        self.single_action_space = self.dreams.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {**type(self).metadata, "render_fps": self.dreams.spec.fps}
        self._seed = seed
        self._state: State | None = None
        self._rngs: list[np.random.Generator] = []
        self._obs: list[Obs] = []
        self._starts = np.zeros(num_envs, dtype=np.int64)
        self._steps = np.zeros(num_envs, dtype=np.int64)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new dreams in all rows, or in those of ``options["reset_mask"]``."""
        n, options = self.num_envs, dict(options or {})
        mask = np.asarray(options.get("reset_mask", np.ones(n, dtype=bool)))
        if mask.shape != (n,) or mask.dtype != np.bool_ or not mask.any():
            raise ContractError(f"reset_mask must be ({n},) bool with at least one true entry, found {mask!r}.")
        if self._state is None and not mask.all():
            raise WorldloomError("Reset all rows once before resetting some.")
        seed, self._seed = (self._seed if seed is None else seed), None
        seeds = [None if seed is None else seed + i for i in range(n)] if not isinstance(seed, Sequence) else list(seed)
        if len(seeds) != n:
            raise ContractError(f"Give one seed, or one for each of {n} dreams; found {len(seeds)}.")
        starts = options.get("start")
        chosen = [starts] * n if starts is None or np.ndim(starts) == 0 else list(starts)
        if len(chosen) != n:
            raise ContractError(f"Give one start, or one for each of {n} dreams; found {len(chosen)}.")
        if not self._rngs:
            self._rngs = [seeding.np_random(None)[0] for _ in range(n)]
        rows = [int(i) for i in np.flatnonzero(mask)]
        for i in rows:
            if seeds[i] is not None:
                self._rngs[i] = seeding.np_random(seeds[i])[0]
        self._begin(rows, chosen)
        return self._batch(), {"start": np.where(mask, self._starts, 0), "_start": mask.copy()}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one frame in every row, and begin anew where a dream ended."""
        if self._state is None:
            raise WorldloomError("Call reset() before step().")
        checked = self.dreams.action(actions, self.num_envs)
        # The state is handed over and used up: after an error within, the dreams can't go on.
        state, self._state = self._state, None
        self._state, self._obs, rewards, ended = self.dreams.advance(state, list(np.asarray(actions)), checked)
        self._steps += 1
        truncated = self._steps >= self.dreams.max_steps
        info: dict[str, Any] = {}
        done = ended | truncated
        if done.any():
            rows = [int(i) for i in np.flatnonzero(done)]
            for i in rows:
                info = self._add_info(info, {"final_obs": self._obs[i], "final_info": {}}, i)
            self._begin(rows, [None] * self.num_envs)
            info |= {"start": np.where(done, self._starts, 0), "_start": done.copy()}
        return self._batch(), rewards, ended, truncated, info

    def _begin(self, rows: list[int], chosen: list[Any]) -> None:
        """New dreams in some rows, in one batch."""
        drawn = [self.dreams.draw(self._rngs[i], chosen[i]) for i in rows]
        fresh, obs = self.dreams.begin([d[0] for d in drawn], [d[1] for d in drawn])
        if self._state is None or len(rows) == self.num_envs:
            self._state, self._obs = fresh, list(obs)
        else:
            with torch.inference_mode():
                at = torch.tensor(rows, device=fresh.device)
                old = self._state.tensors
                self._state = State({name: x.index_copy(0, at, fresh[name]) for name, x in old.items()})
            for i, new in zip(rows, obs, strict=True):
                self._obs[i] = new
        self._starts[rows] = [d[0] for d in drawn]
        self._steps[rows] = 0

    def _batch(self) -> Any:
        """The newest observations, stacked into fresh memory."""
        out: Any = create_empty_array(self.single_observation_space, self.num_envs, np.empty)
        return concatenate(self.single_observation_space, self._obs, out)

    def render(self) -> tuple[Any, ...] | None:
        """The newest frame's first image of every row, (H, W, 3) uint8 each."""
        if self.render_mode is None:
            return None
        if not self._obs:
            raise WorldloomError("Call reset() before render().")
        return tuple(self.dreams.picture(obs) for obs in self._obs)
