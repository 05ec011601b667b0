"""One step: pieces of a batch, draws, clipping, and what happens to a loss that is not finite."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import training_toys as toys
from torch import nn

from worldloom.contract import Loss, Segment
from worldloom.data.windows import Windows
from worldloom.training.devices import autocast, native_bf16, pick_device, pick_precision
from worldloom.training.ema import Ema
from worldloom.training.optim import make_optimizer
from worldloom.training.update import NonFiniteError, Updater, draw_key, pieces


def updater(model, **changes):
    config = toys.quick(**changes)
    return Updater(model, make_optimizer(model, config), Ema(model, config.ema), config, torch.device("cpu"), "float32")


def padded(data, size=6):
    """A batch whose rows have different numbers of valid frames."""
    segment = Windows(data, "train", 5).batch(size, seed=1, step=0)
    valid = segment.valid.clone()
    for row in range(size):
        valid[row, 5 - row % 3 :] = False
    return replace(segment, valid=valid)


class Frames(toys.Toy):
    """Its loss is averaged over the valid frames themselves, as the contract words it."""

    def loss(self, segment: Segment, generator=None):
        pixels = segment.obs["screen"].float().flatten(2) / 255
        error = (self.predict(pixels, segment.control["action"]) - pixels.flip(1)).square().mean(-1)
        weight = segment.valid.float()
        return Loss((error * weight).sum() / weight.sum())


@pytest.mark.parametrize("count", [2, 4, 6])
def test_accumulated_gradient_is_that_of_the_whole_batch(data, count):
    segment = padded(data)
    found = []
    for accumulate in (1, count):
        u = updater(Frames(), accumulate=accumulate, batch=6)
        loss = u.gradients(segment, 0)["loss"]
        found.append((torch.cat([p.grad.flatten() for p in u.parameters]), loss))
    assert found[0][0].abs().max() > 1e-3
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_pieces_cover_the_batch_once_and_shares_add_up(data):
    segment = padded(data, 7)
    parts = list(pieces(segment, 3))
    assert sum(p.batch for p, _ in parts) == 7
    assert torch.equal(torch.cat([p.obs["screen"] for p, _ in parts]), segment.obs["screen"])
    assert float(sum(share for _, share in parts)) == pytest.approx(1.0)
    assert [float(s) for _, s in parts] == pytest.approx([float(p.valid.sum() / segment.valid.sum()) for p, _ in parts])


def test_draws_depend_on_seed_step_and_piece_and_on_nothing_else(data):
    keys = {draw_key(seed, step, piece) for seed in range(4) for step in range(50) for piece in range(4)}
    assert len(keys) == 4 * 50 * 4
    model = toys.Toy(config=toys.ToyConfig(dropout=0.5))
    u = updater(model)
    segment = padded(data, 4)
    losses = []
    for step in (3, 4, 3):
        torch.rand(7)  # whatever was drawn before does not matter
        losses.append(float(u.gradients(segment, step)["loss"]))
    assert losses[0] == losses[2] != losses[1]


def test_clipping_bounds_the_step_and_reports_the_norm_before(data):
    segment = padded(data, 4)
    free, tight = (updater(toys.Toy(), clip=c) for c in (None, 1e-3))
    norms = []
    for u in (free, tight):
        u.optimizer.step = lambda: None
        u.optimizer.zero_grad = lambda set_to_none=True: None
        norms.append(u.step(segment, 0, 10).metrics["grad_norm"])
        left = math.sqrt(sum(float(p.grad.square().sum()) for p in u.parameters))
        assert left == pytest.approx(norms[0] if u is free else 1e-3, rel=1e-3)
    assert norms[0] == norms[1] > 1e-3


def test_a_bad_batch_touches_neither_weights_nor_optimiser_nor_average(data):
    segment = padded(data, 4)
    model = toys.Toy(config=toys.ToyConfig(nan_at=1))
    u = updater(model)
    u.step(segment, 0, 10)
    before = {n: x.clone() for n, x in model.state_dict().items() if n not in ("calls", "mean")}
    moments = [s["exp_avg"].clone() for s in u.optimizer.state.values()]
    with pytest.raises(NonFiniteError, match=r"not finite at step 1: loss nan, error nan, .*grad_norm nan"):
        u.step(segment, 1, 10)
    assert all(torch.equal(model.state_dict()[n], x) for n, x in before.items())
    assert all(torch.equal(s["exp_avg"], m) for s, m in zip(u.optimizer.state.values(), moments, strict=True))
    assert u.ema.updates == 1


def test_skipping_restores_buffers_and_gives_up_after_too_many(data):
    segment = padded(data, 4)
    model = toys.Toy(config=toys.ToyConfig(nan_at=1))
    u = updater(model, nonfinite="skip", max_skips=2)
    assert u.step(segment, 0, 10).applied
    mean = float(model.mean)
    assert not u.step(segment, 1, 10).applied
    assert float(model.mean) == mean  # the forward pass had written NaN there
    assert int(model.calls) == 1
    model.calls += 1
    assert not u.step(segment, 2, 10).applied
    model.calls += 1
    with pytest.raises(NonFiniteError, match="and in the 2 batches before it"):
        u.step(segment, 3, 10)


def test_an_infinite_gradient_of_a_finite_loss_is_caught(data):
    class Root(toys.Toy):
        def loss(self, segment: Segment, generator=None):
            return Loss(self.outside.bias.mul(0).abs().sqrt().sum())

    with pytest.raises(NonFiniteError, match="grad_norm nan"):
        updater(Root()).step(padded(data, 4), 0, 10)


def test_weights_that_are_not_finite_are_never_saved():
    model = toys.Toy()
    u = updater(model)
    u.check_weights(3)
    with torch.no_grad():
        model.norm.bias[0] = math.inf
    with pytest.raises(NonFiniteError, match="by step 3"):
        u.check_weights(3)


def test_precision_is_declared_by_the_machine_and_applies_to_matrix_products():
    cpu = torch.device("cpu")
    assert pick_precision("float32", cpu) == "float32"
    assert pick_precision("bf16", cpu) == "bf16"
    assert pick_precision("auto", cpu) == ("bf16" if native_bf16(cpu) else "float32")
    layer, x = nn.Linear(3, 3), torch.randn(2, 3)
    with autocast(cpu, "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with autocast(cpu, "float32"):
        assert layer(x).dtype == torch.float32


def test_a_device_that_is_not_there_is_named():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(Exception, match=r"no device 'tpu'.*auto, cpu"):
        pick_device("tpu")
