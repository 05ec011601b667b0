"""Stabilisation: a dream may declare its past noisier than it is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusion_toys import at, floats, make, play, random_clip

from worldloom.configs import ConfigError
from worldloom.contract import UnsupportedError
from worldloom.imagination.settings import otherwise
from worldloom.models.diffusion import DiffusionConfig
from worldloom.models.diffusion.clip import Clip, reachable

SEEN = 5


@pytest.mark.parametrize("memory", [0, 5])
def test_a_step_sees_its_clean_past_told_as_noisy(memory: int) -> None:
    """As the slow way does that puts a clip together frame by frame, each told to stand at the declared level."""
    model = otherwise(make(steps=1, memory=memory), told_noise=0.3)
    clip = random_clip(length=SEEN + 1)
    dreamed = play(model, clip, SEEN)[0][:, SEEN]
    slow = Clip([], [], model.conditions(clip.control))
    for frame in floats(clip).unbind(1):
        model.show(slow, 0.7 * frame, torch.full((2,), 0.7))
    around = model.around(slow, [SEEN], reachable(clip.first, clip.valid)[:, [SEEN]], clip.first)
    with torch.inference_mode():
        expected = model.tidy(model.denoise(torch.zeros_like(slow.shown[0]), torch.zeros(2), around))
    torch.testing.assert_close(dreamed, (expected + 1) / 2, atol=1e-5, rtol=0)
    plain = play(make(steps=1, memory=memory), clip, SEEN)[0][:, SEEN]
    assert (dreamed - plain).abs().max() > 1e-3


def test_what_is_read_of_a_frame_is_not_declared_noisy() -> None:
    clip = random_clip(length=SEEN)
    told, plain = (make(memory=0, told_noise=noise) for noise in (0.3, 0.0))
    with torch.inference_mode():
        a, b = (model.features(play(model, clip, SEEN)[1]) for model in (told, plain))
    assert torch.equal(a, b)


def test_a_level_that_was_never_trained_is_refused() -> None:
    config = dataclasses.replace(DiffusionConfig.debug(), joint=0.0, context_noise=0.1)
    assert dataclasses.replace(config, told_noise=0.1).told_noise == 0.1
    with pytest.raises(ConfigError, match="never seen in training: set context_noise"):
        dataclasses.replace(config, told_noise=0.2)
    assert dataclasses.replace(config, told_noise=0.2, joint=0.5).told_noise == 0.2


def test_a_model_otherwise_shares_its_weights_and_leaves_the_first_as_it_was() -> None:
    model = make()
    other = otherwise(model, told_noise=0.2)
    assert (model.config.told_noise, other.config.told_noise) == (0.0, 0.2)
    assert next(other.parameters()) is next(model.parameters())
    obs, given = at(random_clip(), 0)
    assert other.observe(other.start(2, 0), obs, given).batch == 2
    with pytest.raises(UnsupportedError, match=r"no setting 'tolt_noise'.*Did you mean 'told_noise'"):
        otherwise(model, tolt_noise=0.2)
    for name, value in (("joint", 0.9), ("memory", 9), ("history", 4), ("drop", {"action": 0.1}), ("retrieve", 1)):
        with pytest.raises(UnsupportedError, match=f"no setting {name!r}"):  # of training, or of layers
            otherwise(model, **{name: value})
    assert otherwise(make(retrieve=1), retrieve=0).config.retrieve == 0
