"""The probes of long horizons, on worlds that are true and on worlds that are wrong in one known way."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
from scipy import stats

from worldloom.evaluation.battery import Altered, CopyLast, Law, Simulated, Truth, make_dreams, tracked_truth
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.lyapunov import exponent
from worldloom.evaluation.probes import Dreams, NotMeasurableError, find_probes, measure_all
from worldloom.evaluation.probes import prediction_time as asked_for
from worldloom.evaluation.probes.drift import window_means
from worldloom.evaluation.probes.fidelity import energy_distance, quantities, wasserstein
from worldloom.evaluation.probes.horizon import jackknife, long_dreams, settled, window_length, windowed, worst
from worldloom.evaluation.probes.prediction_time import valid_for
from worldloom.evaluation.probes.survival import lasting_figures
from worldloom.evaluation.survival import Lives
from worldloom.worlds.balls import BallsConfig

ALL = "regimes,prediction_time,fidelity,drift,half_life"
SMALL = {"height": 40, "width": 40, "radius": 4.0, "speed": 2.0}
ONE, TWO = ExactWorld(BallsConfig(**SMALL)), ExactWorld(BallsConfig(**SMALL, balls=2, gravity=(0.0, 0.05)))


@pytest.fixture(scope="module", autouse=True)
def brief():
    """Few twins, and once for each world: test_lyapunov.py asks for more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asked_for, "exponent", functools.cache(lambda world, **_: exponent(world, twins=8, frames=160)))
        yield


def made(dreamer, world=ONE, n=10, trained=4, horizon=16, **fields) -> Dreams:
    dreams = make_dreams(world, dreamer, n, 4, horizon, 0)
    return dataclasses.replace(dreams, trained_frames=trained, **fields)


def asked(dreams: Dreams, probes: str = ALL):
    found = measure_all(find_probes(probes), dreams, lambda _: None)
    assert not found.failures
    return found


@pytest.fixture(scope="module")
def true():
    return asked(made(Truth(TWO), TWO)).figures


def test_the_true_world_lasts_to_the_end_and_lies_at_its_floor(true):
    assert true["prediction_time/mean_frames"].value == 40  # ten times the four frames of training
    assert true["prediction_time/median_frames"].value is None
    assert "more than half outlast the 40 frames" in true["prediction_time/median_frames"].meaning
    assert true["prediction_time/mean_frames"].floor == true["half_life/count_mean_frames"].floor == 40
    assert true["prediction_time/censored"].value == true["half_life/position_censored"].value == 1
    assert true["prediction_time/mean_seconds"].value == pytest.approx(40 / 15)
    ceiling = true["prediction_time/mean_frames"].ceiling
    assert isinstance(ceiling, float)
    assert 30 < ceiling <= 40  # begun where a tracker sees the balls
    for name, figure in true.items():
        if name.startswith(("fidelity/", "drift/")):
            assert figure.value == pytest.approx(figure.floor), name
            assert figure.better == "lower"
        assert figure.n > 0
        assert figure.meaning
        assert figure.blind_to, name
    assert "windows each" not in true["drift/left_the_world"].meaning  # the exact world is played to the end
    assert true["drift/left_the_world"].value <= 0.2  # few starts show little of what is usual
    for name in ("teacher", "sliding", "free"):
        assert true[f"regimes/psnr_{name}_db"].value == {"1": 60, "5": 60, "10": 60}
        assert true[f"regimes/position_{name}_px"].value == true[f"regimes/position_{name}_px"].floor


def test_it_is_not_told_that_one_ball_is_chaotic(true):
    rate = asked(made(Truth(ONE)), "prediction_time").figures
    assert "Not chaotic" in rate["prediction_time/lyapunov_rate"].meaning
    assert "prediction_time/lyapunov_times" not in rate
    assert "Chaotic" in true["prediction_time/lyapunov_rate"].meaning
    times, frames = true["prediction_time/lyapunov_times"], true["prediction_time/mean_frames"]
    assert times.value == pytest.approx(frames.value * true["prediction_time/lyapunov_rate"].value)
    assert true["prediction_time/lyapunov_ceiling_frames"].value > 10


def test_who_begins_where_the_tracker_sees_lasts_to_the_ceiling():
    found = asked(made(tracked_truth(TWO), TWO), "prediction_time").figures["prediction_time/mean_frames"]
    assert found.value == pytest.approx(found.ceiling, abs=1.5)


