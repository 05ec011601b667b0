"""Probes of actions: exact worlds at their ceiling, and worlds that ignore, delay or swap actions found out."""

from __future__ import annotations

import dataclasses
from functools import cache

import action_worlds as worlds
import numpy as np
import pytest
import toy_discs

from worldloom.contract import Control
from worldloom.data.store import Dataset
from worldloom.evaluation import inverse
from worldloom.evaluation.heldout import draw
from worldloom.evaluation.inverse import InverseModel
from worldloom.evaluation.probes import NotMeasurableError, find_probes, gather
from worldloom.evaluation.probes import actions as helpers
from worldloom.evaluation.probes import inverse as probe_inverse
from worldloom.evaluation.probes.actions_noop import stretches
from worldloom.evaluation.probes.counterfactual_futures import futures, obeyed
from worldloom.evaluation.probes.inverse_score import Score
from worldloom.evaluation.schema import Figure
from worldloom.worlds.balls import BallsConfig

FAULTS = {"exact": None, "ignored": worlds.ignored, "delayed": worlds.delayed, "swapped": worlds.swapped}


@cache
def measured(fault: str, name: str) -> dict[str, Figure]:
    (one,) = find_probes(name)
    if name == "inverse_dynamics":
        dreams(fault).cache["inverse_model"] = reader()
    return {k.split("/")[1]: v for k, v in one.measure(dreams(fault)).items()}


@cache
def dreams(fault: str) -> worlds.Dreams:
    return worlds.dreams_of(FAULTS[fault], starts=14)


