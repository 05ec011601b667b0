"""The command, as a user types it: what works, and what a mistake is answered with."""

from __future__ import annotations

import json
import shutil
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed_command import command

import worldloom
from worldloom.data import Dataset
from worldloom.imagination import read_video
from worldloom.recipes import RECIPES, find


def test_a_run_explains_itself(home: Path) -> None:
    run = home / "runs" / "demo"
    for name in ("config.json", "model.safetensors", "log.jsonl", "starts.safetensors", "summary.json"):
        assert (run / name).exists(), name
    assert list((run / "samples").glob("*.png"))
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert {"model", "train", "data"} <= config.keys()
    model = worldloom.load(run)
    assert model.spec.shown["camera"].shape == (3, 64, 64)


def test_training_again_has_nothing_to_do(home: Path) -> None:
    before = (home / "runs" / "demo" / "model.safetensors").read_bytes()
    code, out, _ = command("train", "balls", "--debug", "--out", str(home / "runs" / "demo"))
    assert code == 0
    assert "Nothing to do" in out
    assert (home / "runs" / "demo" / "model.safetensors").read_bytes() == before


def test_flags_stand_before_and_behind_a_choice(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    asked = []

    def take(recipe, out, data=None, **_):
        asked.append((recipe.model.codec, recipe.train.lr, out, data))
        raise worldloom.WorldloomError("enough")

    monkeypatch.setattr("worldloom.recipes.run.run_recipe", take)
    data, out = home / "runs" / "demo" / "data", home / "runs" / "next"
    flags = [["--train.lr", "0.5"], ["--data", str(data)], ["--out", str(out)]]
    for before in (flags[:1], flags[:2], flags):
        behind = [flag for flag in flags if flag not in before]
        given = (*chain(*before), "model.codec:none", *chain(*behind))
        assert command("train", "sora", *given)[2].strip().endswith("enough"), given
    assert len({str(one) for one in asked}) == 1
    codec, lr, _, read = asked[0]
    assert (codec, lr, [Path(one) for one in read]) == (None, 0.5, [data])


def test_another_configuration_in_the_same_folder_is_refused(home: Path) -> None:
    code, _, err = command("train", "balls", "--debug", "--out", str(home / "runs" / "demo"), "--train.lr", "0.5")
    assert code == 2
    assert "lr" in err
    assert "--force" in err or "force" in err


def test_a_refused_command_changes_nothing(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(home / "runs" / "demo", run)

    def files() -> dict[str, bytes]:
        return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.suffix != ".lock"}

    before = files()
    for extra in (("--train.lr", "0.5"), ("--steps", "5"), ("--steps", "5", "--force")):
        code, _, err = command("train", "balls", "--debug", "--out", str(run), *extra)
        assert code == 2, extra
        assert "steps" in err or "lr" in err
        assert files() == before, extra
    code, out, _ = command("train", "balls", "--debug", "--out", str(run), "--collect.episodes", "12")
    assert code == 0  # the run's data stay what they were
    assert "Nothing to do" in out
    assert files() == before


def test_a_dream_beside_the_truth_goes_on_past_the_recording(home: Path, tmp_path: Path) -> None:
    video = tmp_path / "dream.mp4"
    code, out, err = command("imagine", str(home / "runs" / "demo"), "--frames", "60", "--out", str(video))
    assert code == 0, err
    assert "true world" in out
    frames, fps = read_video(video)
    assert len(frames) == 64
    assert fps == 15
    left = frames[:, 20:, : frames.shape[2] // 2 - 8].astype(int)
    assert all(np.abs(a - b).max() > 60 for a, b in pairwise(left))  # the true ball never stops


def test_a_run_dreams_without_its_data(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("config.json", "model.safetensors", "starts.safetensors"):
        (moved / name).write_bytes((home / "runs" / "demo" / name).read_bytes())
    config = json.loads((moved / "config.json").read_text(encoding="utf-8"))
    config["data"]["path"] = "nowhere"
    del config["check"]  # changed by hand
    (moved / "config.json").write_text(json.dumps(config), encoding="utf-8")
    picture = tmp_path / "dream.png"
    code, out, err = command("imagine", str(moved), "--frames", "6", "--out", str(picture))
    assert code == 0, err
    assert "own starts" in out
    with Image.open(picture) as image:
        assert image.size[0] > 100


def test_a_run_is_moved_with_its_data(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(home / "runs" / "demo", moved)
    code, out, err = command("imagine", str(moved), "--frames", "3", "--out", str(tmp_path / "d.png"))
    assert code == 0, err
    assert "own starts" not in out
    assert str(home) not in (moved / "config.json").read_text(encoding="utf-8")


def test_evaluate_writes_the_report(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    args = ("--starts", "4", "--prompt", "2", "--horizon", "5", "--count-horizon", "6", "--out", str(out))
    code, _, err = command("evaluate", str(home / "runs" / "demo"), *args)
    assert code == 0, err
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert {"1", "5"} <= report["position_error_px"].keys()
    assert 0 <= report["object_count_ok"] <= 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_collect_then_train_on_own_data(tmp_path: Path) -> None:
    """The README's second block: an environment with pixels and numbers, defaults chosen and said."""
    data, run = tmp_path / "data", tmp_path / "run"
    args = ("--env", "CartPole-v1", "--episodes", "6", "--length", "30", "--num", "2", "--world.size", "32", "32")
    code, out, err = command("data", "collect", *args, "--out", str(data))
    assert code == 0, err
    assert len(Dataset(data)) == 6
    code, out, err = command("data", "inspect", str(data))
    assert code == 0, err
    assert "2 choices" in out
    assert "Hashes           all right" in out
    code, out, err = command("train", "--data", str(data), "--out", str(run), "--debug")
    assert code == 0, err
    assert "left out: vector" in out
    assert worldloom.load(run).spec.shown.keys() == {"camera"}
    assert command("imagine", str(run), "--frames", "5", "--out", str(tmp_path / "d.gif"))[0] == 0
    code, _, err = command("train", "--data", str(data), "--init", str(run), "--out", str(tmp_path / "next"), "--debug")
    assert code == 0, err


def test_a_users_own_environment_by_module_and_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_game.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "class Blink(gym.Env):\n"
        "    observation_space = gym.spaces.Box(0, 255, (24, 32, 3), np.uint8)\n"
        "    action_space = gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        self.t = 0\n"
        "        return np.zeros((24, 32, 3), np.uint8), {}\n"
        "    def step(self, action):\n"
        "        self.t += 1\n"
        "        return np.full((24, 32, 3), 200 * int(action), np.uint8), 1.0, self.t >= 20, False, {}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    code, _, err = command("train", "--env", "my_game:Blink", "--out", "runs/mine", "--debug", "--world.size", "None")
    assert code == 0, err
    assert worldloom.load(tmp_path / "runs" / "mine").spec.shown["camera"].shape == (3, 24, 32)


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "balls"])
def test_every_recipe_runs_at_debug_size(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = command("train", name, "--debug", "--out", str(run))
    assert code == 0, err
    assert command("imagine", str(run), "--frames", "3", "--prompt", "3", "--out", str(tmp_path / "d.png"))[0] == 0
    code, _, err = command(
        "evaluate", str(run), "--starts", "2", "--prompt", "3", "--horizon", "1", "--count-horizon", "1",
        "--probes", "none",
    )  # fmt: skip
    assert code == 0, err


def test_every_recipe_is_listed_with_what_it_is() -> None:
    code, out, _ = command("recipes")
    assert code == 0
    for name in RECIPES:
        assert f"{name} " in out
        assert find(name).name == name


# ------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("train", "ballz", "--out", "x"), "Did you mean 'balls'"),
        (("trian", "balls"), "Did you mean 'train'"),
        (("train", "--out", "x"), "Say what to train"),
        (("train", "--env", "CartPole-v7", "--out", "x"), "CartPole-v1"),
        (("train", "--env", "ball", "--out", "x"), "Did you mean 'balls'"),
        (("train", "--env", "nowhere:Nothing", "--out", "x"), "nowhere"),
        (("train", "--data", "empty", "--out", "x"), "empty"),
        (("imagine", "empty"), "is not a run"),
        (("evaluate", "empty"), "is not a run"),
        (("evaluate", "missing"), "missing"),
        (("data", "collect", "--out", "x"), "Say where to collect"),
        (("data", "inspect", "empty"), "empty"),
        (("train", "balls", "--out", "x", "--minutes", "1", "--steps", "2"), "not both"),
        (("train", "--env", "balls", "--data", "empty", "--out", "x"), "not both"),
        (("train", "balls", "--out", "x", "--model.steps", "0"), "steps must be at least 1"),
        (("train", "balls", "--out", "x", "--model.history", "2"), "prompt is at most history"),
        (("train", "balls", "--out", "x", "--model.backbone.width", "20"), "multiple of 8"),
        (("train", "lab", "--out", "x", "--model.heads", "7"), "multiple of twice the heads"),
    ],
)
def test_a_mistake_is_one_sentence(
    args: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = command(*args)
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "x" / "model.safetensors").exists()


def test_an_unknown_flag_is_refused_with_the_usage() -> None:
    code, out, err = command("train", "balls", "--out", "x", "--model.histroy", "3")
    assert code == 2
    assert "histroy" in out + err


def test_a_damaged_model_is_refused(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    data = bytearray((home / "runs" / "demo" / "model.safetensors").read_bytes())
    for name, bytes_ in (
        ("flipped", bytes(data[:-100]) + bytes([data[-100] ^ 1]) + bytes(data[-99:])),
        ("cut", data[:-9]),
    ):
        (run / "model.safetensors").write_bytes(bytes_)
        code, _, err = command("imagine", str(run), "--out", str(tmp_path / "d.mp4"))
        assert code == 2, name
        assert "model.safetensors" in err
        assert not (tmp_path / "d.mp4").exists()
