"""From a run's folder to a bound and back: what the probe measured is what the reader says."""

from __future__ import annotations

import numpy as np
import pytest
import toy_discs

from worldloom import models
from worldloom.data.store import Dataset
from worldloom.evaluation import evaluate, load_report
from worldloom.evaluation.heldout import draw
from worldloom.evaluation.probes import ProbeError
from worldloom.evaluation.probes import trust as module
from worldloom.imagination.rollout import absorb
from worldloom.imagination.trust import TrustError, load_trust
from worldloom.imagination.trust_signals import look
from worldloom.models.saved import load_model

SMALL = {"starts": 8, "prompt": 3, "horizon": 12, "count_horizon": 12, "other_actions": False, "progress": None}


@pytest.fixture(scope="module", autouse=True)
def toy_family():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.FAMILIES, "toy", ("toy_discs", "Toy"))
        patch.setattr(module, "STARTS", 30)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusted")
    data = toy_discs.write_discs(folder / "data", episodes=200, length=24)
    return toy_discs.write_run(folder / "run", data, fault="noisy")


@pytest.fixture(scope="module")
def report(run):
    return evaluate(run, **SMALL, probes="trust")


def test_the_reader_says_what_the_probe_measured(run, report):
    model, trust = load_model(run), load_trust(run)
    c = trust.contents
    assert (c.starts, c.actions, c.sampler) == ("val", "recorded", "random")
    assert c.hashes["checkpoint"] == report["run"]["model_sha256"]
    assert c.hashes["data"] == report["data"]["fingerprint"]
    rule = c.views["prompt"].rules["position"]
    assert (rule.recorded.episodes, c.fitted + rule.recorded.n) == (9, 30)  # 10 episodes: nine are needed, one is left
    assert rule.planned is None
    assert "no exact world" in c.planned

    held = draw(Dataset(run.parent / "data"), 8, 3, 12, 12, 0)
    prompt = held.segment.time(slice(0, 3))
    bound = trust.bound(model, prompt, held.control)
    curve = load_report(run).figures["trust/bound"].curve
    assert curve is not None
    signals = trust.familiar.signals(look(model, prompt, held.control, c.camera, 12, 0))
    measured = trust.of_signals(c.views["prompt"], signals, regardless=True)
    np.testing.assert_allclose(np.median(measured.within, 0), curve.value, rtol=1e-3)
    np.testing.assert_allclose(bound.within[bound.known], measured.within[bound.known])
    assert np.isinf(bound.within[~bound.known]).all()
    assert float((~bound.known).mean()) == report["trust/false_alarms"]
    state = absorb(model, model.start(8, 0), prompt)
    assert trust.bound(model, state).within.shape == (8, 12)
    pixels = trust.bound(model, prompt, held.control, error="pixels")
    assert pixels.unit == "of 255"
    planned = trust.bound(model, prompt, held.control, actions="planned")
    assert not planned.known.any()


def test_what_is_noise_is_in_the_bound(run, report):
    assert report["trust/coverage"] >= 0.75
    assert report["trust/coverage_floor"] == 1.0
    assert 0.2 < report["trust/bound"]["10"] < 8.0  # noise of ± 0.4 px a frame adds up
    assert "trust/strange_caught" not in report  # there is no exact world to make strange starts in


def test_a_trust_file_of_other_weights_is_refused(run, tmp_path):
    other = toy_discs.write_run(tmp_path / "other", run.parent / "data", fault="noisy", after=9)
    for name in ("trust.json", "trust.safetensors"):
        (other / name).write_bytes((run / name).read_bytes())
    held = draw(Dataset(run.parent / "data"), 2, 3, 12, 12, 0)
    with pytest.raises(TrustError, match="other weights"):
        load_trust(other).bound(load_model(other), held.segment.time(slice(0, 3)), held.control)


def test_too_few_episodes_are_listed_and_nothing_is_written(tmp_path):
    data = toy_discs.write_discs(tmp_path / "data", episodes=60, length=24)
    run = toy_discs.write_run(tmp_path / "run", data)
    with pytest.raises(ProbeError, match="'val' has 3"):
        evaluate(run, **SMALL, probes="trust")
    assert "10 or more episodes" in load_report(run).unmeasured["trust"]
    assert not (run / "trust.json").exists()