@cache
def reader() -> InverseModel:
    """Trained on true frames alone: the same for every fault, so once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverse, "STEPS", 120)
        patch.setattr(probe_inverse, "EXAMPLES", 2400)
        return probe_inverse.inverse_model(dreams("exact"))


def test_actions_are_worth_all_in_the_exact_world_and_nothing_where_they_are_ignored():
    exact, deaf = measured("exact", "action_gain"), measured("ignored", "action_gain")
    for name in ("psnr_db", "state_px"):
        assert exact[name].value == pytest.approx(exact[name].ceiling, abs=0.01)  # the tracker's own error
        assert exact[name].ceiling == deaf[name].ceiling
        assert min(exact[name].value.values()) > 0.2
        assert set(deaf[name].value.values()) == {0.0}
        assert len(exact[name].curve.value) == 20  # every t, not t = 4 alone
    late = measured("delayed", "action_gain")["state_px"]
    assert late.value["1"] == pytest.approx(0, abs=1e-9)  # the first action has not arrived yet
    assert 0.3 < late.value["5"] / late.ceiling["5"] < 0.8
    assert measured("swapped", "action_gain")["state_px"].value["10"] < 0.4 * exact["state_px"].value["10"]


def test_counterfactuals_of_the_exact_world_are_right_in_sign_size_and_angle():
    found = measured("exact", "counterfactual")
    for name in ("sign_right", "sign_right_at_once", "obeyed"):
        assert found[name].value == 1.0
        assert found[name].interval[0] < 1
    assert found["size_ratio"].value == pytest.approx(1, abs=0.01)
    assert found["difference_px"].value == found["difference_px"].floor < 0.05
    assert found["difference_px"].baselines["ignoring_actions"] > 5
    assert found["angle_deg"].value < 1
    assert found["action_told"].value == found["action_told"].ceiling > 0.8
    assert found["position_error_obeyed_px"].value < 0.05


def test_counterfactuals_find_ignored_actions():
    found = measured("ignored", "counterfactual")
    assert found["sign_right"].value == found["obeyed"].value == found["size_ratio"].value == 0
    assert found["sign_right"].ceiling == 1
    assert found["action_told"].value == pytest.approx(0.2)  # chance among five
    assert found["difference_px"].value == pytest.approx(found["difference_px"].baselines["ignoring_actions"])
    assert found["position_error_obeyed_px"].value is None  # none obeyed: nothing to ask physics of
    assert found["position_error_obeyed_px"].baselines["all_dreams"] > 5
    assert "angle_deg" not in found


def test_counterfactuals_find_late_and_swapped_actions():
    late, swapped = measured("delayed", "counterfactual"), measured("swapped", "counterfactual")
    assert late["sign_right_at_once"].value == 0
    assert late["sign_right"].value > 0.8
    assert late["size_ratio"].value == pytest.approx(10 / 15, abs=0.05)  # 1 + 2 + 3 + 4 over 1 + ... + 5 pushes
    assert 0.4 < swapped["sign_right"].value < 0.7  # up and down are right
    assert abs(swapped["size_ratio"].value) < 0.2
    assert swapped["action_told"].value < 0.65
    # gated on actions obeyed: what did as told went right, though the whole did not
    gated = swapped["position_error_obeyed_px"]
    assert gated.value < 0.3 * gated.baselines["all_dreams"]


def test_every_action_is_dreamed_from_the_same_places_of_the_batch():
    one = worlds.dreams_of(starts=8)
    made = futures(one)
    calls = one.dreamer.calls[1:]
    assert calls == [(8, 10)] * 5  # an action a call: the noise of a start goes by its place
    assert [c.label for c in made.actions] == ["stay", "left", "right", "up", "down"]
    assert futures(one) is made
    assert len(one.dreamer.calls) == 6


def test_who_obeyed_is_told_start_by_start():
    assert (obeyed(dreams("exact")).share == 1).all()
    assert (obeyed(dreams("ignored")).share == 0).all()
    some = obeyed(dreams("swapped"))
    names = [c.label for c in futures(dreams("swapped")).actions]
    right = dict(zip(names, some.right.mean(1), strict=True))
    assert right["up"] == right["down"] == 1
    assert max(right["left"], right["right"]) < 0.3
    assert not some.asked[names.index("stay")].any()


def test_a_lost_object_did_not_obey_and_is_never_filled_in():
    class Blank(worlds.World):
        def dream(self, *args, **more):
            out = super().dream(*args, **more)
            out["camera"][4:] = out["camera"][4:, :1, :, :1, :1]  # nothing but background
            return out

    whole = worlds.dreams_of(starts=8)
    lost = dataclasses.replace(whole, dreamer=Blank(whole.world), cache={})
    (one,) = find_probes("counterfactual")
    found = {k.split("/")[1]: v for k, v in one.measure(lost).items()}
    assert found["lost"].value == pytest.approx(0.5, abs=0.05)
    assert found["sign_right"].value == pytest.approx(0.5, abs=0.05)
    assert found["size_ratio"].value == pytest.approx(1, abs=0.01)  # of those that can be seen
    assert found["position_error_obeyed_px"].value < 0.05
    assert found["position_error_obeyed_px"].baselines["all_dreams"] > 40  # the diagonal, as in the whole report


def test_doing_nothing_is_right_in_the_exact_world_and_where_actions_are_ignored():
    for fault in ("exact", "ignored"):
        found = measured(fault, "noop")
        assert max(found["position_error_px"].value.values()) < 0.05
        assert max(found["rest_px"].value.values()) < 0.05
    base = measured("ignored", "noop")["position_error_px"].baselines["recorded_actions"]
    assert base["10"] > 3


def test_a_world_that_moves_by_itself_is_found_by_doing_nothing():
    def restless(action, world):
        return np.where(action == 0, 2, action)  # staying goes right

    (one,) = find_probes("noop")
    found = one.measure(worlds.dreams_of(restless, starts=8, horizon=10))
    assert found["noop/position_error_px"].value["5"] == pytest.approx(7.5, abs=2.5)
    assert found["noop/rest_px"].value["5"] == pytest.approx(7.5, abs=2.5)
    assert found["noop/rest_px"].floor["5"] < 0.05


def test_what_is_done_can_be_undone_in_the_exact_world_only():
    exact, deaf = measured("exact", "undo"), measured("ignored", "undo")
    assert exact["done_and_undone"].value == exact["done_and_undone"].ceiling == 1
    assert exact["return_error_px"].value < 0.05
    assert exact["return_error_px"].baselines["never_undone"] == pytest.approx(4.5, abs=0.1)  # 9 pushes of half a pixel
    assert exact["went_ratio"].value == pytest.approx(1, abs=0.01)
    assert deaf["return_error_px"].value < 0.05  # who never went returns perfectly,
    assert deaf["went_ratio"].value == deaf["done_and_undone"].value == 0  # and is found out
    assert abs(measured("swapped", "undo")["went_ratio"].value) < 0.3


def test_a_push_that_is_weaker_back_does_not_return():
    def weak(action, world):
        return np.where(action == 2, 0, action)  # right does nothing

    (one,) = find_probes("undo")
    found = one.measure(worlds.dreams_of(weak, starts=12, horizon=4))
    assert found["undo/done_and_undone"].value < 0.7
    assert found["undo/done_and_undone"].ceiling == 1


def test_continuous_actions_go_both_ways_along_each_entry():
    config = BallsConfig(action="continuous_all", balls=2, radius=5.0, speed=0.5, push=0.4)
    found = worlds.dreams_of(worlds.timid, config, starts=10, horizon=8)
    labels = [c.label for c in helpers.choices(found)]
    assert labels[:3] == ["nothing", "ball 0 x +", "ball 0 x -"]
    assert len(labels) == 9
    assert [helpers.acted(found, c) for c in helpers.choices(found)[1:]] == [0] * 4 + [1] * 4
    pairs = helpers.inverses(found, helpers.choices(found))
    assert ("ball 1 y +", "ball 1 y -") in [(a.label, b.label) for a, b in pairs]
    figures = {k: v for p in find_probes("counterfactual,undo") for k, v in p.measure(found).items()}
    assert figures["counterfactual/sign_right"].value > 0.95
    assert figures["counterfactual/size_ratio"].value == pytest.approx(0.5, abs=0.1)
    assert figures["undo/went_ratio"].value == pytest.approx(0.5, abs=0.1)


def test_actions_are_read_back_from_the_exact_world_and_not_from_the_others():
    exact = measured("exact", "inverse_dynamics")
    assert exact["ratio"].value == 1.0
    assert exact["score_by_horizon"].value == exact["score_by_horizon"].ceiling
    assert min(v.ceiling for k, v in exact.items() if k.startswith("recall")) > 0.6
    digest = exact["ratio"].hashes["inverse_dynamics"]
    for fault in ("ignored", "delayed"):
        found = measured(fault, "inverse_dynamics")
        assert found["ratio"].value < found["ratio"].baselines["chance"] * 1.4
        assert found["ratio"].hashes["inverse_dynamics"] == digest
    swapped = measured("swapped", "inverse_dynamics")
    recall = {k.split("_")[-1]: v for k, v in swapped.items() if k.startswith("recall")}
    assert max(recall["left"].value, recall["right"].value) < 0.2
    assert min(recall["up"].value, recall["down"].value) > 0.6
    assert list(swapped["ratio_by_horizon"].value) == ["1", "2", "5", "10", "20"]


def test_actions_that_do_not_show_in_real_frames_are_not_asked_of_a_dream():
    still = worlds.dreams_of(config=dataclasses.replace(worlds.CONFIG, push=0.0), starts=12, horizon=10)
    (one,) = find_probes("inverse_dynamics")
    with pytest.raises(NotMeasurableError, match=r"macro-F1 .* guess scores 0\.20\), and 0\.28 is needed"):
        one.measure(dataclasses.replace(still, cache={"inverse_model": reader()}))


def test_macro_f1_and_r2_are_those_of_the_books():
    found = worlds.dreams_of(starts=6, horizon=5)
    random = np.random.default_rng(0)
    given, read = random.integers(0, 3, (6, 5)), random.integers(0, 3, (6, 5))
    f1 = []
    for k in range(3):
        hit = ((given == k) & (read == k)).sum()
        precision, recall = hit / (read == k).sum(), hit / (given == k).sum()
        f1.append(0 if hit == 0 else 2 * precision * recall / (precision + recall))
    score = Score(found, given, np.arange(3), 1)
    assert score.draws(read)[0] == pytest.approx(np.mean(f1))
    low, high = score.interval(score.draws(read))
    assert low < np.mean(f1) < high
    truth, said = random.normal(size=(2, 6, 5, 2))
    off = 1 - np.square(said - truth).sum((0, 1)) / np.square(truth - truth.mean((0, 1))).sum((0, 1))
    assert Score(found, truth, np.zeros(0, int), 1).draws(said)[0] == pytest.approx(off.mean())


def test_the_same_seed_gives_the_same_figures():
    (one,) = find_probes("counterfactual")
    first, again = (one.measure(worlds.dreams_of(worlds.delayed, starts=8, horizon=6)) for _ in range(2))
    assert first == again


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Dreams of a world that is none of ours: no exact world stands behind its data."""
    folder = tmp_path_factory.mktemp("discs")
    data = Dataset(toy_discs.write_discs(folder / "data", episodes=40, length=24, truth=False))
    model = toy_discs.Toy(data.spec, toy_discs.ToyConfig())
    return data, model


