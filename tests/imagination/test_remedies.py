"""Remedies against drift: what of the truth a dream is shown, and in which order its frames are made."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dream_toys import Counter, Filler, history, unroll

from worldloom.contract import ContractError, Control, Segment, Sensor, Spec, UnsupportedError
from worldloom.imagination.remedies import Remedy, keyframed
from worldloom.imagination.settings import otherwise
from worldloom.models.diffusion import Diffusion, DiffusionConfig
from worldloom.nn import tables


class Sum(Filler):
    """Each unknown frame is the nearest known one before it plus the actions since: it keeps what it was asked."""

    capabilities = frozenset({"fill", "decode"})
    window = 8

    def __init__(self):
        given = {"action": Control("discrete", n=3), "mood": Control("continuous", (1,), per="once")}
        super().__init__(Spec({"eye": Sensor("image", (1, 2, 2))}, given))
        self.asked: list[tuple[Segment, torch.Tensor, torch.Tensor | None]] = []

    def fill(self, segment, known, seed=0, table=None):
        self.asked.append((segment, known.clone(), table))
        video = segment.obs["eye"].clone()
        for t in range(1, known.shape[1]):
            following = video[:, t - 1] + segment.control["action"][:, t, None, None, None].to(torch.uint8)
            video[:, t] = torch.where(known[:, t, None, None, None], video[:, t], following)
        return dataclasses.replace(segment, obs={"eye": video})


def given(values, actions):
    eye = torch.tensor(values, dtype=torch.uint8)[None, :, None, None, None].expand(1, -1, 1, 2, 2)
    flags = torch.zeros(1, len(values), dtype=torch.bool)
    control = {"action": torch.tensor([actions]), "mood": torch.ones(1, 1)}
    return Segment({"eye": eye}, control, flags, ~flags, once=frozenset({"mood"}))


# --------------------------------------------------------------------------------- re-anchoring


def dream(remedy, frames=6):
    prompt, actions = history([[3, 7]]), torch.zeros(1, frames, dtype=torch.int64)
    truth = history([[10 * (t + 1) for t in range(frames)]], actions, first=False)
    made = remedy.dream(Counter(), prompt, actions, truth=truth)["screen"]
    return made[0, :, 0, 0, 0].tolist(), made[0, :, 0, 0, 2].tolist()


def test_without_a_remedy_the_truth_is_not_looked_at():
    values, dreamed = dream(Remedy())
    assert values == unroll(7, [0] * 6)
    assert dreamed == [1, 2, 3, 4, 5, 6]


def test_an_anchor_is_one_true_frame_among_dreamed_ones():
    values, dreamed = dream(Remedy(anchor=2))
    assert values == [*unroll(7, [0, 0]), *unroll(20, [0, 0]), *unroll(40, [0, 0])]  # never the truth itself
    assert dreamed == [1, 2, 2, 3, 3, 4]  # the true frame takes the place of one, and the others stay dreamed


def test_an_anchor_of_the_whole_history_leaves_nothing_dreamed():
    values, dreamed = dream(Remedy(anchor=2, history=True))
    assert values == [*unroll(7, [0, 0]), *unroll(20, [0, 0]), *unroll(40, [0, 0])]
    assert dreamed == [1, 2, 1, 2, 1, 2]


# ------------------------------------------------------------------------------------ keyframes


@pytest.mark.parametrize("frames", [1, 3, 5, 6, 17, 40])
def test_a_dream_of_any_length_follows_its_actions_through_all_chunks(frames):
    model = Sum()
    actions = [(7 * t) % 3 for t in range(frames)]
    made = keyframed(model, given([50, 51, 53], [0, 1, 2]), {"action": torch.tensor([actions])}, every=3)["eye"]
    expected = torch.tensor(actions).cumsum(0) + 53
    assert made.shape == (1, frames, 1, 2, 2)
    assert made[0, :, 0, 0, 0].tolist() == expected.tolist()


def test_the_last_frames_of_a_chunk_are_known_in_the_next_and_keyframes_come_first():
    model = Sum()
    keyframed(model, given([1, 1, 1, 1], [0, 0, 0, 0]), torch.zeros(1, 20, dtype=torch.int64), every=3, steps=2)
    for segment, known, table in model.asked:
        assert known.shape == (1, 8)
        assert known[0, :2].all()
        assert not known[0, 4:].any()
        assert torch.equal(table, tables.keyframes(8, 2, 3))
        assert segment.control["mood"].tolist() == [[1.0]]
    assert len(model.asked) == 4  # 4 known frames and 20 more, 2 of 8 known at least
    wide = Sum()
    keyframed(wide, given([1] * 4, [0] * 4), torch.zeros(1, 20, dtype=torch.int64), chunk=12, overlap=4)
    assert [int(known.sum()) for _, known, _ in wide.asked] == [4, 6, 6]  # 24 frames in three chunks of 12


def test_a_real_model_is_led_by_keyframes_and_by_its_settings():
    spec = Spec({"camera": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})
    torch.manual_seed(0)
    model = Diffusion(spec, dataclasses.replace(DiffusionConfig.debug(), ahead=2, retrieve=2, archive=16))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    flags = torch.zeros(2, 4, dtype=torch.bool)
    frames = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    prompt = Segment({"camera": frames}, {"action": torch.zeros(2, 4, dtype=torch.int64)}, flags, ~flags)
    actions = torch.zeros(2, 30, dtype=torch.int64)
    made = Remedy(keyframes=4, chunk=12, steps=2).dream(model, prompt, actions, seed=3)["camera"]
    assert made.shape == (2, 30, 3, 16, 16)
    assert torch.equal(made, Remedy(keyframes=4, chunk=12, steps=2).dream(model, prompt, actions, seed=3)["camera"])
    plain = Remedy().dream(model, prompt, actions)["camera"]
    for settings in ({"retrieve": 0}, {"told_noise": 0.3}):
        other = Remedy(settings=settings).dream(model, prompt, actions)["camera"]
        assert not torch.equal(other, plain)
    assert otherwise(model) is model


# ------------------------------------------------------------------------------------ refusals


def test_what_can_not_be_is_said_at_once():
    with pytest.raises(ContractError, match="choose one, found anchor 5 and keyframes 4"):
        Remedy(anchor=5, keyframes=4)
    with pytest.raises(ContractError, match="anchor and keyframes are at least 0"):
        Remedy(anchor=-1)
    with pytest.raises(ContractError, match="set anchor too"):
        Remedy(history=True)
    with pytest.raises(ContractError, match=r"chunk, steps is of dreams with keyframes"):
        Remedy(chunk=12, steps=4)
    with pytest.raises(UnsupportedError, match="fill"):
        Remedy(keyframes=4).dream(Counter(), history([[3, 7]]), torch.zeros(1, 6, dtype=torch.int64))
    with pytest.raises(ContractError, match="How long shall the dream be"):
        keyframed(Sum(), given([1, 2], [0, 0]), {"action": torch.zeros(1, 3, dtype=torch.int64)}, 4)
    with pytest.raises(ContractError, match="needs 'action' for every frame"):
        keyframed(Sum(), given([1, 2], [0, 0]), None, 4)
    begins = given([1, 2], [0, 0])
    begins = dataclasses.replace(begins, first=torch.tensor([[False, True]]))
    with pytest.raises(ContractError, match="one episode without gaps"):
        keyframed(Sum(), begins, torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ContractError, match="needs `truth`"):
        Remedy(anchor=2).dream(Counter(), history([[3, 7]]), torch.zeros(1, 6, dtype=torch.int64))
    with pytest.raises(UnsupportedError, match=r"Counter has no setting 'told_noise'.* It has none"):
        Remedy(settings={"told_noise": 0.1}).dream(Counter(), history([[3, 7]]))
