"""A small continuous video autoencoder with causal time, after the idea of Cosmos' tokenizer (arXiv 2501.03575).

A Haar wavelet folds pixels, and frames where time is halved, into channels; factorised causal convolutions bring them
to a few latent channels on a coarse grid, and back. An autoencoder, not a variational one: latents are put to unit
variance by running statistics, so that a diffusion model over them needs no constant. Pixels are floats in [-1, 1].

Where time is halved ``f``-fold the first frame stands alone and every further latent frame for ``f`` of the video's:
1 + k·f frames become 1 + k. Latent frame i depends on frames 0 to i·f, frames of group i on latents 0 to i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least, within
from worldloom.contract import ContractError
from worldloom.tokenizers.causal import GROUPS, Cache, CausalNet, Frames, Memory, blocks, zeroed
from worldloom.tokenizers.haar import haar, unhaar

STILL = 1e-4
"""A batch's mean square change from frame to frame counts at least this much."""
SLOWEST = 0.01
"""Weight of a new batch in the running statistics, once a hundred have been seen."""


@dataclass(frozen=True)
class ContinuousConfig:
    """Size and shape of the autoencoder."""

    latent: int = 8
    """Latent channels."""
    wavelet: int = 2
    """Haar levels in space: each folds 2×2 pixels into channels, at no cost."""
    halvings: int = 1
    """Further halvings of height and width, by strided convolutions that double the width (up to 4 × ``width``)."""
    time: int = 0
    """Haar levels in time: 0, 1 or 2 for a time factor of 1, 2 or 4."""
    temporal: bool = False
    """Convolutions over time too. Without them every latent frame stands for its own frames alone, which is what a
    model that steps frame by frame wants; with them the decoder sees the two latent frames before as well."""
    width: int = 48
    """Channels before the first strided convolution."""
    blocks: int = 1
    """Residual blocks on each scale, in the encoder and again in the decoder."""
    noise: float = 0.05
    """Noise on the latents in training, in their standard deviations: so that the decoder forgives the small errors of
    a model that predicts latents. Short runs showed no gain of it (docs/experiments.md)."""
    motion: float = 0.1
    """Weight of the error in frame differences, relative to how much the frames change: see
    :func:`reconstruction_loss`."""

    def __post_init__(self) -> None:
        at_least(self, 1, "latent", "blocks")
        within(self, 0.0, 4.0, "wavelet", "halvings")
        within(self, 0.0, 2.0, "time")
        within(self, 0.0, 1.0, "noise")
        at_least(self, 0, "motion")
        if self.width < 8 or self.width % 8:
            raise ConfigError(f"width must be a multiple of 8, found {self.width}.")


