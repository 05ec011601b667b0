"""Reading ``trust.json``: what it says of new starts, and when it says that it does not know."""

from __future__ import annotations

import dataclasses
import json
import math

import dream_toys
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldloom.evaluation.trust.calibrate import save_trust
from worldloom.files import DamagedFileError, tensors_hash, write_json
from worldloom.imagination import trust as module
from worldloom.imagination.rollout import absorb
from worldloom.imagination.trust import (
    Bound,
    Contents,
    Quantile,
    Rule,
    Trust,
    TrustError,
    View,
    load_trust,
    strangeness,
)
from worldloom.imagination.trust_signals import FROM_STATE, Familiar, Space, features_after, fold, look, statistics
from worldloom.models.saved import model_hash

PROMPT, HORIZON = 3, 5
NAMES = (
    "features",
    "features_off",
    "pictures",
    "motion",
    "surprise_1",
    "surprise_spot_1",
    "surprise_2",
    "surprise_spot_2",
    "disagreement",
)


def prompts(values, length=PROMPT):
    """Counter frames that follow its rule with action 1."""
    return dream_toys.history([[v, *dream_toys.unroll(v, [1] * (length - 1))] for v in values])


class Plain(dream_toys.Counter):
    """A counter that shows its value and, faintly, its draw."""

    def decode(self, state, *, raw=False):
        screen = state["screen"].clone()
        screen[:, 0, 0, 1:3] = 0
        screen[:, 0, 0, 3] //= 32
        return {"screen": screen}

    def features(self, state):
        return self.decode(state)["screen"].flatten(1).float()


def view(signals, names, planned=True):
    """Signals of 40 familiar starts, and a rule for all alike."""
    raw = np.stack([signals[name] for name in names], 1)
    rule = Rule(
        (1.0, 2.0, 3.0, 4.0, 5.0),
        (0.0,) * len(names),
        255.0,
        Quantile(2.0, HORIZON, 40, 40),
        Quantile(4.0, 3, 20, 20) if planned else None,
    )
    empty = View(names, tuple(np.median(raw, 0).tolist()), (0.5,) * len(names), (), (), {"pixels": rule})
    strange = np.sort(strangeness(empty.standard(signals)))
    return dataclasses.replace(empty, strangeness=tuple(strange.tolist()), weights=(1.0,) * len(strange))


@pytest.fixture(scope="module")
def model():
    return Plain()


@pytest.fixture(scope="module")
def trust(model):
    seen = prompts(range(2, 23))
    familiar = Familiar.fit(features_after(model, seen), seen.obs["screen"].numpy())
    familiar = module.unpack({n: torch.from_numpy(x) for n, x in module.pack(familiar).items()})
    tensors = {n: torch.from_numpy(x) for n, x in module.pack(familiar).items()}
    actions = {"action": torch.ones(21, HORIZON, dtype=torch.int64)}
    signals = familiar.signals(look(model, seen, actions, "screen", HORIZON))
    digest = model_hash(model)
    contents = Contents(
        level=0.9, false_alarms=0.1, camera="screen", prompt=PROMPT, horizon=HORIZON, seed=0, starts="val",
        actions="recorded", sampler="random", objects="none", planned="the best of 2.", fitted=20,
        views={"prompt": view(signals, NAMES), "state": view(signals, FROM_STATE, planned=False)},
        hashes={"checkpoint": digest, "tensors": tensors_hash(tensors, {})},
    )  # fmt: skip
    return Trust(contents, familiar)


def test_a_bound_says_how_many_frames_stay_within_a_limit():
    within = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 0.5, 9.0], [math.inf] * 4])
    known = np.array([True, True, False])
    bound = Bound(within, known, np.array([0.5, 0.6, 0.01]), ("", "", "it is strange."), 0.9, "position")
    np.testing.assert_array_equal(bound.frames_within(2.0), [2, 3, 0])
    np.testing.assert_array_equal(bound.frames_within(99.0), [4, 4, 0])
    assert bound.sentence(0, 2.0) == "With 90% confidence within 2 px for the next 2 frames."
    assert bound.sentence(1, 9.5) == "With 90% confidence within 9.5 px for the next 4 frames."
    assert bound.sentence(0, 1.0) == "With 90% confidence within 1 px for the next frame."
    assert "not even the next frame" in bound.sentence(0, 0.2)
    assert bound.sentence(2, 2.0) == "Not known: it is strange."


