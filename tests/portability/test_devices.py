"""Devices by name, Apple's GPU as far as it can be stood in for, and words on terminals that lack signs."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worldloom.cli import main
from worldloom.conformance.bench import Bench
from worldloom.contract import Control, Sensor, Spec, WorldloomError
from worldloom.evaluation.metrics import psnr, ssim
from worldloom.imagination import DreamEnv, imagine
from worldloom.models import FAMILIES, build, family
from worldloom.models.saved import load_model, save_model
from worldloom.nn import devices, noise
from worldloom.nn.conv import quarters
from worldloom.nn.devices import pick_device, place
from worldloom.training import TrainConfig
from worldloom.training.devices import autocast, native_bf16, pick_precision
from worldloom.training.ema import Ema
from worldloom.training.optim import make_optimizer

HERE = torch.cuda.is_available() or torch.backends.mps.is_available()
PAD = {"action": Control("discrete", n=3)}
ROD = {"action": Control("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0))}


# ------------------------------------------------------------------------------------------------- names


def fake(monkeypatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_cuda_then_apples_gpu_then_the_cpu(monkeypatch):
    for cuda, mps, name in ((2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")):
        fake(monkeypatch, cuda=cuda, mps=mps)
        assert pick_device("auto") == torch.device(name)
        assert pick_device() == torch.device(name)


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    fake(monkeypatch, cuda=2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device(torch.device("cpu")) == torch.device("cpu")
    for name, words in (
        ("mps", r"no device 'mps' here.*Choose one of: auto, cpu, cuda\."),
        ("cuda:2", r"no device 'cuda:2' here: cuda devices are numbered 0 to 1"),
        ("cuda:x", "no device 'cuda:x' here"),
        ("gpu", "no device 'gpu' here"),
        ("", "no device '' here"),
    ):
        with pytest.raises(WorldloomError, match=words):
            pick_device(name)
    fake(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(WorldloomError, match=r"no device 'cuda' here \(this PyTorch, .*, was built without it\)"):
        pick_device("cuda")


@pytest.mark.skipif(HERE, reason="this machine has a GPU")
def test_every_verb_and_function_that_computes_says_so(tmp_path):
    spec = Spec({"camera": Sensor("image", (1, 8, 8))}, PAD)
    save_model(tmp_path / "model.safetensors", build("diffusion", spec, family("diffusion").Config.debug()))
    for line in (
        ["train", "balls", "--debug", "--device", "cuda", "--out", str(tmp_path / "run")],
        ["imagine", str(tmp_path), "--device", "mps"],
        ["evaluate", str(tmp_path), "--device", "cuda"],
    ):
        error = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", error)
            assert main(line) == 2
        assert error.getvalue().count("\n") == 1
        assert "There is no device" in error.getvalue()
        assert "Choose one of: auto, cpu." in error.getvalue()
    assert not (tmp_path / "run").exists()  # it was told before anything was collected
    with pytest.raises(WorldloomError, match="no device 'cuda'"):
        load_model(tmp_path, "cuda")
    with pytest.raises(WorldloomError, match="no device 'mps'"):
        DreamEnv(load_model(tmp_path, "auto"), device="mps")
    with pytest.raises(WorldloomError, match="no device 'cuda:1'"):
        load_model(tmp_path, torch.device("cuda:1"))


# -------------------------------------------------------------------------------------------- Apple's GPU


class Apple(TorchDispatchMode):
    """What Apple's GPU refuses, refused on the CPU: float64, pooling of odd grids into even ones, wide integer draws,
    fused AdamW."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor) and x.dtype in (torch.float64, torch.complex128):
                raise TypeError(f"Cannot convert a MPS Tensor to {x.dtype} dtype (in {name})")
        if name == "_adaptive_avg_pool2d" and any(a % b for a, b in zip(args[0].shape[-2:], args[1], strict=True)):
            raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes")
        if name in ("randint", "randint_like", "random_") and any(isinstance(a, int) and a > 2**31 for a in args):
            raise RuntimeError("MPS draws integers of 32 bits")
        if "fused_adam" in name:
            raise RuntimeError("no fused AdamW")
        return out


@pytest.mark.parametrize(
    "bad",
    [
        lambda: torch.zeros(3, dtype=torch.float64),
        lambda: torch.zeros(3).double(),
        lambda: torch.from_numpy(np.zeros(3)) + 1,
        lambda: F.adaptive_avg_pool2d(torch.zeros(1, 1, 5, 4), 2),
        lambda: torch.randint(2**62, (3,)),
    ],
)
def test_the_stand_in_refuses(bad):
    with pytest.raises((TypeError, RuntimeError)), Apple():
        bad()


