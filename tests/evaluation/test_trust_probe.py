"""The probe ``trust``: on a dreamer that knows only what it was shown, and on the exact world."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from worldloom.evaluation.battery import Truth, make_dreams
from worldloom.evaluation.battery.truth import stretches
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes import NotMeasurableError
from worldloom.evaluation.probes import trust as module
from worldloom.evaluation.tracking import HIDDEN, LOST, MERGED, Tracks
from worldloom.evaluation.trust import calibrate as calibrate_module
from worldloom.evaluation.trust.calibrate import calibrate, save_trust
from worldloom.evaluation.trust.conformal import least_groups
from worldloom.evaluation.trust.planned import Plans, planned_dreams
from worldloom.evaluation.trust.signals import errors, measured, worst
from worldloom.evaluation.trust.starts import calibration_starts, strange_worlds, windows
from worldloom.imagination.trust import load_trust
from worldloom.worlds.balls import BallsConfig

WORLD = ExactWorld(BallsConfig(height=24, width=24, radius=2.5, speed=1.0, action="discrete", push=0.2, balls=1))
PROMPT, HORIZON = 4, 14


class Learnt(Truth):
    """Like a trained model: its speeds are a little wrong, each start's by its own share, and what is faster than all
    it has seen, or of another size, number or colour, it takes for what it knows."""

    def dream(self, held, control, frames, *, seed, sensors, mode="free", every=1, say=lambda _: None):
        parts = stretches(held, control, frames, mode, every)
        start = {name: x[:, : self.world.config.balls] for name, x in parts.start.items()}
        wrong = np.sin(7 * start["position"].sum((1, 2)) + seed)[:, None, None]
        start["velocity"] = np.clip(start["velocity"], -2.5, 2.5) * (1 + 0.05 * wrong)
        start["radius"] = np.full_like(start["radius"], self.world.config.radii[0])
        inside = start["radius"][:, :, None]
        start["position"] = np.clip(start["position"], inside, 24 - inside)
        played = self.world.play(start, parts.action, parts.length)
        return {"camera": parts.join(played.frames[:, 1:], frames)}


@pytest.fixture(scope="module")
def dreams():
    return make_dreams(WORLD, Learnt(WORLD), 48, PROMPT, HORIZON, seed=3)


@pytest.fixture(scope="module")
def figures(dreams, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STARTS", 90)
        patch.setattr(module, "STRANGE", 4)
        patch.setattr(module, "PLANS", Plans(10, 6, 3, HORIZON))
        return module.trust.measure(dataclasses.replace(dreams, folder=folder)), folder


def test_dreams_stay_under_their_bound_and_strange_starts_are_told(figures):
    found, folder = figures
    assert found["trust/coverage"].value > 0.75  # 0.9 ± what 60 and 48 dreams can say: four standard deviations
    assert found["trust/coverage"].floor == 1.0
    assert found["trust/false_alarms"].value < 0.3
    bound = found["trust/bound"].curve
    assert bound is not None
    assert np.all(np.diff(bound.value) >= 0)
    assert bound.value[0] < 0.5 < 24
    assert 3 <= found["trust/frames_within"].value <= HORIZON
    assert found["trust/strange_broken"].value > 0.5
    assert found["trust/strange_caught"].value > 0.85
    contents = load_trust(folder).contents
    assert (contents.prompt, contents.horizon, contents.starts, contents.actions) == (4, HORIZON, "fresh", "random")
    assert contents.sampler == "random"
    assert "checkpoint" not in contents.hashes
    rule = contents.views["prompt"].rules["position"]
    assert (rule.recorded.n, rule.recorded.episodes, contents.fitted) == (45, 45, 45)
    assert rule.planned is not None
    assert rule.planned.n == 10
    assert "state" not in contents.views  # no model, no features


def test_the_same_seed_gives_the_same_calibration(dreams, tmp_path):
    for name in ("one", "other"):
        save_trust(calibrate(dreams, 20)[0], tmp_path / name)
    one, other = (tmp_path / name / "trust.json" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    # the header of a safetensors file may name its remarks in any order
    one, other = (load_file(tmp_path / name / "trust.safetensors") for name in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again, _ = calibrate(dataclasses.replace(dreams, seed=4), 20)
    assert again.contents != load_trust(tmp_path / "one").contents


def test_a_worse_dreamer_has_a_wider_bound(dreams):
    def width(dreamer):
        made = make_dreams(WORLD, dreamer, 4, PROMPT, HORIZON, seed=5)
        rule = calibrate(made, 24)[0].contents.views["prompt"].rules["position"]
        return rule.recorded.value * rule.curve[-1]

    exact, learnt = width(Truth(WORLD)), width(Learnt(WORLD))
    assert exact < 0.3 < learnt


def test_what_was_planned_is_what_is_done(dreams):
    exact = make_dreams(WORLD, Truth(WORLD), 12, PROMPT, HORIZON, seed=3)
    plans = Plans(16, 16, 6, 12)
    rows = np.arange(4, 12)
    there = planned_dreams(exact, rows, plans)
    assert there.horizon == 12
    np.testing.assert_array_equal(there.dreamed["camera"], there.real["camera"])  # the same actions, the same frames
    np.testing.assert_array_equal(there.shown["camera"], exact.shown["camera"][rows])
    np.testing.assert_array_equal(there.episodes, exact.episodes[rows])
    np.testing.assert_array_equal(there.held.segment.control["action"][:, PROMPT:], there.held.control["action"])
    error, _ = errors(there)
    assert error["position"].max() < 0.3
    # a plan among more ends nearer to its goal: the same goals are drawn for the same starts
    assert ends(planned_dreams(exact, rows, dataclasses.replace(plans, choices=10)), plans) < ends(
        planned_dreams(exact, rows, dataclasses.replace(plans, choices=1)), plans
    )


def test_plans_that_calibrate_share_no_draw_with_those_that_test(dreams, monkeypatch):
    plans, seen = Plans(10, 10, 1, 12), []

    def spied(*given, **more):
        seen.append(planned_dreams(*given, **more))
        return seen[-1]

    monkeypatch.setattr(calibrate_module, "planned_dreams", spied)
    calibrate(dreams, 20, plans)
    spied(dreams, np.arange(10), plans)  # as the probe and the benchmark test them
    one, other = (there.held.control["action"].numpy() for there in seen)
    assert one.shape == other.shape
    assert (one == other).mean() < 0.5  # of five actions a fifth agree by chance


def ends(there, plans):
    """Mean distance between where the ball ends and its goal."""
    from worldloom.evaluation.trust.planned import goals

    return float(np.hypot(*(there.truth["position"][:, -1, 0] - goals(WORLD, len(there), 3)).T).mean())


def tracks_of(gone=(), frames=20, count=1):
    """One object that stands still, not seen in some frames."""
    position = np.full((frames, count, 2), 5.0)
    reason = np.zeros((frames, count), np.int8)
    for begin, end, why in gone:
        position[begin:end], reason[begin:end] = np.nan, why
    blank = np.full((frames, count), np.nan)
    zeros = np.zeros(frames, int)
    return Tracks(position, blank, blank[..., None], position, reason, zeros, zeros, blank > 0)


def test_what_is_out_of_sight_is_not_compared_and_what_is_gone_is_lost():
    known = np.full((20, 1, 2), 5.0)
    known[:, 0, 0] += 3

    def error(*gone):
        return worst(tracks_of(gone), known, 90.0)

    np.testing.assert_array_equal(error(), 3.0)
    np.testing.assert_array_equal(error((4, 8, LOST)), [3] * 4 + [0] * 4 + [3] * 12)
    np.testing.assert_array_equal(error((4, 10, LOST)), [3] * 4 + [90] * 6 + [3] * 10)
    np.testing.assert_array_equal(error((18, 20, LOST)), [3] * 18 + [90] * 2)  # never seen to come back
    np.testing.assert_array_equal(error((18, 20, MERGED)), [3] * 18 + [0] * 2)
    np.testing.assert_array_equal(error((4, 16, HIDDEN)), [3] * 4 + [0] * 12 + [3] * 4)
    np.testing.assert_array_equal(worst(tracks_of(), known + 500, 90.0), 90.0)


def test_windows_are_cut_anywhere_from_episodes(dreams):
    held = windows(WORLD, 40, 30, PROMPT, HORIZON, 0)
    assert held.segment.length == PROMPT + HORIZON
    first = held.segment.first
    assert not first[:, 1:].any()
    assert 0 < first[:, 0].sum() < 20
    later = ~first[:, 0]
    assert (held.segment.control["action"][later, 0] != WORLD.null).any()
    assert (held.segment.control["action"][first[:, 0], 0] == WORLD.null).all()
    np.testing.assert_array_equal(held.segment.control["action"][:, PROMPT:], held.control["action"])
    # what follows is what the actions lead to
    start = {name: held.truth[name][:, PROMPT - 1] for name in ("position", "velocity", "radius")}
    played = WORLD.play(start, held.control["action"].numpy(), HORIZON)
    np.testing.assert_array_equal(played.frames[:, 1:], held.segment.obs["camera"][:, PROMPT:].numpy())


def test_too_few_episodes_are_said(dreams):
    few = SimpleNamespace(splits={"val": np.arange(8)}, lengths=np.full(28, 40))
    assert least_groups(0.9) == 9
    alone = dataclasses.replace(dreams)
    object.__setattr__(alone, "dataset", few)
    object.__setattr__(alone, "world", None)
    with pytest.raises(NotMeasurableError, match=r"10 or more episodes.*'val' has 8"):
        calibration_starts(alone, 40, 0.9)
    bare = dataclasses.replace(dreams, world=None)
    with pytest.raises(NotMeasurableError):
        calibrate(bare, 40)


def test_plans_need_actions_and_a_world(dreams):
    plans = Plans(4, 4, 2, 8)
    with pytest.raises(NotMeasurableError, match="no exact world"):
        planned_dreams(dataclasses.replace(dreams, world=None), np.arange(2), plans)
    still = ExactWorld(dataclasses.replace(WORLD.config, action="none"))
    silent = make_dreams(still, Truth(still), 12, PROMPT, HORIZON, seed=0)
    with pytest.raises(NotMeasurableError, match="no actions"):
        planned_dreams(silent, np.arange(2), plans)
    found, _ = calibrate(silent, 20, plans)
    assert found.contents.planned == "there are no actions that a planner could choose."
    assert found.contents.views["prompt"].rules["position"].planned is None
    bound = found.of_signals(
        found.contents.views["prompt"], measured(silent, found.familiar, 9, "deterministic").signals, "planned"
    )
    assert not bound.known.any()
    assert np.isinf(bound.within).all()
    assert torch.is_tensor(silent.held.segment.first)


def test_no_strange_world_is_too_full_for_its_balls():
    full = ExactWorld(BallsConfig(balls=2, radius=12.8))
    worlds = strange_worlds(full)
    assert "larger" not in worlds  # 2 discs of radius 20 in a box of 64
    assert {"speed", "smaller", "colours"} <= worlds.keys()
    for one in worlds.values():
        one.starts(16, seed=0)
    assert "larger" in strange_worlds(ExactWorld(BallsConfig(balls=2, radius=5.0)))


def test_a_world_that_is_left_as_it_is_is_not_strange():
    plain = ExactWorld(BallsConfig(radius=1.0, colours=((255, 178, 84),)))
    worlds = strange_worlds(plain)
    assert not {"smaller", "colours"} & worlds.keys()  # no disc is smaller than 1 px, and one colour has no other order
    assert {"speed", "larger", "gravity", "more", "background", "wind"} == worlds.keys()
