"""Rectified flow: levels, targets, weights, and what is shown of a noisy frame."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusion_toys import floats, loss_of, make, play, random_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.configs import ConfigError
from worldloom.models.diffusion import FlowConfig
from worldloom.models.diffusion.flow import (
    corrupt,
    draw_levels,
    euler,
    loss_weight,
    spread_at,
    to_clean,
    visible,
)
from worldloom.nn.tables import times

quick = settings(deadline=None, max_examples=25)
TARGETS = ("x", "flow", "v", "noise")


def pair(seed: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 4, 4, generator=g), torch.randn(batch, 3, 4, 4, generator=g)


@quick
@given(t=st.floats(0.0, 0.9), seed=st.integers(0, 99))
def test_weighted_error_of_x_is_the_error_of_the_velocity(t: float, seed: int) -> None:
    x, e = pair(seed)
    guess, level = pair(seed + 100)[0], torch.tensor([t])
    velocity = (guess - corrupt(x, e, level)) / (1 - t)
    expected = ((velocity - (x - e)) ** 2).mean()
    found = loss_weight(FlowConfig(), level) * ((guess - x) ** 2).mean()
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-4)


@quick
@given(t=st.floats(0.06, 1.0), seed=st.integers(0, 99))
def test_every_target_stands_for_the_same_clean_frame(t: float, seed: int) -> None:
    x, e = pair(seed)
    alpha, sigma = t / (t**2 + (1 - t) ** 2) ** 0.5, (1 - t) / (t**2 + (1 - t) ** 2) ** 0.5
    level = torch.tensor([t])
    outputs = {"x": x, "flow": x - e, "v": alpha * e - sigma * x, "noise": e}
    for target, output in outputs.items():
        found = to_clean(FlowConfig(target=target), output, corrupt(x, e, level), level)
        torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4)


def test_at_pure_noise_velocities_still_say_x_and_noise_does_not() -> None:
    (x, e), none = pair(0), torch.zeros(1)
    torch.testing.assert_close(to_clean(FlowConfig(target="flow"), x - e, e, none), x)
    torch.testing.assert_close(to_clean(FlowConfig(target="v"), -x, e, none), x)
    assert not to_clean(FlowConfig(target="noise"), e, e, none).any()


def test_the_weight_of_a_noise_target_makes_the_error_of_x_that_of_the_noise() -> None:
    config = FlowConfig(weighting="noise", target="noise", clip=1e-3)
    clean, drawn, guess = torch.randn(3, 4, 5, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.1, 0.4, 0.7, 0.95])[:, None].expand(4, 5)
    x = to_clean(config, guess, corrupt(clean, drawn, t), t)
    weighed = loss_weight(config, t) * (x - clean).square().mean((2, 3, 4))
    torch.testing.assert_close(weighed, (guess - drawn).square().mean((2, 3, 4)), rtol=1e-3, atol=1e-5)
    assert float(loss_weight(config, torch.zeros(()))) == 0


def test_min_snr_rises_with_the_signal_to_its_cap_and_keeps_pure_noise() -> None:
    config = FlowConfig(weighting="min_snr", snr_cap=4.0)
    t = torch.tensor([0.0, 0.5, 0.6, 0.7, 0.999])
    expected = [min(v**2 / (1 - v) ** 2, 4.0) + 1 for v in t.tolist()]
    torch.testing.assert_close(loss_weight(config, t), torch.tensor(expected))
    assert (loss_weight(FlowConfig(weighting="none"), t) == 1).all()
    assert float(loss_weight(FlowConfig(clip=0.1), torch.ones(1))) == pytest.approx(100.0)


def test_levels_are_logit_normal() -> None:
    config = FlowConfig(mean=-0.3, spread=0.5)
    t = draw_levels(config, (20_000,), torch.device("cpu"), torch.Generator().manual_seed(0))
    logit = torch.log(t / (1 - t))
    assert float(logit.mean()) == pytest.approx(-0.3, abs=0.02)
    assert float(logit.std()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_euler_with_the_true_frame_walks_the_straight_line_and_lands_on_it(steps: int) -> None:
    x, e = pair(0)
    now = e
    for a, b in pairwise(times(steps).tolist()):
        now = euler(now, x, a, b)
        torch.testing.assert_close(now, corrupt(x, e, torch.tensor([b])), rtol=1e-4, atol=1e-5)
    assert torch.equal(now, x)


def test_pure_noise_is_not_shown_and_a_clean_frame_is_shown_whole() -> None:
    x, _ = pair(0, 2)
    shown = visible(x, torch.tensor([0.0, 1.0]))
    assert not shown[0].any()
    assert torch.equal(shown[1], x[1])


@pytest.mark.parametrize("target", TARGETS)
def test_the_frame_to_denoise_shows_its_noise_where_the_target_contains_it(target: str) -> None:
    model = make(flow=FlowConfig(target=target), joint=1.0)
    clip = random_clip(length=3)
    around = model.around(
        model.clip(floats(clip), torch.ones(2, 3), clip.control), [2], torch.ones(2, 1, 3, dtype=torch.bool), clip.first
    )
    shown: list[torch.Tensor] = []
    model.net.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    x, e = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    none, half = torch.zeros(2), torch.full((2,), 0.5)
    with torch.no_grad():
        model.denoise(e, none, around)
        model.denoise(corrupt(x, e, half), half, around)
    noise_too = target in ("flow", "noise")
    assert torch.equal(shown[0], e if noise_too else torch.zeros_like(e))
    torch.testing.assert_close(shown[1], corrupt(x, e, half) * (2**0.5 if noise_too else 0.5**0.5))


def test_the_level_of_a_frame_is_told_beside_what_is_shown_of_it() -> None:
    model, clip = make(joint=1.0), random_clip(length=3)
    around = model.around(
        model.clip(floats(clip), torch.ones(2, 3), clip.control), [2], torch.ones(2, 1, 3, dtype=torch.bool), clip.first
    )
    seen = torch.randn(2, 3, 16, 16)
    with torch.no_grad():  # frames that are shown alike, at two levels
        a, b = (model.denoise(seen * spread_at(torch.tensor(t)) / t, torch.full((2,), t), around) for t in (0.3, 0.8))
    assert float((a - b).abs().max()) > 1e-3


def test_an_estimate_of_x_is_what_is_added_to_a_share_of_the_last_frame() -> None:
    clip = random_clip(length=3)
    found = []
    for share in (0.0, 0.6):
        model = make(residual=share)
        around = model.around(
            model.clip(floats(clip), torch.ones(2, 3), clip.control),
            [2],
            torch.ones(2, 1, 3, dtype=torch.bool),
            clip.first,
        )
        with torch.no_grad():
            found.append(model.denoise(torch.zeros(2, 3, 16, 16), torch.zeros(2), around))
    torch.testing.assert_close(found[1] - found[0], 0.6 * floats(clip)[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("joint", [0.0, 1.0])
def test_training_weighs_the_errors_as_it_is_told(joint: float) -> None:
    clip = random_clip(length=8)

    def loss(**flow: Any) -> float:
        model = make(joint=joint, memory=0, own_past=0.0, flow=FlowConfig(pure=0.0, spread=0.0, mean=0.0, **flow))
        return float(model.loss(clip, torch.Generator().manual_seed(0)).total.detach())

    if joint == 0:  # all levels are 1/2: errors of x count 1/(1/2)^2
        assert loss(weighting="flow") == pytest.approx(4 * loss(weighting="none"), rel=1e-5)
        assert loss(weighting="min_snr") == pytest.approx(2 * loss(weighting="none"), rel=1e-5)
    else:  # half of them at least; some are 0, where all weights are 1
        assert 1.5 * loss(weighting="none") < loss(weighting="flow") < 4 * loss(weighting="none")


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_trains_and_dreams(target: str) -> None:
    model = make(flow=FlowConfig(target=target, weighting="min_snr"), steps=2)
    clip = random_clip(length=model.window)
    total = model.loss(clip, torch.Generator().manual_seed(0)).total
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    frames, _ = play(model, clip, 3)
    assert torch.isfinite(frames).all()
    other = make(flow=FlowConfig(weighting="min_snr"), steps=2)
    if target != "x":
        assert loss_of(model, clip) != loss_of(other, clip)


def test_what_makes_no_sense_is_refused() -> None:
    for changes in ({"clip": 0.0}, {"spread": -1.0}, {"snr_cap": 0.0}, {"shift": 0.0}, {"pure": 1.5}):
        with pytest.raises(ConfigError):
            FlowConfig(**changes)
