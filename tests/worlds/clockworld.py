"""Environments whose observations tell the time and the action, so that an invented step would show."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class ClockEnv(gym.Env[np.ndarray, Any]):
    """Shows (episode, time, last action, luck); ends truly after ``length`` steps or by the clock after ``limit``."""

    metadata = {"render_modes": [], "render_fps": 20, "action_names": ("stay", "left", "right")}  # noqa: RUF012

    def __init__(self, length: int = 5, limit: int = 0):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gym.spaces.Discrete(3)
        self.length, self.limit, self.episode, self.closed = length, limit, -1, False

    def _show(self, action: float) -> np.ndarray:
        return np.array([self.episode, self.time, action, self.luck])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.episode, self.time, self.luck = self.episode + 1, 0, self.np_random.random()
        self.over = False
        return self._show(-1), {}

    def step(self, action: Any) -> Any:
        if self.over:
            raise RuntimeError("stepped after the end")
        self.time += 1
        terminal = self.time >= self.length
        truncated = self.time == self.limit and not terminal
        self.over = terminal or truncated
        return self._show(float(action)), float(self.time), terminal, truncated, {}

    def close(self) -> None:
        self.closed = True


class PictureEnv(gym.Env[Any, Any]):
    """A nested observation: a picture, one-hot choices, numbers, and words that no model can see."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        spaces = gym.spaces
        self.observation_space = spaces.Dict(
            {
                "eye": spaces.Box(0, 255, (3, 32, 48), np.uint8),
                "body": spaces.Dict({"arm": spaces.Box(-1, 1, (2, 2)), "gear": spaces.Discrete(3, start=1)}),
                "pair": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 1, (1,))]),
                "words": spaces.Text(8),
            }
        )
        self.action_space = spaces.Box(np.array([[-1.0, 0.0]]), np.array([[1.0, 2.0]]), dtype=np.float64)

    def _show(self, action: Any) -> Any:
        eye = np.zeros((3, 32, 48), np.uint8)
        eye[0, :, :24] = 200
        body = {"arm": np.array([[1, 2], [3, 4]], np.float32), "gear": np.int64(3)}
        return {"eye": eye, "body": body, "pair": (np.array([0, 1], np.int8), np.zeros(1)), "words": "hello"}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._show(None), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return self._show(action), float(action[0, 1]), False, False, {}


class FlickerEnv(PictureEnv):
    """A picture that is lit at every second step only; it writes all frames into one buffer."""

    def __init__(self, action_space: gym.Space[Any] | None = None) -> None:
        self.observation_space = gym.spaces.Box(0, 255, (20, 20), np.uint8)
        self.action_space = action_space or gym.spaces.MultiDiscrete([2, 3])
        self.buffer, self.time = np.zeros((20, 20), np.uint8), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        self.buffer[:] = 100 * (self.time % 2)
        return self.buffer, float(np.ravel(action) @ [10, 1]), False, False, {}


class BrokenEnv(ClockEnv):
    """Fails at its second step."""

    def step(self, action: Any) -> Any:
        if self.time == 1:
            raise ZeroDivisionError("a bug of the user's")
        return super().step(action)


class CallableEnv(ClockEnv):
    """An environment that could be taken for what makes one."""

    def __call__(self) -> CallableEnv:
        return self
