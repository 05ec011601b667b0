"""Dreaming in latents: the autoencoder stands at the door, is trained along, and the dream does not bend it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from worldloom import check_model
from worldloom.configs import ConfigError
from worldloom.contract import ContractError, Control, Segment, Sensor, Spec
from worldloom.models.diffusion import BackboneConfig, Diffusion, DiffusionConfig
from worldloom.tokenizers.continuous import ContinuousConfig

CODEC = ContinuousConfig(latent=4, wavelet=1, halvings=1, width=8)
SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {"layout": Control("map", (2, 16, 16))})


def made(spec: Spec = SPEC, **changes: object) -> Diffusion:
    torch.manual_seed(0)
    debug = DiffusionConfig.debug()
    backbone = BackboneConfig(size="debug", fold=1, attention=1, remembered=16)
    model = Diffusion(spec, dataclasses.replace(debug, codec=CODEC, backbone=backbone, **changes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model.eval()


def segment(model: Diffusion, length: int = 8) -> Segment:
    g = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, length, *model.pixels), generator=g, dtype=torch.uint8)
    control = {n: torch.randn(2, length, *c.shape, generator=g) for n, c in model.spec.given.items()}
    flags = torch.zeros(2, length, dtype=torch.bool)
    return Segment({"camera": frames}, control, flags, ~flags)


def test_it_keeps_the_contract() -> None:
    check_model(made())


def test_the_dream_lives_in_latents_and_shows_pixels() -> None:
    model = made()
    assert model.shape == (4, 4, 4)
    given = segment(model)
    state = model.start(2, 0)
    with torch.inference_mode():
        for t in range(3):
            layout = {"layout": given.control["layout"][:, t]}
            state = model.observe(state, {"camera": given.obs["camera"][:, t]}, layout)
        assert state["past"].shape == (2, model.config.history, 4, 4, 4)
        pixels = given.obs["camera"][:, 2].float() / 127.5 - 1
        rebuilt = model.codec.decode(model.codec.encode(pixels[:, None]))[:, 0].clamp(-1, 1)
        torch.testing.assert_close(model.decode(state, raw=True)["camera"], (rebuilt + 1) / 2)
        state = model.step(state, layout)
        assert model.decode(state)["camera"].shape == (2, 3, 16, 16)


def test_the_dream_is_not_what_the_encoder_is_trained_for() -> None:
    """Or latents would become easy to predict rather than true."""
    model = made().train()
    given = segment(model)
    model.codec.loss = lambda video, generator, valid: (torch.zeros(()), {})  # type: ignore[method-assign]
    model.loss(given, torch.Generator().manual_seed(0)).total.backward()
    assert all(p.grad is None for p in model.codec.parameters())
    assert model.net.noisy.weight.grad is not None
    whole = made().train()
    whole.loss(given, torch.Generator().manual_seed(0)).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in whole.codec.parameters())


def test_clips_are_filled_in_latents_and_what_is_known_stays_as_it_is() -> None:
    model = made()
    given = segment(model)
    known = torch.zeros(2, 8, dtype=torch.bool)
    known[:, :2] = True
    out = model.fill(given, known, seed=1).obs["camera"]
    assert torch.equal(out[:, :2], given.obs["camera"][:, :2])
    assert not torch.equal(out[:, 2:], given.obs["camera"][:, 2:])


def test_other_sizes_go_through_the_same_weights() -> None:
    model = made(Spec(SPEC.shown)).at_size(24, 40)
    assert model.shape == (4, 6, 10)
    given = segment(model)
    known = torch.zeros(2, 8, dtype=torch.bool)
    known[:, 0] = True
    assert model.fill(given, known, seed=1).obs["camera"].shape == (2, 8, 3, 24, 40)
    with pytest.raises(ContractError, match="multiples of"):
        model.at_size(20, 40)


@pytest.mark.parametrize("change", [{"time": 1}, {"temporal": True}])
def test_an_autoencoder_that_needs_other_frames_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="each frame alone"):
        DiffusionConfig(codec=dataclasses.replace(CODEC, **change))
