"""Learning rate, parameter groups, the optimiser's state as tensors, and the average of the weights."""

from __future__ import annotations

import contextlib
import math
from itertools import pairwise

import pytest
import torch
import training_toys as toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from worldloom.files import DamagedFileError, load_tensors, save_tensors
from worldloom.training.ema import Ema, ema_decay
from worldloom.training.optim import lr_factor, make_optimizer, pack_optimizer, param_groups, unpack_optimizer


def slow_schedule(steps, warmup, decay, final):
    """All factors of a run, written out: the ramp, then the fall over what is left."""
    ramp = min(warmup, steps // 10)
    out = [(i + 1) / ramp for i in range(ramp)]
    rest = steps - ramp
    for i in range(rest):
        done = i / (rest - 1) if rest > 1 else 0.0
        left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[decay]
        out.append(1.0 if decay == "constant" else final + (1 - final) * left)
    return out


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(0, 100),
    st.sampled_from(["cosine", "linear", "constant"]),
    st.sampled_from([0.0, 0.1]),
)
def test_schedule_is_the_slow_one(steps, warmup, decay, final):
    fast = [lr_factor(i, steps, warmup, decay, final) for i in range(steps)]
    assert fast == pytest.approx(slow_schedule(steps, warmup, decay, final), abs=1e-12)


def test_schedule_ends_at_its_final_fraction_and_peaks_after_warm_up():
    factors = [lr_factor(i, 1000, 50, "cosine", 0.1) for i in range(1000)]
    assert factors[49] == 1.0 == max(factors)
    assert factors[0] == 1 / 50
    assert factors[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(factors[50:]))


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.GroupNorm(1, 3)
        self.scale = nn.Parameter(torch.ones(()))
        self.table = nn.Embedding(4, 3)
        self.frozen = nn.Linear(2, 2)
        self.frozen.requires_grad_(False)


def test_only_matrices_and_kernels_decay():
    decayed, plain = param_groups(Mixed(), 0.3)
    assert decayed["names"] == ["conv.weight", "table.weight"]
    assert decayed["weight_decay"] == 0.3
    assert plain["names"] == ["scale", "conv.bias", "norm.weight", "norm.bias"]
    assert plain["weight_decay"] == 0.0


def test_weight_decay_moves_a_kernel_but_no_norm():
    model = Mixed()
    optimizer = make_optimizer(model, toys.quick(weight_decay=0.5, lr=0.1))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["conv.weight"], before["conv.weight"] * (1 - 0.1 * 0.5))
    for name in ("norm.weight", "scale", "frozen.weight"):
        assert torch.equal(after[name], before[name])


def trained(steps, optimizer, model):
    for i in range(steps):
        for j, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
            p.grad = torch.empty_like(p).copy_(torch.sin(torch.arange(p.numel()) + i + j).view(p.shape))
        optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_optimizer_state_goes_round(layout, tmp_path):
    """Through a file, which keeps values in the order of their indices, not as they lie in memory."""
    torch.manual_seed(0)
    one = Mixed().to(memory_format=layout)
    first = make_optimizer(one, toys.quick())
    trained(3, first, one)
    two = Mixed().to(memory_format=layout)
    two.load_state_dict(one.state_dict())
    second = make_optimizer(two, toys.quick())
    save_tensors(tmp_path / "state.safetensors", pack_optimizer(first), {})
    packed, _ = load_tensors(tmp_path / "state.safetensors")
    assert packed["conv.weight|exp_avg_sq"].shape == one.conv.weight.shape
    unpack_optimizer(second, packed)
    trained(2, first, one)
    trained(2, second, two)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_optimizer_state_of_another_model_is_refused():
    model = Mixed()
    optimizer = make_optimizer(model, toys.quick())
    with pytest.raises(DamagedFileError, match="does not train"):
        unpack_optimizer(optimizer, {"other.weight|exp_avg": torch.zeros(2)})
    with pytest.raises(DamagedFileError, match="shape"):
        unpack_optimizer(optimizer, {"conv.weight|exp_avg": torch.zeros(2)})


# ------------------------------------------------------------------------------------------------------------ average


def test_average_is_the_slow_one_and_warms_up():
    model = nn.Linear(2, 1)
    ema = Ema(model, 0.9)
    slow = {n: p.detach().clone().double() for n, p in model.named_parameters()}
    for update in range(120):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * (update % 7))
        ema.update()
        d = min(0.9, (1 + update) / (10 + update))
        for name, p in model.named_parameters():
            slow[name] = d * slow[name] + (1 - d) * p.detach().double()
    for name, average in ema.tensors().items():
        torch.testing.assert_close(average.double(), slow[name], rtol=1e-5, atol=1e-5)
    assert ema_decay(0.999, 0) == 0.1
    assert ema_decay(0.999, 10**6) == 0.999


def test_a_short_run_forgets_its_beginning():
    """Without warm-up of the decay, 0.999 ** 200 = 82 % of the average would still be the initial weights."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1000.0)
    ema = Ema(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(0.0)
    for _ in range(200):
        ema.update()
    assert 0 < float(ema.tensors()["weight"]) < 1e-3


def test_swapping_changes_hands_and_comes_back_even_after_an_error():
    model = nn.Linear(3, 3)
    ema = Ema(model, 0.5)
    average = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1)
    live = model.weight.detach().clone()
    seen = []
    with contextlib.suppress(KeyError), ema.swapped():
        seen.append(model.weight.detach().clone())
        raise KeyError
    assert torch.equal(seen[0], average)
    assert torch.equal(model.weight, live)
    assert torch.equal(ema.tensors()["weight"], average)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.out = nn.Linear(3, 4, bias=False)
        self.out.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(3)


def test_saved_state_has_tied_weights_twice_and_buffers_as_they_are():
    model = Tied()
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.embed.weight.add_(1)
        model.norm.running_mean.fill_(5)
    full = ema.state_dict()
    assert full.keys() == model.state_dict().keys()
    assert torch.equal(full["out.weight"], full["embed.weight"])
    assert not torch.equal(full["out.weight"], model.out.weight)
    assert torch.equal(full["norm.running_mean"], torch.full((3,), 5.0))


def test_no_average_is_the_model_itself():
    model = nn.Linear(2, 2)
    ema = Ema(model, 0.0)
    with torch.no_grad():
        model.weight.add_(1)
    ema.update()
    assert torch.equal(ema.state_dict()["weight"], model.weight)
    assert ema.tensors() == {}


def test_average_of_another_model_is_refused():
    ema = Ema(nn.Linear(2, 2), 0.9)
    with pytest.raises(DamagedFileError, match="another model"):
        ema.load({"weight": torch.zeros(2, 2)}, 3)
    with pytest.raises(DamagedFileError, match="shape"):
        ema.load({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, 3)
