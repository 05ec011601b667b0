"""The world of balls as others meet it: resets, actions, the task, starts given from outside."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.configs import from_json, to_json
from worldloom.contract import WorldloomError
from worldloom.worlds import World, make_world, sample_action
from worldloom.worlds.balls import Balls, BallsConfig, BallsError


def same(a, b, rows_a=slice(None), rows_b=slice(None)):
    for x, y in ((a.obs, b.obs), (a.truth, b.truth)):
        assert x.keys() == y.keys()
        for name in x:
            np.testing.assert_array_equal(x[name][rows_a], y[name][rows_b])
    np.testing.assert_array_equal(a.terminal[rows_a], b.terminal[rows_b])
    np.testing.assert_array_equal(a.truncated[rows_a], b.truncated[rows_b])
    assert (a.reward is None) == (b.reward is None)
    if a.reward is not None:
        np.testing.assert_array_equal(a.reward[rows_a], b.reward[rows_b])


def test_frames_fit_the_spec_and_tell_the_truth():
    world = Balls(BallsConfig(balls=3, channels=1, height=40, width=56, action="continuous_all", task="goal"), 5)
    assert isinstance(world, World)
    frames = world.reset()
    for _ in range(2):
        assert frames.obs["camera"].shape == (5, *world.spec.shown["camera"].shape) == (5, 1, 40, 56)
        assert frames.obs["camera"].dtype == np.uint8
        shapes = {name: x.shape for name, x in frames.truth.items()}
        assert shapes == {
            "position": (5, 3, 2),
            "velocity": (5, 3, 2),
            "radius": (5, 3),
            "wall_hits": (5, 3, 2),
            "ball_hits": (5, 3, 3),
            "goal": (5, 2),
        }
        assert frames.truth["position"].dtype == np.float64
        assert frames.reward is not None
        assert frames.reward.dtype == np.float32
        frames = world.step(np.zeros((5, 6), np.float32))
    world.close()


def test_a_world_is_the_same_whatever_stands_beside_it():
    config = BallsConfig(balls=4, radius=(3.0, 5.0), gravity=(0.0, 0.05), action="continuous")
    many, few = Balls(config, 7), Balls(config, 3, seed=99)
    same(many.reset(seed=5), few.reset(seed=5), slice(0, 3))
    random = np.random.default_rng(0)
    for _ in range(60):
        action = random.uniform(-1, 1, (7, 2)).astype(np.float32)
        same(many.step(action), few.step(action[:3]), slice(0, 3))
    # Later episodes too.
    same(many.reset(), few.reset(), slice(0, 3))


def test_seeds_decide_the_start():
    world = Balls(BallsConfig(), 3)
    a, b, c = world.reset(seed=1), world.reset(seed=1), world.reset(seed=2)
    same(a, b)
    assert (a.truth["position"] != c.truth["position"]).all()
    assert len(np.unique(a.truth["position"])) == 6
    same(Balls(BallsConfig(), 3, seed=1).reset(), a)
    assert (world.reset().truth["position"] != c.truth["position"]).all()


def test_a_masked_reset_leaves_the_others_as_they_were():
    config = BallsConfig(balls=2, task="goal", time_limit=3)
    world = Balls(config, 4)
    world.reset(seed=0)
    world.place(*[world.state[k] for k in ("position", "velocity")], goal=np.full((4, 2), -100.0))
    for _ in range(3):
        last = world.step()
    assert last.truncated.all()
    assert not last.terminal.any()
    mask = np.array([False, True, False, True])
    frames = world.reset(mask=mask)
    same(frames, last, ~mask, ~mask)
    assert not frames.ended[mask].any()
    assert (frames.truth["position"][mask] != last.truth["position"][mask]).all()
    with pytest.raises(BallsError, match=r"\[0, 2\] have ended"):
        world.step()
    # Seeded alone, a world starts as it would among all.
    alone = world.reset(seed=8, mask=mask)
    same(alone, world.reset(seed=8), mask, mask)


def test_what_is_handed_out_stays_as_it_was():
    world = Balls(BallsConfig(balls=2, task="goal", action="discrete"), 2)
    frames = [world.reset(seed=0)]
    kept = [{name: x.copy() for name, x in {**f.obs, **f.truth}.items()} for f in frames]
    for _ in range(5):
        frames.append(world.step(np.array([1, 4])))
        kept.append({name: x.copy() for name, x in {**frames[-1].obs, **frames[-1].truth}.items()})
    world.reset()
    for f, k in zip(frames, kept, strict=True):
        for name, x in {**f.obs, **f.truth}.items():
            np.testing.assert_array_equal(x, k[name])
    # And what the receiver does to it does not reach the world.
    before = world.state["position"]
    last = world.reset(mask=np.zeros(2, bool))
    last.truth["position"][:] = 0
    np.testing.assert_array_equal(world.state["position"], before)


@pytest.mark.parametrize(
    ("name", "kick"), [("stay", (0, 0)), ("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))]
)
def test_discrete_pushes_change_one_ball_by_exactly_the_push(name, kick):
    world = Balls(BallsConfig(balls=2, action="discrete", push=0.75, pushed=1), 1)
    action = world.spec.action
    assert action is not None
    x, v = np.array([[[20.0, 20], [44, 44]]]), np.array([[[0.5, 0.25], [-0.25, 0.5]]])
    world.place(x, v)
    frames = world.step(np.array([action.names.index(name)]))
    expected = v.copy()
    expected[0, 1] += 0.75 * np.array(kick)
    np.testing.assert_array_equal(frames.truth["velocity"], expected)
    np.testing.assert_array_equal(frames.truth["position"], x + expected)
    world.place(x, v)
    np.testing.assert_array_equal(world.step(np.array([action.n])).truth["velocity"], v)


def test_continuous_pushes():
    x, v = np.array([[[20.0, 20], [44, 44]]]), np.zeros((1, 2, 2))
    for mode, action, expected in (
        ("continuous", [0.5, -1.0], [[0, 0], [1.0, -2.0]]),
        ("continuous_all", [0.5, -1.0, 0.25, 1.0], [[1.0, -2.0], [0.5, 2.0]]),
    ):
        world = Balls(BallsConfig(balls=2, action=mode, push=2.0, pushed=1), 1)
        world.place(x, v)
        frames = world.step(np.array([action], np.float32))
        np.testing.assert_array_equal(frames.truth["velocity"][0], expected)


@pytest.mark.parametrize(
    ("mode", "action", "message"),
    [
        ("none", np.ones(2), "take no actions"),
        ("discrete", None, r"shape \(2,\)"),
        ("discrete", np.zeros((2, 1), int), r"found shape \(2, 1\)"),
        ("discrete", np.array([0, 6]), "0..4"),
        ("discrete", np.array([0, -1]), "0..4"),
        ("discrete", np.array([0.0, 1.0]), "integer"),
        ("continuous", np.zeros((2, 4)), r"shape \(2, 2\)"),
        ("continuous", np.full((2, 2), 1.5), r"\[-1, 1\]"),
        ("continuous", np.full((2, 2), np.nan), r"\[-1, 1\]"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(mode, action, message):
    world = Balls(BallsConfig(action=mode), 2)
    world.reset()
    before = world.state
    with pytest.raises(BallsError, match=message):
        world.step(action)
    for name, x in world.state.items():
        np.testing.assert_array_equal(x, before[name])


def test_the_goal_rewards_the_pushed_ball_and_ends():
    config = BallsConfig(balls=2, task="goal", goal_radius=5.0, pushed=1, time_limit=10)
    world = Balls(config, 2)
    x = np.array([[[50.0, 32], [10, 32]], [[32.0, 52], [10, 10]]])
    v = np.array([[[-0.5, 0], [2, 0]], [[0, -2.0], [0, 0]]])  # in world 1 the other ball crosses the goal
    frames = world.place(x, v, goal=np.full((2, 2), 32.0))
    count = 0
    while not frames.ended.any():
        frames = world.step()
        count += 1
        at = frames.truth["position"][0, 1, 0]
        assert frames.terminal.tolist() == [at >= 27, False]
        assert frames.reward is not None
        assert frames.reward.tolist() == [float(at >= 27), 0.0]
    assert count == 9
    assert not frames.truncated.any()


def test_a_time_limit_truncates():
    world = Balls(BallsConfig(time_limit=3), 2)
    world.reset()
    for _ in range(2):
        flags = [world.step().truncated.tolist() for _ in range(3)]
        assert flags == [[False, False]] * 2 + [[True, True]]
        world.reset()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    balls=st.integers(1, 5),
    gravity=st.sampled_from([(0.0, 0.0), (0.0, 0.1)]),
    task=st.sampled_from(["none", "goal"]),
    action=st.sampled_from(["none", "discrete", "continuous", "continuous_all"]),
    size=st.tuples(st.integers(40, 70), st.integers(40, 70)),
    channels=st.sampled_from([1, 3]),
)
def test_a_state_set_again_goes_on_the_same(seed, balls, gravity, task, action, size, channels):
    config = BallsConfig(
        balls=balls,
        gravity=gravity,
        task=task,
        action=action,
        height=size[0],
        width=size[1],
        channels=channels,
        radius=(2.0, 5.0),
    )
    world, other = Balls(config, 2), Balls(config, 2)
    random = np.random.default_rng(seed)

    def act():
        control = world.spec.action
        return None if control is None else sample_action(control, 2, random)

    frames = world.reset(seed)
    for _ in range(5):
        frames = world.reset(mask=frames.ended)
        frames = world.step(act())
    other.state = world.state
    for _ in range(5):
        frames = world.reset(mask=frames.ended)
        other.state = world.state
        taken = act()
        frames = world.step(taken)
        same(frames, other.step(taken))


def test_the_true_continuation_of_a_rounded_start():
    """Starts are stored as float32: a ball on the wall may then stick out by a rounding, which is forgiven."""
    config = BallsConfig(balls=4)
    world, other = Balls(config, 16), Balls(config, 16)
    frames = world.reset(seed=3)
    for _ in range(20):
        frames = world.step()
    again = other.place(frames.truth["position"].astype(np.float32), frames.truth["velocity"].astype(np.float32))
    np.testing.assert_allclose(again.truth["position"], frames.truth["position"], atol=1e-5)
    for _ in range(5):
        np.testing.assert_allclose(other.step().truth["position"], world.step().truth["position"], atol=1e-3)
    on_wall = np.nextafter(np.float32(60), np.float32(61))
    world = Balls(BallsConfig(), 1)
    assert world.place(np.array([[[on_wall, 30.0]]]), np.zeros((1, 1, 2))).truth["position"][0, 0, 0] == 60


@pytest.mark.parametrize(
    ("x", "v", "message"),
    [
        ([[20, 20], [26, 20]], [[0, 0], [0, 0]], "overlap by 2 px"),
        ([[3, 20], [40, 20]], [[0, 0], [0, 0]], "1 px outside"),
        ([[20, np.nan], [40, 20]], [[0, 0], [0, 0]], "NaN or infinity in position"),
        ([[20, 20]], [[0, 0], [0, 0]], r"position of shape \(1, 2, 2\), found \(1, 1, 2\)"),
    ],
)
def test_impossible_starts_are_refused(x, v, message):
    world = Balls(BallsConfig(balls=2), 1)
    with pytest.raises(BallsError, match=message):
        world.place(np.array([x], float), np.array([v], float))


def test_a_drawn_radius_must_be_known():
    world = Balls(BallsConfig(radius=(2.0, 4.0)), 1)
    state = np.full((1, 1, 2), 20.0), np.zeros((1, 1, 2))
    with pytest.raises(BallsError, match="give place"):
        world.place(*state)
    radius = world.reset().truth["radius"]
    np.testing.assert_array_equal(world.place(*state).truth["radius"], radius)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 40.0}, "larger than its discs"),
        ({"radius": (5.0, 3.0)}, "low <= high"),
        ({"balls": 0}, "at least one ball"),
        ({"pushed": 1}, "one of its 1 balls"),
        ({"colours": ()}, "at least one colour"),
        ({"background": (0, 0, 300)}, "0 to 255"),
        ({"occluder": (9.0, 0.0, 3.0, 5.0)}, "left < right"),
        ({"gravity": (0.0, float("inf"))}, "finite"),
        ({"time_limit": 0}, "time_limit"),
        ({"fps": 0.0}, "fps"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(WorldloomError, match=message):
        BallsConfig(**options)


def test_a_full_box_is_an_error_and_order_of_use_is_checked():
    with pytest.raises(BallsError, match="No room for 60 discs"):
        Balls(BallsConfig(balls=60), 1).reset()
    with pytest.raises(BallsError, match="covers the whole frame"):
        Balls(BallsConfig(task="goal", goal_radius=99.0), 1).reset()
    with pytest.raises(BallsError, match="reset"):
        Balls(BallsConfig(), 1).step()
    with pytest.raises(BallsError, match="num >= 1"):
        Balls(BallsConfig(), 0)
    world = Balls(BallsConfig(), 3)
    with pytest.raises(BallsError, match="first reset"):
        world.reset(mask=np.array([True, False, True]))
    with pytest.raises(BallsError, match="shape"):
        world.reset(mask=np.array([True]))


def test_the_config_survives_json():
    config = BallsConfig(radius=(2.0, 3.0), occluder=(1.0, 2.0, 3.0, 4.0), task="goal")
    assert from_json(BallsConfig, to_json(config)) == config
    assert dataclasses.replace(config, balls=2).balls == 2


def test_worlds_by_name():
    world = make_world("balls", 2, balls=3, radius=3, seed=4)
    assert isinstance(world, Balls)
    assert world.num == 2
    assert world.config.balls == 3
    same(world.reset(), Balls(BallsConfig(balls=3, radius=3.0), 2, seed=4).reset())
    with pytest.raises(WorldloomError, match="'balls'"):
        make_world("bals")
    with pytest.raises(WorldloomError, match="Built-in worlds: balls"):
        make_world("quake")
    with pytest.raises(WorldloomError, match="Did you mean 'gravity'"):
        make_world("balls", gravty=(0.0, 1.0))
