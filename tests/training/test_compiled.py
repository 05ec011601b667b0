"""torch.compile as an option: the same steps, the model as it was, and clear words where it can't be."""

from __future__ import annotations

import contextlib
import shutil

import pytest
import torch
import training_toys as toys
from training_toys import quick

from worldloom.contract import WorldloomError
from worldloom.data.windows import Windows
from worldloom.training import compiled, train
from worldloom.training.ema import Ema
from worldloom.training.optim import make_optimizer
from worldloom.training.update import Updater

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++", "cl"))), reason="no C++ compiler is here"
)


class Hot(toys.Toy):
    compile_parts = ("norm",)


def updater(model, **changes):
    config = quick(**changes)
    return Updater(model, make_optimizer(model, config), Ema(model, config.ema), config, torch.device("cpu"), "float32")


@needs_compiler
@pytest.mark.filterwarnings("default")  # the compiler hides warnings of its own, which it can't where they are errors
def test_compiled_steps_are_the_plain_ones_and_the_model_stays(data, monkeypatch):
    segments = [Windows(data, "train", 5).batch(4, seed=1, step=step) for step in range(2)]
    compiled_forwards = []
    plain_compile = torch.compile

    def counted(function, **settings):
        def run(*args):
            compiled_forwards.append(function)
            return fast(*args)

        fast = plain_compile(function, **settings)
        return run

    monkeypatch.setattr(torch, "compile", counted)
    losses, models = [], []
    for on in (False, True):
        model = Hot()
        forward = model.norm.forward
        one = updater(model, compile=on)
        losses.append([one.step(segment, i, 2).metrics["loss"] for i, segment in enumerate(segments)])
        assert model.norm.forward == forward
        assert "forward" not in vars(model.norm)
        models.append(model)
    called = [f for f in compiled_forwards if f.__name__ == "forward"]
    assert len(called) == 2  # one module a step, only where it is on
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][0] != losses[0][1]
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_failing_step_leaves_no_compiled_forward(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    model = Hot()
    fast = compiled.Compiled(model)
    with contextlib.suppress(KeyError), fast.running():
        assert "forward" in vars(model.norm)
        raise KeyError
    assert "forward" not in vars(model.norm)


def test_a_model_that_names_nothing_is_told(toy, data, tmp_path):
    with pytest.raises(WorldloomError, match=r"Toy names nothing to compile.*compile_parts"):
        train(toy(), data, quick(compile=True), tmp_path / "run")


def test_a_name_without_a_module_is_told():
    class Wrong(toys.Toy):
        compile_parts = ("inside", "nothing")

    with pytest.raises(WorldloomError, match=r"Wrong names \['nothing'\]"):
        compiled.Compiled(Wrong())


def test_without_a_compiler_the_error_says_what_is_needed(monkeypatch):
    def refuse(function):
        def run(*args):
            raise RuntimeError("No working C++ compiler found\nand a long trace")

        return run

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(WorldloomError, match=r"\(No working C\+\+ compiler found\).*leave compiling off"):
        compiled.Compiled(Hot())
