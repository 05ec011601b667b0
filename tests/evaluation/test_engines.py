"""Engines, a network that learns what they get wrong, and the same network alone."""

from __future__ import annotations

import numpy as np
import pytest

from worldloom.contract import WorldloomError
from worldloom.evaluation.engines import Engine, Exact, Learned, StraightOn, TimeStepped, fit, roll
from worldloom.evaluation.exact import ExactWorld
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.stepped import Stepped, SteppedConfig

SCENE = BallsConfig(balls=2, radius=5.0, speed=2.0, gravity=(0.0, 0.05))
WORLD = ExactWorld(SCENE)
DRAGGED = SteppedConfig(SCENE, drag=0.04)


def test_the_exact_engine_is_the_exact_world():
    start = WORLD.starts(5, 0)
    path = roll(Exact(SCENE), start, 20)
    np.testing.assert_allclose(path, WORLD.play(start, None, 20).truth["position"][:, 1:], atol=1e-9)
    straight = roll(StraightOn(), start, 3)
    np.testing.assert_allclose(straight[:, 2], start["position"] + 3 * start["velocity"])
    for one in (Exact(SCENE), StraightOn(), Learned(Exact(SCENE), SCENE)):
        assert isinstance(one, Engine)


def test_a_time_stepped_engine_goes_on_from_any_state():
    pytest.importorskip("pymunk", reason="needs the extra engines")
    start = WORLD.starts(3, 0)
    world = Stepped(DRAGGED, 3)
    world.place(start["position"], start["velocity"], start["radius"])
    whole = np.stack([world.step().truth["position"] for _ in range(8)], 1)
    np.testing.assert_allclose(roll(TimeStepped(DRAGGED), start, 8), whole, atol=0.02)


def dragged(episodes: int, seed: int, frames: int = 32) -> dict[str, np.ndarray]:
    """Truth of episodes with drag, name to (episodes, frames, ...): the exact engine's motion, slowed."""
    start = {n: x.copy() for n, x in WORLD.starts(episodes, seed).items()}
    x, v, r = (start[n] for n in ("position", "velocity", "radius"))
    rows = [(x, v)]
    for _ in range(frames - 1):
        x, v = Exact(SCENE).advance(x, 0.96 * v, r)
        rows.append((x, v))
    position, velocity = (np.stack([row[k] for row in rows], 1) for k in (0, 1))
    return {"position": position, "velocity": velocity, "radius": np.repeat(r[:, None], frames, 1)}


def test_a_residual_mends_an_engine_and_the_network_alone_needs_more():
    train, test = dragged(8, 1), dragged(24, 2)
    episodes = [{n: x[i] for n, x in train.items()} for i in range(8)]
    start = {n: x[:, 0] for n, x in test.items()}

    def error(engine: Engine) -> float:
        return float(np.median(np.abs(roll(engine, start, 12) - test["position"][:, 1:13])))

    hybrid = fit(Learned(Exact(SCENE), SCENE), episodes, steps=300)
    alone = fit(Learned(StraightOn(), SCENE), episodes, steps=300)
    assert error(hybrid) < 0.5 * error(Exact(SCENE))
    assert error(hybrid) < 0.5 * error(alone)
    again = fit(Learned(Exact(SCENE), SCENE), episodes, steps=300)
    np.testing.assert_array_equal(roll(again, start, 12), roll(hybrid, start, 12))
    other = fit(Learned(Exact(SCENE), SCENE), episodes, steps=300, seed=1)
    assert (roll(other, start, 12) != roll(hybrid, start, 12)).any()


def test_where_the_engine_is_right_nothing_is_added():
    true = WORLD.play(WORLD.starts(6, 3), None, 24).truth
    episodes = [{n: true[n][i] for n in ("position", "velocity", "radius")} for i in range(6)]
    model = fit(Learned(Exact(SCENE), SCENE), episodes, steps=60)
    start = WORLD.starts(6, 4)
    np.testing.assert_allclose(roll(model, start, 10), roll(Exact(SCENE), start, 10), atol=0.05)


def test_one_disc_has_no_other_and_what_is_missing_is_said():
    alone = BallsConfig(balls=1)
    true = ExactWorld(alone).play(ExactWorld(alone).starts(2, 0), None, 8).truth
    episodes = [{n: true[n][i] for n in ("position", "velocity", "radius")} for i in range(2)]
    assert roll(fit(Learned(StraightOn(), alone), episodes, steps=2), ExactWorld(alone).starts(4, 1), 3).shape[1] == 3
    with pytest.raises(WorldloomError, match="not trained yet"):
        roll(Learned(Exact(SCENE), SCENE), WORLD.starts(1, 0), 1)
    with pytest.raises(WorldloomError, match="two frames or more"):
        fit(Learned(Exact(SCENE), SCENE), [{n: x[:1] for n, x in episodes[0].items()}])