class Continuous(nn.Module):
    """Encoder and decoder of videos with ``channels`` channels."""

    def __init__(self, channels: int, config: ContinuousConfig | None = None):
        super().__init__()
        self.config = c = config or ContinuousConfig()
        self.channels = channels
        bands = channels * 4**c.wavelet * 2**c.time
        widths = [c.width * min(2**i, 4) for i in range(c.halvings + 1)]
        scales = [2 ** (c.wavelet + i) for i in range(c.halvings + 1)]

        down: list[nn.Module] = [Frames(nn.Conv2d(bands, c.width, 3, padding=1))]
        for i, (width, scale) in enumerate(zip(widths, scales, strict=True)):
            if i:
                down.append(Frames(nn.Conv2d(widths[i - 1], width, 3, 2, 1)))
            down += blocks(width, c.blocks, c.temporal, scale, f"scale{i}_")
        down.append(_head(widths[-1], c.latent))
        self.encoder = CausalNet(down)

        up: list[nn.Module] = [Frames(nn.Conv2d(c.latent, widths[-1], 3, padding=1))]
        for i, (width, scale) in reversed(list(enumerate(zip(widths, scales, strict=True)))):
            up += blocks(width, c.blocks, c.temporal, scale, f"scale{i}_")
            if i:
                up.append(Frames(nn.Conv2d(width, 4 * widths[i - 1], 1), nn.PixelShuffle(2)))
        up.append(_head(widths[0], bands, zero=True))  # it begins with grey frames, not with noise
        self.decoder = CausalNet(up)

        self.mean: Tensor
        self.square: Tensor
        self.batches: Tensor
        self.register_buffer("mean", torch.zeros(c.latent))
        self.register_buffer("square", torch.ones(c.latent))  # of the mean squares
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    # ------------------------------------------------------------------------------ shapes

    @property
    def factor_time(self) -> int:
        """Frames to one latent frame."""
        return 2**self.config.time

    @property
    def factor_space(self) -> int:
        """Pixels of a side to one of the latents'."""
        return int(2 ** (self.config.wavelet + self.config.halvings))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the latents: (c, h, w) of a frame (C, H, W), (1 + (T - 1) / f, c, h, w) of a video (T, C, H, W).

        Raises :class:`ContractError`, with the nearest sizes that would do, where they don't divide.
        """
        if len(shape) not in (3, 4):
            raise ContractError(f"A tokenizer takes frames (C, H, W) or videos (T, C, H, W), found shape {shape}.")
        if shape[-3] != self.channels:
            raise ContractError(f"This tokenizer was made for {self.channels} channels, found {shape[-3]}.")
        for name, size in (("height", shape[-2]), ("width", shape[-1])):
            if size < 1 or size % self.factor_space:
                raise ContractError(
                    f"This tokenizer needs a {name} that {self.factor_space} divides, found {size}; the nearest: "
                    f"{_nearest(size, self.factor_space, self.factor_space)}."
                )
        out = (self.config.latent, shape[-2] // self.factor_space, shape[-1] // self.factor_space)
        if len(shape) == 3:
            return out
        f = self.factor_time
        if shape[0] < 1 or (shape[0] - 1) % f:
            raise ContractError(
                f"This tokenizer makes one latent frame of the first frame and one of every {f} further frames, found "
                f"{shape[0]} frames; the nearest lengths: {_nearest(shape[0], f, 1)}."
            )
        return (1 + (shape[0] - 1) // f, *out)

    # ------------------------------------------------------------------------------ whole videos

    def encode(self, video: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B N c h w"]:
        """Latents of about zero mean and unit variance, N = 1 + (T - 1) / f."""
        self.latent_shape(tuple(video.shape[1:]))
        return self._normalised(self._raw(self._groups(video), Memory()))

    def decode(self, latents: Float[Tensor, "B N c h w"]) -> Float[Tensor, "B T C H W"]:
        """The video, T = 1 + (N - 1)·f; values are not clamped to [-1, 1]."""
        self._check_latents(latents)
        return self._video(self._unnormalised(latents), Memory())[:, self.factor_time - 1 :]

    def forward(
        self,
        video: Float[Tensor, "B T C H W"],
        generator: torch.Generator | None = None,
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "B T C H W"], Float[Tensor, "B N c h w"]]:
        """The reconstruction and the latents. In training the latents are noised on their way to the decoder (those
        returned are not), and the running statistics take in those of frames that are all ``valid``.

        The noise is as large as the batch's own spread, through which the gradient flows: so the encoder gains nothing
        by making its latents larger.
        """
        self.latent_shape(tuple(video.shape[1:]))
        raw = self._raw(self._groups(video), Memory())
        given = raw
        if self.training:
            self._take_in(
                raw.detach(), None if valid is None else self._groups(valid).unflatten(1, (-1, self.factor_time)).all(2)
            )
            if self.config.noise:
                drawn = torch.randn(raw.shape, device=raw.device, generator=generator)
                spread = raw.var((0, 1, 3, 4), correction=0).add(1e-6).sqrt()
                given = raw + self.config.noise * spread[:, None, None] * drawn
        return self._video(given, Memory())[:, self.factor_time - 1 :], self._normalised(raw)

    def loss(
        self,
        video: Float[Tensor, "B T C H W"],
        generator: torch.Generator | None = None,
        valid: Bool[Tensor, "B T"] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """:func:`reconstruction_loss` of a batch, a scalar, and its named parts; ``valid`` marks the frames that count.

        Who wants the latents too calls the module, and then :func:`reconstruction_loss`.
        """
        made, _ = self(video, generator, valid)
        return reconstruction_loss(made, video, self.config.motion, valid)

    # ------------------------------------------------------------------------------ piece by piece

    def caches(self, batch: int, height: int, width: int) -> tuple[Cache, Cache]:
        """The encoder's and the decoder's memory of ``batch`` rows that have seen nothing of videos height × width.

        Tensors only, batch first, of fixed shapes, so that they can lie in a model's state. Set rows of ``seen`` to
        False where another video begins.
        """
        self.latent_shape((self.channels, height, width))
        device = self.mean.device
        return self.encoder.empty(batch, height, width, device), self.decoder.empty(batch, height, width, device)

    def encode_next(self, frames: Float[Tensor, "B T C H W"], cache: Cache) -> tuple[Float[Tensor, "B N c h w"], Cache]:
        """Latents of the next N·f frames, as :meth:`encode` of the whole video would give them, and the memory after.

        A first frame alone may be given as it is; in a batch where only some rows begin, repeat it ``f`` times.
        """
        f = self.factor_time
        if frames.shape[1] == 1 < f:
            if bool(cache["seen"].any()):
                raise ContractError(
                    f"A frame alone is a video's first, and rows {cache['seen'].nonzero().flatten().tolist()} have "
                    f"seen frames: give {f} at a time (where a row begins anew, its first frame {f} times)."
                )
            frames = frames.expand(-1, f, -1, -1, -1)
        if frames.shape[1] % f:
            raise ContractError(
                f"encode_next takes the next frames in groups of {f}, found {frames.shape[1]}; the nearest: "
                f"{_nearest(frames.shape[1], f, f)}. Only the first frame of a video may come alone."
            )
        self.latent_shape(tuple(frames.shape[2:]))
        memory = Memory(cache)
        return self._normalised(self._raw(frames, memory)), memory.cache()

    def decode_next(
        self, latents: Float[Tensor, "B N c h w"], cache: Cache
    ) -> tuple[Float[Tensor, "B T C H W"], Cache]:
        """The next N·f frames, and the memory after. Of a video's first group only the last frame counts."""
        self._check_latents(latents)
        memory = Memory(cache)
        return self._video(self._unnormalised(latents), memory), memory.cache()

    # ------------------------------------------------------------------------------ within

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 5 or latents.shape[2] != self.config.latent:
            raise ContractError(
                f"This tokenizer decodes latents (B, N, {self.config.latent}, h, w), found {tuple(latents.shape)}."
            )

    def _groups(self, video: Tensor) -> Tensor:
        """(B, T, ...) to (B, N·f, ...): the first frame fills a group of its own."""
        first = video[:, :1].expand(-1, self.factor_time - 1, *[-1] * (video.ndim - 2))
        return torch.cat([first, video], 1)

    def _raw(self, frames: Tensor, memory: Memory) -> Tensor:
        latents: Tensor = self.encoder(haar(frames, self.config.wavelet, self.config.time), memory)
        return latents.float()

    def _video(self, raw: Tensor, memory: Memory) -> Tensor:
        bands: Tensor = self.decoder(raw, memory)
        return unhaar(bands.float(), self.config.wavelet, self.config.time)

    def _spread(self) -> Tensor:
        """(c,) standard deviations; a channel that never changes must not be divided by nothing."""
        return (self.square - self.mean.square()).clamp_min(1e-6).sqrt()

    def _normalised(self, raw: Tensor) -> Tensor:
        return (raw - self.mean[:, None, None]) / self._spread()[:, None, None]

    def _unnormalised(self, latents: Tensor) -> Tensor:
        return latents * self._spread()[:, None, None] + self.mean[:, None, None]

    @torch.no_grad()
    def _take_in(self, raw: Tensor, real: Tensor | None) -> None:
        """Running mean and mean square: plain averages at first, later of about the last hundred batches. ``real``:
        (B, N) which latent frames stand for true frames; the zeros that pad a window are not the world's."""
        share = torch.ones_like(raw[:, :, 0, 0, 0]) if real is None else real.to(raw.dtype)
        total = share.sum()
        self.batches += total > 0
        weight = (1 / self.batches.clamp_min(1)).clamp_min(SLOWEST) * (total > 0)
        share = (share / total.clamp_min(1))[:, :, None]
        # In place: a state dict and an optimiser's copy of the buffers see the new values.
        self.mean.lerp_((raw.mean((3, 4)) * share).sum((0, 1)), weight)
        self.square.lerp_((raw.square().mean((3, 4)) * share).sum((0, 1)), weight)


