"""Squashed scalars, two-hot classes and categoricals, against torch.distributions and slow versions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from worldloom.nn import distributions as dist

BINS = dist.symexp_bins(41, 5.0)


def test_symlog_and_symexp_are_inverse_and_odd():
    x = torch.cat([torch.linspace(-1000, 1000, 999), torch.tensor([0.0, 1e-6, -1e-6])])
    torch.testing.assert_close(dist.symexp(dist.symlog(x)), x, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dist.symlog(-x), -dist.symlog(x))
    assert float(dist.symlog(torch.tensor(1.7182818))) == pytest.approx(1.0)


def test_bins_are_symmetric_and_hold_zero():
    bins = dist.symexp_bins(255)
    assert torch.equal(bins, -bins.flip(0))
    assert bins[127] == 0
    assert bool((bins.diff() > 0).all())
    assert float(bins[-1]) == pytest.approx(4.85165e8, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(-140, 140, width=32))
def test_two_hot_is_two_neighbours_whose_mean_is_x(x):
    weights = dist.two_hot(torch.tensor([x]), BINS)[0]
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float((weights * BINS).sum()) == pytest.approx(x, abs=1e-3)
    used = weights.nonzero().flatten()
    assert len(used) <= 2
    assert int(used[-1] - used[0]) <= 1
    assert bool((weights >= 0).all())


def test_two_hot_clips_beyond_the_last_bin():
    weights = dist.two_hot(torch.tensor([1e9, -1e9]), BINS)
    assert weights[0].argmax() == 40
    assert weights[1].argmax() == 0
    assert torch.equal(weights.sum(-1), torch.ones(2))


def test_the_mean_inverts_two_hot_and_is_exactly_zero_for_equal_logits():
    x = torch.tensor([[-3.0, 0.0], [0.25, 100.0]])
    logits = torch.log(dist.two_hot(x, BINS) + 1e-30)
    torch.testing.assert_close(dist.two_hot_mean(logits, BINS), x, rtol=1e-4, atol=1e-4)
    assert torch.equal(dist.two_hot_mean(torch.full((3, 255), 0.7), dist.symexp_bins(255)), torch.zeros(3))


def test_the_loss_is_least_at_the_target():
    logits = torch.zeros(1, 41, requires_grad=True)
    target = torch.tensor([7.5])
    for _ in range(300):
        (grad,) = torch.autograd.grad(dist.two_hot_loss(logits, target, BINS).sum(), logits)
        logits = (logits - 2.0 * grad).detach().requires_grad_()
    assert float(dist.two_hot_mean(logits.detach(), BINS)) == pytest.approx(7.5, abs=0.5)


def test_unimix_has_a_floor_and_is_a_distribution():
    log_probs = dist.unimix(torch.tensor([[100.0, 0.0, 0.0, -100.0]]), 0.01)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(1))
    assert float(log_probs.exp().min()) == pytest.approx(0.0025)


def test_kl_is_that_of_torch_summed_over_the_variables():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(2, 5, 3, 4, generator=generator).log_softmax(-1) for _ in range(2))
    expected = kl_divergence(Categorical(logits=p), Categorical(logits=q)).sum(-1)
    torch.testing.assert_close(dist.categorical_kl(p, q), expected)
    assert float(dist.categorical_kl(p, p).abs().max()) == 0


def test_straight_through_is_one_hot_ahead_and_the_probabilities_behind():
    logits = torch.tensor([[0.1, 0.7, -0.3]], requires_grad=True)
    draws = torch.tensor([[5.0, 0.0, 0.0]])
    weights = torch.tensor([1.0, 2.0, 3.0])
    sample = dist.straight_through(logits.log_softmax(-1), draws)
    torch.testing.assert_close(sample.detach(), torch.tensor([[1.0, 0.0, 0.0]]))
    (grad,) = torch.autograd.grad((sample * weights).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(-1) * weights).sum(), logits)
    torch.testing.assert_close(grad, expected)
