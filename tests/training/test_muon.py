"""Muon: what its iterations do to a matrix, whom it moves and how far, and its state in a checkpoint."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from torch import nn
from training_toys import at_call, quick, same_outcome

from worldloom.training import InterruptedTrainingError, train
from worldloom.training.logs import read_log
from worldloom.training.muon import ROUNDS, Muon, hidden, orthogonal
from worldloom.training.optim import make_optimizer, pack_optimizer, param_groups, unpack_optimizer


def spectrum(rows, columns, values):
    """A matrix with random singular vectors and these singular values; also U and V^T."""
    draw = torch.Generator().manual_seed(rows * columns)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=draw).double(), full_matrices=False)
    return (u * values @ v).float(), u, v


def slow_orthogonal(x):
    """The iterations as published, one after the other on the whole matrix, in double precision."""
    x = x.double()
    x = x / x.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x.float()


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (8, 72), (72, 8), (1, 5)])
def test_a_step_keeps_singular_vectors_and_levels_singular_values(rows, columns):
    small = min(rows, columns)
    values = torch.logspace(0, -2, small).double()
    x, u, v = spectrum(rows, columns, values)
    found = u.T @ orthogonal(x).double() @ v.T
    levelled = found.diagonal()
    assert 0.67 < float(levelled.min()) <= float(levelled.max()) < 1.22
    assert float((found - levelled.diag()).abs().max()) < 1e-3
    if small > 1:  # without the iterations the largest would be a hundred times the smallest
        assert float(values[0] / values[-1]) == pytest.approx(100)


@pytest.mark.parametrize("decades", [0, 1, 4, 8])
def test_gathered_rounds_are_the_published_ones(decades):
    """Squares of small singular values are lost in the Gram matrix; what the product with X makes of it is not."""
    x, _, _ = spectrum(12, 40, torch.logspace(0, -decades, 12).double())
    slow = slow_orthogonal(x)
    assert float((orthogonal(x) - slow).norm() / slow.norm()) < 1e-3
    assert float((orthogonal(x.T).T - slow).norm() / slow.norm()) < 1e-3


def test_many_matrices_at_once_scale_and_zeros():
    x = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(0))
    together = orthogonal(x)
    for one, alone in zip(together, x, strict=True):
        torch.testing.assert_close(one, orthogonal(alone * 1e-12), rtol=1e-3, atol=1e-4)
    assert torch.equal(orthogonal(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert orthogonal(x.bfloat16()).dtype == torch.float32
    assert ROUNDS == 5


class Mixed(nn.Module):
    not_hidden = ("first", "head")

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.conv = nn.Conv2d(4, 6, 3)
        self.norm = nn.GroupNorm(1, 6)
        self.inside = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 6))
        self.table = nn.Embedding(7, 6)
        self.tied = nn.Linear(6, 7, bias=False)
        self.tied.weight = self.table.weight
        self.place = nn.Parameter(torch.zeros(1, 4, 6))
        self.scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(2, 2)
        self.frozen.requires_grad_(False)
        self.header = nn.Linear(6, 3)


def test_only_hidden_matrices_take_muon():
    model = Mixed()
    assert hidden(model) - {"frozen.weight"} == {"conv.weight", "inside.0.weight", "inside.1.weight", "header.weight"}
    muon, decayed, plain = param_groups(model, 0.3, hidden(model))
    assert muon["names"] == ["conv.weight", "inside.0.weight", "inside.1.weight", "header.weight"]
    assert decayed["names"] == ["place", "first.weight", "table.weight"]
    assert (muon["muon"], muon["weight_decay"], decayed["weight_decay"], plain["weight_decay"]) == (True, 0.3, 0.3, 0.0)
    everything = [n for group in (muon, decayed, plain) for n in group["names"]]
    assert sorted(everything) == sorted(n for n, p in model.named_parameters() if p.requires_grad)


def gradients(model, seed):
    draw = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=draw))


def test_a_step_is_the_published_one_and_the_rest_is_adamw():
    """Momentum 0.95 with Nesterov's look ahead, decoupled decay, 0.2 sqrt(max(rows, columns)) times the rate."""
    model, other = Mixed(), Mixed()
    other.load_state_dict(model.state_dict())
    config = quick(lr=0.1, weight_decay=0.5, optimizer="muon")
    optimizer, plain = make_optimizer(model, config), make_optimizer(other, quick(lr=0.1, weight_decay=0.5))
    assert isinstance(optimizer, Muon)
    weight = model.conv.weight.detach().flatten(1).clone()
    momentum = torch.zeros_like(weight)
    for step in range(3):
        gradients(model, step)
        gradients(other, step)
        grad = model.conv.weight.grad.flatten(1)
        momentum = 0.95 * momentum + 0.05 * grad
        ahead = 0.05 * grad + 0.95 * momentum
        weight = weight * (1 - 0.1 * 0.5) - 0.1 * 0.2 * math.sqrt(36) * slow_orthogonal(ahead)
        optimizer.step()
        plain.step()
    torch.testing.assert_close(model.conv.weight.flatten(1), weight, rtol=1e-3, atol=1e-4)
    mine, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    for name in ("first.weight", "table.weight", "place", "scale", "norm.weight", "conv.bias", "frozen.weight"):
        assert torch.equal(mine[name], theirs[name]), name
    assert not torch.equal(mine["inside.0.weight"], theirs["inside.0.weight"])
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 3, 8]  # all are still there


