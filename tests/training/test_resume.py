"""A run that was stopped and taken up again is, bit for bit, the run that never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
import training_toys as toys
from training_toys import at_call, newest, quick, same_outcome, untimed

from worldloom.contract import WorldloomError
from worldloom.files import load_tensors, read_json
from worldloom.training import InterruptedTrainingError, train
from worldloom.training.logs import read_log

CONFIG = toys.ToyConfig(dropout=0.2)
SETTINGS = {"steps": 23, "log_every": 4, "validate_every": 6, "accumulate": 2}


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """A run that never stopped."""
    patch = pytest.MonkeyPatch()
    toys.register(patch)
    out = tmp_path_factory.mktemp("straight") / "run"
    train(toys.Toy(config=CONFIG), data, quick(**SETTINGS), out)
    patch.undo()
    return out


def interrupt(signum=signal.SIGINT):
    return lambda: signal.raise_signal(signum)


@pytest.mark.parametrize(("at", "signum"), [(1, signal.SIGINT), (9, signal.SIGTERM), (14, signal.SIGINT)])
def test_stopped_by_a_signal_and_resumed_is_the_same(toy, data, straight, tmp_path, at, signum):
    out, said = tmp_path / "run", []
    before = signal.getsignal(signum)
    model = at_call(toy(config=CONFIG), 2 * at, interrupt(signum))  # two calls a step: the batch comes in two pieces
    with pytest.raises(InterruptedTrainingError, match=f"Stopped at step {at} of 23; .*same command") as caught:
        train(model, data, quick(**SETTINGS), out)
    assert caught.value.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
    assert signal.getsignal(signum) is before
    assert newest(out)[0] == at
    assert load_tensors(out / "model.safetensors")[1]["step"] == at
    summary = train(toy(config=CONFIG), data, quick(**SETTINGS), out, echo=said.append)
    assert any(f"Going on from step {at} of 23" in line for line in said)
    assert summary.steps == 23
    same_outcome(out, straight)


def test_the_next_batch_and_the_draws_matter(straight):
    """The comparison above would be empty if all steps were alike."""
    losses = [r["loss"] for r in untimed(straight) if r["kind"] == "train"]
    assert len(losses) == 6  # steps 4, 8, ..., 20 and the last
    assert len(set(losses)) == 6


def test_killed_twice_and_resumed_is_the_same(data, trainers, straight, tmp_path, toy):
    """kill -9 after a checkpoint, work done since then is lost; and again."""
    out = tmp_path / "run"
    settings = {**SETTINGS, "checkpoint_every": 3, "log_every": 1, "pause": 0.01}
    for lines in (5, 6):
        code, _ = trainers.run(out, signals=[(lines, 0.0, signal.SIGKILL)], **settings)
        assert code == -signal.SIGKILL
    code, said = trainers.run(out, **settings)
    assert code == 0
    assert "Going on from step" in said
    other = tmp_path / "straight"
    train(toy(), data, quick(**{k: v for k, v in settings.items() if k != "pause"}), other)
    same_outcome(out, other)


def test_prefetch_and_checkpoints_change_nothing(toy, data, straight, tmp_path):
    train(toy(config=CONFIG), data, quick(**SETTINGS, prefetch=0, checkpoint_every=2, keep=9), tmp_path / "run")
    same_outcome(tmp_path / "run", straight)


def test_fixed_minutes_are_the_run_of_that_many_steps(toy, data, tmp_path):
    said = []
    settings = {"validate_every": 0, "log_every": 10}
    summary = train(toy(), data, quick(minutes=0.004, **settings), tmp_path / "minutes", echo=said.append)
    assert read_json(tmp_path / "minutes" / "config.json")["resolved"]["steps"] == summary.steps >= 1
    assert any(f"{summary.steps} steps, stored in config.json" in line for line in said)
    train(toy(), data, quick(steps=summary.steps, **settings), tmp_path / "steps")
    same_outcome(tmp_path / "minutes", tmp_path / "steps")


def test_minutes_are_measured_once_and_kept_on_resuming(toy, data, tmp_path, monkeypatch):
    from worldloom.training.trainer import Trainer

    asked = []
    monkeypatch.setattr(Trainer, "steps_for", lambda self, seconds: asked.append(seconds) or 12)
    config = quick(minutes=2.0)
    with pytest.raises(InterruptedTrainingError):
        train(at_call(toy(), 5, interrupt()), data, config, tmp_path / "run")
    assert train(toy(), data, config, tmp_path / "run").steps == 12
    assert asked == [120.0]


def test_a_finished_run_is_left_alone(toy, data, straight, tmp_path):
    out, said = tmp_path / "run", []
    shutil.copytree(straight, out)
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    model = toy(config=CONFIG)
    summary = train(model, data, quick(**SETTINGS), out, echo=said.append)
    assert summary.steps == 23
    assert said == [f"{out} has finished: 23 steps. Nothing to do."]
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    weights, _ = load_tensors(out / "model.safetensors")
    assert all(torch.equal(x, weights[n]) for n, x in model.state_dict().items())
    assert not model.training


def test_a_finished_run_with_a_damaged_model_writes_it_anew(toy, data, straight, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (out / "model.safetensors").write_bytes(b"nothing")
    train(toy(config=CONFIG), data, quick(**SETTINGS), out, echo=lambda line: None)
    same_outcome(out, straight)


def half_way(toy, data, out, **changes):
    settings = {**SETTINGS, "checkpoint_every": 3, "keep": 3, **changes}
    with pytest.raises(InterruptedTrainingError):
        train(at_call(toy(config=CONFIG), 2 * 10, interrupt()), data, quick(**settings), out)
    return quick(**settings)


def test_a_damaged_newest_checkpoint_costs_one_interval(toy, data, straight, tmp_path):
    out, said = tmp_path / "run", []
    config = half_way(toy, data, out)
    path = out / "checkpoints" / "step_00000010.safetensors"
    broken = bytearray(path.read_bytes())
    broken[-5] ^= 4
    path.write_bytes(broken)
    train(toy(config=CONFIG), data, config, out, echo=said.append)
    assert sum("step_00000010.safetensors is damaged" in line for line in said) == 1
    assert any("Going on from step 9 of 23" in line for line in said)
    same_outcome(out, straight)


def test_what_changed_is_named_and_refused_unless_forced(toy, data, tmp_path):
    out = tmp_path / "run"
    config = half_way(toy, data, out)
    with pytest.raises(WorldloomError, match=r"(?s)train\.lr: 0\.01 -> 0\.5.*train\.seed: 0 -> 1.*--force"):
        train(toy(config=CONFIG), data, replace(config, lr=0.5, seed=1), out)
    with pytest.raises(WorldloomError, match=r"model\.config\.noise: 0\.1 -> 0\.7"):
        train(toy(config=replace(CONFIG, noise=0.7)), data, config, out)
    other = toys.make_data(tmp_path / "other", seed=5)
    with pytest.raises(WorldloomError, match=r"data\.fingerprint"):
        train(toy(config=CONFIG), other, config, out)
    assert newest(out)[0] == 10
    said = []
    train(toy(config=CONFIG), data, replace(config, lr=0.5), out, force=True, echo=said.append)
    assert "Changed by force: train.lr: 0.01 -> 0.5" in said
    assert read_json(out / "config.json")["train"]["lr"] == 0.5


def test_what_does_not_decide_the_outcome_may_change(toy, data, straight, tmp_path):
    out = tmp_path / "run"
    config = half_way(toy, data, out)
    shutil.copytree(data.path, tmp_path / "moved")
    moved = type(data)(tmp_path / "moved")
    train(toy(config=CONFIG), moved, replace(config, keep=1, checkpoint_every=5, prefetch=0), out)
    same_outcome(out, straight)


def test_a_finished_run_can_be_made_longer_by_force(toy, data, straight, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    longer = quick(**{**SETTINGS, "steps": 30})
    with pytest.raises(WorldloomError, match=r"train\.steps: 23 -> 30"):
        train(toy(config=CONFIG), data, longer, out)
    assert train(toy(config=CONFIG), data, longer, out, force=True).steps == 30
    assert [r["step"] for r in read_log(out / "log.jsonl") if r["kind"] == "train"] == [
        4,
        8,
        12,
        16,
        20,
        23,
        24,
        28,
        30,
    ]


def test_seconds_add_up_over_resumes(toy, data, tmp_path):
    out = tmp_path / "run"
    config = half_way(toy, data, out)
    first = newest(out)[2]["train_seconds"]
    summary = train(toy(config=CONFIG), data, config, out)
    assert summary.train_seconds > first > 0
    assert summary.total_seconds >= summary.train_seconds
    stored = json.loads((out / "summary.json").read_text())
    assert stored["train_seconds"] == summary.train_seconds


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_second_signal_ends_at_once(trainers, tmp_path):
    out = tmp_path / "run"
    settings = {"steps": 4, "log_every": 1, "checkpoint_every": 1, "pause": 0.1}
    code, _ = trainers.run(out, signals=[("computing", 0.0, signal.SIGINT)], **settings)
    assert code == 130
    assert newest(out)[0] == 1
    settings["pause"] = 250.0  # longer than a test may take: only the second signal ends it in time
    signals = [("computing", 0.0, signal.SIGINT), ("again to quit now", 0.0, signal.SIGTERM)]
    code, _ = trainers.run(out, signals=signals, **settings)
    assert code == 143
    assert newest(out)[0] == 1
