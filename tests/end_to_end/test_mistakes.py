"""What goes wrong in a training is told by the command in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from typed_command import command

from worldloom.training.logs import read_log


def one_sentence(err: str) -> str:
    """The message, of which there is exactly one, and no traceback."""
    assert "Traceback" not in err
    told = [line for line in err.splitlines() if line.startswith("worldloom: ")]
    assert len(told) == 1, err
    assert err.strip() == told[0], err
    return told[0]


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    wild = ("--train.lr", "1e30", "--train.precision", "float32", "--train.clip", "None")
    code, out, err = command("train", "balls", "--debug", "--out", str(run), *wild)
    assert code == 2, out
    assert "not finite at step" in one_sentence(err)
    assert "nothing was saved yet" in err
    assert not (run / "model.safetensors").exists()
    assert not (run / "summary.json").exists()
    assert not list((run / "checkpoints").glob("*.safetensors"))
    assert read_log(run / "log.jsonl")[-1]["kind"] == "stopped"
    code, _, err = command("train", "balls", "--debug", "--out", str(run), *wild)
    assert code == 2
    assert "not finite at step" in one_sentence(err)


@pytest.mark.parametrize("holder", ['{"pid": 4321, "host": "elsewhere", "began": "1"}', "4321", None])
def test_two_trainers_in_one_folder(holder: str | None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    data = tmp_path / "data"
    assert command("data", "collect", "--env", "balls", "--episodes", "8", "--length", "20", "--out", str(data))[0] == 0
    run.mkdir()
    args = ("train", "balls", "--debug", "--data", str(data), "--out", str(run))
    with FileLock(run / ".lock"):
        if holder is not None:
            (run / ".lock.pid").write_text(f"{holder}\n", encoding="utf-8")
        code, _, err = command(*args)
        assert code == 2
        who = "process 4321 on elsewhere" if "elsewhere" in (holder or "") else "its number is not known"
        assert f"Another trainer ({who}) is at work in {run}" in one_sentence(err)
        assert "--out" in err
        assert {p.name for p in run.iterdir()} <= {".lock", ".lock.pid"}
    code, _, err = command(*args)
    assert code == 0, err
    assert (run / "model.safetensors").exists()
