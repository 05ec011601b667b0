"""PhyWorld's protocol: the exact world scores its floor, and each fault shows in the figures that claim to see it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from phyworld_faults import dreams_of, values

from worldloom.data.collect import collect
from worldloom.evaluation.exact import as_held
from worldloom.evaluation.probes import NotMeasurableError, find_probes
from worldloom.evaluation.probes import phyworld as module
from worldloom.evaluation.probes.phyworld_motion import (
    Given,
    clip_mean,
    engine,
    pair_counts,
    pair_velocity,
    window_counts,
    window_velocity,
)
from worldloom.worlds.phyworld import FRAMES, PROMPT, STEP, TEST_SPLITS, UNIT, PhyWorld, PhyWorldConfig


@pytest.fixture(autouse=True)
def _few_clips(monkeypatch):
    monkeypatch.setattr(module, "CLIPS", 8)


def measured(scenario: str, split: str = "in", fault: str = "none", splits: tuple[str, ...] = ("in",), **more):
    (probe,) = find_probes("phyworld")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TEST_SPLITS", {split: splits})
        figures = probe.measure(dreams_of(scenario, split, fault, **more))
    return {name.removeprefix("phyworld/"): figure for name, figure in figures.items()}


@pytest.mark.parametrize(("scenario", "split"), [("uniform", "in"), ("parabola", "bands"), ("collision", "wedge")])
def test_the_exact_world_scores_its_own_floor_in_every_split(scenario, split):
    figures = measured(scenario, split, splits=TEST_SPLITS[split])
    splits = {name.removeprefix("error_two_frames_").removeprefix("error_") for name in figures if "error" in name}
    assert splits == set(TEST_SPLITS[split])
    for name, figure in figures.items():
        assert figure.n == 8, name
        assert figure.value == figure.floor, name
        assert figure.interval is not None
    for one in splits:
        assert figures[f"error_{one}"].value < 0.003  # the paper's own floors: 0.0099, 0.0117, 0.0210
        assert figures[f"error_{one}"].value < figures[f"error_two_frames_{one}"].value < 0.012
        assert figures[f"lost_{one}"].value == 0
        for kept, least in (("radius", 0.002), ("momentum", 0.005), ("energy", 0.02)):
            name = f"{kept}_{one}"
            assert (scenario == "uniform" and kept != "radius") or figures[name].value < least, name
        assert figures[f"error_{one}"].value < figures[f"error_{one}"].ceiling < 0.06
        assert (figures[f"error_{one}"].baselines["straight_on"] < 0.01) == (scenario == "uniform")
        assert "nearest_training_clip" not in figures[f"error_{one}"].baselines  # no data, no lookup


def test_a_ball_hit_from_rest_is_not_taken_for_lost():
    dreams = dreams_of("collision", "in")
    assert dreams.world is not None
    still, fast = np.array([[26.0, 30.0]]), np.array([[44.0, 30.0]])
    start = {
        "position": np.stack([still, fast], 1),
        "velocity": np.array([[[0.0, 0.0], [-3.8, 0.0]]]),
        "radius": np.array([[2.0, 10.0]]),
    }
    held = as_held(dreams.world.play(start, None, FRAMES - 1), PROMPT)
    seen = module._look(dreams.of(held), dreams.world)
    np.testing.assert_allclose(seen.dreamed, held.truth["position"][:, PROMPT:], atol=0.1)
    assert np.abs(np.diff(seen.dreamed[0, :, 0, 0])).max() > 6


def test_too_fast_is_measured_in_units_a_second():
    figures = measured("uniform", fault="faster")
    true = dreams_of("uniform", starts=8)
    speed = true.truth_shown["velocity"][:, 0, 0, 0] / (UNIT * STEP)
    assert figures["error_in"].value == pytest.approx(0.2 * speed.mean(), abs=0.005)
    assert figures["error_two_frames_in"].value == pytest.approx(0.2 * speed.mean(), abs=0.01)
    assert "momentum_in" not in figures  # one ball that meets nothing: it would be the error once more


def test_speeds_that_snap_to_the_trained_bands_show_in_the_gap_alone():
    found = values(measured("uniform", "bands", "snap", ("bands", "gap")))
    assert found["error_bands"] < 0.13  # half a band's width
    assert found["error_gap"] > 5 * found["error_bands"]
    assert found["error_two_frames_gap"] == pytest.approx(found["error_gap"], rel=0.05)


def test_balls_that_pass_through_each_other_and_balls_that_stick():
    ghosts = values(measured("collision", fault="ghost"))
    assert ghosts["error_in"] > 0.5
    stuck = values(measured("collision", fault="stick"))
    assert stuck["error_in"] > 0.5
    assert stuck["energy_in"] > 0.5
    assert stuck["momentum_in"] < 0.02  # which they keep


def test_without_gravity_energy_is_not_kept_and_horizontal_momentum_is():
    found = values(measured("parabola", fault="weightless"))
    assert found["error_in"] > 1
    assert found["energy_in"] > 0.5
    assert found["momentum_in"] < 0.005
    faster = values(measured("parabola", fault="faster"))
    assert faster["momentum_in"] > 0.1


def test_a_ball_that_vanishes_is_lost_and_never_filled_in():
    figures = measured("collision", fault="vanish")
    assert figures["lost_in"].value > 0.5
    assert figures["lost_in"].floor == 0
    assert figures["energy_in"].n < 8  # which needs both balls
    for name in ("error_in", "energy_in", "momentum_in"):
        assert figures[name].n == 0 or figures[name].value < 0.02, name  # what was seen was right


def test_a_growing_ball_drifts_in_radius_alone():
    figures = measured("uniform", fault="grow")
    assert figures["radius_in"].value > 0.05
    assert figures["radius_in"].floor < 0.001
    assert figures["error_in"].value < 0.1


def test_the_same_seed_gives_the_same_figures_and_another_one_others():
    once, again, other = (values(measured("parabola", seed=seed)) for seed in (0, 0, 1))
    assert once == again
    assert all(once[name] != other[name] for name in ("error_in", "energy_in", "radius_in"))


def test_a_lookup_of_the_nearest_training_clip(tmp_path):
    config = PhyWorldConfig("uniform")
    described = {"world": {"env": "phyworld", "config": dataclasses.asdict(config)}}
    dataset = collect(PhyWorld(config, 20, 0), tmp_path / "data", 100, FRAMES, info=described)
    known = module._remembered(dataset)
    assert len(known["position"]) == len(dataset.splits["train"])
    # asked for what it holds, it finds it: its own clip, played on
    own = Given(known["position"][:, :3], known["radius"][:, 0])
    np.testing.assert_array_equal(module._nearest(known, own), known["position"][:, 3:])
    blind = dataclasses.replace(
        own, position=np.where(np.arange(len(own.radius))[:, None, None, None] == 1, np.nan, own.position)
    )
    assert np.isnan(module._nearest(known, blind)[1]).all()
    assert np.isfinite(module._nearest(known, blind)[2:]).all()

    (probe,) = find_probes("phyworld")
    figures = probe.measure(dataclasses.replace(dreams_of("uniform"), dataset=dataset))
    recall = {split: figures[f"phyworld/error_{split}"].baselines["nearest_training_clip"] for split in ("in", "speed")}
    assert 0.003 < recall["in"] < 0.5  # remembers what it saw ...
    assert recall["speed"] > 2 * recall["in"]  # ... and nothing else

    short = collect(PhyWorld(config, 5, 0), tmp_path / "short", 10, 20, info=described)
    with pytest.raises(NotMeasurableError, match="32 frames"):
        probe.measure(dataclasses.replace(dreams_of("uniform"), dataset=short))


def test_other_worlds_and_other_splits_are_told_of():
    (probe,) = find_probes("phyworld")
    dreams = dreams_of("uniform")
    assert dreams.world is not None
    with pytest.raises(NotMeasurableError, match="worldloom train"):
        probe.measure(dataclasses.replace(dreams, world=dataclasses.replace(dreams.world, phyworld=None)))
    with pytest.raises(NotMeasurableError, match="'size'"):
        probe.measure(dreams_of("uniform", "size"))
    assert probe.asked
    assert probe not in find_probes("default", full=True)


def test_velocities_are_exact_on_parabolas_and_unknown_where_a_ball_is_not_seen():
    t = np.arange(12.0)
    path = np.stack([3 + 2 * t, 1 - 0.5 * t + 0.08 * t**2], -1)[None, :, None]
    true = np.stack([np.full(12, 2.0), -0.5 + 0.16 * t], -1) / (UNIT * STEP)
    five, two = window_velocity(path)[0, :, 0], pair_velocity(path)[0, :, 0]
    np.testing.assert_allclose(five[2:-2], true[2:-2])
    assert np.isnan(five[[0, 1, -2, -1]]).all()
    np.testing.assert_allclose(two[1:], true[1:] - [0, 0.08 / (UNIT * STEP)])  # half a frame late
    path[0, 6] = np.nan
    assert np.isnan(window_velocity(path)[0, 4:9]).all()
    assert np.isfinite(window_velocity(path)[0, 2:4]).all()
    assert np.isnan(pair_velocity(path)[0, [6, 7]]).all()
    noise = np.random.default_rng(0).normal(size=(400, 9, 1, 2))
    ratio = np.nanstd(pair_velocity(noise)) / np.nanstd(window_velocity(noise))
    assert ratio == pytest.approx(np.sqrt(2 * 10), rel=0.05)


def test_means_are_of_what_counts_and_was_seen():
    counts = np.array([[False, True, True, True, True, True, True, False]])
    assert np.flatnonzero(window_counts(counts)[0]).tolist() == [3, 4]
    assert np.flatnonzero(pair_counts(counts)[0]).tolist() == [2, 3, 4, 5, 6]
    assert not window_counts(counts[:, :4]).any()
    x = np.array([[9.0, 1.0, np.nan, 3.0], [9.0, np.nan, np.nan, 9.0]])
    found = clip_mean(x, np.array([[False, True, True, True], [False, True, True, False]]))
    assert found[0] == 2.0
    assert np.isnan(found[1])


def test_the_engine_goes_on_from_what_was_seen():
    dreams = dreams_of("collision", starts=6)
    assert dreams.world is not None
    shown = dreams.truth_shown
    given = Given(shown["position"].copy(), shown["radius"][:, 0].copy())
    np.testing.assert_allclose(engine(dreams.world, given, 29), dreams.truth["position"], atol=1e-6)
    given.position[2, 1, 0] = np.nan
    unseen = engine(dreams.world, given, 29)
    assert np.isnan(unseen[2]).all()
    assert np.isfinite(unseen[3]).all()
    wide = Given(shown["position"], shown["radius"][:, 0] * 1.3)  # measured too large, so that they overlap
    assert np.isfinite(engine(dreams.world, wide, 29)).all()
