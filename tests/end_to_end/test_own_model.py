"""A user's own model, from the page that shows one: as good as ours in every verb, and its mistakes explained."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_files import FILES, save
from typed_command import command

import worldloom
from worldloom import Control, Sensor, Spec, WorldloomError

BALLS = ("--env", "balls", "--world.height", "16", "--world.width", "16", "--world.radius", "2", "--debug")
MINE = ("--model", "my_model:MyModel")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, and the current one."""
    save(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the page's model, by the command."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        save(folder, patch)
        code, out, err = command("train", *BALLS, "--world.action", "discrete", *MINE, "--out", "run")
        assert code == 0, err
        assert "MyModel keeps the contract" in out
        assert f"worldloom evaluate run {' '.join(MINE)}" in out
    return folder / "run"


def test_the_example_is_forty_lines_as_the_formatter_writes_them(here: Path) -> None:
    lines = FILES["my_model"].rstrip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(("import", "from")))
    assert len(lines) - first <= 40
    config = Path(__file__).parents[2] / "pyproject.toml"
    for name in FILES:
        ruff = [sys.executable, "-m", "ruff", "--config", str(config)]
        subprocess.run([*ruff[:3], "format", "--check", *ruff[3:], f"{name}.py"], check=True, capture_output=True)
        subprocess.run(
            [*ruff[:3], "check", "--ignore", "D,I", *ruff[3:], f"{name}.py"], check=True, capture_output=True
        )


@pytest.mark.parametrize(
    "action", [Control("discrete", n=3), Control("continuous", (2,), low=(-1.0, 0.0), high=(1.0, 2.0))]
)
def test_the_example_keeps_the_whole_contract(here: Path, action: Control) -> None:
    kind = importlib.import_module("my_model").MyModel
    spec = Spec({"view": Sensor("image", (1, 16, 24))}, {"action": action})
    report = worldloom.check_model(worldloom.build(kind, spec))
    assert report.passed
    assert len(report.checks) == 19


def test_the_example_learns(here: Path) -> None:
    """In seconds it knows more of the frames to come than what their average shows."""
    kind = importlib.import_module("my_model").MyModel
    world = worldloom.make_world("balls", 32, height=16, width=16, radius=3, speed=1.5, action="discrete", push=0.5)
    data = worldloom.collect(world, "data", episodes=64, length=32)
    seen = torch.from_numpy(np.stack([data.episode(e).obs["camera"] for e in range(64)])) / 255
    average = seen.mean((0, 1)).expand_as(seen)
    torch.manual_seed(0)
    config = worldloom.TrainConfig(steps=150, batch=16, lr=3e-3, warmup=10, decay="linear", ema=0.9, sample_every=0)
    summary = worldloom.train(worldloom.build(kind, data.spec), data, config, "learnt")
    assert summary.val_loss is not None
    assert summary.val_loss < torch.nn.functional.binary_cross_entropy(average, seen) - 0.01


