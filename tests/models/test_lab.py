"""The lab's model is the textbook's, to the parameter, and its sampler is Ho et al.'s."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from worldloom.contract import ContractError, Control, Segment, Sensor, Spec
from worldloom.models.lab import Lab, LabConfig

SPEC = Spec({"camera": Sensor("image", (3, 64, 64))}, {"action": Control("continuous", (4,))})


def test_the_textbooks_parameter_count_and_tokens() -> None:
    model = Lab(SPEC)
    assert sum(p.numel() for p in model.parameters()) == 6_733_504
    tokens = model._tokens(torch.zeros(1, 3, 3, 64, 64), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 4))
    assert tokens.shape == (1, 194, 256)


def test_the_schedules_fault() -> None:
    """With 100 steps the last level still holds sqrt(0.36) of the signal."""
    assert float(Lab(SPEC, LabConfig.debug()).alphas_bar.prod()) < 1
    assert abs(float(Lab(SPEC, LabConfig(width=32, layers=1, heads=2)).alphas_bar[-1]) - 0.36) < 0.005


def test_the_sampler_recovers_a_frame_whose_noise_is_known() -> None:
    model = Lab(SPEC, LabConfig(width=32, layers=1, heads=2))
    truth = torch.rand(2, 3, 64, 64)

    def oracle(noisy: Tensor, past: Tensor, step: Tensor, action: Tensor | None) -> Tensor:
        abar = model.alphas_bar[step][:, None, None, None]
        return (noisy - abar.sqrt() * truth) / (1 - abar).sqrt()

    model.predict_noise = oracle  # type: ignore[method-assign]
    with torch.inference_mode():
        seen = model.observe(model.start(2, 0), {"camera": (truth * 255).to(torch.uint8)}, torch.zeros(2, 4))
        state = model.step(seen, torch.zeros(2, 4))
    torch.testing.assert_close(model.decode(state, raw=True)["camera"], truth, atol=1e-3, rtol=0)


def test_patches_return_to_their_places() -> None:
    """The output layer's pixels land where the patch was cut."""
    model = Lab(SPEC, LabConfig.debug())
    marked = torch.zeros(1, 64, 192)
    marked[0, 9, (2 * 8 + 5) * 3 + 1] = 1.0  # patch row 1, column 1; pixel row 2, column 5; channel 1
    model._encode = lambda *a: marked  # type: ignore[method-assign]
    model.out = torch.nn.Identity()
    frame = model.predict_noise(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 3, 64, 64), torch.zeros(1).long(), None)
    assert frame.nonzero().tolist() == [[0, 1, 8 + 2, 8 + 5]]


def test_windows_that_cross_an_episode_are_not_trained() -> None:
    model = Lab(SPEC, LabConfig.debug())
    frames = torch.randint(0, 256, (2, 6, 3, 64, 64), dtype=torch.uint8)
    flags = torch.zeros(2, 6, dtype=torch.bool)
    segment = Segment({"camera": frames}, {"action": torch.zeros(2, 6, 4)}, flags, ~flags)
    first = flags.clone()
    first[:, 4] = True  # only frames 0..3 form a window that crosses nothing

    def loss(frames: Tensor) -> float:
        s = dataclasses.replace(segment, obs={"camera": frames}, first=first)
        return float(model.loss(s, torch.Generator().manual_seed(0)).total.detach())

    late, early = frames.clone(), frames.clone()
    late[:, 5] = 255 - late[:, 5]
    early[:, 2] = 255 - early[:, 2]
    assert loss(late) == loss(frames)
    assert loss(early) != loss(frames)


def test_a_world_it_cannot_model_is_refused() -> None:
    with pytest.raises(ContractError, match="patches of 8"):
        Lab(Spec({"camera": Sensor("image", (3, 60, 64))}))
    with pytest.raises(ContractError, match="exactly one image"):
        Lab(Spec({"camera": Sensor("image", (3, 64, 64)), "speed": Sensor("vector", (2,))}))
