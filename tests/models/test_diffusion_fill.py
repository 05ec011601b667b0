"""Whole clips by any table: the same dream as frame by frame, who sees whom, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from diffusion_toys import RICH, SPEC, but, make, play, prompt, random_clip
from torch import Tensor

from worldloom.contract import ContractError, Segment, Sensor, Spec, UnsupportedError
from worldloom.models.diffusion import Diffusion, FlowConfig
from worldloom.models.diffusion import filling as module
from worldloom.nn import tables

GUIDED = {
    "guidance": {"text": 2.0, "action": 1.5, "history": 1.5},
    "drop": {"text": 0.1, "action": 0.1},
}
CASES: dict[str, dict[str, Any]] = {
    "debug": {},
    "ahead": {"ahead": 2},
    "sink": {"memory": 4, "sink": 2},
    "retrieved": {"memory": 3, "retrieve": 2, "archive": 12},
    "archived and forgotten": {"memory": 3, "retrieve": 2, "archive": 4},
    "told": {"memory": 3, "told_noise": 0.3, "steps": 2},
    "no sink": {"memory": 2, "sink": 0},
    "guided": {"memory": 3, **GUIDED},
    "history through noise": {"memory": 0, "guidance": {"history": 2.0}, "history_level": 0.6, "steps": 2},
    "history through noise, long steps": {
        "memory": 0,
        "shortcut": 0.5,
        "guidance": {"history": 2.0},
        "history_level": 0.6,
    },
    "heun": {"memory": 3, "method": "heun", "steps": 3},
    "next frames": {"memory": 0, "joint": 0.0, "steps": 1},
    "velocity": {"flow": FlowConfig(target="v"), "steps": 3},
    "added": {"memory": 3, "inject": "add"},
    "attended": {"memory": 3, "inject": "cross"},
    "shortcut": {"memory": 3, "shortcut": 0.5},
}


def raw_fill(model: Diffusion, segment: Segment, known: Tensor, table: Tensor | None = None, seed: int = 0) -> Tensor:
    """What ``fill`` dreams before it is rounded to bytes, in [0, 1]."""
    out: list[Tensor] = []
    whole = module.walk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "walk", lambda *a, **k: (out.append(whole(*a, **k)), out[0])[1])
        model.fill(segment, known, seed, table)
    return (model.crop(out[0]) + 1) / 2


@pytest.mark.parametrize("case", CASES)
def test_one_frame_after_the_other_is_observe_and_step(case: str) -> None:
    """The cache gives what a full recompute gives, long after it has begun to forget; also where an episode begins in
    the prompt."""
    model = make(RICH, **CASES[case])
    clip = random_clip(RICH, length=10)
    first = clip.first.clone()
    first[1, 2] = True
    null = torch.zeros(2)
    action, layout = clip.control["action"].clone(), clip.control["layout"].clone()
    action[1, 2], layout[1, 2] = null, 0.0
    clip = but(clip, first=first, action=action, layout=layout)
    table = tables.autoregressive(10, model.config.steps)
    filled = raw_fill(model, clip, prompt(clip, 4), table, 3)
    dreamed, _ = play(model, clip, 4, 3)
    assert float(dreamed[:, 4:].std()) > 0.05
    torch.testing.assert_close(filled, dreamed, rtol=0, atol=1e-4)


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("name", ["joint", "autoregressive", "pyramid"])
def test_a_later_frame_never_changes_an_earlier_one(name: str, memory: int) -> None:
    model = make(memory=memory)
    clip = random_clip(length=10)
    action = clip.action.clone()
    action[:, 6:] = (action[:, 6:] + 1) % 3
    table = tables.make(name, 10, 2, **({"lag": 1} if name == "pyramid" else {}))
    a, b = (raw_fill(model, c, prompt(c, 2), table) for c in (clip, but(clip, action=action)))
    torch.testing.assert_close(a[:, :6], b[:, :6], rtol=0, atol=1e-5)
    assert ((a[:, 6:] - b[:, 6:]).abs().amax((2, 3, 4)) > 1e-3).all()
    short = raw_fill(model, clip.time(slice(0, 7)), prompt(clip, 2)[:, :7], table[:, :7])
    torch.testing.assert_close(short, a[:, :7], rtol=0, atol=1e-4)


@pytest.mark.parametrize("memory", [0, 3])
def test_with_ahead_a_later_known_frame_changes_an_earlier_one(memory: int) -> None:
    model = make(ahead=1, memory=memory, sink=1)
    clip = random_clip(length=6)
    known = prompt(clip, 2)
    known[:, 4] = True
    camera = clip.obs["camera"].clone()
    camera[:, 4] = 255 - camera[:, 4]
    table = tables.joint(6, 1)
    a, b = (raw_fill(model, c, known, table) for c in (clip, but(clip, camera=camera)))
    changed = (a - b).abs().amax((0, 2, 3, 4)) > 1e-4
    # One step: frame 3 has it in its stem, frame 2 can only recall it, frame 5 lies behind it.
    assert changed.tolist() == [False, False, bool(memory), True, True, True]
    unseen = make(ahead=0, memory=memory)
    with pytest.raises(UnsupportedError, match="ahead"):
        unseen.fill(clip, known)


def test_whole_clips_are_estimated_as_each_frame_alone_would_be() -> None:
    """Also in clips longer than the memory, whose first frames are recalled for good."""
    model = make(memory=3, ahead=1)
    clip = random_clip(length=9)
    known = torch.ones(2, 9, dtype=torch.bool)
    known[:, 1:] = False
    at_once = raw_fill(model, clip, known, tables.joint(9, 1))
    denoise, around = model.denoise, model.around
    alone: list[Tensor] = []

    def one_by_one(shown: Any, targets: Any, reach: Tensor, starts: Tensor) -> Any:
        arounds = [around(shown, [i], reach[:, [n]], starts) for n, i in enumerate(targets)]
        zeros = torch.zeros(2)
        alone.extend(denoise(torch.zeros(2, 3, 16, 16), zeros, a, zeros + 1) for a in arounds)
        return around(shown, targets, reach, starts)

    model.around = one_by_one  # type: ignore[method-assign]
    raw_fill(model, clip, known, tables.joint(9, 1))
    expected = (model.tidy(torch.stack(alone, 1)) + 1) / 2
    torch.testing.assert_close(at_once[:, 1:], expected, rtol=0, atol=1e-5)


def test_known_frames_are_kept_to_the_bit_and_what_unknown_ones_held_is_not_used() -> None:
    model = make(ahead=1)
    clip = random_clip(length=7)
    known = torch.rand(2, 7, generator=torch.Generator().manual_seed(1)) < 0.4
    junk = but(clip, camera=torch.where(known[..., None, None, None], clip.obs["camera"], 77))
    out, same = model.fill(clip, known, 3), model.fill(junk, known, 3)
    assert torch.equal(out.obs["camera"][known], clip.obs["camera"][known])
    assert torch.equal(out.obs["camera"], same.obs["camera"])
    assert out.control is clip.control or torch.equal(out.action, clip.action)
    assert not torch.equal(out.obs["camera"], model.fill(clip, known, 4).obs["camera"])


def test_a_row_is_the_same_whatever_else_is_in_the_batch() -> None:
    model = make()
    clip = random_clip(batch=3, length=6)
    known = prompt(clip, 3)
    known[1, 2] = False
    together = raw_fill(model, clip, known, seed=2)
    torch.testing.assert_close(together[:1], raw_fill(model, clip.rows([0]), known[:1], seed=2), rtol=0, atol=1e-4)
    others = but(clip, camera=torch.cat([clip.obs["camera"][:1], 255 - clip.obs["camera"][1:]]))
    torch.testing.assert_close(together[:1], raw_fill(model, others, known, seed=2)[:1], rtol=0, atol=1e-5)


def test_without_a_table_it_is_what_the_model_was_trained_for() -> None:
    clip = random_clip(length=5)
    known = prompt(clip, 3)
    whole, next_frame = make(steps=3), make(steps=3, joint=0.0, memory=0)
    assert torch.equal(raw_fill(whole, clip, known), raw_fill(whole, clip, known, tables.joint(5, 8)))
    by_frame = tables.autoregressive(5, 3)
    assert torch.equal(raw_fill(next_frame, clip, known), raw_fill(next_frame, clip, known, by_frame))


def test_an_actionless_clip_from_nothing_at_all() -> None:
    model = make(Spec(SPEC.shown))
    clip = random_clip(Spec(SPEC.shown), length=6)
    out = model.fill(clip, torch.zeros_like(clip.first), 1)
    other = model.fill(clip, torch.zeros_like(clip.first), 2)
    assert not torch.equal(out.obs["camera"], other.obs["camera"])
    alone = make(joint=0.0, memory=0)
    assert "unprompted" not in alone.capabilities
    with pytest.raises(UnsupportedError, match="unprompted"):
        alone.fill(random_clip(length=6), torch.zeros_like(clip.first))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (96, 128)])
def test_other_frame_sizes(size: tuple[int, int]) -> None:
    spec = Spec({"camera": Sensor("image", (1, *size))}, SPEC.given)
    model = make(spec, memory=2)
    clip = random_clip(spec, length=4)
    assert torch.isfinite(model.loss(clip, torch.Generator().manual_seed(0)).total)
    filled = raw_fill(model, clip, prompt(clip, 2), tables.autoregressive(4, 2), 1)
    dreamed, _ = play(model, clip, 2, 1)
    torch.testing.assert_close(filled, dreamed, rtol=0, atol=1e-4)


def test_what_does_not_fit_is_refused_in_words() -> None:
    model, plain = make(), make(joint=0.0, memory=0)
    clip = random_clip(length=4)
    known = prompt(clip, 2)
    unclean = tables.joint(4, 2)
    unclean[-1, 3] = 0.9
    with pytest.raises(ContractError, match="never cleans frame 3"):
        model.fill(clip, known, table=unclean)
    with pytest.raises(ContractError, match="5 frames, but the clip has 4"):
        model.fill(clip, known, table=tables.joint(5, 2))
    with pytest.raises(ContractError, match="known marks frames"):
        model.fill(clip, known[:, :3])
    with pytest.raises(UnsupportedError, match="not yet clean"):
        plain.fill(clip, known, table=tables.joint(4, 2))
    with pytest.raises(UnsupportedError, match="after later ones"):
        model.fill(clip, prompt(clip, 1), table=tables.keyframes(4, 2, 3))
    with pytest.raises(ContractError, match="Missing control 'action'"):
        model.fill(dataclasses.replace(clip, control={}), known)
    with pytest.raises(ContractError, match=r"must be torch\.uint8"):
        model.fill(but(clip, camera=clip.obs["camera"].float()), known)
    with pytest.raises(ContractError, match=r"must have shape \(2, 4, 3, 16, 16\)"):
        model.fill(but(clip, camera=clip.obs["camera"][..., :8]), known)
    plain.fill(clip, prompt(clip, 3), table=tables.joint(4, 2))  # one unknown frame: its past is clean


def test_a_frame_that_begins_above_noise_must_be_known() -> None:
    """There is nothing to begin with: what an unknown frame holds is not used."""
    model = make()
    clip = random_clip(length=3)
    table = torch.tensor([[0.0, 0.0, 0.5], [1.0, 1.0, 1.0]])
    with pytest.raises(ContractError, match="frame 2"):
        model.fill(clip, prompt(clip, 1), table=table)
    given = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    model.fill(clip, prompt(clip, 1), table=given)
    with pytest.raises(ContractError, match="frame 0"):
        model.fill(clip, prompt(clip, 0), table=given)


def test_without_history_frames_that_are_made_together_still_see_each_other() -> None:
    """History guidance takes away what is known, and not the coherence of what is dreamed."""
    model = make(ahead=1, memory=0, guidance={"history": 0.0})
    clip = random_clip(length=6)

    def dream(clip: Segment) -> Tensor:
        return raw_fill(model, clip, prompt(clip, 2), tables.joint(6, 3))[:, 2:]

    plain = dream(clip)
    camera = clip.obs["camera"].clone()
    camera[:, :2] = 255 - camera[:, :2]
    torch.testing.assert_close(dream(but(clip, camera=camera)), plain, rtol=0, atol=1e-5)
    action = clip.action.clone()
    action[:, 4] = (action[:, 4] + 1) % 3
    changed = (dream(but(clip, action=action)) - plain).abs().amax((0, 2, 3, 4))
    assert (changed[1:] > 1e-5).all(), changed
