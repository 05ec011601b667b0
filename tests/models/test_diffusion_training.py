"""What a loss sees: whose frames reach whose estimate, at which levels, and what is dropped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusion_toys import RICH, SPEC, but, floats, influence, loss_of, make, random_clip
from torch import Tensor

from worldloom.contract import ContractError, Sensor, Spec
from worldloom.models.diffusion import DiffusionConfig, FlowConfig
from worldloom.models.diffusion.training import draw_clip_levels

NEXT = {"joint": 0.0, "own_past": 0.0, "short": 0.0}


@pytest.mark.parametrize("memory", [0, 4])
def test_next_frames_see_their_past_within_history_and_memory(memory: int) -> None:
    model = make(memory=memory, sink=1, **NEXT) if memory else make(memory=0, **NEXT)
    clip = random_clip(length=11)
    seen = influence(model, clip)
    for n, i in enumerate(range(7, 11)):
        for j in range(11):
            recalled = memory and (j < 1 or i - j <= memory - 1)
            if j != i:  # itself through its noise, unless it is pure
                assert bool(seen[:, n, j].all()) == bool(j < i and (i - j <= 3 or recalled)), (i, j)
                assert bool(seen[:, n, j].any()) == bool(seen[:, n, j].all())


def test_a_short_history_is_short_for_memory_too() -> None:
    model = make(**{**NEXT, "short": 1.0}, prompt=1, history=1, memory=4)
    seen = influence(model, random_clip(length=8))
    for n, i in enumerate(range(4, 8)):
        assert not seen[:, n, : i - 1].any()
        assert seen[:, n, i - 1].all()


def test_a_share_of_histories_is_cut_to_no_less_than_the_prompt() -> None:
    model = make(joint=0.0, memory=0, own_past=0.0, short=0.5, prompt=2, history=4)
    told: list[Tensor] = []
    model.context.register_forward_pre_hook(lambda _, args: told.append(args[0]))
    clip = random_clip(batch=64, length=8)
    with torch.no_grad():
        model.loss(clip, torch.Generator().manual_seed(0))
    lengths = told[0].sum(1)
    assert set(lengths.tolist()) == {2.0, 3.0, 4.0}
    assert 0.4 < float((lengths == 4).float().mean()) < 0.9
    assert all(torch.equal(t.sum(1), lengths) for t in told)


@pytest.mark.parametrize("memory", [0, 4])
@pytest.mark.parametrize("joint", [0.0, 1.0])
def test_no_estimate_sees_beyond_the_start_of_its_episode(joint: float, memory: int) -> None:
    model = make(**{**NEXT, "joint": joint}, memory=memory, ahead=int(joint))
    clip = random_clip(batch=6, length=8)
    first = clip.first.clone()
    first[:, 6] = True
    torn, whole = influence(model, but(clip, first=first)), influence(model, clip)
    frames = range(8) if joint else range(4, 8)
    for n, i in enumerate(frames):
        other = slice(0, 6) if i >= 6 else slice(6, 8)
        assert not torn[:, n, other].any()
        if i >= 6:
            assert whole[:, n, other].any()


@pytest.mark.parametrize("joint", [0.0, 0.5, 1.0])
def test_padding_does_not_count(joint: float) -> None:
    model = make(joint=joint, ahead=int(joint > 0), heads=True)
    clip = random_clip(length=9)
    valid = clip.valid.clone()
    valid[:, -2:] = False
    clip = but(clip, valid=valid)
    camera = clip.obs["camera"].clone()
    camera[:, -2:] = 0
    assert loss_of(model, clip) == loss_of(model, but(clip, camera=camera))


def test_whole_clips_see_each_other_causally_or_in_half_of_them_both_ways() -> None:
    """A frame at pure noise is not seen, so that not every earlier one reaches every later one."""
    clip = random_clip(batch=12, length=6)
    later = torch.ones(6, 6).triu(1).bool()
    causal = influence(make(joint=1.0), clip)
    assert not causal[:, later].any()
    assert int(causal[:, later.T].any(1).sum()) >= 8
    both = influence(make(joint=1.0, ahead=1, memory=0), clip)
    near = torch.diag(torch.ones(5), 1).bool()
    assert not both[:, later & ~near].any()
    rows = both[:, near].any(1)
    assert 2 <= int(rows.sum()) <= 10
    recalled = influence(make(joint=1.0, ahead=1), clip)
    assert recalled[:, later & ~near].any()
    assert not recalled[~rows][:, near].any()


def test_a_good_prediction_from_pure_noise_takes_the_truths_place_in_the_next_past() -> None:
    begin = 5

    def second_past(off: float, pure: float = 1.0, own_past: float = 0.25) -> tuple[Tensor, Tensor]:
        """What the second target is shown as the frame before it, and what that truly was."""
        model = make(**{**NEXT, "own_past": own_past}, flow=FlowConfig(pure=pure))
        clip = random_clip(length=begin + model.config.targets)
        truth = floats(clip)
        last: list[Tensor] = []

        def denoise(_: Tensor, t: Tensor, around: Any) -> Tensor:
            last.append(around.last)
            return (truth[:, begin + len(last) - 1] + off).requires_grad_()

        model.denoise = denoise  # type: ignore[method-assign]
        model.loss(clip, torch.Generator().manual_seed(0))
        assert len(last) == model.config.targets
        return last[1], truth[:, begin]

    shown, truth = second_past(0.01)
    torch.testing.assert_close(shown, (truth + 0.01).clamp(-1, 1))
    for case in ({"off": 5.0}, {"off": 0.01, "pure": 0.0}, {"off": 0.01, "own_past": 0.0}):
        shown, truth = second_past(**case)
        torch.testing.assert_close(shown, truth)


def test_own_predictions_are_remembered_too_and_take_no_gradient_back() -> None:
    model = make(joint=0.0, memory=4, own_past=1e6, short=0.0, flow=FlowConfig(pure=1.0))
    clip = random_clip(length=8)
    seen = influence(model, clip)
    for n, i in enumerate(range(4, 8)):
        assert seen[:, n, 0].all()
        assert not seen[:, n, 4 : i + 1].any()


def test_noise_in_the_past_is_told_frame_by_frame() -> None:
    model = make(**NEXT, context_noise=0.5, memory=0)
    clip = random_clip(batch=8, length=8)
    clean = floats(clip)
    pasts: list[Tensor] = []
    told: list[Tensor] = []
    stem = model.net.stem
    model.net.stem = lambda past, maps=None: (pasts.append(past), stem(past, maps))[1]  # type: ignore[method-assign]
    model.context.register_forward_pre_hook(lambda _, args: told.append(args[0]))
    with torch.no_grad():
        model.loss(clip, torch.Generator().manual_seed(0))
    for i, past, level in zip(range(4, 8), pasts, told, strict=True):
        off = (past.unflatten(1, (3, 3)) - clean[:, i - 3 : i]).abs().amax((2, 3, 4))
        assert torch.equal(off > 1e-6, level < 1)
    levels = torch.stack(told)
    assert 0.3 < float((levels < 1).float().mean()) < 0.7
    assert float(levels.min()) >= 0.5


def test_levels_of_whole_clips_hold_every_sampling_table() -> None:
    model, length = make(flow=FlowConfig(spread=0.5)), 8
    t = draw_clip_levels(model, 20_000, length, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert t.shape == (20_000, length)
    clean, none = t == 1, t == 0
    noisy = ~clean
    ragged = (t.masked_fill(clean, -1).amax(1) - t.masked_fill(clean, 2).amin(1)) > 0
    several = noisy.sum(1) >= 4
    assert float(ragged[several].float().mean()) == pytest.approx(0.6, abs=0.02)  # one for all, or not
    alike = several & ~ragged
    assert float(none[alike].any(1).float().mean()) == pytest.approx(0.25, abs=0.02)  # where joint sampling starts
    falling = ragged & (t.masked_fill(clean, 2).cummin(1).values == t.masked_fill(clean, 2)).logical_or(clean).all(1)
    assert float(falling[noisy.all(1)].float().mean()) == pytest.approx(0.2, abs=0.02)
    one_by_one = falling & (none | clean).sum(1).eq(length - 1)
    assert bool(one_by_one.any())
    assert bool((one_by_one & clean[:, -1]).any())  # towards a known ending
    mixed = several & ragged & ~falling
    assert float(none[mixed].sum() / noisy[mixed].sum()) == pytest.approx(0.1, abs=0.01)
    some = clean.any(1) & noisy.any(1)
    prefix = clean[some].cummin(1).values.sum(1) == clean[some].sum(1)
    assert 0.5 < float(prefix.float().mean()) < 0.75
    assert float((~clean.any(1)).float().mean()) > 0.25  # nothing is known: an unprompted clip
    lengths = clean[some][prefix].sum(1)
    assert set(lengths.tolist()) == set(range(1, length))


def test_a_dropped_condition_is_not_seen() -> None:
    gone = 1 - 1e-6
    for name in RICH.given:
        for joint in (0.0, 1.0):
            model = make(RICH, joint=joint, memory=4, drop={name: gone})
            clip = random_clip(RICH, length=8)
            value = clip.control[name]
            other = but(clip, **{name: (value + 1) % 7 if name == "text" else -value})
            assert loss_of(model, clip) == loss_of(model, other), name
            kept = make(RICH, joint=joint, memory=4)
            assert loss_of(kept, clip) != loss_of(kept, other), name


def test_conditions_are_dropped_in_their_share_of_rows_each_by_itself() -> None:
    model = make(RICH, drop={"text": 0.3, "action": 0.6})
    kept = model.conditions.draw_kept(model.config.drop, 20_000, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert float(kept["text"].float().mean()) == pytest.approx(0.7, abs=0.02)
    assert float(kept["action"].float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float((kept["text"] & kept["action"]).float().mean()) == pytest.approx(0.28, abs=0.02)


def test_a_batch_is_split_between_the_two_trainings() -> None:
    for joint, pairs, alone in ((0.25, 2, 6), (0.5, 4, 4), (1.0, 8, 0), (0.0, 0, 8)):
        model = make(joint=joint, memory=0, own_past=0.0)
        rows: list[int] = []
        denoise = model.denoise
        model.denoise = lambda *a, rows=rows, denoise=denoise: (rows.append(len(a[0])), denoise(*a))[1]  # type: ignore[method-assign]
        loss = model.loss(random_clip(batch=8, length=7), torch.Generator().manual_seed(0))
        targets = model.config.targets
        assert rows == [alone] * (targets if alone else 0) + ([pairs * 7] if pairs else [])
        assert ("clip_mse" in loss.metrics, "mse" in loss.metrics) == (bool(pairs), bool(alone))


@pytest.mark.parametrize("joint", [0.0, 1.0])
def test_padding_is_always_that_of_true_frames(joint: float) -> None:
    """A frame that the grid does not divide is padded by a constant, in training on own predictions as in dreams."""
    spec = Spec({"camera": Sensor("image", (1, 9, 11))})
    model = make(spec, pad=True, joint=joint, memory=0, own_past=1e6, short=0.0, flow=FlowConfig(pure=1.0))
    seen: list[Tensor] = []
    stem = model.net.stem
    model.net.stem = lambda past, maps=None: (seen.append(past.detach()), stem(past, maps))[1]  # type: ignore[method-assign]
    denoise = model.denoise
    model.denoise = lambda *a: denoise(*a) * 0 + 0.5  # type: ignore[method-assign]
    clip = random_clip(spec, length=8)
    if not joint:
        model.loss(clip, torch.Generator().manual_seed(0))
        assert (seen[1][:, -1, :9, :11] == 0.5).all()
    state = model.observe(model.start(2, 0), {"camera": clip.obs["camera"][:, 0]})
    with torch.inference_mode():
        model.step(model.step(state))
    assert seen
    for past in seen:
        assert set(past[:, :, 9:].unique().tolist()) <= {0.0, -1.0}
        assert set(past[:, :, :, 11:].unique().tolist()) <= {0.0, -1.0}


def test_too_short_a_window_is_refused() -> None:
    model = make(SPEC)
    with pytest.raises(ContractError, match="more than prompt"):
        model.loss(random_clip(length=DiffusionConfig.debug().prompt))