def test_a_run_of_ones_own_class_is_dreamed_in_and_measured(
    trained: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = command("imagine", str(trained), *MINE, "--frames", "4", "--out", "dream.png")
    assert code == 0, err
    assert (here / "dream.png").exists()
    few = ("--starts", "3", "--prompt", "2", "--horizon", "3", "--count-horizon", "3", "--probes", "none")
    code, _, err = command("evaluate", str(trained), *MINE, *few, "--out", "report")
    assert code == 0, err
    assert json.loads((here / "report" / "report.json").read_text("utf-8"))["run"]["family"] == "my_model:MyModel"
    kind = importlib.import_module("my_model").MyModel
    env = worldloom.DreamEnv(trained, kind=kind)
    first, _ = env.reset(seed=0)
    assert first.shape == (16, 16, 3)
    many = worldloom.DreamVectorEnv(trained, kind=kind, num_envs=2)
    many.reset(seed=0)
    assert np.array_equal(many.step(np.array([1, 2]))[0][0], env.step(1)[0])


@pytest.mark.parametrize("verb", ["imagine", "evaluate"])
def test_without_the_flag_nothing_is_imported_and_the_error_names_it(trained: Path, here: Path, verb: str) -> None:
    (here / "my_model.py").write_text("raise SystemExit('imported because a file named it')", encoding="utf-8")
    code, _, err = command(verb, str(trained))
    assert code == 2
    assert "--model my_model:MyModel" in err
    assert "my_model" not in sys.modules


def test_training_goes_on_without_checking_again_and_another_class_is_another_run(trained: Path, here: Path) -> None:
    again = ("train", *BALLS, "--world.action", "discrete", "--out", str(trained))
    code, out, err = command(*again, *MINE)
    assert code == 0, err
    assert "Nothing to do" in out
    assert "keeps the contract" not in out
    code, _, err = command(*again)
    assert code == 2
    assert "my_model:MyModel" in err


CONFIGURED = """
from dataclasses import dataclass
from my_model import MyModel

class Wide(MyModel):
    @dataclass
    class Config:
        rate: float = 0.5
        \"\"\"Any number.\"\"\"

    def __init__(self, spec, config):
        super().__init__(spec, config)
        assert isinstance(config, self.Config)
"""


def test_the_fields_of_a_config_are_flags_and_stored(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, wide_model=CONFIGURED)
    args = ("train", *BALLS, "--world.action", "continuous", "--model=wide_model:Wide")
    code, out, _ = command(*args, "--help")
    assert code == 0
    assert "--model.rate" in out
    assert "Any number." in out
    code, out, err = command(*args, "--model.rate", "0.25", "--out", "run")
    assert code == 0, err
    assert "rate 0.25" in out
    kind = importlib.import_module("wide_model").Wide
    assert worldloom.load("run", kind=kind).config == kind.Config(0.25)
    code, _, err = command(*args, "--model.rate", "0.75", "--out", "run")
    assert code == 2
    assert "rate" in err


def test_with_data_and_with_a_recipe(here: Path) -> None:
    world = worldloom.make_world("balls", 4, height=16, width=16, radius=2.0, action="discrete")
    worldloom.collect(world, "data", episodes=8, length=20)
    code, _, err = command("train", "--data", "data", *MINE, "--debug", "--out", "run")
    assert code == 0, err
    code, _, err = command("train", "balls", "--data", "data", *MINE, "--debug", "--out", "other")
    assert code == 0, err
    assert json.loads((here / "other" / "config.json").read_text("utf-8"))["describe"]["recipe"] == "balls"


# ------------------------------------------------------------------------------------------------------- mistakes

WRONG = """
import torch
from my_model import MyModel
from worldloom import WorldModel

class Plain(torch.nn.Module): ...

class Half(WorldModel):
    def step(self, state, control=None, *, donate=False): ...

class Other(MyModel):
    def __init__(self, spec): super().__init__(spec)

class Breaks(MyModel):
    def __init__(self, spec, config=None):
        super().__init__(spec, config)
        raise RuntimeError("no such layer")

class Choosy(MyModel):
    def __init__(self, spec, config=None):
        raise RuntimeError("never asked")

    @staticmethod
    def supports(spec):
        return "Choosy takes two sensors."

class Infinite(MyModel):
    def loss(self, segment, generator=None):
        found = super().loss(segment, generator)
        return type(found)(found.total / 0)

class Deaf(MyModel):
    def step(self, state, control=None, *, donate=False):
        control = self.spec.controls(control, state.batch)
        return super().step(state, {"action": 0 * control["action"]})

def make(spec): ...
"""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("my_modle:MyModel", "Did you mean 'my_model:MyModel'?"),
        ("my_model.py:MyModel", "'my_model:MyModel'"),
        ("my_model:MyModle", "has no 'MyModle'. Did you mean 'MyModel'?"),
        ("MyModel", "as in my_model:MyModel"),
        ("diffusion", "give --family diffusion"),
        (":MyModel", "not of the form module:Class"),
        ("wrong:make", "is a function, not a class"),
        ("wrong:Plain", "is a Module, not a worldloom.WorldModel"),
        ("wrong:Half", "lacks loss, observe, start: "),
        ("wrong:Other", "built as Other(spec, config)"),
        ("wrong:Breaks", "RuntimeError: no such layer (wrong.py, line"),
        ("wrong:Infinite", "Loss.total must be a finite scalar"),
        ("wrong:Deaf", "give the same future"),
        ("broken:Model", "Importing 'broken' failed: ZeroDivisionError: division by zero (broken.py, line 1)"),
        ("lost:Model", "Importing 'lost' failed: No module named 'nowhere'"),
        ("torn:Model", "(torn.py, line 1)."),
        ("script:Model", "Importing 'script' failed: SystemExit"),
        ("wrong:Choosy", "worldloom: Choosy takes two sensors."),
    ],
)
def test_a_mistake_is_told_before_anything_is_collected(
    here: Path, monkeypatch: pytest.MonkeyPatch, model: str, says: str
) -> None:
    save(here, monkeypatch, wrong=WRONG, broken="1 / 0", lost="import nowhere", torn="(", script="exit()")
    code, _, err = command("train", *BALLS, "--world.action", "discrete", "--model", model, "--out", "run")
    assert code == 2
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert not (here / "run" / "data" / "dataset.json").exists()
    assert not (here / "run" / "config.json").exists()


def test_what_the_check_found_is_a_table_and_can_be_overruled(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, wrong=WRONG)
    args = ("train", *BALLS, "--world.action", "discrete", "--model", "wrong:Deaf", "--out", "run")
    code, _, err = command(*args)
    assert code == 2
    first, *rows, last = err.splitlines()
    assert "Deaf breaks the contract: " in first
    assert any(row.startswith("  controls ") for row in rows)
    assert "--no-check" in last
    code, _, err = command(*args, "--no-check")
    assert code == 0, err


def test_family_and_model_are_either_or(here: Path) -> None:
    code, _, err = command("train", *BALLS, *MINE, "--family", "recurrent", "--out", "run")
    assert code == 2
    assert "not both" in err


def test_the_wrong_class_is_refused(trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(here, monkeypatch, wide_model=CONFIGURED)
    code, _, err = command("imagine", str(trained), "--model", "wide_model:Wide")
    assert code == 2
    assert "holds a model of 'my_model:MyModel', not of 'wide_model:Wide'" in err
    with pytest.raises(WorldloomError, match="kind=MyModel"):
        worldloom.DreamEnv(trained)
