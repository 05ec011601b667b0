"""The time-stepped world: the exact one's motion where its laws are the same, and its own laws where they are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import worldloom
from worldloom.contract import WorldloomError
from worldloom.evaluation.exact import ExactWorld
from worldloom.worlds.balls import PUSHES, BallsConfig
from worldloom.worlds.stepped import Stepped, SteppedConfig, elastic

pytest.importorskip("pymunk", reason="needs the extra engines")


def last(position, velocity, frames, action=None, balls=None, **laws):
    """Truth of one world after so many frames, from discs of radius 4: name to (K, 2)."""
    x, v = (np.asarray(a, float).reshape(1, -1, 2) for a in (position, velocity))
    world = Stepped(SteppedConfig(dataclasses.replace(balls or BallsConfig(), balls=x.shape[1]), **laws))
    seen = world.place(x, v, np.full(x.shape[:2], 4.0))
    for _ in range(frames):
        seen = world.step(action)
    return {name: part[0] for name, part in seen.truth.items()}


def test_it_keeps_the_protocol_of_worlds():
    config = SteppedConfig(BallsConfig(balls=2, action="discrete", time_limit=5), drag=0.02, wind=0.05)
    worldloom.check_world(Stepped(config, 3, 0), make=lambda n: Stepped(config, n, 0))
    world = Stepped(config, 2, 0)
    with pytest.raises(WorldloomError, match="reset"):
        world.step(np.zeros(2, int))
    world.reset()
    for _ in range(5):
        seen = world.step(np.zeros(2, int))
    assert seen.truncated.all()
    with pytest.raises(WorldloomError, match=r"\[0, 1\] have ended"):
        world.step(np.zeros(2, int))
    world.reset(mask=np.array([True, False]))
    with pytest.raises(WorldloomError, match=r"\[1\] have ended"):
        world.step(np.zeros(2, int))


def test_without_laws_of_its_own_it_is_the_exact_world_to_what_its_steps_allow():
    config = BallsConfig(balls=3, radius=5.0, gravity=(0.0, 0.1))
    world = ExactWorld(config)
    start = world.starts(6, 0)
    true = world.play(start, None, 12).truth["position"][:, 1:]

    def off(substeps: int) -> float:
        stepped = Stepped(elastic(config, substeps=substeps), 6)
        stepped.place(*(start[n] for n in ("position", "velocity", "radius")))
        path = np.stack([stepped.step().truth["position"] for _ in range(12)], 1)
        return float(np.median(np.abs(path - true)))

    assert off(40) < 0.05
    assert off(40) < 0.3 * off(2)


def test_drag_wind_and_lossy_impacts():
    np.testing.assert_allclose(last([32, 40], [1, 0.5], 10)["position"], [[42, 45]], atol=1e-9)
    dragged = last([32, 40], [1, 0.5], 10, drag=0.02)
    np.testing.assert_allclose(dragged["velocity"], np.array([[1, 0.5]]) * 0.98**10, rtol=1e-6)
    blown, still = (last([20, y], [0, 0], 10, wind=0.05)["velocity"] for y in (10, 50))
    np.testing.assert_allclose(blown, [[0.5, 0]], atol=1e-9)  # in the upper half alone
    np.testing.assert_allclose(still, 0, atol=1e-9)
    wall = last([50, 32], [2, 1], 14, restitution=0.7)
    np.testing.assert_allclose(wall["velocity"], [[-1.4, 1]], atol=1e-6)
    pair = last([[20, 32], [40, 32]], [[2, 0], [-2, 0]], 10, restitution=0.7)
    np.testing.assert_allclose(pair["velocity"], [[-1.4, 0], [1.4, 0]], atol=1e-6)


def test_actions_push_one_disc():
    scene = BallsConfig(action="discrete", push=0.5, pushed=1, balls=2)
    right = np.array([PUSHES.index("right")])
    pushed = last([[12, 12], [30, 40]], np.zeros((2, 2)), 2, right, scene)
    np.testing.assert_allclose(pushed["velocity"], [[0, 0], [1, 0]], atol=1e-9)
    null = last([[12, 12], [30, 40]], np.zeros((2, 2)), 2, np.array([5]), scene)
    np.testing.assert_allclose(null["velocity"], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"substeps": 0}, "substeps >= 1, found 0"),
        ({"restitution": 0.0}, "restitution"),
        ({"drag": 1.0}, "drag"),
        ({"balls": BallsConfig(action="continuous")}, "found 'continuous'"),
        ({"balls": BallsConfig(action="continuous", task="goal")}, "actions none or discrete"),
    ],
)
def test_what_it_can_not_do_is_said(fields, said):
    with pytest.raises(WorldloomError, match=said):
        SteppedConfig(**fields)
