"""The battery: the true simulator is true, and every bad world is bad in the one way that its name says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from worldloom.evaluation.battery import (
    BATTERY,
    REFERENCES,
    BatteryError,
    Law,
    Nearest,
    Simulated,
    Truth,
    dreamer,
    fitting,
    make_dreams,
    tracked_truth,
)
from worldloom.evaluation.battery.fitting import fit_states
from worldloom.evaluation.dreamers import Dreamer
from worldloom.evaluation.exact import ExactWorld, as_held
from worldloom.worlds.balls import BallsConfig

FRAMES = 24
PUSHED = ExactWorld(BallsConfig(balls=3, radius=6.0, gravity=(0.0, 0.05), action="discrete", push=0.5))


@pytest.fixture(scope="module")
def held():
    return PUSHED.fresh(4, 4, FRAMES, 0)


def dream(one: Dreamer, held, frames=FRAMES, seed=0, control=None, **how) -> np.ndarray:
    return one.dream(held, control or held.control, frames, seed=seed, sensors=["camera"], **how)["camera"].numpy()


def real(held) -> np.ndarray:
    return held.segment.obs["camera"][:, held.prompt :].numpy()


def alone(position, velocity, frames=FRAMES, **config):
    """One ball, or several, from where they are said to be: (1, K, 2) or (K, 2)."""
    x, v = (np.asarray(a, float).reshape(1, -1, 2) for a in (position, velocity))
    world = ExactWorld(BallsConfig(balls=x.shape[1], **config))
    start = {"position": x, "velocity": v, "radius": np.full(x.shape[:2], 4.0)}
    return world, as_held(world.play(start, None, frames), 1)


def light(frames: np.ndarray) -> np.ndarray:
    """(..., H, W) how far each pixel is from the background, in its first channel."""
    return frames[..., 0, :, :].astype(float) - 14


def centre(frames: np.ndarray) -> np.ndarray:
    """(T, 2) centre of light of (T, C, H, W)."""
    weight = light(frames)
    at = np.arange(weight.shape[-1]) + 0.5
    return np.stack([(weight.sum(-2) * at).sum(-1), (weight.sum(-1) * at).sum(-1)], -1) / weight.sum((-2, -1))[:, None]


@pytest.mark.parametrize("one", [Truth(PUSHED), Simulated(PUSHED)], ids=["truth", "own stepping, no fault"])
def test_the_true_simulator_shows_what_really_followed(one, held):
    np.testing.assert_array_equal(dream(one, held), real(held))
    for every in (1, 5):
        np.testing.assert_array_equal(dream(one, held, mode="teacher", every=every), real(held))
    other = PUSHED.actions(4, 60, 9)
    start = {name: x[:, 3] for name, x in held.truth.items()}
    past = dream(one, held, 60, control={"action": torch.from_numpy(other)})
    np.testing.assert_array_equal(past, PUSHED.play(start, other, 60).frames[:, 1:])
    with pytest.raises(BatteryError, match="leads 24 frames"):
        dream(one, held, 30, mode="teacher", control={"action": torch.from_numpy(other)})


def test_led_by_the_truth_a_wrong_law_errs_only_within_a_stretch(held):
    bad = dreamer("speed", PUSHED)
    led, free = dream(bad, held, mode="teacher", every=6), dream(bad, held)
    np.testing.assert_array_equal(led[:, :6], free[:, :6])
    wrong = np.abs(led.astype(int) - real(held)).mean((0, 2, 3, 4))
    assert (wrong > 0).all()
    assert (wrong[6::6] < 0.5 * wrong[5:-1:6]).all()  # the first of a stretch against the last of the one before


@pytest.mark.parametrize("name", [name for name, one in BATTERY.items() if one.fits(PUSHED)])
def test_a_bad_world_is_bad_and_comes_back_the_same(name, held):
    one = dreamer(name, PUSHED)
    first = dream(one, held)
    assert first.shape == real(held).shape
    assert first.dtype == np.uint8
    assert np.abs(first.astype(int) - real(held)).mean() > 0.2
    np.testing.assert_array_equal(first, dream(dreamer(name, PUSHED), held))
    np.testing.assert_array_equal(first[:2], dream(one, held.rows(slice(0, 2))))  # whoever dreams beside it
    np.testing.assert_array_equal(first[:, :16], dream(one, held, 16))  # however long
    led = dream(one, held, mode="teacher", every=4)
    assert led.shape == first.shape
    assert (led != real(held)).any()


def test_what_chance_decides_follows_the_seed_and_the_row(held):
    for name in ("noise", "shuffle", "vanish", "teleport"):
        one = dreamer(name, PUSHED)
        assert (dream(one, held) != dream(one, held, seed=1)).any()
    same = held.rows(np.zeros(6, int))
    clips = dream(dreamer("freeze", PUSHED), same)
    stops = [int((clip[1:] != clip[:-1]).any((1, 2, 3)).sum()) for clip in clips]
    assert len(set(stops)) > 2


def test_motion_under_wrong_laws():
    world, held = alone([30, 30], [1, 0.5], frames=20)

    def path(law: Law) -> np.ndarray:
        return centre(dream(Simulated(world, law), held, 20)[0])

    start, v, t = np.array([30, 30]), np.array([1, 0.5]), np.arange(1, 21)[:, None]
    close = {"atol": 0.05}
    np.testing.assert_allclose(path(Law()), start + v * t, **close)
    np.testing.assert_allclose(path(Law(clock=1.2)), start + 1.2 * v * t, **close)
    np.testing.assert_allclose(path(Law(pull=(0.0, 0.05))), start + v * t + [0, 0.025] * t**2, **close)
    np.testing.assert_allclose(path(Law(backwards=True)), start - v * t, **close)
    steps = np.diff(path(Law(growth=0.01)), axis=0)
    np.testing.assert_allclose(np.hypot(*steps[-1]) / np.hypot(*steps[0]), 1.01**18, rtol=0.02)
    steps = np.diff(path(Law(turn=0.03)), axis=0)
    np.testing.assert_allclose(np.hypot(*steps.T), np.hypot(*v), rtol=0.05)
    angle = np.arctan2(steps[:, 1], steps[:, 0])
    np.testing.assert_allclose((angle[-1] - angle[0]) / 18, 0.03, rtol=0.1)


def test_walls_that_take_speed_or_let_balls_in():
    world, held = alone([50, 32], [2, 1], frames=14)

    def path(law: Law) -> np.ndarray:
        return centre(dream(Simulated(world, law), held, 14)[0])

    damped = np.diff(path(Law(restitution=0.7)), axis=0)
    np.testing.assert_allclose(damped[0], [2, 1], atol=0.05)
    np.testing.assert_allclose(damped[-1], [-1.4, 1], atol=0.05)
    soft = dream(Simulated(world, Law(depth=3.0)), held, 14)[0]
    assert light(soft)[:, :, -1].max() > light(dream(Truth(world), held, 14)[0])[:, :, -1].max()
    np.testing.assert_allclose(centre(soft)[-1], path(Law())[-1] + [6, 0], atol=0.1)  # two frames of depth late


def test_balls_that_do_not_meet():
    world, held = alone([[16, 32], [48, 32]], [[2, 0], [-2, 0]], frames=16)
    through = dream(dreamer("ghosts", world), held, 16)[0]
    bounced = dream(Truth(world), held, 16)[0]
    first, second = light(through)[-1], light(bounced)[-1]
    left = world.config.colours[1][0] - 14  # red of the second ball, darker than the first's
    assert first[32, 16] == pytest.approx(left, abs=2)
    assert first[32, 8] == pytest.approx(0, abs=2)
    assert second[32, 8] == pytest.approx(255 - 14, abs=2)


def test_balls_that_part_before_they_touch():
    world, held = alone([[16, 32], [48, 32]], [[1, 0], [-1, 0]], frames=16)
    gap = light(dream(dreamer("apart", world), held, 16)[0])[:, 32] > 20
    widest = [int(row.sum()) for row in gap]
    inner = [int((~row[row.argmax() : len(row) - row[::-1].argmax()]).sum()) for row in gap]
    assert min(inner) == 2  # they come no nearer
    assert max(widest) == min(widest)
    np.testing.assert_array_equal(gap[-1], gap[-1][::-1])
    world, held = alone([50, 32], [2, 0], frames=14)  # the walls stay where they are
    np.testing.assert_array_equal(dream(Simulated(world, Law(gap=2.0)), held, 14), dream(Truth(world), held, 14))


def test_balls_that_leave_the_frame():
    world, held = alone([50, 32], [2, 0], frames=14)
    clip = dream(dreamer("escape", world), held, 14)[0]
    assert light(clip[-1]).max() == 0
    assert light(clip[3]).max() > 200


def balls(frames: np.ndarray) -> np.ndarray:
    """How many balls' worth of pixels differ from the background (T,)."""
    covered = (np.abs(frames.astype(int) - np.array([14, 16, 24])[:, None, None]).max(-3) > 30).sum((-2, -1))
    return covered / covered[0]