def test_familiar_starts_have_a_bound_and_strange_ones_none(trust, model):
    actions = torch.ones(2, HORIZON, dtype=torch.int64)
    segment = prompts([10, 20])
    bound = trust.bound(model, segment, actions)
    assert bound.known.all()
    assert bound.within.shape == (2, HORIZON)
    np.testing.assert_allclose(bound.within[0], [2, 4, 6, 8, 10])
    assert (bound.error, bound.unit) == ("pixels", "of 255")

    strange = prompts([10, 20])
    strange.obs["screen"][1, :, 0, 1] = 255  # a row of pixels that was always dark
    odd = trust.bound(model, strange, {"action": actions})
    np.testing.assert_array_equal(odd.known, [True, False])
    assert np.isinf(odd.within[1]).all()
    assert odd.frames_within(1e9).tolist() == [HORIZON, 0]
    assert "stranger than 90%" in odd.why[1]
    assert odd.familiar[1] == pytest.approx(1 / 22)
    np.testing.assert_allclose(odd.within[0], bound.within[0])

    unforeseen = prompts([10, 20])
    unforeseen.obs["screen"][1, -1, 0, 0, 0] += 60  # in range, but not what the rule leads to
    assert trust.bound(model, unforeseen, actions).known.tolist() == [True, False]


def test_only_the_last_frames_of_a_long_prompt_count(trust, model):
    actions = torch.ones(1, HORIZON, dtype=torch.int64)
    long = prompts([7], PROMPT + 4)
    recent = long.time(slice(4, None))
    one, other = trust.bound(model, long, actions), trust.bound(model, recent, actions)
    np.testing.assert_array_equal(one.familiar, other.familiar)
    with pytest.raises(TrustError, match="prompts of 3 true frames, found 2"):
        trust.bound(model, long.time(slice(0, 2)), actions)
    padded = prompts([7])
    padded.valid[0, 1] = False
    with pytest.raises(TrustError, match="must be valid"):
        trust.bound(model, padded, actions)
    with pytest.raises(module.WorldloomError, match=r"needs the controls \['action'\] of the 5 frames"):
        trust.bound(model, recent)
    with pytest.raises(module.WorldloomError, match=r"found \[2\]"):
        trust.bound(model, recent, actions[:, :2])


def test_a_state_tells_less(trust, model):
    segment = prompts([10, 20])
    state = absorb(model, model.start(2, 0), segment)
    assert trust.bound(model, state).known.all()
    far = state.replace(screen=torch.full_like(state["screen"], 250))
    assert not trust.bound(model, far).known.any()
    with pytest.raises(TrustError, match="this state has seen fewer"):
        trust.bound(model, model.start(2, 0))
    bare = dataclasses.replace(trust.contents, views={"prompt": trust.contents.views["prompt"]})
    with pytest.raises(TrustError, match="give a prompt"):
        Trust(bare, trust.familiar).bound(model, state)


def test_planned_actions_have_a_bound_of_their_own_or_none(trust, model):
    actions = torch.ones(1, HORIZON, dtype=torch.int64)
    bound = trust.bound(model, prompts([10]), actions, actions="planned")
    np.testing.assert_allclose(bound.within[0], [4, 8, 12, math.inf, math.inf])  # plans were 3 frames long
    state = absorb(model, model.start(1, 0), prompts([10]))
    none = trust.bound(model, state, actions="planned")
    assert not none.known.any()
    assert none.sentence(0, 5.0) == "Not known: the best of 2."
    with pytest.raises(TrustError, match="'position' was calibrated here, only of \\['pixels'\\]"):
        trust.bound(model, state, error="position")


def test_other_weights_are_not_trusted(trust):
    other = Plain()
    with torch.no_grad():
        other.weight += 1
    with pytest.raises(TrustError, match="other weights"):
        trust.bound(other, prompts([10]), torch.ones(1, HORIZON, dtype=torch.int64))


