"""Killed at any instant, a run resumes, and has lost at most what one checkpoint interval holds."""

from __future__ import annotations

import os
import random
import signal

import pytest
from training_toys import quick, same_outcome

from worldloom.training import train
from worldloom.training.checkpoints import list_checkpoints, newest_valid
from worldloom.training.logs import read_log

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

EVERY = 4
SETTINGS = {"log_every": 1, "checkpoint_every": EVERY, "validate_every": 0}


def lost(out) -> int:
    """Steps that stood in the log but in no checkpoint when the process died."""
    said = []
    found = newest_valid(out / "checkpoints", said.append)
    assert said == []  # never a torn or damaged checkpoint
    done = max((r["step"] for r in read_log(out / "log.jsonl")), default=0)
    return done - (found.step if found else 0)


def kill_repeatedly(trainers, out, kills, steps, seed):
    """Start, kill at a random moment, look, go on; from the beginning again where the run got done."""
    rng = random.Random(seed)
    begun = 0
    for i in range(kills):
        # A third at any moment from the start on, the others at any moment among the steps.
        lines, delay = (0, rng.uniform(0, 0.6)) if i % 3 == 0 else (rng.randint(1, 6), rng.uniform(0, 0.05))
        before = [step for step, _ in list_checkpoints(out / "checkpoints")][:1]
        code, said = trainers.run(out, signals=[(lines, delay, signal.SIGKILL)], steps=steps, pause=0.004, **SETTINGS)
        assert code in (-signal.SIGKILL, 0), said
        assert lost(out) <= EVERY
        after = [step for step, _ in list_checkpoints(out / "checkpoints")][:1]
        assert after >= before
        begun += (out / "config.json").exists()
    return begun


def test_killed_ten_times_it_still_ends_as_if_never_touched(data, trainers, tmp_path, toy):
    assert kill_repeatedly(trainers, tmp_path / "run", 10, 100, seed=1) >= 5
    code, said = trainers.run(tmp_path / "run", steps=100, **SETTINGS)
    assert code == 0, said
    train(toy(), data, quick(steps=100, threads=1, **SETTINGS), tmp_path / "straight")
    same_outcome(tmp_path / "run", tmp_path / "straight")


@pytest.mark.parametrize("call", [1, 4, 6, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20])
def test_killed_inside_a_save(trainers, tmp_path, call):
    """Death at one call to the operating system after the other: temporary file, fsync, rename, delete."""
    out = tmp_path / "run"
    code, said = trainers.run(out, crash=call, steps=13, keep=1, **SETTINGS)
    assert code == -signal.SIGKILL, said
    assert lost(out) <= EVERY
    code, said = trainers.run(out, steps=13, keep=1, **SETTINGS)
    assert code == 0, said
    assert [step for step, _ in list_checkpoints(out / "checkpoints")] == [13]
    assert not list(out.rglob("*.tmp"))
    assert [r["step"] for r in read_log(out / "log.jsonl")] == list(range(1, 14))


@pytest.mark.soak
def test_killed_two_hundred_times(data, trainers, tmp_path, toy):
    kill_repeatedly(trainers, tmp_path / "run", 200, 3000, seed=2)
    assert trainers.run(tmp_path / "run", steps=3000, **SETTINGS)[0] == 0
    train(toy(), data, quick(steps=3000, threads=1, **SETTINGS), tmp_path / "straight")
    same_outcome(tmp_path / "run", tmp_path / "straight")
