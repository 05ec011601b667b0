"""The Lyapunov exponent of exact worlds: nothing where twins part as time does, the known growth where they collide."""

import numpy as np
import pytest

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.lyapunov import exponent, growth, horizon
from worldloom.worlds.balls import BallsConfig


def world(**fields) -> ExactWorld:
    return ExactWorld(BallsConfig(height=24, width=24, radius=2.0, **fields))


@pytest.mark.parametrize(
    "fields", [{}, {"gravity": (0.0, 0.05)}, {"action": "discrete", "push": 0.5}], ids=["box", "gravity", "pushed"]
)
def test_one_ball_in_a_box_is_not_chaotic(fields):
    found = exponent(world(**fields), twins=16, frames=200)
    assert not found.chaotic
    assert found.rate < 2 * found.linear
    assert found.interval[0] <= found.interval[1]
    assert found.rate == pytest.approx(found.linear, rel=0.35)  # ln 2 over the second half: apart as time passed


def test_balls_that_meet_are_and_two_procedures_agree():
    many = world(balls=4)
    found = exponent(many, twins=24, frames=160, seed=1)
    assert found.chaotic
    assert found.interval[0] < found.rate < found.interval[1]
    # the obvious way: twins left alone, the slope of the mean logarithm of their distance
    start = many.starts(24, 1)
    rng = np.random.default_rng(7)
    near = {**start, "velocity": start["velocity"] + 1e-11 * rng.normal(size=start["velocity"].shape)}
    paths = [many.play(s, None, 55).truth["position"] for s in (start, near)]
    apart = np.log(np.sqrt(np.square(paths[0] - paths[1]).sum((2, 3)))[:, 10:])
    slope = np.polyfit(np.arange(apart.shape[1]), apart.mean(0), 1)[0]
    assert slope == pytest.approx(found.rate, rel=0.25)


def test_twice_the_speed_is_twice_the_rate():
    slow, fast = (exponent(world(balls=3, speed=s), twins=12, frames=n).rate for s, n in ((1.5, 240), (3.0, 120)))
    assert fast == pytest.approx(2 * slow, rel=0.15)  # the same paths in half the time


def test_twins_are_played_the_same_actions_and_the_same_again():
    pushed = world(balls=2, action="discrete")
    first, again = growth(pushed, 4, 32, 3), growth(pushed, 4, 32, 3)
    assert (first == again).all()
    assert first.max() < 12  # other actions would part them by a million times at once
    assert not np.allclose(first, growth(pushed, 4, 32, 4))


def test_the_horizon_is_the_time_of_growth():
    assert 0.01 * np.exp(0.1 * horizon(0.1, 0.01, 5.0)) == pytest.approx(5.0)
    assert horizon(0.1, 5.0, 1.0) == 0