def foreign(discs, fault: str = "none", starts: int = 8, horizon: int = 10):
    from worldloom.evaluation.dreamers import ModelDreamer

    data, _ = discs
    model = toy_discs.Toy(data.spec, toy_discs.ToyConfig(fault=fault))
    held, dreamer = draw(data, starts, 4, horizon, horizon, 0), ModelDreamer(model)
    dreamed = dreamer.dream(held, held.control, horizon, seed=0, sensors=["image", "state"])
    return dataclasses.replace(gather(dreamer, held, dreamed, 0), model=model, dataset=data)


def test_without_an_exact_world_counterfactuals_only_say_how_far_the_futures_lie_apart(discs):
    (one,) = find_probes("counterfactual")
    found, deaf = (one.measure(foreign(discs, fault)) for fault in ("none", "deaf"))
    assert set(deaf["counterfactual/futures_differ"].curve.value) == {0.0}
    assert set(deaf["counterfactual/futures_psnr_db"].curve.value) == {60.0}
    assert found["counterfactual/futures_differ"].value["5"] > 0.02
    assert found["counterfactual/futures_psnr_db"].value["5"] < 25
    assert "no exact world" in found["counterfactual/futures_differ"].blind_to
    assert "counterfactual/sign_right" not in found


def test_what_a_foreign_world_can_not_tell_is_listed_with_the_reason(discs):
    found = foreign(discs)
    said = {}
    for one in find_probes("undo,noop"):
        with pytest.raises(NotMeasurableError) as raised:
            one.measure(found)
        said[one.name] = str(raised.value)
    assert "inverse is known" in said["undo"]
    assert "0 stretches of 8 frames" in said["noop"]  # its pushes are never zero for long
    named = Control("discrete", n=3, names=("jump", "duck", "run"))
    spec = dataclasses.replace(found.spec, given={"action": named})
    (one,) = find_probes("noop")
    with pytest.raises(NotMeasurableError, match=r"\['jump', 'duck', 'run'\] none is called stay, noop"):
        one.measure(dataclasses.replace(found, spec=spec))


def test_stretches_of_doing_nothing_are_found_where_they_are_and_do_not_overlap(tmp_path):
    data = Dataset(toy_discs.write_discs(tmp_path / "data", episodes=30, length=40, actions=True))
    number = int(data.splits["test"][0])
    original = Dataset.episode

    def episode(self, which, *args, **more):
        found = original(self, which, *args, **more)
        if which == number and not args:
            action = found.control["action"]
            action[6:30] = 0
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "episode", episode)
        held = stretches(data, helpers.Choice("nothing", np.zeros(2, np.float32)), 4, 8, 10)
    assert held.episodes.tolist() == [number, number]  # 2 + 4 to 13, then 14 to 25
    assert held.segment.length == 12
    assert stretches(data, helpers.Choice("nothing", np.zeros(2, np.float32)), 4, 8, 10) is None
