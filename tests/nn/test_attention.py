"""Attention: scores depend on distance, what is hidden has no effect, and any shape will do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from worldloom.nn.attention import Cross, Grid, Memory, rotary, rotate, unit

quick = settings(deadline=None, max_examples=25)


def awake(layer: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer.requires_grad_(False).eval()


@quick
@given(i=st.integers(0, 10_000), apart=st.integers(-50, 50), far=st.integers(0, 10_000))
def test_a_turned_product_depends_on_the_distance_alone(i: int, apart: int, far: int) -> None:
    g = torch.Generator().manual_seed(i)
    q, k = torch.randn(16, generator=g), torch.randn(16, generator=g)

    def product(at: int) -> torch.Tensor:
        angle = rotary(torch.tensor([float(at), float(at + apart)]), 8)
        return (rotate(q, angle[0]) * rotate(k, angle[1])).sum()

    torch.testing.assert_close(product(far), product(0), rtol=0, atol=2e-2)
    assert float(rotate(q, rotary(torch.tensor(float(far)), 8)).norm()) == pytest.approx(float(q.norm()), rel=1e-4)


def test_rotation_turns_by_nothing_at_zero_and_leaves_the_rest() -> None:
    x = torch.randn(3, 16)
    assert torch.equal(rotate(x, rotary(torch.zeros(3), 8)), x)
    turned = rotate(x, rotary(torch.full((3,), 5.0), 2))
    assert torch.equal(turned[:, 4:], x[:, 4:])
    assert not torch.isclose(turned[:, :4], x[:, :4]).all()


def test_the_norm_bounds_every_score() -> None:
    x = unit(torch.randn(100, 32) * 1e3)
    assert float((x @ x.T).abs().max()) / 32**0.5 <= 32**0.5 + 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8), (12, 16)])
def test_a_grid_of_any_size_where_every_cell_sees_every_other(size: tuple[int, int]) -> None:
    layer = awake(Grid(64))
    x = torch.randn(2, *size, 64)
    out = layer(x)
    assert out.shape == x.shape
    other = x.clone()
    other[0, -1, -1] += 1.0
    changed = (layer(other) - out).abs().amax(-1) > 0
    assert changed[0].all()
    assert not changed[1].any()


def test_cells_have_places_and_only_how_far_apart_they_are_counts() -> None:
    layer = awake(Grid(32))
    x = torch.randn(1, 4, 4, 32)
    turned = layer(x.transpose(1, 2)).transpose(1, 2)
    assert float((turned - layer(x)).abs().max()) > 1e-4
    mirrored = layer(x.flip(1)).flip(1)
    assert float((mirrored - layer(x)).abs().max()) > 1e-4
    q, k = torch.randn(32), torch.randn(32)

    def score(i: float, j: float) -> torch.Tensor:
        return rotate(q, rotary(torch.tensor(i), 16)) @ rotate(k, rotary(torch.tensor(j), 16))

    torch.testing.assert_close(score(2.0, 4.0), score(5.0, 7.0), atol=1e-5, rtol=1e-5)
    assert float((score(2.0, 4.0) - score(2.0, 5.0)).abs()) > 1e-3


def remembered(layer: Memory, frames: int = 4, cells: int = 6, rows: int = 2) -> torch.Tensor:
    keys = layer.keys(torch.randn(rows * frames, cells, 16, generator=torch.Generator().manual_seed(0)))
    return keys.unflatten(0, (rows, frames))


def ages(*behind: float, rows: int = 2) -> torch.Tensor:
    return torch.tensor(behind).expand(rows, 1, -1)


def test_what_is_not_allowed_has_no_effect_and_nothing_can_always_be_seen() -> None:
    layer = awake(Memory(64, 16))
    memory, x = remembered(layer), torch.randn(2, 2, 3, 64)
    allowed = torch.tensor([True, False, True, True]).expand(2, 1, -1)
    out = layer(x, memory, ages(4.0, 3.0, 2.0, 1.0), allowed)
    junk = memory.clone()
    junk[:, 1] = 50.0
    assert torch.equal(layer(x, junk, ages(4.0, 9.0, 2.0, 1.0), allowed), out)
    assert not torch.allclose(layer(x, junk, ages(4.0, 3.0, 2.0, 1.0), torch.ones_like(allowed)), out)
    blind = torch.zeros_like(allowed)
    empty = layer(x, memory, ages(4.0, 3.0, 2.0, 1.0), blind)
    assert torch.isfinite(empty).all()
    assert torch.equal(empty, layer(x, junk, ages(1.0, 1.0, 1.0, 1.0), blind))


def test_a_cell_recalls_its_own_place_alone() -> None:
    layer = awake(Memory(64, 16))
    memory, x = remembered(layer), torch.randn(2, 2, 3, 64)
    allowed = torch.ones(2, 1, 4, dtype=torch.bool)
    out = layer(x, memory, ages(4.0, 3.0, 2.0, 1.0), allowed)
    other = memory.clone()
    other[:, :, :, 4] += 1.0
    changed = (layer(x, other, ages(4.0, 3.0, 2.0, 1.0), allowed) - out).abs().amax((0, 3)) > 1e-5
    assert changed.flatten().tolist() == [False, False, False, False, True, False]


def test_ages_count_and_the_order_of_the_slots_does_not() -> None:
    layer = awake(Memory(64, 16))
    memory, x = remembered(layer), torch.randn(2, 2, 3, 64)
    allowed = torch.ones(2, 1, 4, dtype=torch.bool)
    behind = ages(4.0, 3.0, 2.0, 1.0)
    out = layer(x, memory, behind, allowed)
    order = [2, 0, 3, 1]
    same = layer(x, memory[:, order], behind[..., order], allowed)
    torch.testing.assert_close(same, out, rtol=0, atol=1e-5)
    assert not torch.allclose(layer(x, memory[:, order], behind, allowed), out, atol=1e-4)
    assert not torch.allclose(layer(x, memory, ages(8.0, 3.0, 2.0, 1.0), allowed), out, atol=1e-4)


def test_many_frames_at_once_recall_what_each_would_alone() -> None:
    """Whatever distances each has; so a frame kept for good may seem equally far from all."""
    layer = awake(Memory(64, 16))
    memory = remembered(layer)
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, 5, 2, 3, 64, generator=g)
    behind = torch.randint(-6, 7, (2, 5, 4), generator=g).float()
    allowed = torch.rand(2, 5, 4, generator=g) < 0.7
    together = layer(x.flatten(0, 1), memory, behind, allowed).unflatten(0, (2, 5))
    for t in range(5):
        alone = layer(x[:, t], memory, behind[:, [t]], allowed[:, [t]])
        torch.testing.assert_close(together[:, t], alone, rtol=0, atol=1e-5)


def test_keys_are_of_each_frame_alone() -> None:
    layer = awake(Memory(64, 16))
    x = torch.randn(3, 6, 16)
    torch.testing.assert_close(layer.keys(x)[1:2], layer.keys(x[1:2]), rtol=0, atol=1e-6)


def test_padding_of_a_text_has_no_effect_and_no_text_is_nothing() -> None:
    layer = awake(Cross(64, 24))
    x, tokens = torch.randn(2, 2, 3, 64), torch.randn(2, 5, 24)
    real = torch.tensor([[True, True, True, False, False], [True] * 5])
    out = layer(x, tokens, real)
    junk = tokens.clone()
    junk[0, 3:] = 50.0
    assert torch.equal(layer(x, junk, real), out)
    torch.testing.assert_close(layer(x[:1], tokens[:1, :3], real[:1, :3]), out[:1], rtol=0, atol=1e-5)
    other = tokens.clone()
    other[:, 2] += 1.0
    assert ((layer(x, other, real) - out).abs().amax(-1) > 1e-5).all()
    none = layer(x, tokens, torch.zeros_like(real))
    assert torch.isfinite(none).all()
    assert torch.equal(none, layer(x, junk, torch.zeros_like(real)))