def test_a_frozen_world_lasts_as_long_as_copy_last_and_has_lost_its_speed():
    found = asked(made(CopyLast(ONE))).figures
    assert found["prediction_time/mean_frames"].value == found["prediction_time/mean_frames"].baselines["copy_last"]
    assert found["prediction_time/mean_frames"].value < 12
    assert found["half_life/position_median_frames"].value < 12
    assert found["fidelity/speed_wasserstein"].value > found["fidelity/speed_wasserstein"].floor + 0.5
    assert found["drift/energy"].curve is not None
    assert found["fidelity/energy_energy_distance"].value > 2 * found["fidelity/energy_energy_distance"].floor


def grey(frames, random):
    out = frames.copy()
    out[:, 12:20] = 60
    return out


def noisier(frames, random):
    size = np.linspace(0, 40, frames.shape[1])[:, None, None, None]
    noise = np.stack([r.normal(size=frames.shape[1:]) for r in random]) * size
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def test_a_collapse_that_recovers_is_drift_though_end_and_start_agree():
    dreams = made(Altered(Truth(ONE), grey))
    found = asked(dreams, "drift,half_life").figures
    frames = long_dreams(dreams).frames.astype(np.float64)
    light = window_means(frames.mean((2, 3, 4)), 40, 4)
    assert abs(light[:, -1] - light[:, 0]).max() < 0.1  # what a comparison of end and start would see
    assert found["drift/brightness"].value > 20 * max(found["drift/brightness"].floor, 0.1)
    assert found["drift/left_the_world"].value == 1
    curve = found["drift/brightness"].curve
    assert curve is not None
    high = [h for h, v in zip(curve.horizon, curve.value, strict=True) if v is not None and v > 10]
    assert high == [16, 20]  # windows are named by their last frame
    assert found["half_life/count_median_frames"].value == 13


def test_noise_that_grows_is_seen_to_grow():
    found = asked(made(Altered(Truth(ONE), noisier)), "drift,half_life").figures
    curve = found["drift/sharpness"].curve
    assert curve is not None
    assert all(b > a for a, b in zip(curve.value[2:], curve.value[3:], strict=False))
    assert found["drift/sharpness"].value == max(v for v in curve.value if v is not None)
    assert found["drift/left_the_world"].value == 1


def test_heating_is_seen_in_speeds_and_energy_not_in_brightness():
    found = asked(made(Simulated(ONE, Law(growth=0.03))), "fidelity,drift").figures
    assert found["fidelity/speed_wasserstein"].value > 1.5 * found["fidelity/speed_wasserstein"].floor
    more = found["fidelity/speed_over_floor"]
    assert more.value == pytest.approx(
        found["fidelity/speed_wasserstein"].value - found["fidelity/speed_wasserstein"].floor
    )
    assert more.interval[0] > 0  # what dream and truth have in common cancels
    late = found["fidelity/speed_wasserstein"].curve
    assert late is not None
    assert late.value[-1] > 2 * late.floor[-1]
    assert found["drift/energy"].value > 2 * found["drift/energy"].floor
    assert found["drift/brightness"].value < 0.5


def test_the_truth_leads_where_it_should():
    found = asked(made(Simulated(ONE, Law(clock=1.15)), trained=8), "regimes").figures
    error = {name: found[f"regimes/position_{name}_px"].curve for name in ("teacher", "sliding", "free")}
    teacher, sliding, free = (np.array(error[name].value) for name in ("teacher", "sliding", "free"))
    assert teacher.max() < 1
    assert sliding[3] == free[3]  # the first stretch of four frames
    assert sliding[4] == pytest.approx(teacher[4])  # the next begins anew
    assert free[-1] > 2 * sliding[-1] > 2 * teacher[-1]
    cost = found["regimes/own_frames_cost_db"].curve
    assert cost is not None
    assert cost.value[0] == 0
    assert cost.value[-1] > 2


def test_the_truth_goes_on_where_the_recording_ends():
    dreams = made(Truth(TWO), TWO)
    long = long_dreams(dreams)
    start = {n: x[:, -1] for n, x in dreams.truth_shown.items() if n in ("position", "velocity", "radius")}
    played = TWO.play(start, None, 40)
    ours = np.flatnonzero(np.isin(dreams.episodes, long.dreams.episodes))
    assert long.true_to_the_end
    assert len(ours) == len(long.dreams) == 5
    np.testing.assert_array_equal(long.dreams.real["camera"], played.frames[ours, 1:])
    np.testing.assert_allclose(long.dreams.truth["position"], played.truth["position"][ours, 1:])
    assert not set(long.reference.episodes) & set(long.dreams.episodes)
    others = np.flatnonzero(np.isin(dreams.episodes, long.reference.episodes))
    np.testing.assert_array_equal(long.reference.segment.obs["camera"][:, 4:].numpy(), played.frames[others, 1:])