def test_what_becomes_of_one_ball():
    world, held = alone([[10, 10], [32, 50], [54, 10]], np.zeros((3, 2)), frames=20)  # nothing moves of itself
    when: dict[str, int] = {}
    for name, after in {"vanish": 2 / 3, "appear": 4 / 3, "teleport": 1.0, "recolour": 1.0}.items():
        clip = dream(dreamer(name, world), held, 20)[0]
        changed = np.flatnonzero((clip[1:] != clip[:-1]).any((1, 2, 3))) + 1
        assert len(changed) == 1, name
        when[name] = int(changed[0])
        np.testing.assert_allclose(balls(clip)[changed[0] :], after, atol=0.04)
        assert 4 <= changed[0] < 16
    assert len(set(when.values())) == 1  # the same seed and row
    before, after = clip[0], clip[-1]
    assert sorted(before.reshape(3, -1).T.tolist()) == sorted(after.reshape(3, -1).T.tolist())  # swapped, not new


def test_behind_an_occluder():
    world, held = alone([15, 32], [2, 0], frames=20, occluder=(24.0, 0.0, 40.0, 64.0))
    true = dream(Truth(world), held, 20)[0]
    bright = {
        name: (clip[:, 0].astype(int) > 200).sum((1, 2))
        for name, clip in {
            "truth": true,
            **{n: dream(dreamer(n, world), held, 20)[0] for n in ("swallowed", "slowed")},
        }.items()
    }
    gone = int(np.flatnonzero(bright["truth"] == 0)[0])
    for name in ("swallowed", "slowed"):
        np.testing.assert_array_equal(bright[name][: gone + 1], bright["truth"][: gone + 1])
    assert bright["truth"][-1] == bright["truth"][0]
    assert (bright["swallowed"][gone:] == 0).all()
    came = {name: int(np.flatnonzero(bright[name][gone:] > 0)[0]) for name in ("truth", "slowed")}
    assert came["truth"] < came["slowed"] <= came["truth"] / 0.7 + 2
    wide = dream(dreamer("stretch", world), held, 20)[0]
    assert (wide[:, :, :, 26:38] == true[0, :, :1, 26:27]).all()