def reconstruction_loss(
    made: Float[Tensor, "B T C H W"],
    video: Float[Tensor, "B T C H W"],
    motion: float,
    valid: Bool[Tensor, "B T"] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean square error of the pixels, and ``motion`` times that of the frame differences relative to how much the true
    frames change.

    A mean over pixels weighs a ball by its share of the frame, one per cent, and less than a busy background. What
    moves is most of what changes: relative to that a ball that is lost, or left standing, costs 1, however small it
    is. Squares, because the best guess under an absolute error is the median, and that is a frame without the ball:
    with it training stood still there (docs/experiments.md). Metrics: ``mse``, of pixels in [-1, 1], and ``motion``.
    """
    error = made - video
    real = torch.ones_like(video[:, :, 0, 0, 0]) if valid is None else valid.to(video.dtype)
    both = real[:, 1:] * real[:, :-1]
    mse = _mean_square(error, real)
    change = _mean_square(video[:, 1:] - video[:, :-1], both)
    moved = _mean_square(error[:, 1:] - error[:, :-1], both) / change.clamp_min(STILL)
    total = mse + motion * moved
    return total, {"mse": mse.detach(), "motion": moved.detach()}


def _mean_square(x: Tensor, weight: Tensor) -> Tensor:
    """Of x (B, T, C, H, W), frames weighted by (B, T); 0 where there is none."""
    return (x.square().mean((2, 3, 4)) * weight).sum() / weight.sum().clamp_min(1)


def _head(width: int, out: int, *, zero: bool = False) -> Frames:
    last = nn.Conv2d(width, out, 3, padding=1)
    if zero:
        zeroed(last)
    return Frames(nn.GroupNorm(GROUPS, width), nn.SiLU(), last)


def _nearest(found: int, step: int, least: int) -> str:
    """The numbers least + k·step next to ``found``, as words."""
    below = least + max(0, found - least) // step * step
    return f"{below} or {below + step}"
