"""A faster copy dreams what the model dreams, as closely as its arithmetic lets it, and leaves the model alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import worldloom
from worldloom.contract import Sensor, Spec, WorldloomError, WorldModel
from worldloom.imagination.accelerate import check_precision
from worldloom.models.diffusion import BackboneConfig, Diffusion, DiffusionConfig

SPEC = Spec({"camera": Sensor("image", (3, 16, 16))})


def made() -> Diffusion:
    torch.manual_seed(0)
    model = Diffusion(SPEC, DiffusionConfig(steps=1, backbone=BackboneConfig(size="debug")))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


@torch.inference_mode()
def dream(model: WorldModel) -> Tensor:
    g = torch.Generator().manual_seed(1)
    state = model.start(2, 0)
    for _ in range(3):
        state = model.observe(state, {"camera": torch.randint(0, 256, (2, 3, 16, 16), generator=g, dtype=torch.uint8)})
    return model.decode(model.step(model.step(state)), raw=True)["camera"]


def test_bfloat16_rounds_and_no_more() -> None:
    model = made()
    before = dream(model)
    fast = worldloom.accelerate(model, "bf16")
    off = (dream(fast) - before).abs()
    assert next(fast.net.parameters()).dtype == torch.bfloat16
    assert 0 < float(off.max()) < 0.1
    assert float(off.mean()) < 0.01
    assert torch.equal(dream(model), before)
    assert next(model.net.parameters()).dtype == torch.float32


def test_another_precision_is_refused() -> None:
    with pytest.raises(WorldloomError, match="no precision 'fp16'"):
        check_precision("fp16")
    check_precision("int8")


COMPILED = """
import torch, worldloom
from worldloom.contract import WorldloomError
from test_accelerate import dream, made
try:
    fast = worldloom.accelerate(made(), compiled=True)
except WorldloomError as error:
    print("skip", error)
else:
    torch.testing.assert_close(dream(fast), dream(made()), rtol=0.0, atol=1e-4)
"""


def test_compiled_dreams_the_same() -> None:
    # In a process of its own: the checks of types that the tests put around every function can't be compiled.
    run = subprocess.run([sys.executable, "-c", COMPILED], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    if run.stdout.startswith("skip"):
        pytest.skip(run.stdout)


@pytest.mark.skipif(importlib.util.find_spec("torchao") is not None, reason="torchao is here")
def test_int8_without_torchao_names_the_extra() -> None:
    with pytest.raises(WorldloomError, match=r"worldloom\[int8\]"):
        worldloom.accelerate(made(), "int8")


def test_a_model_that_names_no_parts_is_refused() -> None:
    model = made()
    type(model).compile_parts, kept = (), type(model).compile_parts
    try:
        with pytest.raises(WorldloomError, match="names no parts"):
            worldloom.accelerate(model, "bf16")
    finally:
        type(model).compile_parts = kept
