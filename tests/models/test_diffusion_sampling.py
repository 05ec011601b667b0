"""One function for every table, against an obvious slow one; and guidance by its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldloom.models.diffusion.sampling import guided, walk
from worldloom.nn import tables

quick = settings(deadline=None, max_examples=60)


@st.composite
def any_table(draw: st.DrawFn) -> Tensor:
    """Rising times for a few frames, some of which stand still for a while, or begin above 0."""
    frames, steps = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    level = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])
    columns = [sorted(draw(st.lists(level, min_size=steps, max_size=steps))) for _ in range(frames)]
    return torch.tensor([[*column, 1.0] for column in columns]).T.contiguous()


def estimate(frames: Tensor, times: Tensor) -> Tensor:
    """An estimate of all frames (B, T, C, H, W) that depends on each and on all others, and on all times (B, T)."""
    level = times[..., None, None, None]
    return torch.tanh(0.7 * frames + (frames * (1 + level)).mean(1, keepdim=True) - 0.3 * level)


def slow_walk(x: Tensor, table: Tensor, known: Tensor, method: str) -> Tensor:
    """Row by row, frame by frame, one sequence of the batch at a time."""
    out = []
    for b in range(len(x)):
        now = x[b].clone()
        for s in range(len(table) - 1):
            start, end = ([1.0 if known[b, i] else float(v) for i, v in enumerate(row)] for row in table[s : s + 2])
            clean = estimate(now[None], torch.tensor([start]))[0]
            new = now.clone()
            slopes = {}
            for i in range(len(now)):
                if end[i] > start[i]:
                    slopes[i] = (clean[i] - now[i]) / (1 - start[i])
                    new[i] = clean[i] if end[i] == 1 else now[i] + (end[i] - start[i]) * slopes[i]
            if method == "heun":
                second = estimate(new[None], torch.tensor([end]))[0]
                corrected = new.clone()
                for i, slope in slopes.items():
                    if end[i] < 1:
                        other = (second[i] - new[i]) / (1 - end[i])
                        corrected[i] = now[i] + (end[i] - start[i]) * (slope + other) / 2
                new = corrected
            now = new
        out.append(now)
    return torch.stack(out)


@pytest.mark.parametrize("method", ["euler", "heun"])
@quick
@given(table=any_table(), seed=st.integers(0, 99))
def test_it_walks_any_table_as_the_obvious_way_does(method: str, table: Tensor, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(3, table.shape[1], 1, 2, 2, generator=g)
    known = torch.rand(3, table.shape[1], generator=g) < 0.3

    def one(frames: list[Tensor], times: Tensor, moving: list[int], spans: list[float]) -> Tensor:
        assert len(moving) == len(spans) > 0
        return estimate(torch.stack(frames, 1), times)[:, moving]

    found = walk(x, table, one, known, method)
    torch.testing.assert_close(found, slow_walk(x, table, known, method), rtol=1e-4, atol=1e-5)
    assert torch.equal(found[known], x[known])


def test_a_frame_that_has_not_moved_is_the_same_tensor() -> None:
    """What was made of a finished frame need not be made again."""
    met: list[list[Tensor]] = []

    def one(frames: list[Tensor], _: Tensor, moving: list[int], __: list[float]) -> Tensor:
        met.append(list(frames))
        assert len(moving) == 1
        return torch.stack([frames[i] * 0 for i in moving], 1)

    walk(torch.randn(1, 3, 1, 2, 2), tables.autoregressive(3, 2), one)
    assert len(met) == 6
    for step, frames in enumerate(met[1:], 1):
        same = [a is b for a, b in zip(frames, met[step - 1], strict=True)]
        assert same == [i != (step - 1) // 2 for i in range(3)]


@pytest.mark.parametrize(("method", "passes"), [("euler", 4), ("heun", 7)])
def test_a_step_costs_one_estimate_and_heun_two_but_for_the_last(method: str, passes: int) -> None:
    calls = []

    def one(frames: list[Tensor], times: Tensor, _: list[int], spans: list[float]) -> Tensor:
        calls.append((float(times[0, 0]), spans))
        return frames[0][:, None] * 0

    walk(torch.randn(1, 1, 1, 2, 2), tables.joint(1, 4), one, method=method)
    assert len(calls) == passes
    told = [0.25] * 4 if method == "euler" else [0.0] * 7  # Heun's estimates are of slopes, not of steps
    assert [spans for _, spans in calls] == [[span] for span in told]
    assert sorted({time for time, _ in calls}) == [0.0, 0.25, 0.5, 0.75]


def test_what_is_known_everywhere_costs_nothing() -> None:
    def one(*_: object) -> Tensor:
        raise AssertionError("there is nothing to denoise")

    x = torch.randn(2, 3, 1, 2, 2)
    assert torch.equal(walk(x, tables.joint(3, 2), one, torch.ones(2, 3, dtype=torch.bool)), x)


@quick
@given(weights=st.dictionaries(st.sampled_from(["a", "b", "history"]), st.floats(-1.0, 4.0), max_size=3))
def test_guidance_is_its_formula_and_weight_one_is_not_even_computed(weights: dict[str, float]) -> None:
    views = {name: torch.randn(2, 3) for name in (None, "a", "b", "history")}
    asked: list[str | None] = []

    def one(name: str | None) -> Tensor:
        asked.append(name)
        return views[name]

    found = guided(weights, one)
    full = views[None]
    expected = full + sum(((w - 1) * (full - views[name]) for name, w in weights.items()), torch.zeros(2, 3))
    torch.testing.assert_close(found, expected)
    assert asked == [None, *(name for name, w in weights.items() if w != 1.0)]
