"""The world of balls in a time-stepped engine (pymunk), with laws that an exact solver of ours does not know.

    worldloom train --env worldloom.worlds.stepped:Stepped --world.drag 0.02

It shows, is given and tells what :class:`~worldloom.worlds.balls.Balls` does, but for the impacts. Steps of finite
length miss the instant of an impact, so positions are off by what ``substeps`` allows: the error that any engine of
this kind has.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.starts import draw_start
from worldloom.worlds.balls.world import DIRECTIONS, spec_of
from worldloom.worlds.base import Frames


@dataclass(frozen=True)
class SteppedConfig:
    """Balls under a time-stepped engine. Lengths in pixels, time in frames."""

    balls: BallsConfig = field(default_factory=BallsConfig)
    """The scene: discs, box, colours, gravity, actions (none or discrete). Its task is not used."""
    substeps: int = 10
    """Steps of the engine within one frame."""
    restitution: float = 1.0
    """Share of the speed along the normal that is left after an impact; 1 is elastic."""
    drag: float = 0.0
    """Share of its velocity that a disc loses in a frame."""
    wind: float = 0.0
    """Acceleration to the right of discs whose centre is in the upper half of the box, px/frame²."""

    def __post_init__(self) -> None:
        checks = [
            (self.substeps >= 1, f"substeps >= 1, found {self.substeps}"),
            (0 < self.restitution <= 1, f"a restitution in (0, 1], found {self.restitution}"),
            (0 <= self.drag < 1, f"a drag in [0, 1), found {self.drag}"),
            (self.balls.action in ("none", "discrete"), f"actions none or discrete, found {self.balls.action!r}"),
            (self.balls.task == "none", f"no task, found {self.balls.task!r}"),
        ]
        for fine, wanted in checks:
            if not fine:
                raise WorldloomError(f"A time-stepped world of balls needs {wanted}.")


class Stepped:
    """A :class:`~worldloom.worlds.base.World` of ``num`` boxes, each a space of pymunk (extra ``engines``).

    Truth: ``position`` (N, K, 2), ``velocity`` (N, K, 2) and ``radius`` (N, K), in px and px/frame.
    """

    Config = SteppedConfig

    def __init__(self, config: SteppedConfig | None = None, num: int = 1, seed: int = 0) -> None:
        self.config = config = config or SteppedConfig()
        self.num, self.spec = num, spec_of(config.balls)
        self._renderer = Renderer(config.balls)
        self._random = [np.random.default_rng((seed, i)) for i in range(num)]
        self._spaces: list[tuple[Any, list[Any]] | None] = [None] * num
        self._radius = np.ones((num, config.balls.balls))
        self._time = np.zeros(num, np.int64)

    def reset(self, seed: int | None = None, mask: np.ndarray | None = None) -> Frames:
        """Begin new episodes in all worlds, or in those marked by ``mask`` (N,) bool."""
        chosen = np.ones(self.num, bool) if mask is None else np.asarray(mask, bool)
        if any(self._spaces[i] is None for i in np.flatnonzero(~chosen)):
            raise WorldloomError("The first reset begins all worlds: call reset() without a mask.")
        for i in np.flatnonzero(chosen).tolist():
            if seed is not None:
                self._random[i] = np.random.default_rng((seed, i))
            position, velocity, radius, _ = draw_start(self.config.balls, self._random[i])
            self._begin(i, position, velocity, radius)
        return self._look()

    def place(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> Frames:
        """Begin new episodes from given states: (N, K, 2) px, (N, K, 2) px/frame, (N, K) px."""
        for i in range(self.num):
            self._begin(i, position[i], velocity[i], radius[i])
        return self._look()

    def step(self, action: np.ndarray | None = None) -> Frames:
        """Push, move on by one frame and look. A world whose time is up must be reset first."""
        config = self.config.balls
        if (late := np.flatnonzero(self._late())).size:
            raise WorldloomError(
                f"Worlds {late.tolist()} have ended: reset(mask=frames.ended) them before the next step."
            )
        for i, held in enumerate(self._spaces):
            if held is None:
                raise WorldloomError("Call reset() before step().")
            space, bodies = held
            if action is not None and self.spec.action is not None:
                kick = config.push * DIRECTIONS[int(action[i])]
                one = bodies[config.pushed]
                one.velocity = (one.velocity[0] + kick[0], one.velocity[1] + kick[1])
            for _ in range(self.config.substeps):
                space.step(1 / self.config.substeps)
        self._time += 1
        return self._look()

    def close(self) -> None:
        """Nothing to free."""

    def _begin(self, i: int, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> None:
        pymunk = _pymunk()
        config, scene = self.config, self.config.balls
        space = pymunk.Space()
        space.gravity, space.damping = tuple(map(float, scene.gravity)), 1 - config.drag
        space.iterations, space.collision_slop, space.collision_bias = 30, 0.0, 0.0
        elastic = config.restitution**0.5  # an impact's is the product of the two
        thick, w, h = 50.0, float(scene.width), float(scene.height)
        sides = [((-thick, y), (w + thick, y)) for y in (-thick, h + thick)]
        sides += [((x, -thick), (x, h + thick)) for x in (-thick, w + thick)]
        for a, b in sides:
            wall = pymunk.Segment(space.static_body, a, b, thick)
            wall.elasticity = elastic
            space.add(wall)
        bodies = []
        for place, speed, r in zip(position, velocity, radius, strict=True):
            body = pymunk.Body(float(r) ** 2, float("inf"))
            body.position, body.velocity = tuple(map(float, place)), tuple(map(float, speed))
            if config.wind:
                body.velocity_func = self._blow
            disc = pymunk.Circle(body, float(r))
            disc.elasticity = elastic
            space.add(body, disc)
            bodies.append(body)
        self._spaces[i], self._radius[i], self._time[i] = (space, bodies), radius, 0

    def _blow(self, body: Any, gravity: Any, damping: float, dt: float) -> None:
        wind = self.config.wind if body.position[1] < self.config.balls.height / 2 else 0.0
        _pymunk().Body.update_velocity(body, (gravity[0] + wind, gravity[1]), damping, dt)

    def _look(self) -> Frames:
        bodies = [held[1] for held in self._spaces if held is not None]
        position = np.array([[tuple(b.position) for b in row] for row in bodies])
        velocity = np.array([[tuple(b.velocity) for b in row] for row in bodies])
        truth = {"position": position, "velocity": velocity, "radius": self._radius.copy()}
        frames = {"camera": self._renderer.draw(position, self._radius)}
        return Frames(frames, np.zeros(self.num, bool), self._late(), None, truth)

    def _late(self) -> np.ndarray:
        """(N,) bool: the time limit is reached."""
        limit = self.config.balls.time_limit
        return np.zeros(self.num, bool) if limit is None else self._time >= limit


def elastic(config: BallsConfig, **laws: Any) -> SteppedConfig:
    """The time-stepped world of a scene, without anything that the scene's configuration does not say."""
    return SteppedConfig(dataclasses.replace(config, task="none"), **laws)


def _pymunk() -> Any:
    try:
        import pymunk
    except ModuleNotFoundError as error:
        raise WorldloomError("The time-stepped world needs pymunk: pip install 'worldloom[engines]'.") from error
    return pymunk


__all__ = ["Stepped", "SteppedConfig", "elastic"]