def test_actions_go_on_as_they_were_given():
    world = ExactWorld(BallsConfig(**SMALL, action="discrete"))
    long = long_dreams(made(Truth(world), world))
    np.testing.assert_array_equal(long.dreams.real["camera"], long.frames)  # both were played the same
    assert long.dreams.horizon == long.length == 40
    assert window_length(long) == 4
    assert window_length(dataclasses.replace(long, frames=long.frames[:, :12])) == 3  # four windows at least
    assert long.dreams.held.segment.control["action"].shape[1] == 44


def bare(dreamer, world=ONE, **fields) -> Dreams:
    """As a Gymnasium run gives them: pictures, and no truth."""
    dreams = made(dreamer, world, **fields)
    hidden = Hidden(dreams.dreamer, dreams.held)
    held = dataclasses.replace(dreams.held, truth={})
    return dataclasses.replace(dreams, world=None, truth={}, truth_shown={}, held=held, dreamer=hidden)


class Hidden:
    """Dreams as another who is shown the truth, of which its caller has none."""

    def __init__(self, inner, held):
        self.inner, self.spec, self.held = inner, inner.spec, held

    def dream(self, held, control, frames, **rest):
        rows = np.array([int(np.flatnonzero(self.held.episodes == e)[0]) for e in held.episodes])
        return self.inner.dream(self.held.rows(rows), control, frames, **rest)


def test_few_true_frames_are_enough_to_tell_a_half_life_of_pictures():
    found = asked(bare(Truth(ONE), trained=16, horizon=5), "half_life").figures
    assert found["half_life/motion_mean_frames"].value > 0
    assert found["half_life/picture_mean_frames"].value == 5


def test_where_nobody_can_be_judged_any_more_no_life_is_said_to_last_so_long():
    dreams = made(Truth(ONE), n=6, trained=4, horizon=20)
    seen_for = Lives(np.full(6, 3), np.zeros(6, bool))  # none has failed, and none was seen past frame 3
    found = lasting_figures(dreams, seen_for, 20, title="Dreams", meaning="M.", blind_to="B.")
    assert found["median_frames"].value is None
    assert "more than half outlast the 3 frames that can be judged" in found["median_frames"].meaning
    never = Lives(np.zeros(6, int), np.zeros(6, bool))
    found = lasting_figures(dreams, never, 20, title="Dreams", meaning="M.", blind_to="B.")
    assert "no frame can be judged" in found["median_frames"].meaning


def test_without_truth_pictures_are_measured_and_the_rest_is_listed():
    good, still = (asked(bare(d)) for d in (Truth(ONE), CopyLast(ONE)))
    assert set(good.unmeasured) == {"prediction_time"}
    assert "position" in good.unmeasured["prediction_time"]
    for found in (good, still):
        assert {f"fidelity/{name}_wasserstein" for name in ("brightness", "contrast", "motion")} <= set(found.figures)
        assert not {"fidelity/speed_wasserstein", "drift/count"} & set(found.figures)
    assert good.figures["half_life/picture_mean_frames"].value == 16
    assert good.figures["half_life/motion_mean_frames"].value == 40
    assert still.figures["half_life/picture_censored"].value == 1  # it is copy-last: not behind it
    assert still.figures["half_life/motion_mean_frames"].value < 8
    for name in ("drift/sharpness", "drift/left_the_world"):  # the truth ends after 16 frames, the dream after 40
        assert "of 4 windows each where the dreams have 10" in good.figures[name].meaning
    name = "fidelity/motion_wasserstein"
    assert still.figures[name].value > good.figures[name].value + 0.5
    curve = good.figures[name].curve
    assert curve is not None
    assert curve.horizon[-1] == 40
    noisy = asked(bare(Altered(Truth(ONE), noisier)), "half_life").figures
    assert noisy["half_life/motion_median_frames"].value < 40


