"""The continuous tokenizer: what its latents may know, what shapes it takes, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldloom.configs import ConfigError, from_json, to_json
from worldloom.contract import ContractError
from worldloom.tokenizers import Continuous, ContinuousConfig, reconstruction_loss
from worldloom.tokenizers.haar import haar, unhaar

KINDS = [(t, temporal) for t in (0, 1, 2) for temporal in (False, True)]


def make(channels: int = 3, **changes: object) -> Continuous:
    torch.manual_seed(0)
    model = Continuous(channels, ContinuousConfig(**{"width": 8, "latent": 4, **changes}))
    with torch.no_grad():  # wake the zero-initialised layers, so that no mechanism can hide behind them
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        model.mean.normal_()
        model.square.copy_(model.mean**2 + torch.rand(4) + 0.5)
    return model.eval()


def clip(frames: int, channels: int = 3, height: int = 16, width: int = 16, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, frames, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ------------------------------------------------------------------------------------------------------------- haar


@pytest.mark.parametrize(("space", "time"), [(0, 0), (1, 0), (2, 1), (3, 2)])
def test_the_wavelet_loses_nothing(space: int, time: int) -> None:
    bytes_ = torch.randint(0, 256, (2, 4, 3, 16, 24), generator=torch.Generator().manual_seed(1))
    video = bytes_.float() / 256 * 2 - 1
    bands = haar(video, space, time)
    assert bands.shape == (2, 4 // 2**time, 3 * 4**space * 2**time, 16 // 2**space, 24 // 2**space)
    assert torch.equal(unhaar(bands, space, time), video)
    assert bands.abs().max() <= 1


def test_the_wavelet_of_a_still_grey_clip_is_its_mean_alone() -> None:
    bands = haar(torch.full((1, 4, 1, 8, 8), 0.25), 2, 2)
    assert torch.equal(bands[:, :, 0], torch.full_like(bands[:, :, 0], 0.25))
    assert not bands[:, :, 1:].any()


def test_bands_are_mean_and_half_difference() -> None:
    video = torch.tensor([3.0, 1.0]).reshape(1, 1, 1, 1, 2).expand(1, 1, 1, 2, 2)
    assert haar(video, 1, 0).flatten().tolist() == [2.0, 0.0, 1.0, 0.0]


# ----------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("channels", "height", "width", "changes"),
    [
        (3, 32, 32, {}), (1, 64, 64, {"wavelet": 3}), (5, 96, 128, {"time": 1}), (3, 64, 64, {"halvings": 0}),
        (2, 32, 48, {"time": 2, "temporal": True, "halvings": 2}), (3, 6, 10, {"wavelet": 0}),
    ],
)  # fmt: skip
def test_any_size_and_number_of_channels(channels: int, height: int, width: int, changes: dict) -> None:
    model = make(channels, **changes)
    f, s = model.factor_time, model.factor_space
    video = clip(1 + 2 * f, channels, height, width)
    latents = model.encode(video)
    assert latents.shape == (2, 3, 4, height // s, width // s)
    assert latents.shape[1:] == model.latent_shape(tuple(video.shape[1:]))
    assert model.latent_shape((channels, height, width)) == (4, height // s, width // s)
    assert model.decode(latents).shape == video.shape
    assert model.decode(model.encode(video[:, :1])).shape == video[:, :1].shape


def test_a_wrong_shape_names_the_nearest_legal_ones() -> None:
    model = make(time=1)
    with pytest.raises(ContractError, match=r"height that 8 divides, found 20; the nearest: 16 or 24"):
        model.encode(clip(3, height=20))
    with pytest.raises(ContractError, match=r"width that 8 divides, found 4; the nearest: 8 or 16"):
        model.latent_shape((3, 8, 4))
    with pytest.raises(ContractError, match=r"found 4 frames; the nearest lengths: 3 or 5"):
        model.encode(clip(4))
    with pytest.raises(ContractError, match=r"made for 3 channels, found 1"):
        model.loss(clip(3, channels=1))
    with pytest.raises(ContractError, match=r"groups of 2, found 3; the nearest: 2 or 4"):
        model.encode_next(clip(3), model.caches(2, 16, 16)[0])
    with pytest.raises(ContractError, match=r"latents \(B, N, 4, h, w\), found \(2, 3, 5, 2, 2\)"):
        model.decode(torch.zeros(2, 3, 5, 2, 2))
    with pytest.raises(ContractError, match=r"found shape \(16, 16\)"):
        model.latent_shape((16, 16))
    with pytest.raises(ContractError, match=r"a height that 8 divides"):
        model.caches(1, 12, 16)


def test_configurations_are_checked_and_survive_json() -> None:
    config = ContinuousConfig(time=2, temporal=True)
    assert from_json(ContinuousConfig, to_json(config)) == config
    for bad in ({"time": 3}, {"width": 20}, {"latent": 0}, {"wavelet": -1}, {"noise": 2.0}, {"motion": -1.0}):
        with pytest.raises(ConfigError):
            ContinuousConfig(**bad)


# -------------------------------------------------------------------------------------------------------- causality


@pytest.mark.parametrize(("time", "temporal"), KINDS)
def test_a_later_frame_changes_nothing_earlier(time: int, temporal: bool) -> None:
    model = make(time=time, temporal=temporal)
    f = model.factor_time
    one = clip(1 + 4 * f)
    other = one.clone()
    other[:, 1 + 2 * f :] = clip(2 * f, seed=1)  # from the fourth group on
    a, b = model.encode(one), model.encode(other)
    assert torch.equal(a[:, :3], b[:, :3])
    assert (a[:, 3] - b[:, 3]).abs().max() > 1e-3
    x, y = model.decode(a), model.decode(b)
    assert torch.equal(x[:, : 1 + 2 * f], y[:, : 1 + 2 * f])
    assert (x[:, 1 + 2 * f :] - y[:, 1 + 2 * f :]).abs().amax((0, 2, 3, 4)).min() > 1e-4


@pytest.mark.parametrize("time", [0, 1])
def test_an_earlier_frame_is_remembered_only_with_convolutions_over_time(time: int) -> None:
    for temporal in (False, True):
        model = make(time=time, temporal=temporal)
        one = clip(1 + 2 * model.factor_time)
        other = one.clone()
        other[:, 0] = -one[:, 0]
        latents = model.encode(one)
        later = latents.clone()
        later[:, 0] = -latents[:, 0]
        pairs = ((latents, model.encode(other)), (model.decode(latents), model.decode(later)))
        changed = [not torch.allclose(a[:, 1:], b[:, 1:], atol=1e-5) for a, b in pairs]
        assert changed == [temporal, temporal]


# -------------------------------------------------------------------------------------------------------- streaming


@pytest.mark.parametrize(("time", "temporal"), KINDS)
@pytest.mark.parametrize("groups", [1, 2])
def test_piece_by_piece_equals_the_whole(time: int, temporal: bool, groups: int) -> None:
    model = make(time=time, temporal=temporal, halvings=2, blocks=2)
    f = model.factor_time
    video = clip(1 + 6 * f)
    latents = model.encode(video)
    whole = model.decode(latents)
    encoder, decoder = model.caches(2, 16, 16)
    shapes = [{k: x.shape for k, x in c.items()} for c in (encoder, decoder)]
    pieces = [video[:, :1], *video[:, 1:].split(groups * f, 1)]
    found, frames = [], []
    for i, piece in enumerate(pieces):
        z, encoder = model.encode_next(piece, encoder)
        made, decoder = model.decode_next(z, decoder)
        found.append(z)
        frames.append(made[:, f - 1 :] if i == 0 else made)
    torch.testing.assert_close(torch.cat(found, 1), latents, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(torch.cat(frames, 1), whole, atol=1e-5, rtol=0.0)
    assert [{k: x.shape for k, x in c.items()} for c in (encoder, decoder)] == shapes
    if f > 1:  # one frame alone would pass for a whole group
        with pytest.raises(ContractError, match=rf"rows \[0, 1\] have seen frames: give {f} at a time"):
            model.encode_next(video[:, :1], encoder)


def test_a_row_whose_video_begins_anew_forgets_the_others_go_on() -> None:
    model = make(temporal=True)
    video = clip(4)
    encoder, _ = model.caches(2, 16, 16)
    for t in range(2):
        _, encoder = model.encode_next(video[:, t : t + 1], encoder)
    encoder["seen"] = encoder["seen"] & torch.tensor([True, False])
    found = []
    for t in range(2, 4):
        z, encoder = model.encode_next(video[:, t : t + 1], encoder)
        found.append(z)
    both = torch.cat(found, 1)
    torch.testing.assert_close(both[0], model.encode(video)[0, 2:], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(both[1], model.encode(video[:, 2:])[1], atol=1e-5, rtol=0.0)


# --------------------------------------------------------------------------------------------------------- training


def test_running_statistics_bring_latents_to_zero_mean_and_unit_variance() -> None:
    model = make()
    model.batches.zero_()
    model.train()
    for seed in range(5):
        model.loss(clip(3, batch=8, seed=seed))
    model.eval()
    latents = model.encode(clip(3, batch=32, seed=99)).transpose(1, 2).flatten(2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), atol=0.15, rtol=0.0)
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=0.15, rtol=0.0)


def test_statistics_change_in_training_only_and_do_not_change_the_reconstruction() -> None:
    model = make(noise=0.0)
    before = {n: b.clone() for n, b in model.named_buffers()}
    video = clip(3)
    was, _ = model(video)
    model.encode(video)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    model.train()
    model.encode(video)
    assert torch.equal(model.mean, before["mean"])
    now, latents = model(video)
    assert not torch.equal(model.mean, before["mean"])
    torch.testing.assert_close(now, was)
    torch.testing.assert_close(model.decode(latents), was, atol=1e-4, rtol=1e-4)


def test_noise_is_drawn_from_the_generator_in_training_alone_and_larger_latents_do_not_escape_it() -> None:
    model = make(noise=0.3)
    video = clip(3)

    def made(seed: int) -> Tensor:
        return model(video, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(made(0), made(1))
    model.train()
    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))
    # Latents ten times as large, and a decoder that takes them so: the same frames from the same draws.
    was = made(0)
    with torch.no_grad():
        last, first = model.encoder.parts[-1].net[-1], model.decoder.parts[0].net[0]
        last.weight.mul_(10)
        last.bias.mul_(10)
        first.weight.div_(10)
    torch.testing.assert_close(made(0), was, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("time", "temporal"), KINDS)
def test_the_gradient_reaches_every_parameter(time: int, temporal: bool) -> None:
    model = make(time=time, temporal=temporal).train()
    total, metrics = model.loss(clip(1 + 3 * model.factor_time), torch.Generator().manual_seed(0))
    total.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    assert not any(x.requires_grad for x in metrics.values())


def test_a_ball_that_is_lost_or_left_standing_costs_one_however_small() -> None:
    """A mean over pixels forgives a small object; the error of what changes does not."""
    for side in (2, 8):
        video = torch.full((1, 6, 1, 32, 32), -1.0)
        for t in range(6):
            video[0, t, 0, 8 : 8 + side, 3 * t : 3 * t + side] = 1.0
        for made in (torch.full_like(video, -1.0), video[:, :1].expand_as(video)):
            total, parts = reconstruction_loss(made, video, 0.5)
            assert float(parts["motion"]) == pytest.approx(1.0)
            assert float(total) == pytest.approx(float((made - video).square().mean()) + 0.5)
    still = torch.zeros(1, 3, 1, 8, 8)
    assert float(reconstruction_loss(still, still, 0.5)[0]) == 0.0
    assert float(reconstruction_loss(still[:, :1], still[:, :1], 0.5)[0]) == 0.0


@pytest.mark.parametrize("time", [0, 1])
def test_padding_does_not_enter_the_statistics(time: int) -> None:
    video = torch.randn(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[1, 3:] = False
    padded = torch.where(valid[..., None, None, None], video, torch.tensor(9.0))
    found = []
    for clip in (video, padded):
        torch.manual_seed(0)
        model = Continuous(3, ContinuousConfig(latent=4, width=8, noise=0.0, time=time, temporal=False)).train()
        model.loss(clip, valid=valid)
        found.append(torch.cat([model.mean, model.square]))
        model.loss(clip, valid=torch.zeros_like(valid))
        assert torch.equal(found[-1], torch.cat([model.mean, model.square]))
    assert torch.equal(*found)
    model.loss(padded)
    assert not torch.equal(found[0][:4], model.mean)


def test_frames_that_are_not_valid_do_not_count() -> None:
    model = make()
    video = clip(4)
    padded = video.clone()
    padded[:, 2:] = -1.0
    valid = torch.tensor([[True, True, False, False]]).expand(2, -1)
    found, parts = model.loss(padded, valid=valid)
    expected, short = model.loss(video[:, :2])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts, short)


def squares(seed: int, batch: int = 8, length: int = 3) -> Tensor:
    """White 4×4 squares that move on black frames (B, T, 1, 16, 16), at whole pixels."""
    g = torch.Generator().manual_seed(seed)
    at = torch.randint(2, 11, (batch, 1, 2), generator=g)
    at = (at + torch.randint(-1, 2, (batch, 1, 2), generator=g) * torch.arange(length)[:, None]).clamp(0, 12)
    offset = torch.arange(16) - at[..., None]
    inside = (offset >= 0) & (offset < 4)
    return (inside[:, :, 0, :, None] & inside[:, :, 1, None, :])[:, :, None].float() * 2 - 1


@pytest.mark.parametrize(("time", "temporal", "latent"), [(0, False, 8), (1, True, 16)])
def test_it_learns_moving_squares(time: int, temporal: bool, latent: int) -> None:
    torch.manual_seed(0)
    model = Continuous(1, ContinuousConfig(latent, width=32, halvings=0, time=time, temporal=temporal))
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 30) * (1 - step / 300)
        optimizer.zero_grad()
        model.loss(squares(step), torch.Generator().manual_seed(step))[0].backward()
        optimizer.step()
    model.eval()
    held = squares(10**6, 64)
    with torch.inference_mode():
        error = (model.decode(model.encode(held)) - held).square().mean()
    baseline = (held.mean((0, 1)) - held).square().mean()
    assert error < 0.1 * baseline
