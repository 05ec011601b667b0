"""The diffusion family's own mechanisms; what every family must do is in the conformance suite."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from worldloom.contract import ContractError, Control, Segment, Sensor, Spec
from worldloom.models.diffusion import Diffusion, DiffusionConfig, FlowConfig
from worldloom.models.diffusion.flow import corrupt, euler, loss_weight, times, to_clean, visible

SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})


def make(spec: Spec = SPEC, seed: int = 0, **changes: object) -> Diffusion:
    torch.manual_seed(seed)
    model = Diffusion(spec, dataclasses.replace(DiffusionConfig.debug(), **changes))
    with torch.no_grad():  # wake the zero-initialised layers, so that no mechanism can hide behind them
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def random_segment(spec: Spec = SPEC, batch: int = 2, length: int = 8, seed: int = 0) -> Segment:
    g = torch.Generator().manual_seed(seed)
    shape = spec.images["camera"].shape
    frames = torch.randint(0, 256, (batch, length, *shape), generator=g, dtype=torch.uint8)
    control = {}
    if spec.action is not None:
        control["action"] = torch.randint(0, spec.action.n, (batch, length), generator=g)
    flags = torch.zeros(batch, length, dtype=torch.bool)
    return Segment({"camera": frames}, control, flags, ~flags)


def loss_of(model: Diffusion, segment: Segment, seed: int = 0) -> float:
    return float(model.loss(segment, torch.Generator().manual_seed(seed)).total.detach())


# ------------------------------------------------------------------------------------------------------------- flow


@settings(deadline=None, max_examples=25)
@given(t=st.floats(0.0, 0.9), seed=st.integers(0, 99))
def test_weighted_error_of_x_is_the_error_of_the_velocity(t: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, e, guess = (torch.randn(1, 3, 4, 4, generator=g) for _ in range(3))
    level = torch.tensor([t])
    noisy = corrupt(x, e, level)
    velocity = (guess - noisy) / (1 - t)
    expected = ((velocity - (x - e)) ** 2).mean()
    found = loss_weight(FlowConfig(), level) * ((guess - x) ** 2).mean()
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-4)


def test_a_network_that_emits_velocity_stands_for_the_same_clean_frame() -> None:
    x, e, t = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([0.1, 0.7])
    noisy = corrupt(x, e, t)
    torch.testing.assert_close(to_clean(FlowConfig(target="v"), x - e, noisy, t), x)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_euler_with_the_true_frame_walks_the_straight_line_and_lands_on_it(steps: int) -> None:
    x, e = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    now = e
    schedule = times(steps)
    for a, b in pairwise(schedule):
        now = euler(now, x, a, b)
        torch.testing.assert_close(now, corrupt(x, e, torch.tensor([b])), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(now, x)


def test_pure_noise_is_not_shown_and_a_clean_frame_is_shown_whole() -> None:
    x = torch.randn(2, 3, 4, 4)
    shown = visible(x, torch.tensor([0.0, 1.0]))
    assert not shown[0].any()
    torch.testing.assert_close(shown[1], x[1])


# ------------------------------------------------------------------------------------------------------------- loss


def test_frames_before_an_episodes_start_do_not_reach_targets_after_it() -> None:
    model = make(own_past=0.0, short=0.0)
    segment = random_segment(length=model.window)
    first = segment.first.clone()
    begin = model.window - model.config.targets
    first[:, begin] = True
    segment = dataclasses.replace(segment, first=first)
    frames = segment.obs["camera"].clone()
    frames[:, :begin] = 255 - frames[:, :begin]
    other = dataclasses.replace(segment, obs={"camera": frames})
    assert loss_of(model, segment) == loss_of(model, other)
    whole = dataclasses.replace(segment, first=torch.zeros_like(first))
    assert loss_of(model, whole) != loss_of(model, dataclasses.replace(other, first=torch.zeros_like(first)))


def test_padding_does_not_count() -> None:
    model = make()
    segment = random_segment(length=model.window)
    valid = segment.valid.clone()
    valid[:, -2:] = False
    segment = dataclasses.replace(segment, valid=valid)
    frames = segment.obs["camera"].clone()
    frames[:, -2:] = 0
    assert loss_of(model, segment) == loss_of(model, dataclasses.replace(segment, obs={"camera": frames}))


def test_a_good_prediction_from_pure_noise_takes_the_truths_place_in_the_next_past() -> None:
    seen: list[Tensor] = []

    def pasts(own_past: float, pure: float, off: float) -> tuple[list[Tensor], Tensor]:
        model = make(own_past=own_past, flow=FlowConfig(pure=pure), short=0.0)
        segment = random_segment(length=model.window)
        truth = segment.obs["camera"].float() / 127.5 - 1.0
        targets = iter(truth[:, model.window - model.config.targets :].unbind(1))
        seen.clear()
        model._denoise = lambda noisy, stem, last, t, cond: (next(targets) + off).requires_grad_()  # type: ignore[method-assign]
        stem = model.net.stem
        model.net.stem = lambda past: (seen.append(past), stem(past))[1]  # type: ignore[method-assign]
        model.loss(segment, torch.Generator().manual_seed(0))
        return list(seen), truth

    length = DiffusionConfig.debug().history + DiffusionConfig.debug().targets
    newest = length - DiffusionConfig.debug().targets  # index of the first target, the newest past of the second
    good, truth = pasts(0.25, 1.0, 0.01)
    torch.testing.assert_close(good[1][:, -3:], (truth[:, newest] + 0.01).clamp(-1, 1))
    bad, truth = pasts(0.25, 1.0, 5.0)
    torch.testing.assert_close(bad[1][:, -3:], truth[:, newest])
    shown, truth = pasts(0.25, 0.0, 0.01)
    torch.testing.assert_close(shown[1][:, -3:], truth[:, newest])
    off, truth = pasts(0.0, 1.0, 0.01)
    torch.testing.assert_close(off[1][:, -3:], truth[:, newest])


def test_too_short_a_window_is_refused() -> None:
    model = make()
    with pytest.raises(ContractError, match="more than prompt"):
        model.loss(random_segment(length=model.config.prompt))


# --------------------------------------------------------------------------------------------------------- dreaming


def test_one_step_is_a_function_of_the_past_and_two_steps_draw() -> None:
    for steps, draws in ((1, False), (2, True)):
        model = make(steps=steps)
        state = model.start(1, 0)
        for t in range(3):
            segment = random_segment(length=4)
            state = model.observe(state, {"camera": segment.obs["camera"][:1, t]}, torch.tensor([1]))
        action = torch.tensor([2])
        with torch.inference_mode():
            a = model.decode(model.step(state, action), raw=True)["camera"]
            b = model.decode(model.step(state.reseed(7), action), raw=True)["camera"]
        assert (not torch.equal(a, b)) == draws


def test_what_is_not_known_is_not_used() -> None:
    model = make()
    obs = {"camera": random_segment(length=1).obs["camera"][:, 0]}
    action = torch.tensor([0, 1])
    empty = model.observe(model.start(2, 0), obs, action)
    junk = empty.replace(past=torch.where(empty["known"][..., None, None, None], empty["past"], 7.0))
    with torch.inference_mode():
        a, b = (model.decode(model.step(s, action), raw=True)["camera"] for s in (empty, junk))
    assert torch.equal(a, b)


def test_old_actions_matter_only_within_the_history() -> None:
    model = make(steps=1)
    obs = {"camera": random_segment(batch=1, length=1).obs["camera"][:, 0]}

    def last(actions: list[int]) -> Tensor:
        state = model.start(1, 0)
        for a in actions:
            state = model.observe(state, obs, torch.tensor([a]))
        with torch.inference_mode():
            return model.decode(model.step(state, torch.tensor([0])), raw=True)["camera"]

    k = model.config.history
    same = last([0] * (k + 1))
    assert torch.equal(last([2] + [0] * k), same)
    assert not torch.equal(last([0, 2] + [0] * (k - 1)), same)


@pytest.mark.parametrize("size", [(20, 36), (16, 16), (9, 11)])
def test_any_frame_size(size: tuple[int, int]) -> None:
    spec = Spec({"camera": Sensor("image", (1, *size))})
    model = make(spec, steps=2)
    segment = random_segment(spec, length=model.window)
    assert torch.isfinite(model.loss(segment, torch.Generator().manual_seed(0)).total.detach())
    state = model.observe(model.start(2, 0), {"camera": segment.obs["camera"][:, 0]})
    assert model.decode(model.step(state))["camera"].shape == (2, 1, *size)


def test_noise_in_the_past_is_told_frame_by_frame() -> None:
    model = make(context_noise=0.5, own_past=0.0, short=0.0)
    segment = random_segment(length=model.window)
    clean = segment.obs["camera"].float() / 127.5 - 1.0
    pasts: list[Tensor] = []
    told: list[Tensor] = []
    stem, condition = model.net.stem, model._condition
    model.net.stem = lambda past: (pasts.append(past), stem(past))[1]  # type: ignore[method-assign]
    model._condition = lambda t, known, level, a: (told.append(level), condition(t, known, level, a))[1]  # type: ignore[method-assign]
    model.loss(segment, torch.Generator().manual_seed(0))
    k = model.config.history
    first = model.window - model.config.targets
    for i, (past, level) in enumerate(zip(pasts, told, strict=True)):
        true = clean[:, first + i - k : first + i]
        off = (past.unflatten(1, (k, 3)) - true).abs().amax((2, 3, 4))
        assert torch.equal(off > 1e-6, level > 0)
    levels = torch.stack(told)
    assert 0 < float((levels > 0).float().mean()) < 1
    assert float(levels.max()) <= 0.5


def test_padding_is_always_that_of_true_frames() -> None:
    """A frame that is no multiple of 8 is padded by a constant, in training on own predictions as in dreaming."""
    spec = Spec({"camera": Sensor("image", (1, 9, 11))})
    model = make(spec, own_past=1.0, flow=FlowConfig(pure=1.0), short=0.0, steps=2)
    seen: list[Tensor] = []
    stem = model.net.stem
    model.net.stem = lambda past: (seen.append(past.detach()), stem(past))[1]  # type: ignore[method-assign]
    denoise = model._denoise
    model._denoise = lambda *a: denoise(*a) * 0 + 0.5  # type: ignore[method-assign]
    segment = random_segment(spec, length=model.window)
    model.config = dataclasses.replace(model.config, own_past=1e6)  # feed back whatever comes
    model.loss(segment, torch.Generator().manual_seed(0))
    state = model.observe(model.start(2, 0), {"camera": segment.obs["camera"][:, 0]})
    with torch.inference_mode():
        model.step(model.step(state))
    assert len(seen) == model.config.targets + 2
    fed = seen[1][:, -1]
    assert (fed[:, :9, :11] == 0.5).all()
    for past in seen:
        assert set(past[:, :, 9:].unique().tolist()) <= {0.0, -1.0}
        assert set(past[:, :, :, 11:].unique().tolist()) <= {0.0, -1.0}


def test_a_world_it_cannot_model_is_refused_in_words() -> None:
    two = Spec({"left": Sensor("image", (3, 16, 16)), "right": Sensor("image", (3, 16, 16))})
    with pytest.raises(ContractError, match="one image sensor"):
        Diffusion(two, DiffusionConfig.debug())
    text = Spec(SPEC.shown, {"text": Control("tokens", (4,), n=9)})
    with pytest.raises(ContractError, match="discrete and continuous"):
        Diffusion(text, DiffusionConfig.debug())


def test_it_learns_a_moving_bar_and_dreams_it() -> None:
    """A bar that moves by the action, one pixel a frame: after a short training the dream beats standing still."""
    spec = Spec({"camera": Sensor("image", (1, 8, 8))}, {"action": Control("discrete", n=2)})

    def batch(seed: int, rows: int = 16, length: int = 6) -> Segment:
        g = torch.Generator().manual_seed(seed)
        action = torch.randint(0, 2, (rows, length), generator=g)
        place = (torch.randint(0, 8, (rows, 1), generator=g) + (2 * action - 1).cumsum(1)) % 8
        frames = torch.nn.functional.one_hot(place, 8).to(torch.uint8)[:, :, None, None] * 255
        flags = torch.zeros(rows, length, dtype=torch.bool)
        return Segment({"camera": frames.expand(-1, -1, 1, 8, 8).contiguous()}, {"action": action}, flags, ~flags)

    torch.manual_seed(0)
    config = dataclasses.replace(DiffusionConfig.debug(), history=2, prompt=1, steps=1, flow=FlowConfig(pure=0.8))
    model = Diffusion(spec, config)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for step in range(250):
        optimizer.zero_grad()
        model.loss(batch(step), torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()
    model.eval()
    held = batch(10**6)
    state = model.start(16, 0)
    with torch.inference_mode():
        for t in range(2):
            state = model.observe(state, {"camera": held.obs["camera"][:, t]}, held.action[:, t])
        dreamed = []
        for t in range(2, 6):
            state = model.step(state, held.action[:, t])
            dreamed.append(model.decode(state)["camera"].float())
    truth = held.obs["camera"][:, 2:].float()
    error = ((torch.stack(dreamed, 1) - truth) ** 2).mean()
    still = ((held.obs["camera"][:, 1:2].float() - truth) ** 2).mean()
    assert error < 0.1 * still