def test_steps_of_both_optimizers_are_equally_large():
    """So that one learning rate serves both: root mean squares of a step, after a few of random gradients."""
    model = nn.Sequential(nn.Conv2d(32, 32, 3, bias=False), nn.Linear(64, 16, bias=False))
    for name in ("adamw", "muon"):
        optimizer = make_optimizer(model, quick(lr=1.0, weight_decay=0.0, optimizer=name))
        for step in range(30):
            before = [p.detach().clone() for p in model.parameters()]
            gradients(model, step)
            optimizer.step()
        for p, old in zip(model.parameters(), before, strict=True):
            assert 0.1 < float((p.detach() - old).square().mean().sqrt()) < 0.5, name


def test_a_parameter_without_gradient_stays():
    model = Mixed()
    optimizer = make_optimizer(model, quick(lr=0.1, optimizer="muon"))
    gradients(model, 0)
    model.conv.weight.grad = None
    before = model.conv.weight.detach().clone()
    optimizer.step()
    assert torch.equal(model.conv.weight, before)
    assert not any(name.startswith("conv.weight|") for name in pack_optimizer(optimizer))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_state_goes_round(layout):
    one, two = (Mixed().to(memory_format=layout) for _ in range(2))
    two.load_state_dict(one.state_dict())
    first, second = (make_optimizer(m, quick(optimizer="muon")) for m in (one, two))
    for step in range(3):
        gradients(one, step)
        first.step()
    two.load_state_dict(one.state_dict())
    packed = {name: x.contiguous().clone() for name, x in pack_optimizer(first).items()}
    assert packed["conv.weight|exp_avg"].shape == one.conv.weight.shape
    assert "conv.weight|exp_avg_sq" not in packed  # one moment is all that Muon keeps
    unpack_optimizer(second, packed)
    for step in range(3, 5):
        for model, optimizer in ((one, first), (two, second)):
            gradients(model, step)
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_stopped_and_resumed_is_the_same(toy, data, tmp_path):
    settings = {"steps": 9, "optimizer": "muon", "validate_every": 0}
    train(toy(), data, quick(**settings), tmp_path / "straight")
    stopping = at_call(toy(), 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedTrainingError):
        train(stopping, data, quick(**settings), tmp_path / "run")
    train(toy(), data, quick(**settings), tmp_path / "run")
    same_outcome(tmp_path / "run", tmp_path / "straight")


def test_the_setting_reaches_the_weights_and_they_get_better(toy, data, tmp_path):
    losses = {}
    for name in ("adamw", "muon"):
        train(toy(), data, quick(steps=40, optimizer=name, log_every=4, validate_every=0), tmp_path / name)
        losses[name] = [r["loss"] for r in read_log(tmp_path / name / "log.jsonl") if r["kind"] == "train"]
        assert losses[name][-1] < 0.7 * losses[name][0]
    assert losses["adamw"] != losses["muon"]
