"""The inverse-dynamics model: it reads what shows, learns rare actions as well as common ones, and can be repeated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy_discs

from worldloom.contract import Control
from worldloom.evaluation.inverse import FRAMES, InverseError, fit_inverse, shrink

STEPS = 100
"""Enough for a disc on an empty ground."""
MOVES = np.array([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])


def clips(count: int, seed: int, rare: float = 1 / 3, size: int = 20):
    """A disc that goes straight and is pushed left or right before the last frame: (N, 3, C, H, W), actions (N,)."""
    random = np.random.default_rng(seed)
    action = random.choice(3, count, p=[1 - 2 * rare, rare, rare])
    start, speed = random.uniform(7, size - 7, (count, 2)), random.uniform(-1, 1, (count, 2))
    last = start + 2 * speed + MOVES[action]
    at = np.stack([start, start + speed, last], 1)[:, :, None]
    return toy_discs.render(at, size, 3.0), action


def recall(model, frames: np.ndarray, action: np.ndarray) -> list[float]:
    said = model(frames)
    return [float((said[action == k] == k).mean()) for k in range(3)]


def test_it_reads_a_push_from_the_change_of_a_velocity():
    control = Control("discrete", n=3)
    frames, action = clips(900, 0)
    model = fit_inverse(frames, action, control, seed=0, steps=STEPS)
    fresh, given = clips(300, 1)
    assert min(recall(model, fresh, given)) > 0.9
    # where the last frame goes straight on nothing was done, whatever the speed
    straight = fresh[given == 0]
    assert (model(straight) == 0).mean() > 0.9
    # a push shows in the third frame alone: without it only luck is left
    blind = fresh.copy()
    blind[:, 2] = blind[:, 1]
    assert np.mean(recall(model, blind, given)) < 0.5


def test_rare_actions_are_learnt_as_well_as_common_ones(monkeypatch):
    shown = []

    def counted(said, wanted):
        shown.append(wanted)
        return cross_entropy(said, wanted)

    cross_entropy = torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", counted)
    frames, action = clips(1000, 0, rare=0.03)
    model = fit_inverse(frames, action, Control("discrete", n=3), seed=0, steps=STEPS)
    assert min(np.bincount(torch.cat(shown)) / len(torch.cat(shown))) > 0.3
    assert min(recall(model, *clips(300, 1))) > 0.7


def test_the_same_seed_gives_the_same_model_and_another_one_another():
    frames, action = clips(300, 0)
    control = Control("discrete", n=3)
    one, again, other = (fit_inverse(frames, action, control, seed, steps=5) for seed in (0, 0, 1))
    assert one.sha256 == again.sha256 != other.sha256
    assert len(one.sha256) == 64


def test_continuous_actions_are_regressed_in_their_own_units():
    random = np.random.default_rng(0)
    push = random.uniform(-1, 1, (1100, 2)).astype(np.float32)
    start, speed = random.uniform(7, 13, (1100, 2)), random.uniform(-1, 1, (1100, 2))
    at = np.stack([start, start + speed, start + 2 * speed + 2 * push], 1)[:, :, None]
    frames, action = toy_discs.render(at, 20, 3.0), 100 * push + 7
    model = fit_inverse(frames[:900], action[:900], Control("continuous", (2,)), seed=0, steps=STEPS)
    said, given = model(frames[900:]), action[900:]
    assert (1 - np.square(said - given).mean(0) / given.var(0) > 0.9).all()


def test_actions_too_rare_to_learn_are_never_told_and_too_few_examples_are_an_error():
    frames, action = clips(400, 0)
    control = Control("discrete", n=5)
    action[:3] = 4
    model = fit_inverse(frames, action, control, seed=0, steps=2)
    assert model.classes.tolist() == [0, 1, 2]
    assert set(model(frames[:50])) <= {0, 1, 2}
    with pytest.raises(InverseError, match="200 real examples and two actions with 20 or more each, found 100"):
        fit_inverse(frames[:100], action[:100], control, seed=0)
    with pytest.raises(InverseError, match="found 400 with 1 such actions"):
        fit_inverse(frames, np.zeros(400, np.int64), control, seed=0)


def test_large_frames_are_averaged_down_and_other_shapes_are_refused():
    frames, action = clips(200, 0, size=20)
    assert shrink(frames).shape == frames.shape
    large = np.kron(frames[:2], np.ones((1, 1, 1, 4, 4), np.uint8))  # 80 px: blocks of 2
    np.testing.assert_array_equal(shrink(large), np.kron(frames[:2], np.ones((1, 1, 1, 2, 2), np.uint8)))
    flat = np.full((1, FRAMES, 3, 50, 84), 100, np.uint8)
    assert shrink(flat).shape[-2:] == (25, 42)
    assert (shrink(flat) == 100).all()
    with pytest.raises(InverseError, match=r"found \(3, 3, 50, 84\)"):
        shrink(flat[0])
    model = fit_inverse(frames, action, Control("discrete", n=3), seed=0, steps=1)
    with pytest.raises(InverseError, match=r"shrink to \(3, 20, 20\), found \(3, 25, 42\)"):
        model(flat)