def test_weights_that_are_trained_on_are_not_trusted_any_more(trust):
    one, ones = Plain(), torch.ones(1, HORIZON, dtype=torch.int64)
    first = trust.bound(one, prompts([10]), ones)
    with torch.no_grad():
        one.weight += 1
    with pytest.raises(TrustError, match="other weights"):
        trust.bound(one, prompts([10]), ones)
    with torch.no_grad():
        one.weight -= 1
    np.testing.assert_array_equal(trust.bound(one, prompts([10]), ones).within, first.within)


def test_what_is_written_is_read_and_damage_is_found(trust, model, tmp_path):
    with pytest.raises(TrustError, match="--probes trust"):
        load_trust(tmp_path)
    save_trust(trust, tmp_path)
    found = load_trust(tmp_path)
    assert found.contents == trust.contents
    actions = torch.ones(3, HORIZON, dtype=torch.int64)
    one, other = (t.bound(model, prompts([3, 90, 9]), actions) for t in (trust, found))
    np.testing.assert_array_equal(one.familiar, other.familiar)
    np.testing.assert_array_equal(one.within, other.within)

    file = tmp_path / "trust.json"
    text = file.read_text()
    file.write_text(text.replace('"level": 0.9', '"level": 0.8'))
    with pytest.raises(DamagedFileError):
        load_trust(tmp_path)
    older = {k: v for k, v in json.loads(text).items() if k != "check"} | {"version": 1}
    write_json(file, older, sealed=True)  # which knew no signal of motion
    with pytest.raises(TrustError, match=r"of version 2.*found \('worldloom-trust', 1\).*--probes trust` calibrates"):
        load_trust(tmp_path)
    write_json(file, older | {"version": 2, "level": "high"}, sealed=True)
    with pytest.raises(DamagedFileError, match="level"):
        load_trust(tmp_path)
    file.write_text(text)
    moved = Familiar(None, trust.familiar.pictures)
    save_trust(Trust(dataclasses.replace(trust.contents), moved), tmp_path)
    with pytest.raises(DamagedFileError, match="does not belong"):
        load_trust(tmp_path)


def test_signals_rise_where_they_should(trust, model):
    actions = {"action": torch.ones(1, HORIZON, dtype=torch.int64)}

    def signals(segment):
        found = look(model, segment, actions, "screen", HORIZON)
        return {name: float(x[0]) for name, x in trust.familiar.signals(found).items()}

    plain, jump = signals(prompts([10])), prompts([10])
    assert tuple(plain) == NAMES
    jump.obs["screen"][0, -1, 0, 0, 0] += 60
    after = signals(jump)
    assert after["surprise_1"] > plain["surprise_1"] + 1
    assert after["surprise_spot_1"] > plain["surprise_spot_1"]
    assert after["surprise_2"] == pytest.approx(plain["surprise_2"])
    assert plain["disagreement"] > math.log(0.2)  # the frame shows its draw: other seeds, other dreams


@given(st.integers(0, 20))
def test_points_between_training_starts_are_nearer_than_those_beyond(seed):
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(3, 40))
    space = Space.fit(rng.normal(size=(120, 3)) @ basis, 16, 0.0)
    inside, off = space.distance(rng.normal(size=(20, 3)) @ basis)
    beyond, _ = space.distance(8 * rng.normal(size=(20, 3)) @ basis)
    assert np.median(beyond) > 2 * np.median(inside)
    _, far = space.distance(rng.normal(size=(20, 3)) @ basis + rng.normal(size=40))
    assert far.min() > 10 * off.max() + 0.1


def test_many_features_are_folded_with_their_distances():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5000))
    y = fold(x)
    assert y.shape == (30, 1024)
    true, kept = (np.linalg.norm(z[1:] - z[0], axis=1) for z in (x, y))
    np.testing.assert_allclose(kept, true, rtol=0.15)
    assert fold(x[:, :1024]).shape == (30, 1024)
    np.testing.assert_array_equal(fold(x[:, :100]), x[:, :100])


def test_statistics_see_colour_and_motion():
    frames = np.zeros((2, 4, 3, 8, 8), np.uint8)
    frames[1, ::2] = 90
    still, flashing = statistics(frames)
    assert still.shape == (17,)
    assert not still.any()
    assert flashing[-2] == pytest.approx(90)
    assert flashing[-1] == pytest.approx(180)