@pytest.mark.parametrize("given", [PAD, ROD, {}], ids=["choices", "numbers", "video"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_no_family_needs_what_apples_gpu_lacks(name, given, monkeypatch):
    """Loss, gradient, update, average, dreams, features and heads, on an odd grid."""
    shape = (3, 40, 24) if name != "lab" else (3, 16, 24)
    shown = {"camera": Sensor("image", shape)}
    if name == "recurrent":
        shown["vector"] = Sensor("vector", (3,))
    spec = Spec(shown, given)
    model = build(name, spec, family(name).Config.debug())
    bench = Bench(model, 0, 4)
    segment = bench.segment(2, 8 if name != "lab" else 4)
    config = TrainConfig(steps=1)
    monkeypatch.setattr(torch.optim.AdamW, "__init__", unfused(torch.optim.AdamW.__init__))
    optimizer, ema = make_optimizer(model, config), Ema(model, 0.9)
    starts = segment.time(slice(0, 3))
    actions = None if not given else segment.control["action"][:, 3:4]
    with Apple():
        model.loss(segment, torch.Generator().manual_seed(0)).total.backward()
        torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        optimizer.step()
        ema.update()
        state = imagine(model, starts, actions, 1, seed=0).state
        model.features(state)
        model.decode(state, raw=True)
        for head in ("reward", "terminal"):
            if head in model.capabilities:
                getattr(model, head)(state)


def unfused(init):
    """AdamW as it is made where there is no fused kernel."""

    def made(self, *args, **kwargs):
        init(self, *args, **{**kwargs, "fused": False, "foreach": True})

    return made


def test_a_dream_environment_takes_float64_actions(tmp_path):
    """Gymnasium's users have numpy's float64; it never reaches the device."""
    spec = Spec({"camera": Sensor("image", (1, 8, 8))}, ROD)
    model = build("diffusion", spec, family("diffusion").Config.debug()).eval()
    env = DreamEnv(model, prompts=Bench(model, 0, 4).segment(1, 3), max_steps=3)
    env.reset(seed=0)
    with Apple():
        env.step(np.array([0.5, -0.5], np.float64))


def test_pictures_are_compared_without_float64_on_the_device():
    """The window is made on the CPU; what arrives on the device is float32."""
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    with Apple():
        psnr(a, b)
    assert ssim(a, b).dtype == torch.float32


def test_precision_on_other_devices():
    for kind in ("mps", "xpu"):
        assert not native_bf16(torch.device(kind))
        assert pick_precision("auto", torch.device(kind)) == "float32"
    with autocast(torch.device("mps"), "float32"):
        pass


def test_quarters_are_adaptive_pooling():
    for h, w in ((2, 2), (5, 4), (4, 7), (1, 3), (9, 9), (1, 1)):
        x = torch.randn(2, 3, h, w)
        torch.testing.assert_close(quarters(x), F.adaptive_avg_pool2d(x, 2))


class Moved(nn.Conv2d):
    """Remembers where it was put, for devices that are not here."""

    def __init__(self, dtype=torch.float32):
        super().__init__(2, 2, 3, dtype=dtype)
        self.calls = []

    def to(self, *args, **kwargs):
        self.calls.append((*map(str, args), *kwargs.values()))
        return self if any("mps" in str(a) or "cuda" in str(a) for a in args) else super().to(*args, **kwargs)


def test_on_apples_gpu_weights_lie_as_by_default_and_float64_is_named(monkeypatch):
    monkeypatch.setattr(devices, "pick_device", torch.device)
    model = Moved().to(memory_format=torch.channels_last)
    assert not model.weight.is_contiguous()
    place(model, "cuda")
    assert not model.weight.is_contiguous()  # elsewhere as the model wants it
    place(model, "mps")
    assert model.calls[-2:] == [("mps",), (torch.contiguous_format,)]
    assert model.weight.is_contiguous()
    with pytest.raises(WorldloomError, match=r"no torch\.float64, and weight is of it: call model\.float\(\) first"):
        place(Moved(torch.float64), "mps")


def test_draws_are_made_where_integers_are_exact(monkeypatch):
    """A GPU that rounds 64-bit integers is found out by a few hashes; its draws then come from the CPU."""
    assert noise.exact("cpu")
    apple = torch.device("mps")
    for right, there in ((True, apple), (False, torch.device("cpu"))):
        monkeypatch.setattr(noise, "exact", lambda device, right=right: right)
        assert noise.home(apple) == there
        for known in ("cpu", "cuda:1", "meta"):
            assert noise.home(torch.device(known)) == torch.device(known)
    monkeypatch.undo()
    plain, calls = noise.mix, []

    def rounding(a, b):  # right on the CPU, which comes second, and through float32 on the "device"
        calls.append(1)
        return plain(a, b).float().long() if len(calls) == 1 else plain(a, b)

    monkeypatch.setattr(noise, "mix", rounding)
    assert not noise.exact.__wrapped__("cpu")


# -------------------------------------------------------------------------------------------------- words


def test_a_sign_that_a_terminal_lacks_is_no_crash(monkeypatch):
    """Windows writes to pipes and files in a code page without arrows and the like."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(["train", "a→b"]) == 2
    screen.flush()
    assert b"There is no recipe 'a?b'" in screen.buffer.getvalue()
