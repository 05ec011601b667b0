"""Memory: a ring of constant size, exact ages, and what is remembered of a frame depends on that frame alone."""

from __future__ import annotations

import pytest
import torch
from diffusion_toys import SPEC, at, but, make, play, random_clip
from torch import Tensor

from worldloom.contract import State
from worldloom.models.diffusion import Diffusion


def after(model: Diffusion, frames: Tensor, action: Tensor | None = None) -> State:
    """The state that has observed so many frames (B, T, C, H, W)."""
    clip = random_clip(batch=len(frames), length=frames.shape[1])
    clip = but(clip, camera=frames, action=clip.action * 0 if action is None else action)
    state = model.start(clip.batch)
    with torch.no_grad():
        for t in range(clip.length):
            state = model.observe(state, *at(clip, t))
    return state


def next_frame(model: Diffusion, state: State) -> Tensor:
    """What is dreamed from a state, where nothing is done."""
    with torch.no_grad():
        return model.decode(model.step(state, torch.zeros(state.batch, dtype=torch.int64)), raw=True)["camera"]


@pytest.mark.parametrize(("memory", "sink"), [(4, 2), (3, 0)])
def test_a_long_dream_has_a_constant_state_that_holds_the_first_frames_and_the_last(memory: int, sink: int) -> None:
    model = make(memory=memory, sink=sink, history=1, prompt=1, steps=1)
    clip = random_clip(length=100, batch=1)
    empty = model.start(1)
    _, state = play(model, clip, 2)
    shapes = [{n: (x.shape, x.dtype) for n, x in s.tensors.items()} for s in (empty, state)]
    assert shapes[0] == shapes[1]
    held = sorted(state["at"][0].tolist())
    assert held == [*range(sink), *range(100 - memory + sink, 100)]
    assert state["since"].tolist() == [100]
    _, young = play(model, clip.time(slice(0, 2)), 2)
    assert sorted(young["at"][0].tolist()) == sorted([0, 1] + [-1] * (memory - 2))


@pytest.mark.parametrize(("memory", "sink"), [(4, 1), (5, 2), (0, 0)])
def test_what_is_remembered_matters_and_what_is_forgotten_does_not(memory: int, sink: int) -> None:
    model = make(memory=memory, sink=sink, history=2, prompt=1)
    length = 9
    frames = random_clip(length=length).obs["camera"]
    plain = next_frame(model, after(model, frames))
    for j in range(length):
        other = frames.clone()
        other[:, j] = 255 - other[:, j]
        same = torch.equal(next_frame(model, after(model, other)), plain)
        in_stem = j >= length - 2
        recalled = memory and (j < sink or j >= length - (memory - sink))
        assert same != bool(in_stem or recalled), j


def test_what_is_remembered_of_a_frame_depends_on_that_frame_alone() -> None:
    """Not on what came before it, which may have been evicted: so the cache is exact."""
    model = make(memory=4, sink=1)
    frames = random_clip(length=9).obs["camera"]
    action = torch.randint(0, 3, (2, 9), generator=torch.Generator().manual_seed(3))
    other, turned = frames.clone(), action.clone()
    other[:, :6], turned[:, :6] = 255 - other[:, :6], (turned[:, :6] + 1) % 3
    a, b = after(model, frames, action), after(model, other, turned)
    assert torch.equal(a["at"], b["at"])
    same = (a["memory"] == b["memory"]).flatten(2).all(2)
    assert torch.equal(same, a["at"] >= 6)
    led = action.clone()
    led[:, 8] = (led[:, 8] + 1) % 3  # what led to a frame is remembered with it
    c = after(model, frames, led)
    assert torch.equal((a["memory"] == c["memory"]).flatten(2).all(2), a["at"] != 8)


def test_the_ten_thousandth_frame_is_as_exact_as_the_tenth() -> None:
    model = make(memory=4, sink=1)
    young = after(model, random_clip(length=10).obs["camera"])
    ages = 3 * 10_000  # whole turns of the ring
    ring = young["at"] >= 1
    old = young.replace(at=torch.where(ring, young["at"] + ages, young["at"]), since=young["since"] + ages)
    assert torch.equal(next_frame(model, young), next_frame(model, old))
    for _ in range(5):
        young, old = (model.step(s, torch.ones(2, dtype=torch.int64)) for s in (young, old))
    assert torch.equal(model.decode(young, raw=True)["camera"], model.decode(old, raw=True)["camera"])
    assert torch.equal(old["at"][ring], young["at"][ring] + ages)


@pytest.mark.parametrize("retrieve", [0, 1])
def test_what_looks_like_the_newest_frame_is_retrieved_from_far_back(retrieve: int) -> None:
    model = make(memory=3, sink=1, history=1, prompt=1, retrieve=retrieve, archive=8)
    frames = torch.full((1, 7, 3, 16, 16), 30, dtype=torch.uint8)
    frames[:, 2], frames[:, 6] = 220, 230
    plain = next_frame(model, after(model, frames))

    def matters(j: int, value: int) -> bool:
        other = frames.clone()
        other[:, j] = value
        return not torch.equal(next_frame(model, after(model, other)), plain)

    assert matters(2, 210) == bool(retrieve)
    assert not matters(1, 35)
    assert not matters(3, 35)


def test_ages_matter() -> None:
    """The same frames, remembered in another order, are another past."""
    model = make(memory=4, sink=1, history=1, prompt=1)
    frames = random_clip(length=8).obs["camera"]
    swapped = frames[:, [0, 1, 2, 3, 4, 6, 5, 7]]
    assert not torch.equal(next_frame(model, after(model, frames)), next_frame(model, after(model, swapped)))


def test_an_episode_that_begins_empties_the_memory_of_its_row_alone() -> None:
    model = make(memory=4, sink=1)
    clip = random_clip(batch=3, length=8)
    state = after(model, clip.obs["camera"])
    obs, _ = at(random_clip(batch=3, length=1, seed=5), 0)
    begins = torch.tensor([False, True, False])
    with torch.no_grad():
        begun = model.observe(state, obs, torch.full((3,), 3), first=begins)
        on = model.observe(state, obs, torch.full((3,), 3))
        fresh = model.observe(model.start(3), obs, torch.full((3,), 3))
    assert begun["since"].tolist() == [9, 1, 9]
    assert sorted(begun["at"][1].tolist()) == [-1, -1, -1, 0]
    alone = fresh.replace(frame=begun.frame)
    dreamed = next_frame(model, begun)
    assert torch.equal(dreamed[1], next_frame(model, alone)[1])
    assert torch.equal(dreamed[[0, 2]], next_frame(model, on)[[0, 2]])
    assert not torch.equal(dreamed[1], next_frame(model, on)[1])


def test_states_of_any_age_share_a_batch() -> None:
    model = make(memory=4, sink=1)
    clip = random_clip(batch=1, length=9)
    young, old = (after(model, clip.obs["camera"][:, :n]) for n in (2, 9))
    both = next_frame(model, State.stack([young, old]))
    torch.testing.assert_close(both, torch.cat([next_frame(model, young), next_frame(model, old)]), rtol=0, atol=1e-5)


def test_a_model_without_memory_carries_none() -> None:
    state = make(memory=0).start(1)
    assert not {"memory", "at", "since"} & set(state.tensors)
    assert make(SPEC).start(1)["at"].tolist() == [[-1] * 5]
