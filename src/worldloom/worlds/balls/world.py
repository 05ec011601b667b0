"""The world of balls: N boxes side by side, pushed between frames, with the exact state beside every frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.worlds.balls.config import PUSHES, BallsConfig, BallsError
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.starts import deepest_overlap, draw_start
from worldloom.worlds.base import Frames

DIRECTIONS = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]], float)
"""Direction of each of :data:`PUSHES`, and of the null action after them."""
SLACK = 1e-3
"""Overlap in px that :meth:`Balls.place` forgives, as stored positions are rounded to float32."""


class Balls:
    """A :class:`~worldloom.worlds.base.World` of elastic discs in a box, exact to rounding.

    It shows ``camera`` (C, H, W) and, unless ``config.action`` is ``none``, is given ``action``. Truth with each frame:
    ``position`` (N, K, 2) and ``velocity`` (N, K, 2) float64 as (x, y) in px and px/frame, ``radius`` (N, K),
    ``wall_hits`` (N, K, 2) and ``ball_hits`` (N, K, K) int32, the impacts since the frame before (by axis, by pair),
    and with a goal ``goal`` (N, 2).
    """

    def __init__(self, config: BallsConfig | None = None, num: int = 1, seed: int = 0) -> None:
        if num < 1:
            raise BallsError(f"A world needs num >= 1, found {num}.")
        self.config = config = config or BallsConfig()
        self.num = num
        self.spec = spec_of(config)
        self._renderer = Renderer(config)
        self._box = (float(config.width), float(config.height))
        self._random = [np.random.default_rng((seed, i)) for i in range(num)]
        k = config.balls
        self._x = np.zeros((num, k, 2))
        self._v = np.zeros((num, k, 2))
        self._r = np.ones((num, k))
        self._goal = np.zeros((num, 2))
        self._time = np.zeros(num, np.int64)
        self._ended = np.ones(num, bool)
        self._last: tuple[Any, ...] | None = None

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Begin new episodes in all worlds, or in those marked by ``mask`` (N,) bool.

        With ``seed`` world i starts as if seeded by (seed, i); without, each goes on with its own draws.
        """
        mask = np.ones(self.num, bool) if mask is None else np.asarray(mask, bool)
        if mask.shape != (self.num,):
            raise BallsError(f"The mask of a reset has shape ({self.num},), found {mask.shape}.")
        if self._last is None and not mask.all():
            raise BallsError("The first reset begins all worlds: call reset() without a mask.")
        for i in np.flatnonzero(mask).tolist():
            if seed is not None:
                self._random[i] = np.random.default_rng((seed, i))
            self._x[i], self._v[i], self._r[i], self._goal[i] = self._start(self._random[i])
        self._time[mask] = 0
        self._ended[mask] = False
        return self._begin(mask)

    def place(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        radius: np.ndarray | None = None,
        goal: np.ndarray | None = None,
    ) -> Frames:
        """Begin new episodes from given states: (N, K, 2) px, (N, K, 2) px/frame, (N, K) px, (N, 2) px.

        Without ``radius`` or ``goal`` those of now stay (for the radius: the configured one, if all have the same).
        Raises :class:`BallsError` where discs overlap or stick out of the box.
        """
        low, high = self.config.radii
        if radius is None:
            fresh = self._last is None or low == high
            if fresh and low != high:
                raise BallsError("The radius of these balls is drawn: give place() the radius, or reset() first.")
            radius = np.full_like(self._r, low) if fresh else self._r
        goal = self._goal if goal is None else goal
        shapes = {"position": self._x.shape, "velocity": self._v.shape, "radius": self._r.shape, "goal": (self.num, 2)}
        given = {"position": position, "velocity": velocity, "radius": radius, "goal": goal}
        value = {name: np.array(x, np.float64) for name, x in given.items()}
        for name, x in value.items():
            if x.shape != shapes[name]:
                raise BallsError(f"place() needs {name} of shape {shapes[name]}, found {x.shape}.")
            if not np.isfinite(x).all():
                raise BallsError(f"place() found NaN or infinity in {name}.")
        if (value["radius"] <= 0).any() or (value["radius"] > high + SLACK).any():
            raise BallsError(f"place() needs radii above 0 and up to the configured {high}.")
        edge = value["radius"][:, :, None]
        inside = np.clip(value["position"], edge, np.array(self._box) - edge)
        outside = np.abs(inside - value["position"]).max()
        if outside > SLACK:
            raise BallsError(f"place() found a disc {outside:.3g} px outside the box {self._box}.")
        overlap = deepest_overlap(inside, value["radius"])
        if overlap > SLACK:
            raise BallsError(f"place() found discs that overlap by {overlap:.3g} px.")
        self._x, self._v, self._r, self._goal = inside, value["velocity"], value["radius"], value["goal"]
        self._time = np.zeros(self.num, np.int64)
        self._ended = np.zeros(self.num, bool)
        return self._begin(np.ones(self.num, bool))

    @property
    def state(self) -> dict[str, np.ndarray]:
        """A copy of all that moves: set it again to go on from there. (The draws of future resets are not in it.)"""
        names = {"position": self._x, "velocity": self._v, "radius": self._r, "goal": self._goal}
        return {name: x.copy() for name, x in {**names, "time": self._time, "ended": self._ended}.items()}

    @state.setter
    def state(self, state: dict[str, np.ndarray]) -> None:
        self.place(state["position"], state["velocity"], state["radius"], state["goal"])
        self._time = np.array(state["time"], np.int64)
        self._ended = np.array(state["ended"], bool)

    def step(self, action: np.ndarray | None = None) -> Frames:
        """Push, move on by one frame and look. Without actions give None (or zeros)."""
        if self._last is None:
            raise BallsError("Call reset() before step().")
        if self._ended.any():
            which = np.flatnonzero(self._ended).tolist()
            raise BallsError(f"Worlds {which} have ended: reset(mask=frames.ended) them before the next step.")
        self._v = self._v + self._kick(action)
        self._x, self._v, walls, pairs = advance(self._x, self._v, self._r, self._box, self.config.gravity)
        self._time += 1
        config = self.config
        reward = None
        terminal = np.zeros(self.num, bool)
        if config.task == "goal":
            away = self._x[:, config.pushed] - self._goal
            terminal = np.hypot(away[:, 0], away[:, 1]) <= config.goal_radius
            reward = terminal.astype(np.float32)
        late = self._time >= config.time_limit if config.time_limit is not None else np.zeros(self.num, bool)
        truncated = late & ~terminal
        self._ended = terminal | truncated
        return self._look(terminal, truncated, reward, walls, pairs)

    def close(self) -> None:
        """Nothing to free."""

    def _start(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where one world begins: see :func:`draw_start`."""
        return draw_start(self.config, random)

    def _kick(self, action: np.ndarray | None) -> np.ndarray:
        """(N, K, 2) change of velocity by an action."""
        config, control = self.config, self.spec.action
        kick = np.zeros_like(self._v)
        if control is None:
            if action is not None and np.any(action):
                raise BallsError("These balls take no actions: give step() None, or configure action='discrete'.")
            return kick
        value = np.asarray(action)
        shape = (self.num, *control.shape)
        if action is None or value.shape != shape:
            found = "none" if action is None else f"shape {value.shape}"
            raise BallsError(f"These balls need an action of shape {shape} at each step, found {found}.")
        if control.kind == "discrete":
            if value.dtype.kind not in "iu" or value.min() < 0 or value.max() > control.n:
                raise BallsError(
                    f"A discrete action is an integer of 0..{control.n - 1} {PUSHES} ({control.n} is 'none'), "
                    f"found {value.dtype} {value.tolist()}."
                )
            kick[:, config.pushed] = DIRECTIONS[value]
        else:
            value = value.astype(np.float64)
            if not (np.abs(value) <= 1 + 1e-4).all():
                raise BallsError(f"A continuous action lies in [-1, 1], found {value.min():.4g} to {value.max():.4g}.")
            if config.action == "continuous":
                kick[:, config.pushed] = value
            else:
                kick = value.reshape(kick.shape)
        return config.push * kick

    def _begin(self, mask: np.ndarray) -> Frames:
        """The first frame of the worlds in ``mask``; the others repeat their last."""
        n, k = self._r.shape
        reward = np.zeros(n, np.float32) if self.config.task == "goal" else None
        fresh = (np.zeros(n, bool), np.zeros(n, bool), reward, np.zeros((n, k, 2), int), np.zeros((n, k, k), int))
        # The frames of the others need not be kept: the same state draws the same picture.
        return self._look(*(_pick(mask, new, old) for new, old in zip(fresh, self._last or fresh, strict=True)))

    def _look(
        self,
        terminal: np.ndarray,
        truncated: np.ndarray,
        reward: np.ndarray | None,
        walls: np.ndarray,
        pairs: np.ndarray,
    ) -> Frames:
        """Draw the state of now, and remember what came with it. Nothing handed out is written to again."""
        self._last = (terminal, truncated, reward, walls, pairs)
        truth = {"position": self._x.copy(), "velocity": self._v.copy(), "radius": self._r.copy()}
        truth |= {"wall_hits": walls.astype(np.int32), "ball_hits": pairs.astype(np.int32)}
        goal = self._goal.copy() if self.config.task == "goal" else None
        if goal is not None:
            truth["goal"] = goal
        obs = {"camera": self._renderer.draw(self._x, self._r, goal)}
        return Frames(obs, terminal.copy(), truncated.copy(), None if reward is None else reward.copy(), truth)


def spec_of(config: BallsConfig) -> Spec:
    """What such a world shows and is given."""
    shown = {"camera": Sensor("image", (config.channels, config.height, config.width))}
    given = {}
    if config.action == "discrete":
        given["action"] = Control("discrete", n=len(PUSHES), names=PUSHES)
    elif config.action != "none":
        pushed = [config.pushed] if config.action == "continuous" else range(config.balls)
        names = tuple(f"ball {k} {axis}" for k in pushed for axis in "xy")
        low, high = (-1.0,) * len(names), (1.0,) * len(names)
        given["action"] = Control("continuous", (len(names),), names=names, low=low, high=high)
    return Spec(shown, given, config.fps)


def _pick(mask: np.ndarray, new: Any, old: Any) -> Any:
    """``new`` in the worlds marked by ``mask``, ``old`` in the others; None where there is none."""
    return None if new is None else np.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)
