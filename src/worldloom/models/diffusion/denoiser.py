"""The denoiser: from frames, and what surrounds them in time, to estimates of the clean frames behind them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from worldloom.contract import ContractError, Segment, Spec, WorldModel
from worldloom.models.diffusion import ring
from worldloom.models.diffusion.backbone import Around, Backbone, Recall, fourier
from worldloom.models.diffusion.clip import Clip, Neighbours, pad_to
from worldloom.models.diffusion.conditions import Conditions
from worldloom.models.diffusion.config import DiffusionConfig
from worldloom.models.diffusion.flow import to_clean, visible, whole
from worldloom.models.diffusion.shortcut import learnt
from worldloom.models.diffusion.texts import FrozenText, shared
from worldloom.nn.conv import quarters
from worldloom.nn.words import split
from worldloom.tokenizers.continuous import Continuous

NEARLY_CLEAN = 0.8
"""Level from which on the frame before is added to the output, the more the cleaner it is."""


class Denoiser(WorldModel):
    """The network, its conditions, and frames on their way in and out of it. What it is trained on and what it dreams
    is the business of the class built on it."""

    compile_parts: ClassVar[tuple[str, ...]] = ("net",)
    """The submodules that take most of a step."""

    def __init__(self, spec: Spec, config: DiffusionConfig | None = None):
        config = config or DiffusionConfig()
        super().__init__(spec, config)
        reason = self.supports(spec)
        if reason:
            raise ContractError(reason)
        self.config: DiffusionConfig = config
        (self.sensor,) = spec.images
        self.pixels = spec.images[self.sensor].shape
        self.codec = None if config.codec is None else Continuous(self.pixels[0], config.codec)
        self.shape = self.pixels if self.codec is None else self.codec.latent_shape((1, *self.pixels))[1:]
        self._check_size()
        for name in (*config.drop, *(n for n in config.guidance if n != "history")):
            if name not in spec.given:
                raise ContractError(
                    f"There is no control {name!r} to drop or guide: given {sorted(spec.given) or 'none'}."
                )
        self.neighbours = Neighbours(config.history, config.ahead)
        count = len(self.neighbours.offsets)
        d = config.backbone.sizes.condition
        self.conditions = Conditions(spec, d, config.text, [name for name, p in config.drop.items() if p])
        per_frame = [name for name in self.conditions.vectors if spec.given[name].per == "frame"]
        attended = bool(per_frame) and config.inject == "cross"
        tokens = config.text.width if self.conditions.texts or attended else 0
        maps = self.conditions.maps * (1 if self.codec is None else self.codec.factor_space**2)
        self.net = Backbone(config.backbone, self.shape[0], count, bool(config.memory), tokens, maps)
        self.context = nn.Linear(count, d)
        # One slot for the vectors given with each neighbour, and with the frame itself in its place among them.
        self.slots: nn.Linear | None = None
        if per_frame and attended:
            self.slots = nn.Linear(d, config.text.width, bias=False)
            self.places = nn.Parameter(torch.randn(count + 1, config.text.width) * 0.02)
        elif per_frame:
            out = d if config.inject == "modulate" else config.backbone.sizes.width
            self.slots = nn.Linear((count + 1) * d, out, bias=False)
        self.level = nn.Sequential(nn.Linear(64 if config.shortcut else 32, d), nn.SiLU(), nn.Linear(d, d))
        self.mixer = nn.Sequential(nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.heard = nn.Linear(1, d) if config.memory else None

    @staticmethod
    def supports(spec: Spec) -> str | None:
        """Why this family can't model ``spec``, or None when it can."""
        if len(spec.images) != 1 or len(spec.shown) != 1:
            return (
                f"The diffusion family dreams one image sensor and nothing else; this world shows "
                f"{', '.join(spec.shown)}. Choose one image, or use the recurrent family."
            )
        (sensor,) = spec.images.values()
        reason = Conditions.supports(spec, sensor.shape[1:])
        return f"The diffusion family can't model this world: {reason}." if reason else None

    def _check_size(self) -> None:
        multiple = self.config.backbone.multiple
        if not self.config.pad and any(side % multiple for side in self.shape[1:]):
            what = "Frames" if self.codec is None else "Latents"
            raise ContractError(
                f"{what} of {self.shape[1]}x{self.shape[2]} are not divided by the grid: height and width must be "
                f"multiples of {multiple} (2 x fold {self.config.backbone.fold}). Resize them, choose a smaller fold, "
                "or let them be padded (pad: true)."
            )

    def at_size(self, height: int, width: int) -> Denoiser:
        """The same model, its weights shared, for frames of another size (maps too): every layer sees frames of any.
        Raises :class:`ContractError` where the grid does not divide them."""
        size = (height, width)
        shown = {n: dataclasses.replace(s, shape=(s.shape[0], *size)) for n, s in self.spec.shown.items()}
        given = {
            n: dataclasses.replace(c, shape=(c.shape[0], *size)) if c.kind == "map" else c
            for n, c in self.spec.given.items()
        }
        same = copy.copy(self)
        same.spec, same.pixels = dataclasses.replace(self.spec, shown=shown, given=given), shown[self.sensor].shape
        same.shape = same.pixels if self.codec is None else self.codec.latent_shape((1, *same.pixels))[1:]
        same._check_size()
        return same

    def reading(self, texts: Sequence[str]) -> Denoiser:
        """The model that reads these texts: the same, or where a frozen encoder reads, one with their words added to
        those of the spec, weights shared. (The small encoder knows the words it was trained on alone.)"""
        found = {n: part for n, part in self.conditions.texts.items() if isinstance(part, FrozenText)}
        if not found:
            return self
        ((name, reader),) = found.items()
        old = self.spec.given[name]
        new = sorted({word for text in texts for word in split(text)} - set(old.names))
        control = dataclasses.replace(old, n=old.n + len(new), names=(*old.names, *new))
        same = shared(self)
        same.spec = dataclasses.replace(self.spec, given={**self.spec.given, name: control})
        same.conditions = shared(self.conditions)
        same.conditions.texts = nn.ModuleDict({name: reader.with_words(control)})
        return same

    # ------------------------------------------------------------------------------ pieces

    def enter(self, segment: Segment) -> Float[Tensor, "b t c h w"]:
        """A segment's frames as the network works on them."""
        return self.encode(segment.obs[self.sensor])

    def encode(self, frames: UInt8[Tensor, "b t C H W"]) -> Float[Tensor, "b t c h w"]:
        """Frames as the network works on them: pixels in [-1, 1] padded to the grid, or latents, without a gradient."""
        x = (frames / 127.5).sub_(1.0)
        if self.codec is None:
            return self.pad(x)
        with torch.no_grad():
            return self.pad(self.codec.encode(x))

    def leave(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b C H W"]:
        """Frames in [0, 1] from what the network works on, without padding."""
        if self.codec is not None:
            x = self.codec.decode(x[:, None])[:, 0].clamp(-1.0, 1.0)
        return (x + 1.0) / 2.0

    def pad(self, x: Tensor) -> Tensor:
        """Frames (..., H, W) padded to the grid: pixels with black, latents with zeros."""
        return pad_to(x, self.config.backbone.multiple, -1.0 if self.codec is None else 0.0)

    def crop(self, x: Tensor) -> Tensor:
        """Without the padding."""
        return x[..., : self.shape[1], : self.shape[2]]

    def tidy(self, x: Tensor) -> Tensor:
        """A predicted frame in the range of true ones, its padding as theirs. Latents have no range."""
        x = self.crop(x)
        return self.pad(x.clamp(-1.0, 1.0) if self.codec is None else x)

    def squared_error(self, a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
        """Mean squared difference of frames (N, C, H, W), padding left out."""
        return (self.crop(a - b) ** 2).mean((1, 2, 3))

    def shown(self, frame: Tensor, level: Tensor) -> Tensor:
        """What others see of a frame x_t (..., C, H, W) at its level: no noise at 0, unless the model makes long steps.
        Where a long step ends is decided by the noise it begins at, that of the frames beside it too."""
        return whole(frame, level) if self.config.shortcut else visible(frame, level)

    def clip(
        self,
        frames: Float[Tensor, "b t c h w"],
        levels: Float[Tensor, "b t"],
        control: Mapping[str, Tensor],
        hidden: Collection[str] = (),
        keep: Mapping[str, Tensor] | None = None,
    ) -> Clip:
        """A clip of frames as noisy as their levels say. ``hidden``, ``keep``: see :class:`Conditions`."""
        clip = Clip([], [], self.conditions(control, hidden, keep))
        for frame, level in zip(frames.unbind(1), levels.unbind(1), strict=True):
            self.show(clip, frame, level)
        return clip

    def show(self, clip: Clip, frame: Tensor, level: Tensor, at: int | None = None) -> None:
        """Add a frame x_t (B, C, H, W) at its level (B,) to a clip at its end, or exchange the one ``at`` an index."""
        i = clip.length if at is None else at
        shown = self.shown(frame, level)
        keys = []
        if self.heard is not None:
            note = self.heard(level[:, None])
            note = note if clip.given.noted is None else note + clip.given.noted[:, i]
            keys = self.net.remember(shown, note)
        if at is None:
            clip.shown.append(shown)
            clip.told.append(level)
            clip.keys.append(keys)
        else:
            clip.shown[i], clip.told[i], clip.keys[i] = shown, level, keys

    def around(
        self, clip: Clip, targets: Sequence[int], reach: Bool[Tensor, "b n t"], first: Bool[Tensor, "b t"]
    ) -> Around:
        """The surroundings of n target frames of each row, (B·n) rows. ``reach``: which frames each may see;
        ``first``: (B, T) frames that begin an episode."""
        stacked, told, vectors = self.neighbours.gather(clip, targets, reach)
        n, given = len(targets), clip.given
        maps = None if given.maps is None else given.maps[:, list(targets)].flatten(0, 1)
        once = None if given.once is None else given.once.repeat_interleave(n, 0)
        recall = None
        if self.config.memory:
            cfg = self.config
            recall = ring.recall_clip(clip.keys, targets, reach, first, cfg.memory, cfg.sink, cfg.retrieve, cfg.archive)
        text = given.text
        if text is not None:
            text = (text[0].repeat_interleave(n, 0), text[1].repeat_interleave(n, 0))
        return self._assemble(stacked, told, vectors, once, maps, recall, text)

    def _assemble(
        self,
        stacked: Tensor,
        told: Tensor,
        vectors: Tensor | None,
        once: Tensor | None,
        maps: Tensor | None,
        recall: Recall | None,
        text: tuple[Tensor, Tensor] | None,
    ) -> Around:
        if maps is not None:
            maps = maps if self.codec is None else F.pixel_unshuffle(maps, self.codec.factor_space)
            maps = pad_to(maps, self.config.backbone.multiple, 0.0)
        base = self.context(told)
        stem = self.net.stem(stacked, maps)
        if self.slots is not None and vectors is not None:
            if self.config.inject == "modulate":
                base = base + self.slots(vectors.flatten(1))
            elif self.config.inject == "add":
                stem = stem + self.slots(vectors.flatten(1))[:, :, None, None].to(stem.dtype)
            else:
                told_of = (vectors != 0).any(-1)
                attended = (self.slots(vectors) + self.places, told_of)
                text = (
                    attended
                    if text is None
                    else (torch.cat([text[0], attended[0]], 1), torch.cat([text[1], told_of], 1))
                )
        if once is not None:
            base = base + once
        k, c = self.config.history, self.shape[0]
        # A noisy frame would add its noise to the output, so it is trusted only where it is nearly clean.
        trust = ((told[:, k - 1] - NEARLY_CLEAN) / (1 - NEARLY_CLEAN)).clamp(0, 1)
        last = stacked[:, (k - 1) * c : k * c] * trust[:, None, None, None]
        return Around(stem, base, last, recall, text)

    def condition(
        self, t: Float[Tensor, " n"], around: Around, span: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n condition"]:
        """What modulates every block at noise level t, on a step as long as ``span`` (None: infinitely short)."""
        level = fourier(t, 32)
        if self.config.shortcut:
            level = torch.cat([level, fourier(torch.zeros_like(t) if span is None else learnt(t, span), 32)], 1)
        return self.mixer(self.level(level) + around.base)

    def denoise(
        self, noisy: Tensor, t: Float[Tensor, " n"], around: Around, span: Float[Tensor, " n"] | None = None
    ) -> Tensor:
        """Clean-frame estimate (N, C, H, W), for a step as long as ``span`` if the model learnt shortcuts. A network
        that emits x emits what to add to a share of the last frame."""
        flow = self.config.flow
        # A target that contains the noise can't be told without seeing it.
        shown = whole(noisy, t) if flow.target in ("flow", "noise") else self.shown(noisy, t)
        output = self.net(shown, around, self.condition(t, around, span)).float()
        if flow.target == "x":
            output = output + self.config.residual * around.last
        return to_clean(flow, output, noisy, t)

    def finished(self, frames: Tensor, around: Around) -> Float[Tensor, "n features"]:
        """Features of finished frames (N, C, H, W) in their surroundings."""
        t = torch.ones(len(frames), device=frames.device)
        _, deep = self.net.trunk(frames, around, self.condition(t, around))
        return quarters(deep.float()).flatten(1)
