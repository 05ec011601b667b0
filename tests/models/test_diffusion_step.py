"""The next frame: what it depends on, what guidance adds, what a pass costs, and heads."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from diffusion_toys import RICH, SPEC, at, but, make, play, prompt, random_clip
from torch import Tensor

from worldloom.configs import ConfigError
from worldloom.contract import ContractError, Control, Sensor, Spec, UnsupportedError
from worldloom.models.diffusion import BackboneConfig, Diffusion, DiffusionConfig, FlowConfig
from worldloom.nn import tables


def calls(model: Diffusion, part: str) -> list[None]:
    """A list that grows by one with every call of a part of the network."""
    made: list[None] = []
    whole = getattr(model.net, part)
    setattr(model.net, part, lambda *a, **k: (made.append(None), whole(*a, **k))[1])
    return made


@pytest.mark.parametrize("inject", ["modulate", "add", "cross"])
def test_another_action_another_future(inject: str) -> None:
    model = make(steps=1, inject=inject)
    clip = random_clip(length=4)
    now = clip.action.clone()
    now[:, 3] = (now[:, 3] + 1) % 3
    before = clip.action.clone()
    before[:, 2] = (before[:, 2] + 1) % 3
    frame = play(model, clip, 3)[0][:, 3]
    for other in (now, before):  # what led to a remembered frame tells of its motion
        changed = (play(model, but(clip, action=other), 3)[0][:, 3] - frame).abs().amax((1, 2, 3))
        assert (changed > 1e-3).all()


def test_one_step_is_a_function_of_the_past_and_two_steps_draw() -> None:
    for changes, draws in (({"steps": 1}, False), ({"steps": 2}, True), ({"steps": 1, "target": "flow"}, True)):
        target = changes.pop("target", "x")
        model = make(flow=FlowConfig(target=target), **changes)
        clip = random_clip(length=4)
        _, state = play(model, clip, 4)
        with torch.inference_mode():
            a, b = (
                model.decode(model.step(s, clip.action[:, 3]), raw=True)["camera"] for s in (state, state.reseed(7))
            )
        assert (not torch.equal(a, b)) == draws


def test_what_is_not_known_is_not_used() -> None:
    model = make()
    clip = random_clip(length=1)
    empty = model.observe(model.start(2, 0), *at(clip, 0))
    junk = empty.replace(past=torch.where(empty["known"][..., None, None, None], empty["past"], 7.0))
    with torch.inference_mode():
        a, b = (model.decode(model.step(s, clip.action[:, 0]), raw=True)["camera"] for s in (empty, junk))
    assert torch.equal(a, b)


def test_old_actions_matter_only_within_the_history() -> None:
    model = make(steps=1, memory=0)
    k = model.config.history
    clip = random_clip(batch=1, length=k + 2)
    still = but(clip, camera=clip.obs["camera"][:, :1].expand_as(clip.obs["camera"]))

    def last(*actions: int) -> Tensor:
        return play(model, but(still, action=torch.tensor([actions])), k + 1)[0][:, -1]

    same = last(*[0] * (k + 2))
    assert torch.equal(last(2, *[0] * (k + 1)), same)
    assert not torch.equal(last(0, 2, *[0] * k), same)


def test_a_known_past_that_was_forgotten_at_first_is_not_used() -> None:
    model = make()
    clip = random_clip(length=5)
    first = clip.first.clone()
    first[:, 3] = True
    action = clip.action.clone()
    action[:, 3] = 3
    clip = but(clip, first=first, action=action)
    camera = clip.obs["camera"].clone()
    camera[:, :3] = 255 - camera[:, :3]
    assert torch.equal(play(model, clip, 4)[0][:, 4], play(model, but(clip, camera=camera), 4)[0][:, 4])


# --------------------------------------------------------------------------------------------------------- guidance


def guided(weight: float, name: str = "text", **changes: Any) -> Diffusion:
    drop = {} if name == "history" else {name: 0.1}
    return make(RICH, drop=drop, guidance={name: weight}, steps=1, **changes)


@pytest.mark.parametrize("name", ["action", "layout", "text", "mass", "history"])
def test_guidance_moves_away_from_the_dream_without_a_condition_by_its_formula(name: str) -> None:
    clip = random_clip(RICH, length=4)
    clip = but(clip, camera=clip.obs["camera"] // 4 + 96)  # little contrast: estimates stay within the range of frames

    def dream(model: Diffusion) -> Tensor:
        return play(model, clip, 3)[0][:, 3]

    drop = {} if name == "history" else {name: 0.1}
    full, one = dream(make(RICH, drop=drop, steps=1)), dream(guided(1.0, name))
    without, strong = dream(guided(0.0, name)), dream(guided(1.5, name))
    assert torch.equal(one, full)
    assert float((full - without).abs().max()) > 1e-3
    expected = full + 0.5 * (full - without)
    inside = ((expected > 0.01) & (expected < 0.99)) & ((without > 0.01) & (without < 0.99))
    inside &= (full > 0.01) & (full < 0.99)
    assert float(inside.float().mean()) > 0.2
    torch.testing.assert_close(strong[inside], expected[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("memory", [0, 4])
@pytest.mark.parametrize("name", ["action", "layout", "text", "mass"])
def test_a_condition_changes_the_dream_and_is_without_effect_where_it_is_hidden(name: str, memory: int) -> None:
    """A weight of 0 is the dream without: nothing of the condition may reach it, through memory neither."""
    clip = random_clip(RICH, length=5)
    value = clip.control[name]
    other = but(clip, **{name: (value + 1) % 7 if name == "text" else -value})
    seen, hidden = make(RICH, drop={name: 0.1}, memory=memory), guided(0.0, name, memory=memory)
    a, b = (play(seen, c, 3)[0][:, 3:] for c in (clip, other))
    assert ((a - b).abs().amax((2, 3, 4)) > 1e-3).all()
    a, b = (play(hidden, c, 3)[0][:, 3:] for c in (clip, other))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_history_guidance_of_weight_zero_sees_no_past() -> None:
    model = make(guidance={"history": 0.0}, steps=1)
    a, b = random_clip(length=8, seed=1), random_clip(length=8, seed=2)
    b = but(b, action=a.action)
    a, b = (play(model, c, 7)[0][:, 7] for c in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_history_through_noise_lies_between_none_and_all_of_it() -> None:
    clips = [random_clip(length=8, seed=seed) for seed in (1, 2)]
    clips[1] = but(clips[1], action=clips[0].action)

    def apart(level: float) -> float:
        model = make(guidance={"history": 0.0}, history_level=level, steps=1)
        a, b = (play(model, c, 7)[0][:, 7] for c in clips)
        return float((a - b).square().mean())

    plain = make(steps=1)
    a, b = (play(plain, c, 7)[0][:, 7] for c in clips)
    found = [apart(level) for level in (0.0, 0.2, 0.6, 0.999)]
    assert found[0] < 1e-8
    assert sorted(found) == found
    assert found[1] > 1e-7
    assert found[3] == pytest.approx(float((a - b).square().mean()), rel=0.1)


@pytest.mark.parametrize(("method", "passes"), [("euler", 3), ("heun", 5)])
def test_passes_are_made_for_weights_other_than_one_alone_and_surroundings_once_a_frame(
    method: str, passes: int
) -> None:
    for weight, branches in ((1.0, 1), (2.0, 2)):
        model = make(guidance={"history": weight}, steps=3, method=method, heads=False)
        _, state = play(model, random_clip(length=3), 3)
        trunks, stems = calls(model, "trunk"), calls(model, "stem")
        with torch.inference_mode():
            model.step(state, torch.zeros(2, dtype=torch.int64))
        assert len(trunks) == passes * branches
        assert len(stems) == branches


@pytest.mark.parametrize("joint", [0.0, 0.5])
def test_the_shift_places_the_steps_of_step_and_of_fill(joint: float) -> None:
    clip, flow = random_clip(length=5), FlowConfig(shift=3.0)
    model = make(joint=joint, steps=8, flow=flow)
    one = "joint" if joint else "autoregressive"
    made = model.fill(clip, prompt(clip, 3))
    told = model.fill(clip, prompt(clip, 3), table=tables.make(one, 5, 8, shift=3.0))
    assert torch.equal(made.obs["camera"], told.obs["camera"])
    shifted, even = (play(make(joint=joint, steps=8, flow=f), clip, 3)[0][:, 3:] for f in (flow, FlowConfig()))
    apart = model.fill(clip, prompt(clip, 3), table=tables.autoregressive(5, 8, 3.0)).obs["camera"][:, 3:] / 255
    torch.testing.assert_close(shifted, apart, atol=1 / 255, rtol=0)
    assert (shifted - even).abs().max() > 2 / 255


# ------------------------------------------------------------------------------------------- heads and capabilities


def test_capabilities_are_what_was_trained() -> None:
    assert make().capabilities == {"decode", "fill", "unprompted"}
    plain = make(joint=0.0, memory=0)
    assert plain.capabilities == {"decode", "fill"}
    with pytest.raises(UnsupportedError, match="unprompted"):
        plain.step(plain.start(1), torch.tensor([0]))
    with pytest.raises(UnsupportedError, match="reward"):
        plain.reward(plain.start(1))
    assert make(heads=True).capabilities == {"decode", "fill", "unprompted", "reward", "terminal"}


def test_a_dream_may_begin_with_nothing() -> None:
    model = make()
    a, b = (model.decode(model.step(model.start(2, s), torch.tensor([0, 1])))["camera"] for s in (0, 1))
    assert not torch.equal(a, b)
    assert not torch.equal(a[0], a[1])


@pytest.mark.parametrize("memory", [0, 3])
def test_heads_see_a_frame_in_dreams_as_they_did_in_training(memory: int) -> None:
    model = make(heads=True, memory=memory)
    clip = dataclasses.replace(random_clip(length=9), reward=torch.zeros(2, 9), terminal=torch.zeros(2, 9).bool())
    trained: list[Tensor] = []
    finished = model.finished
    model.finished = lambda *a: (trained.append(finished(*a)), trained[-1])[1]  # type: ignore[method-assign]
    model.loss(clip, torch.Generator().manual_seed(0))
    model.finished = finished  # type: ignore[method-assign]
    for t, features in zip(
        range(9 - model.config.targets, 9), trained[-1].unflatten(0, (2, -1)).unbind(1), strict=True
    ):
        _, state = play(model, clip.time(slice(0, t + 1)), t + 1)
        torch.testing.assert_close(model.features(state), features, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------- sizes and errors


@pytest.mark.parametrize("size", [(20, 36), (16, 16), (9, 11)])
def test_frames_that_the_grid_does_not_divide_are_padded_if_that_is_wanted(size: tuple[int, int]) -> None:
    spec = Spec({"camera": Sensor("image", (1, *size))}, {"layout": Control("map", (2, *size))})
    model = make(spec, pad=True)
    clip = random_clip(spec, length=6)
    assert torch.isfinite(model.loss(clip, torch.Generator().manual_seed(0)).total.detach())
    assert play(model, clip, 2)[0].shape == (2, 6, 1, *size)
    assert model.fill(clip, torch.zeros_like(clip.first)).obs["camera"].shape == (2, 6, 1, *size)
    if size != (16, 16):
        with pytest.raises(ContractError, match=rf"{size[0]}x{size[1]}.*multiples of 8"):
            make(spec)


def test_a_model_at_another_size_shares_its_weights_and_is_the_model_of_that_size() -> None:
    small = make(RICH)
    large = small.at_size(24, 32)
    spec = large.spec
    assert spec.images["camera"].shape == (3, 24, 32)
    own = Diffusion(spec, small.config).eval()
    own.load_state_dict(small.state_dict())
    clip = random_clip(spec, length=5)
    assert torch.equal(play(large, clip, 3)[0], play(own, clip, 3)[0])
    assert small.shape == (3, 16, 16)
    assert next(large.parameters()) is next(small.parameters())
    with pytest.raises(ContractError, match="multiples of 8"):
        small.at_size(24, 30)


def test_a_world_it_cannot_model_is_refused_in_words() -> None:
    two = Spec({"left": Sensor("image", (3, 16, 16)), "right": Sensor("image", (3, 16, 16))})
    with pytest.raises(ContractError, match="one image sensor"):
        Diffusion(two, DiffusionConfig.debug())
    for control, words in (
        (Control("map", (1, 8, 8)), "frame's size"),
        (Control("map", (1, 16, 16), per="once"), "per once"),
        (Control("tokens", (4,), n=9), "once for a sequence"),
    ):
        with pytest.raises(ContractError, match=words):
            Diffusion(Spec(SPEC.shown, {"extra": control}), DiffusionConfig.debug())
    text = Control("tokens", (4,), n=9, per="once")
    with pytest.raises(ContractError, match="one text"):
        Diffusion(Spec(SPEC.shown, {"a": text, "b": text}), DiffusionConfig.debug())


def test_what_was_not_trained_cannot_be_asked_for() -> None:
    with pytest.raises(ContractError, match="text"):
        make().start(1, control={"text": torch.zeros(1, 5, dtype=torch.int64)})
    with pytest.raises(ContractError, match="text"):
        make(RICH).start(1)
    with pytest.raises(ConfigError, match="never dropped"):
        make(RICH, guidance={"text": 2.0})
    with pytest.raises(ContractError, match="no control 'sound'"):
        make(RICH, drop={"sound": 0.1}, guidance={"sound": 2.0})
    with pytest.raises(ConfigError, match="joint"):
        make(joint=0.0, memory=0, guidance={"history": 2.0})
    with pytest.raises(ConfigError, match="joint"):
        make(joint=0.0, memory=0, ahead=1)
    with pytest.raises(ConfigError, match="joint"):
        make(joint=0.0, memory=0, shortcut=0.5)
    with pytest.raises(ConfigError, match="attention"):
        make(backbone=BackboneConfig(size="debug"))
    with pytest.raises(ConfigError, match="sink"):
        make(memory=2, sink=2)
    with pytest.raises(ConfigError, match="at most history"):
        make(prompt=4)
    with pytest.raises(ConfigError, match="below 1"):
        make(RICH, drop={"text": 1.0})
    with pytest.raises(ConfigError, match="attention"):
        make(inject="cross", memory=0, backbone=BackboneConfig(size="debug"))
