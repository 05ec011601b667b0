"""Long steps: what they see, what is told of their length, and what teaches them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusion_toys import SPEC, make, random_clip
from torch import Tensor

from worldloom.configs import ConfigError
from worldloom.models.diffusion import Diffusion, FlowConfig
from worldloom.models.diffusion.shortcut import FINEST, aim, learnt, shortcut_clips, towards
from worldloom.models.diffusion.training import Sums
from worldloom.nn import tables

LONG: dict[str, Any] = {"joint": 1.0, "shortcut": 1.0, "ahead": 2, "memory": 0}


def test_a_step_aimed_by_its_formula_arrives() -> None:
    x, end = torch.randn(2, 3, 1, 2, 2), torch.randn(2, 3, 1, 2, 2)
    t, span = torch.tensor([[0.0, 0.25, 0.5]] * 2), torch.tensor([[1.0, 0.25, 0.5]] * 2)
    torch.testing.assert_close(towards(x, aim(x, end, t, span), t, span), end, atol=1e-5, rtol=1e-5)
    half = span / 2  # two halves of one straight step are that step
    middle = towards(x, end, t, half)
    torch.testing.assert_close(towards(middle, end, t + half, half), towards(x, end, t, span), atol=1e-5, rtol=1e-5)


def test_a_length_is_told_where_it_was_trained() -> None:
    least = 2.0**-FINEST
    for t, span, told in (
        (0.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (0.75, 0.25, 0.25), (3 * least, least, least),
        (0.25, 0.5, 0.0), (0.0, 1 / 3, 0.0), (0.0, least / 2, 0.0), (0.1, 0.25, 0.0), (0.3, 0.0, 0.0),
    ):  # fmt: skip
        assert float(learnt(torch.tensor([t]), torch.tensor([span]))) == told, (t, span)


@pytest.mark.parametrize("target", ["x", "v", "flow"])
def test_one_step_is_decided_by_the_noise_of_all_frames_that_take_it(target: str) -> None:
    model = make(**LONG, steps=1, flow=FlowConfig(target=target))
    clip = random_clip(length=4)
    none = torch.zeros_like(clip.first)
    a, b = (model.fill(clip, none, seed, tables.joint(4, 1)).obs["camera"] for seed in (1, 2))
    assert not torch.equal(a, b)
    frames = torch.randn(2, 4, 3, 16, 16)

    def second(frames: Tensor) -> Tensor:
        built = model.clip(frames, torch.zeros(2, 4), clip.control)
        around = model.around(built, [1], torch.ones(2, 1, 4, dtype=torch.bool), clip.first)
        return model.denoise(frames[:, 1], torch.zeros(2), around, torch.ones(2))

    other = frames.clone()
    other[:, 2] += 1.0
    with torch.no_grad():
        assert float((second(other) - second(frames)).abs().max()) > 1e-3


def told(model: Diffusion, monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Times, lengths and kept texts of every estimate, which ``answer`` gives in place of the network."""
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def denoise(noisy: Tensor, t: Tensor, around: Any, span: Tensor | None = None) -> Tensor:
        span = torch.zeros_like(t) if span is None else span
        asked.append((t, learnt(t, span), around.base))
        return answer(noisy, learnt(t, span)) + 0 * next(model.parameters()).sum()

    monkeypatch.setattr(model, "denoise", denoise)
    return asked


def test_two_half_steps_teach_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every step aims at one frame, paths are straight and nothing is to be learnt; where the aim moves with the
    length, there is."""
    clip = random_clip(length=6)
    losses = []
    for bend in (0.0, 0.3):
        model = make(**LONG)
        truth = model.enter(clip).flatten(0, 1)
        asked = told(model, monkeypatch, lambda x, span, c=truth, b=bend: c + b * span[:, None, None, None])
        sums = shortcut_clips(model, clip, torch.Generator().manual_seed(0), Sums.zero(model.device))
        losses.append(float(sums.loss.detach()))
        lengths = [span for _, span, _ in asked]
        assert len(asked) == 3, "two half steps and one whole one"
        assert torch.equal(lengths[0], lengths[1])
        assert all(float(x.max()) <= 0.5 for x in lengths[:2])
        assert torch.equal(lengths[0] * 2, torch.where(lengths[0] > 0, lengths[2], 0.0))
    assert losses[0] < 1e-6 < 1e-3 < losses[1]


def test_the_finest_teacher_is_the_one_trained_on_data(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = make(**LONG), random_clip(batch=64, length=2)
    asked = told(model, monkeypatch, lambda x, span: x)
    shortcut_clips(model, clip, torch.Generator().manual_seed(0), Sums.zero(model.device))
    half, whole = asked[0][1], asked[2][1]
    finest = whole == 2.0**-FINEST
    assert finest.any()
    assert not half[finest].any()
    assert set(whole.unique().tolist()) == {0.0, *(2.0**-k for k in range(FINEST + 1))}  # 0: known frames


def test_conditions_are_dropped_for_teacher_and_student_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = make(SPEC, **LONG, drop={"action": 0.5}), random_clip(batch=8, length=3)
    kept: list[Any] = []
    whole = model.clip
    monkeypatch.setattr(model, "clip", lambda *a, keep=None, **k: (kept.append(keep), whole(*a, keep=keep, **k))[1])
    shortcut_clips(model, clip, torch.Generator().manual_seed(0), Sums.zero(model.device))
    assert len(kept) == 3
    assert kept[0] is kept[1] is kept[2]
    assert set(kept[0]["action"].tolist()) == {True, False}


def test_a_share_of_clips_learns_long_steps() -> None:
    clip = random_clip(batch=4, length=5)
    without, withal = (
        float(make(joint=1.0, shortcut=s).loss(clip, torch.Generator().manual_seed(0)).total.detach())
        for s in (0.0, 0.5)
    )
    assert without != withal


def test_shifted_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"shift at 1, found 2"):
        make(**LONG, flow=FlowConfig(shift=2.0))