def test_one_episode_leaves_nothing_to_compare_with():
    dreams = made(Truth(ONE), n=4)
    held = dataclasses.replace(dreams.held, episodes=np.zeros(4, int))
    with pytest.raises(NotMeasurableError, match="one held-out episode"):
        long_dreams(dataclasses.replace(dreams, held=held, episodes=np.zeros(4, int)))
    assert set(asked(bare(Truth(ONE), n=4, horizon=1)).unmeasured) >= {"fidelity", "drift"}


def test_the_same_again_to_the_last_digit():
    def once() -> str:
        found = asked(made(tracked_truth(TWO), TWO, n=6), "regimes,fidelity,drift,half_life").figures
        return json.dumps({n: dataclasses.asdict(f) for n, f in found.items()}, allow_nan=False)

    assert once() == once()


def test_distances_between_samples_are_those_of_the_books():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=17), rng.choice(rng.normal(1, 2, 9), 30)  # with ties
        assert wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b))
        pairs = 2 * np.abs(a[:, None] - b).mean() - np.abs(a[:, None] - a).mean() - np.abs(b[:, None] - b).mean()
        assert energy_distance(a, b) == pytest.approx(pairs)
    assert wasserstein(a, a) == energy_distance(a, a) == 0


def test_energy_and_turns_are_those_of_the_world():
    start = TWO.starts(8, 3)
    path = TWO.play(start, None, 60).truth
    found = quantities(path["position"], path["radius"][:, 0], TWO.config.gravity, 2.0)
    energy = found["energy"][..., 0]
    calm = (path["wall_hits"].sum((2, 3)) + path["ball_hits"].sum((2, 3)))[:, 1:] == 0
    for row, quiet in zip(energy, calm, strict=True):
        assert np.ptp(row[quiet]) < 1e-6  # the same before and after contacts
    speed = np.sqrt(np.square(path["velocity"]).sum(-1))
    assert found["speed"].mean() == pytest.approx(speed[:, 1:].mean(), rel=0.05)
    turned = found["turns"].any(2)
    near = (~calm[:, 1:]) | (~calm[:, :-1])
    assert not (turned & ~near).any()
    assert turned[near].mean() > 0.5


def test_windows_hold_what_is_measured_in_them():
    values = np.arange(9.0)[None]  # of the last 9 of 10 frames
    np.testing.assert_array_equal(windowed(values, 10, 4), [[[np.nan, 0, 1, 2], [3, 4, 5, 6]]])
    assert worst(np.array([np.nan, 1.0, 3.0])) == 3


def test_the_jackknife_covers():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        a, b = rng.normal(1.0, 1.0, 20), rng.normal(0.0, 1.0, 20)

        def shift(mine, theirs, a=a, b=b):
            return np.array([a[mine].mean() - b[theirs].mean()])

        low, high = jackknife(shift, worst, np.arange(20), np.arange(20))
        hits += low[0] <= 1 <= high[0]
    assert 0.88 < hits / 200 < 0.99


def test_discs_are_parted_and_put_inside():
    path = TWO.play(TWO.starts(40, 5), None, 40).truth["position"].reshape(-1, 2, 2)
    gap = np.sqrt(np.square(path[:, 0] - path[:, 1]).sum(-1))
    touching = path[np.argsort(gap)[:60]] + np.random.default_rng(0).normal(0, 0.3, (60, 2, 2))
    radius, box = np.full((60, 2), 4.0), np.array([40.0, 40.0])
    place = settled(touching, radius, box)
    assert place.min() >= 4
    assert place.max() <= 36
    assert np.sqrt(np.square(place[:, 0] - place[:, 1]).sum(-1)).min() > 8 - 1e-3
    assert np.abs(place - touching).max() < 2
    TWO.play({"position": place, "velocity": 0 * place, "radius": radius}, None, 1)  # the world takes them
    fine = TWO.starts(5, 0)
    np.testing.assert_array_equal(settled(fine["position"], fine["radius"], box), fine["position"])


def test_a_prediction_is_valid_until_it_is_not():
    error = np.array([[0.1, 0.5, 0.1, 0.1], [0.1, np.inf, 0.1, 0.1], [0.1, np.inf, np.inf, np.inf], [0.9, 0.9, 0, 0]])
    judged = np.ones((4, 4), bool)
    judged[3, :2] = False
    found = valid_for(error, judged)
    assert found.frame.tolist() == [2, 4, 2, 4]
    assert found.failed.tolist() == [True, False, True, False]
