"""A user's own world and probe, from the page that shows them, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from own_files import save
from typed_command import command

import worldloom
from worldloom.contract import WorldloomError
from worldloom.data import Dataset

SMALL = ("--starts", "4", "--prompt", "2", "--horizon", "5", "--count-horizon", "6")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, and the current one."""
    save(tmp_path, monkeypatch)
    return tmp_path


def test_the_example_keeps_the_protocol_and_its_dynamics_are_its_own(here: Path) -> None:
    report = worldloom.check_world(
        worldloom.make_world("my_world:Puck", 3), make=lambda n: worldloom.make_world("my_world:Puck", n)
    )
    assert report.passed
    world = worldloom.make_world("my_world:Puck", 2, push=1.0)
    frames = world.reset(seed=3)
    pushed = world.step(np.array([[1, 0], [0, 0]], np.float32))
    at, since = frames.truth["position"][:, 0], pushed.truth["position"][:, 0]
    again = worldloom.make_world("my_world:Puck", 2, push=0.0)
    free = again.reset(seed=3) and again.step(np.array([[1, 0], [0, 0]], np.float32))
    np.testing.assert_allclose(since[0] - free.truth["position"][0, 0], [1, 0])
    np.testing.assert_array_equal(since[1], free.truth["position"][1, 0])
    assert not np.array_equal(at, since)
    shown = pushed.obs["camera"][:, 0].astype(float)
    centre = (shown * (np.arange(32) + 0.5)).sum((1, 2)) / shown.sum((1, 2))
    np.testing.assert_allclose(centre, since[:, 0], atol=0.1)


def test_it_is_collected_trained_on_and_measured_with_its_truth(here: Path) -> None:
    few = ("--episodes", "20", "--length", "30", "--num", "4")
    code, out, err = command(
        "data", "collect", "--env", "my_world:Puck", "--world.push", "0.5", *few, "--out", "data/puck"
    )
    assert code == 0, err
    assert "Puck keeps the protocol of worlds" in out
    data = Dataset(here / "data" / "puck")
    assert data.info["world"] == {"env": "my_world:Puck", "config": {"push": 0.5}}
    assert data.episode(0).truth["position"].shape == (30, 1, 2)
    code, out, err = command(
        "train", "--env", "my_world:Puck", "--model", "my_model:MyModel", "--debug", "--collect.episodes", "60",
        "--out", "run",
    )  # fmt: skip
    assert code == 0, err
    assert "Puck keeps the protocol" in out
    assert "MyModel keeps the contract" in out
    mine = ("--model", "my_model:MyModel", "--probes", "my_probes:brightness")
    code, _, err = command("evaluate", "run", "--starts", "16", *SMALL[2:], *mine)
    assert code == 0, err
    report = json.loads((here / "run" / "report.json").read_text("utf-8"))
    assert {"1", "5"} <= report["position_error_px"].keys()
    assert report["object_count_ok_floor"] > 0.9  # the tracker sees the true puck
    assert report["brightness/error"]["1"] >= 0
    code, _, err = command("imagine", "run", "--model", "my_model:MyModel", "--frames", "40", "--out", "dream.png")
    assert code == 0, err


MORE = """
from my_world import Puck
import numpy as np
import gymnasium as gym

def make(num, seed):
    return Puck(num, seed)

def env(): ...

class NoNumber:
    spec = None
    def __init__(self, seed=0): ...
    def reset(self, seed=None, mask=None): ...

class Lonely(Puck):
    def __init__(self, num, level): super().__init__(num)

class Bare:
    def __init__(self, num, seed=0): self.num = num

class Crash(Puck):
    def __init__(self, num, seed=0, config=None): raise ValueError("no licence")

class Forgets(Puck):
    def reset(self, seed=None, mask=None): return super().reset(None, mask)

class Plain(Puck):
    Config = None
    def __init__(self, num, seed=0):
        self.config = type("C", (), {"push": 0.1})
        super().__init__(num, seed, self.config)
"""


def test_a_function_that_makes_worlds_and_a_world_without_options(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, more=MORE)
    for name in ("more:make", "more:Plain"):
        world = worldloom.make_world(name, 3)
        assert (world.num, world.reset(seed=0).obs["camera"].shape) == (3, (3, 1, 32, 32))
        code, _, err = command(
            "data", "collect", "--env", name, "--episodes", "3", "--length", "4", "--out", f"d/{name[5:]}"
        )
        assert code == 0, err
        with pytest.raises(WorldloomError, match="has no option 'push'"):
            worldloom.make_world(name, 3, push=1.0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my_wrld:Puck", "Did you mean 'my_world:Puck'?"),
        ("my_world:Pluck", "has no 'Pluck'. Did you mean 'Puck'?"),
        ("more:NoNumber", "write def __init__(self, num, seed=0)"),
        ("more:Lonely", "made as Lonely(num, config), by name, and does not take that"),
        ("more:Bare", "lacks spec, reset, step, close"),
        ("more:Crash", "ValueError: no licence (more.py, line"),
        ("more:env", "not a gymnasium.Env"),
        ("more:Forgets", "must give the same frames"),
        ("more:np", "is a module, not a class or function"),
    ],
)
def test_a_mistake_is_one_error(here: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    save(here, monkeypatch, more=MORE)
    code, _, err = command("data", "collect", "--env", name, "--episodes", "2", "--length", "3", "--out", "data")
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert not (here / "data").exists()


def test_the_check_can_be_overruled(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, more=MORE)
    args = ("data", "collect", "--env", "more:Forgets", "--episodes", "2", "--length", "3", "--out", "data")
    assert command(*args)[0] == 2
    code, _, err = command(*args, "--no-check")
    assert code == 0, err


def test_options_are_checked(here: Path) -> None:
    with pytest.raises(WorldloomError, match=r"unknown field 'pusch'.*Did you mean 'push'"):
        worldloom.make_world("my_world:Puck", 2, pusch=1.0)


def test_a_probe_that_fails_is_told_by_the_command(home: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, bad_probes="def bad(dreams):\n    return 3\n")
    run = str(home / "runs" / "demo")
    code, _, err = command("evaluate", run, *SMALL, "--probes", "bad_probes:bad", "my_probes:brightness", "--out", "r")
    assert code == 2
    assert "The probe 'bad' must return a dictionary of figures" in err
    assert "brightness/error" in json.loads((here / "r" / "report.json").read_text("utf-8"))["details"]
    code, _, err = command("evaluate", run, *SMALL, "--probes", "my_probes:brigthness")
    assert code == 2
    assert "Did you mean 'brightness'" in err
