"""Short trainings of tiny worlds: dreams, fillings and rewards come out right."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from worldloom.contract import Control, Segment, Sensor, Spec
from worldloom.models.diffusion import Diffusion, DiffusionConfig, FlowConfig
from worldloom.nn import tables

SHOWN = {"camera": Sensor("image", (1, 8, 8))}


def bars(place: Tensor, **more: Any) -> Segment:
    """A bright column at places (B, T) of an 8×8 frame."""
    frames = torch.nn.functional.one_hot(place % 8, 8).to(torch.uint8)[:, :, None, None] * 255
    flags = torch.zeros(place.shape, dtype=torch.bool)
    camera = frames.expand(-1, -1, 1, 8, 8).contiguous()
    return Segment({"camera": camera}, more.pop("control", {}), flags, ~flags, **more)


def train(spec: Spec, batch: Any, updates: int, **changes: Any) -> Diffusion:
    torch.manual_seed(0)
    model = Diffusion(spec, dataclasses.replace(DiffusionConfig.debug(), **changes))
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for update in range(updates):
        optimizer.zero_grad()
        model.loss(batch(update), torch.Generator().manual_seed(update)).total.backward()
        optimizer.step()
    return model.eval()


def error(found: Tensor, truth: Tensor) -> float:
    return float(((found.float() - truth.float()) ** 2).mean())


def test_it_learns_a_bar_that_actions_move_and_what_it_is_worth() -> None:
    """The bar moves by the action, one pixel a frame; the reward is 1 in the right half, and the end is at place 0."""
    spec = Spec(SHOWN, {"action": Control("discrete", n=2)})

    def batch(seed: int, rows: int = 16, length: int = 6) -> Segment:
        g = torch.Generator().manual_seed(seed)
        action = torch.randint(0, 2, (rows, length), generator=g)
        place = (torch.randint(0, 8, (rows, 1), generator=g) + (2 * action - 1).cumsum(1)) % 8
        return bars(place, control={"action": action}, reward=(place > 3).float(), terminal=place == 0)

    changes = {"history": 2, "prompt": 1, "steps": 1, "memory": 0, "joint": 0.0, "flow": FlowConfig(pure=0.8)}
    model = train(spec, batch, 200, heads=True, **changes)
    held = batch(10**6)
    state = model.start(16, 0)
    with torch.inference_mode():
        for t in range(2):
            state = model.observe(state, {"camera": held.obs["camera"][:, t]}, held.action[:, t])
        dreamed, rewards, ends = [], [], []
        for t in range(2, 6):
            state = model.step(state, held.action[:, t])
            dreamed.append(model.decode(state)["camera"])
            rewards.append(model.reward(state))
            ends.append(model.terminal(state))
    truth = held.obs["camera"][:, 2:]
    assert error(torch.stack(dreamed, 1), truth) < 0.1 * error(held.obs["camera"][:, 1:2], truth)
    assert float((torch.stack(rewards, 1) - held.reward[:, 2:]).abs().mean()) < 0.2
    right = (torch.stack(ends, 1) > 0.5) == held.terminal[:, 2:]
    assert float(right.float().mean()) > 0.95


def test_between_known_ends_it_fills_what_the_past_alone_cannot_know() -> None:
    """A bar drifts left or right, and only the last frame tells which."""

    def batch(seed: int, rows: int = 16) -> Segment:
        g = torch.Generator().manual_seed(seed)
        way = 2 * torch.randint(0, 2, (rows, 1), generator=g) - 1
        return bars(torch.randint(0, 8, (rows, 1), generator=g) + way * torch.arange(3))

    spec = Spec(SHOWN)
    model = train(spec, batch, 300, history=1, prompt=1, ahead=1, memory=0, joint=0.9)
    held = batch(10**6, 64)
    ends = torch.tensor([True, False, True]).expand(64, -1)
    start = torch.tensor([True, False, False]).expand(64, -1)
    middle = held.obs["camera"][:, 1]
    between = error(model.fill(held, ends, 1, tables.joint(3, 4)).obs["camera"][:, 1], middle)
    causal = error(model.fill(held, start, 1, tables.autoregressive(3, 4)).obs["camera"][:, 1], middle)
    still = error(held.obs["camera"][:, 0], middle)
    assert between < 0.5 * causal
    assert between < 0.5 * still
