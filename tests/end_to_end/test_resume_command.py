"""A recipe's run by the command, in processes: stopped and taken up again, and begun twice from nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from worldloom.files import load_tensors
from worldloom.training.checkpoints import list_checkpoints
from worldloom.training.logs import read_log

STEPS, STOP = 40, 23
FLAGS = ("--debug", "--steps", str(STEPS), "--train.checkpoint-every", "10", "--train.log-every", "4")

# The signal comes while a known step is computed, not after a time that a fast machine needs for all of them.
PROGRAM = """
import os, signal, sys
from worldloom.cli import main
from worldloom.models.diffusion import Diffusion

stop, plain, calls = int(sys.argv[1]), Diffusion.loss, 0

def loss(self, segment, generator=None):
    global calls
    calls += self.training
    if calls == stop:
        os.kill(os.getpid(), signal.SIGINT)
    return plain(self, segment, generator)

Diffusion.loss = loss
sys.exit(main(sys.argv[2:]))
"""


def train(out: Path, stop: int = -1) -> subprocess.CompletedProcess[str]:
    """Train the recipe `balls` at debug size; Ctrl-C while step number ``stop`` of this process is computed."""
    program = [sys.executable, "-c", PROGRAM, str(stop)]
    return subprocess.run([*program, "train", "balls", "--out", str(out), *FLAGS], capture_output=True, text=True)


def outcome(run: Path) -> dict[str, Any]:
    """All that training decided: the model, the newest checkpoint, and the log without what depends on the clock."""
    model, meta = load_tensors(run / "model.safetensors")
    step, path = list_checkpoints(run / "checkpoints")[0]
    timed = {"seconds", "steps_per_second", "frames_per_second"}
    log = [{k: v for k, v in record.items() if k not in timed} for record in read_log(run / "log.jsonl")]
    return {"model": model, "meta": meta, "step": step, "checkpoint": load_tensors(path)[0], "log": log}


def assert_same(one: Path, two: Path) -> None:
    """Bit by bit."""
    a, b = outcome(one), outcome(two)
    for part in ("model", "checkpoint"):
        assert a[part].keys() == b[part].keys()
        assert [n for n, x in a[part].items() if not torch.equal(x, b[part][n])] == []
    assert (a["meta"], a["step"], a["log"]) == (b["meta"], b["step"], b["log"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("straight") / "run"
    done = train(run)
    assert done.returncode == 0, done.stderr
    assert outcome(run)["step"] == STEPS
    return run


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_recipe_stopped_by_ctrl_c_goes_on_as_if_nothing_had_happened(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = train(run, STOP)
    assert stopped.returncode == 130
    assert f"Stopped at step {STOP} of {STEPS}" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert [step for step, _ in list_checkpoints(run / "checkpoints")] == [STOP, 20]
    assert not (run / "summary.json").exists()
    done = train(run)
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {STOP} of {STEPS}" in done.stdout
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == STEPS
    assert_same(run, straight)


def test_the_same_command_gives_the_same_model_in_every_process(straight: Path, tmp_path: Path) -> None:
    done = train(tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "run", straight)
