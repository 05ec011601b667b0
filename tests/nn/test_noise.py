"""Keyed draws: the same bits in any batch, the right distribution, independent of each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import row_keys
from worldloom.nn.noise import _unit, gumbel, normal, uniform

DRAWS = [uniform, normal, gumbel]
EULER = 0.5772156649


@pytest.mark.parametrize("draw", DRAWS)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**40), st.integers(0, 1000), st.data())
def test_bits_are_the_same_whatever_shares_the_batch(draw, batch, seed, place, data):
    keys = row_keys(batch, seed)
    frames = torch.arange(batch) * 7
    whole = draw(keys, frames, place, (3, 5))
    rows = data.draw(st.permutations(range(batch)))[: data.draw(st.integers(1, batch))]
    assert torch.equal(draw(keys[rows], frames[rows], place, (3, 5)), whole[rows])
    assert torch.equal(draw(keys.repeat_interleave(2), frames.repeat_interleave(2), place, (3, 5))[::2], whole)


@pytest.mark.parametrize("draw", DRAWS)
def test_shapes_and_that_a_longer_draw_begins_like_a_shorter_one(draw):
    keys, frames = row_keys(4, 0), torch.zeros(4, dtype=torch.int64)
    assert draw(keys, frames, 0).shape == (4,)
    assert draw(keys, frames, 0, (2, 3)).dtype == torch.float32
    assert torch.equal(draw(keys, frames, 0, (6,)), draw(keys, frames, 0, (2, 3)).flatten(1))
    assert torch.equal(draw(keys, frames, 0, (4,)), draw(keys, frames, 0, (6,))[:, :4])


@pytest.mark.parametrize(
    ("draw", "mean", "variance", "kurtosis"),
    [(uniform, 0.5, 1 / 12, 1.8), (normal, 0.0, 1.0, 3.0), (gumbel, EULER, math.pi**2 / 6, 5.4)],
)
@pytest.mark.parametrize("across", ["elements", "keys", "frames", "places"])
def test_moments(draw, mean, variance, kurtosis, across):
    """Over each axis by itself: a weak hash would show in one of them."""
    n = 40_000
    key, frame = row_keys(1, 5), torch.zeros(1, dtype=torch.int64)
    if across == "elements":
        x = draw(key, frame, 3, (n,)).flatten()
    elif across == "keys":
        x = draw(row_keys(n, 5), frame.expand(n), 3)
    elif across == "frames":
        x = draw(key.expand(n), torch.arange(n), 3)
    else:
        x = torch.cat([draw(key, frame, place, (20,)).flatten() for place in range(n // 20)])
    x = x.double()
    assert bool(x.isfinite().all())
    centred = x - mean
    assert abs(float(centred.mean())) < 5 * math.sqrt(variance / n)
    assert abs(float(centred.square().mean()) / variance - 1) < 6 * math.sqrt((kurtosis - 1) / n)
    assert abs(float((centred**4).mean()) / variance**2 / kurtosis - 1) < 0.3


def test_no_draw_is_ever_infinite():
    """The smallest and the largest hash stay inside (0, 1), where the logarithms of the other draws are finite."""
    ends = _unit(torch.tensor([0, -1]))
    assert float(ends[0]) > 0
    assert float(ends[1]) < 1


def _ks(x: torch.Tensor) -> float:
    """Kolmogorov–Smirnov distance to the uniform distribution, times sqrt(n)."""
    x = x.double().sort().values
    grid = torch.arange(1, len(x) + 1) / len(x)
    return float((x - grid).abs().max() * math.sqrt(len(x)))


def test_uniform_and_normal_follow_their_distribution():
    keys, frames = row_keys(100, 1), torch.zeros(100, dtype=torch.int64)
    x = uniform(keys, frames, 0, (400,)).flatten()
    assert 0 < float(x.min()) < float(x.max()) < 1
    assert _ks(x) < 2.0  # exceeded with probability 7e-4
    z = normal(keys, frames, 0, (400,)).flatten().double()
    assert _ks(0.5 * (1 + torch.erf(z / math.sqrt(2)))) < 2.0
    assert float(z.abs().max()) > 3.5


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_of_other_keys_frames_places_and_elements_are_independent(draw):
    n = 20_000
    keys, frames = row_keys(4, 2), torch.tensor([0, 1, 2, 3])
    base = draw(keys, frames, 0, (n,))
    others = [
        draw(keys, frames + 1, 0, (n,)),
        draw(keys, frames, 1, (n,)),
        draw(keys + 1, frames, 0, (n,)),
        draw(keys.flip(0), frames, 0, (n,)),
        draw(frames, keys, 0, (n,)),
        base.roll(1, 1),
        base.roll(1, 0),
    ]
    for other in others:
        together = torch.corrcoef(torch.stack([base.flatten(), other.flatten()]))
        assert abs(float(together[0, 1])) < 6 / math.sqrt(base.numel())
        squares = torch.corrcoef(torch.stack([base.flatten(), other.flatten()]).square())
        assert abs(float(squares[0, 1])) < 8 / math.sqrt(base.numel())


def test_key_frame_and_place_are_not_interchangeable():
    """Frame 1 at place 2 is not frame 2 at place 1: each is hashed in by itself."""
    keys = row_keys(50, 0)
    ones = torch.ones(50, dtype=torch.int64)
    seen = torch.cat([uniform(keys, ones * frame, place) for frame in range(20) for place in range(20)])
    assert seen.unique().numel() > 0.998 * seen.numel()


def test_the_largest_gumbel_samples_the_categorical():
    logits = torch.tensor([2.0, 0.0, -1.0, 0.5])
    n = 40_000
    draws = gumbel(row_keys(n, 4), torch.zeros(n, dtype=torch.int64), 0, (4,))
    counts = torch.bincount((logits + draws).argmax(-1), minlength=4) / n
    assert float((counts - logits.softmax(0)).abs().max()) < 0.015