def test_size_and_shape():
    world, held = alone([32, 32], [0, 0], frames=40)
    true = light(dream(Truth(world), held, 40)[0])

    def spread(frames: np.ndarray) -> tuple[float, float, float]:
        """Mass, and variances across and down, as shares of the true ones, in the last frame."""
        at = np.arange(64) + 0.5 - 32
        parts = [
            (x.sum(), (x.sum(0) * at**2).sum() / x.sum(), (x.sum(1) * at**2).sum() / x.sum())
            for x in (light(frames)[-1], true[-1])
        ]
        return tuple(a / b for a, b in zip(*parts, strict=True))

    for name, mass, across, down in (
        ("shrink", 0.36, 0.36, 0.36),
        ("grow", 1.96, 1.96, 1.96),
        ("stretch", 1, 2.56, 1 / 2.56),
        ("blur", 1, 1.24, 1.24),
    ):
        found = spread(dream(dreamer(name, world), held, 40)[0])
        np.testing.assert_allclose(found, (mass, across, down), rtol=0.08, err_msg=name)


def test_actions_that_do_nothing_come_late_or_the_wrong_way(held):
    truth, action = Truth(PUSHED), held.control["action"].numpy()
    before = held.segment.control["action"][:, 3:4].numpy()
    wrong = {
        "ignored": np.zeros_like(action),
        "delayed": np.concatenate([before, action[:, :-1]], 1),
        "mirrored": np.array([0, 2, 1, 4, 3])[action],
    }
    for name, given in wrong.items():
        expected = dream(truth, held, control={"action": torch.from_numpy(given)})
        np.testing.assert_array_equal(dream(dreamer(name, PUSHED), held), expected)


def test_pictures_that_are_spoilt(held):
    true = real(held)
    shuffled = dream(dreamer("shuffle", PUSHED), held)
    for row in range(4):
        for begin in range(0, FRAMES, 8):
            was, now = ({x.tobytes() for x in c[row, begin : begin + 8]} for c in (true, shuffled))
            assert was == now
    collapsed = dream(dreamer("collapse", PUSHED), held)
    np.testing.assert_array_equal(np.delete(collapsed, np.s_[12:20], 1), np.delete(true, np.s_[12:20], 1))
    assert light(collapsed[:, 12:20]).max() < 0.7 * light(true[:, 12:20]).max()
    last = held.segment.obs["camera"][:, 3:4].numpy()
    np.testing.assert_array_equal(dream(dreamer("copy_last", PUSHED), held), np.repeat(last, FRAMES, 1))
    frozen = dream(dreamer("freeze", PUSHED), held)
    for clip, truth in zip(frozen, true, strict=True):
        stop = int(np.flatnonzero((clip != truth).any((1, 2, 3)))[0])
        assert 4 <= stop < 16
        assert (clip[stop - 1 :] == clip[stop - 1]).all()
    drawn = dream(dreamer("noise", PUSHED), held).astype(int) - true
    assert drawn[(true > 60) & (true < 200)].std() == pytest.approx(0.05 * 255, rel=0.05)


def test_a_memory_plays_back_what_it_has_seen(held):
    frames = held.segment.obs["camera"].numpy()
    knows = Nearest(PUSHED, frames)  # has learnt the test by heart
    np.testing.assert_array_equal(dream(knows, held, 12), real(held)[:, :12])
    strange = dream(dreamer("nearest", PUSHED), held)
    fresh = PUSHED.fresh(128, 1, 47, 101).segment.obs["camera"].numpy()
    assert {x.tobytes() for x in strange.reshape(-1, 3, 64, 64)} <= {x.tobytes() for x in fresh.reshape(-1, 3, 64, 64)}
    with pytest.raises(BatteryError, match="do not fit in"):
        dream(Nearest(PUSHED, frames[:, :10]), held)


def test_the_tracked_truth_knows_what_the_prompt_tells(monkeypatch):
    world = ExactWorld(BallsConfig(balls=1, gravity=(0.0, 0.05), action="discrete", push=0.5))
    held = world.fresh(24, 4, 12, 3)
    assert held.truth["wall_hits"][:, 1:4].sum() > 4  # through bounces, too

    def error() -> dict[str, np.ndarray]:
        found = fit_states(world, held, np.zeros(24, int), np.arange(24))
        return {name: np.abs(x - held.truth[name][:, 3]).max((1, 2)) for name, x in found.items()}

    ours = error()
    monkeypatch.setattr(fitting, "ROUNDS", 0)  # the best two frames alone
    for name, two in error().items():
        assert ours[name].max() < 0.02
        assert np.median(ours[name]) < 0.8 * np.median(two)
    led = dream(tracked_truth(world), held, 12, mode="teacher", every=3)
    assert np.abs(led.astype(int) - real(held)).mean() < 0.1


def test_dreams_without_a_model(held):
    dreams = make_dreams(PUSHED, dreamer("vanish", PUSHED), 4, 4, FRAMES, 5)
    assert dreams.model is None
    assert dreams.dataset is None
    assert dreams.world is PUSHED
    assert (len(dreams), dreams.horizon, dreams.prompt, dreams.seed) == (4, FRAMES, 4, 5)
    assert dreams.truth["position"].shape == (4, FRAMES, 3, 2)
    np.testing.assert_array_equal(dreams.dream()["camera"], dreams.dreamed["camera"])
    assert dreams.dream(frames=50, rows=slice(1, 3))["camera"].shape == (2, 50, 3, 64, 64)
    given = make_dreams(PUSHED, Truth(PUSHED), 4, 4, FRAMES, 0, held)
    np.testing.assert_array_equal(given.dreamed["camera"], given.real["camera"])


def test_a_world_that_is_not_there_is_said_so():
    with pytest.raises(BatteryError, match="Did you mean 'ghosts'"):
        dreamer("ghost", PUSHED)
    plain = ExactWorld(BallsConfig())
    with pytest.raises(BatteryError, match="takes a world with actions"):
        dreamer("mirrored", plain)
    with pytest.raises(BatteryError, match="takes a world with 2 balls"):
        dreamer("ghosts", plain)
    assert all(one.about.endswith(".") for one in (BATTERY | REFERENCES).values())
    held = plain.fresh(2, 2, 5, 0)
    with pytest.raises(BatteryError, match="true positions"):
        dream(Truth(plain), dataclasses.replace(held, truth={}), 5)
