"""The diffusion family behind the contract: next-frame dreams from a ring of the past, and whole clips by any table."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldloom.contract import (
    ContractError,
    Controls,
    Loss,
    Segment,
    Spec,
    State,
    UnsupportedError,
    WorldModel,
    row_keys,
)
from worldloom.models.adopt import Get, by_entry
from worldloom.models.diffusion import ring
from worldloom.models.diffusion.backbone import Around, Backbone, Recall, fourier
from worldloom.models.diffusion.clip import Clip, Neighbours, pad_to, reachable
from worldloom.models.diffusion.conditions import Conditions
from worldloom.models.diffusion.config import DiffusionConfig
from worldloom.models.diffusion.flow import shown_to_denoise, to_clean, visible
from worldloom.models.diffusion.sampling import guided, walk
from worldloom.models.diffusion.shortcut import shortcut_clips
from worldloom.models.diffusion.training import next_frames, whole_clips
from worldloom.nn import distributions as dist
from worldloom.nn import noise, tables
from worldloom.nn.conv import mlp, quarters

BINS = 255
"""Classes of the reward's two-hot head, as DreamerV3."""


class Diffusion(WorldModel):
    """A causal diffusion model of one image sensor.

    State: ``past`` (B, history, C, H, W) float in [-1, 1], newest last; ``known`` (B, history) bool, which of them
    exist; ``given.<name>`` (B, history, ...) the controls that led to them, for a map (B, 1, ...) the newest alone, for
    what is given once (B, ...); with memory, what :mod:`ring` holds; with heads, the newest frame's ``features``.
    """

    Config = DiffusionConfig
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
        self.shape = spec.images[self.sensor].shape
        self._check_size()
        for name in (*config.drop, *(n for n in config.guidance if n != "history")):
            if name not in spec.given:
                raise ContractError(
                    f"There is no control {name!r} to drop or guide: given {sorted(spec.given) or 'none'}."
                )
        self.capabilities = frozenset(  # type: ignore[misc]
            {"decode", "fill"}
            | ({"unprompted"} if config.joint else set())
            | ({"reward", "terminal"} if config.heads else set())
        )
        self.neighbours = Neighbours(config.history, config.ahead)
        count = len(self.neighbours.offsets)
        d = config.backbone.sizes.condition
        self.conditions = Conditions(spec, d, config.text, [name for name, p in config.drop.items() if p])
        per_frame = [name for name in self.conditions.vectors if spec.given[name].per == "frame"]
        attended = bool(per_frame) and config.inject == "cross"
        tokens = config.text.width if self.conditions.texts or attended else 0
        self.net = Backbone(config.backbone, self.shape[0], count, bool(config.memory), tokens, self.conditions.maps)
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
        if config.heads:
            width = 4 * config.backbone.sizes.deep_width
            self.reward_head = mlp(width, 2 * d, 1, BINS, zero=True)
            self.terminal_head = mlp(width, 2 * d, 1, 1)
            self.register_buffer("bins", dist.symexp_bins(BINS), persistent=False)
            self.bins: Tensor
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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

    def adopt(self, name: str, get: Get, spec: Spec) -> Tensor | None:
        """What of another world's weights to begin with: of a control's layer, what belongs to entries of equal name.

        All other layers see frames of any size, so that a channel or a setting alone can change their shape. Controls
        that no world gave before begin silent: the model is then what it was until it has learnt what they do.
        """
        if name == "slots.weight" and not spec.given:
            return torch.zeros_like(self.get_parameter(name))
        if not name.startswith("conditions.vectors."):
            return None
        control = name.split(".")[2]
        mine, own = self.spec.given[control], self.get_parameter(name)
        return by_entry(own, get(name), mine, spec.given.get(control), 0 if mine.kind == "discrete" else 1)

    @property
    def window(self) -> int:
        """Length of training windows that suits this model."""
        cfg = self.config
        return max(cfg.history, cfg.memory) + cfg.targets + (cfg.lookback if cfg.retrieve else 0)

    def _check_size(self) -> None:
        multiple = self.config.backbone.multiple
        if not self.config.pad and any(side % multiple for side in self.shape[1:]):
            raise ContractError(
                f"Frames of {self.shape[1]}x{self.shape[2]} are not divided by the grid: height and width must be "
                f"multiples of {multiple} (2 x fold {self.config.backbone.fold}). Resize them, choose a smaller fold, "
                "or let them be padded (pad: true)."
            )

    def at_size(self, height: int, width: int) -> Diffusion:
        """The same model, its weights shared, for frames of another size (maps too): every layer sees frames of any.
        Raises :class:`ContractError` where the grid does not divide them."""
        size = (height, width)
        shown = {n: dataclasses.replace(s, shape=(s.shape[0], *size)) for n, s in self.spec.shown.items()}
        given = {
            n: dataclasses.replace(c, shape=(c.shape[0], *size)) if c.kind == "map" else c
            for n, c in self.spec.given.items()
        }
        same = copy.copy(self)
        same.spec, same.shape = dataclasses.replace(self.spec, shown=shown, given=given), shown[self.sensor].shape
        same._check_size()
        return same

    # ------------------------------------------------------------------------------ pieces

    def enter(self, segment: Segment) -> Float[Tensor, "b t c h w"]:
        """The segment's frames as the network works on them: floats in [-1, 1], padded to the grid."""
        frames = segment.obs[self.sensor]
        return self.pad(frames.float().div_(127.5).sub_(1.0))

    def pad(self, x: Tensor) -> Tensor:
        """Frames (..., H, W) padded to the grid."""
        return pad_to(x, self.config.backbone.multiple, -1.0)

    def crop(self, x: Tensor) -> Tensor:
        """Without the padding."""
        return x[..., : self.shape[1], : self.shape[2]]

    def tidy(self, x: Tensor) -> Tensor:
        """A predicted frame in the range of true ones, its padding as theirs."""
        return self.pad(self.crop(x).clamp(-1.0, 1.0))

    def squared_error(self, a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
        """Mean squared difference of frames (N, C, H, W), padding left out."""
        return (self.crop(a - b) ** 2).mean((1, 2, 3))

    def show(self, clip: Clip, frame: Tensor, told: Tensor, at: int | None = None) -> None:
        """Add a frame (B, C, H, W) to a clip at its end, or exchange the one ``at`` an index."""
        i = clip.length if at is None else at
        keys = []
        if self.heard is not None:
            note = self.heard(told[:, None])
            note = note if clip.given.noted is None else note + clip.given.noted[:, i]
            keys = self.net.remember(frame, note)
        if at is None:
            clip.shown.append(frame)
            clip.told.append(told)
            clip.keys.append(keys)
        else:
            clip.shown[i], clip.told[i], clip.keys[i] = frame, told, keys

    def around(
        self, clip: Clip, targets: Sequence[int], reach: Bool[Tensor, "b n t"], starts: Bool[Tensor, "b t"]
    ) -> Around:
        """The surroundings of n target frames of each row, (B·n) rows. ``reach``: which frames each may see;
        ``starts``: (B, T) frames that begin an episode."""
        stacked, told, vectors = self.neighbours.gather(clip, targets, reach)
        n, given = len(targets), clip.given
        maps = None if given.maps is None else given.maps[:, list(targets)].flatten(0, 1)
        once = None if given.once is None else given.once.repeat_interleave(n, 0)
        recall = None
        if self.config.memory:
            recall = ring.recall_clip(
                clip.keys, targets, reach, starts, self.config.memory, self.config.sink, self.config.retrieve
            )
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
        # Adding a noisy frame to the output would add its noise: it is trusted as far as it is clean.
        last = stacked[:, (k - 1) * c : k * c] * (told[:, k - 1] ** 4)[:, None, None, None]
        return Around(stem, base, last, recall, text)

    def condition(
        self, t: Float[Tensor, " n"], around: Around, span: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n condition"]:
        """What modulates every block at noise level t, on a step as long as ``span`` (None: infinitely short)."""
        level = fourier(t, 32)
        if self.config.shortcut:
            level = torch.cat([level, fourier(torch.zeros_like(t) if span is None else span, 32)], 1)
        return self.mixer(self.level(level) + around.base)

    def denoise(
        self, noisy: Tensor, t: Float[Tensor, " n"], around: Around, span: Float[Tensor, " n"] | None = None
    ) -> Tensor:
        """Clean-frame estimate (N, C, H, W), for a step as long as ``span`` if the model learnt shortcuts. A network
        that emits x emits what to add to a share of the last frame."""
        flow = self.config.flow
        output = self.net(shown_to_denoise(flow, noisy, t), around, self.condition(t, around, span)).float()
        if flow.target == "x":
            output = output + self.config.residual * around.last
        return to_clean(flow, output, noisy, t)

    # ---------------------------------------------------------------------------- training

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        """Weighted squared errors of clean-frame estimates: next frames, and with ``joint`` whole clips beside them.

        A batch is split in two; a batch of one serves both. See :mod:`training`.
        """
        cfg, b = self.config, segment.batch
        clips = max(1, round(b * cfg.joint)) if cfg.joint else 0
        total = torch.zeros((), device=segment.first.device)
        metrics: dict[str, Tensor] = {}
        if cfg.joint < 1:
            part = segment.rows(slice(0, max(1, b - clips))) if clips else segment
            sums = next_frames(self, part, generator)
            total = total + (1 - cfg.joint) * sums.loss / sums.total.clamp_min(1)
            metrics |= {
                "mse": sums.mse / sums.total.clamp_min(1),
                "onestep_mse": sums.onestep_mse / sums.pure.clamp_min(1),
            }
        if clips:
            part = segment.rows(slice(b - clips, b))
            sums = whole_clips(self, part, generator)
            if cfg.shortcut:
                sums = shortcut_clips(self, part.rows(slice(0, max(1, round(clips * cfg.shortcut)))), generator, sums)
            total = total + cfg.joint * sums.loss / sums.total.clamp_min(1)
            metrics["clip_mse"] = sums.mse / sums.total.clamp_min(1)
        if cfg.heads and (segment.reward is not None or segment.terminal is not None):
            head, more = self._head_loss(segment)
            total, metrics = total + head, metrics | more
        return Loss(total, metrics)

    def _head_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of reward and end of the window's last frames, from the features of finished frames."""
        b, length = segment.first.shape
        targets = range(max(0, length - self.config.targets), length)
        truth = self.enter(segment)
        clip = Clip([], [], self.conditions(segment.control))
        ones = torch.ones(b, device=truth.device)
        for i in range(length):
            self.show(clip, truth[:, i], ones)
        starts = segment.first.clone()
        starts[:, 0] = True
        reach = reachable(segment.first, segment.valid)[:, list(targets)]
        frames = truth[:, list(targets)].flatten(0, 1)
        features = self._finished(frames, self.around(clip, targets, reach, starts)).unflatten(0, (b, len(targets)))
        real = segment.valid[:, list(targets)].float()
        losses = {}
        if segment.reward is not None:
            losses["loss_reward"] = dist.two_hot_loss(
                self.reward_head(features), segment.reward[:, list(targets)], self.bins
            )
        if segment.terminal is not None:
            ends = segment.terminal[:, list(targets)].float()
            logits = self.terminal_head(features).squeeze(-1)
            losses["loss_terminal"] = F.binary_cross_entropy_with_logits(logits.float(), ends, reduction="none")
        means = {name: (x * real).sum() / real.sum().clamp_min(1) for name, x in losses.items()}
        return torch.stack(list(means.values())).sum(), {name: x.detach() for name, x in means.items()}

    # ---------------------------------------------------------------------------- dreaming

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        """An empty past, and what is given once."""
        cfg, device = self.config, self.device
        given = {"action": control} if isinstance(control, Tensor) else dict(control or {})
        if set(given) != self.spec.once:
            raise ContractError(
                f"Give {sorted(self.spec.once) or 'no controls'} to start, found {sorted(given) or 'none'}."
            )
        tensors = {
            "key": row_keys(batch, seed, device),
            "frame": torch.zeros(batch, dtype=torch.int64, device=device),
            "past": torch.zeros(batch, cfg.history, *self.shape, device=device),
            "known": torch.zeros(batch, cfg.history, dtype=torch.bool, device=device),
        }
        for name, kind in self.spec.given.items():
            if kind.per == "once":
                kind.check(given[name], (batch,), name)
                tensors[f"given.{name}"] = given[name].to(device, kind.dtype, copy=True)
            else:
                tensors[f"given.{name}"] = kind.null(batch, 1 if kind.kind == "map" else cfg.history, device=device)
        if cfg.memory:
            h, w = (-(-side // cfg.backbone.multiple) for side in self.shape[1:])
            width = cfg.backbone.sizes.deep_width
            archive = cfg.archive if cfg.retrieve else 0
            tensors |= ring.empty(batch, cfg.memory, cfg.backbone.attention, h * w, width, device, archive)
        if cfg.heads:
            tensors["features"] = torch.zeros(batch, 4 * cfg.backbone.sizes.deep_width, device=device)
        return State(tensors)

    def _push(self, state: State, frame: Tensor, control: Mapping[str, Tensor], donate: bool) -> State:
        """The state after one more frame (B, C, H, W), led to by ``control``."""

        def shift(old: Tensor, new: Tensor) -> Tensor:
            return torch.cat([old[:, 1:], new[:, None]], 1)

        tensors = {
            **state.tensors,
            "frame": state.frame + 1,
            "past": shift(state["past"], frame),
            "known": shift(state["known"], torch.ones_like(state["known"][:, 0])),
            **{f"given.{name}": shift(state[f"given.{name}"], value) for name, value in control.items()},
        }
        if self.config.heads:  # from all that was before the frame, as in training: the new state holds one less
            tensors["features"] = self._finished(self.pad(frame), self._after(state, control))
        if self.heard is not None:
            note = self.heard(torch.ones(state.batch, 1, device=state.device))
            noted = self.conditions({name: x[:, None] for name, x in control.items()}).noted
            note = note if noted is None else note + noted[:, 0]
            tensors |= ring.write(state, self.net.remember(self.pad(frame), note), self.config.sink, donate)
        return State(tensors)

    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        """Append a true frame to the past."""
        given = self.check_inputs(state, control, obs)
        if first is not None:
            begins = first.to(state.device)
            keep = ~begins
            state = state.replace(
                known=state["known"] & keep[:, None],
                past=state["past"] * keep[:, None, None, None, None],
                **(ring.forget(state, begins) if self.config.memory else {}),
            )
            for name, value in given.items():
                null = self.spec.given[name].null(state.batch, device=state.device)
                given[name] = torch.where(keep.reshape(-1, *[1] * (value.ndim - 1)), value, null)
        frame = obs[self.sensor].to(state.device).float().div(127.5).sub(1.0)
        return self._push(state, frame, given, donate)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """Dream the next frame in ``config.steps`` denoising steps from keyed noise."""
        given = self.check_inputs(state, control)
        cfg = self.config
        arounds: dict[str | None, Around] = {}

        def estimate(frames: list[Tensor], times: Tensor, _: list[int], spans: list[float]) -> Tensor:
            span = torch.full((state.batch,), spans[0], device=state.device)

            def one(hidden: str | None) -> Tensor:
                if hidden not in arounds:
                    arounds[hidden] = self._after(state, given, hidden)
                return self.denoise(frames[0], times[:, 0], arounds[hidden], span)

            return self.tidy(guided(cfg.guidance, one))[:, None]

        shape = tuple(self.pad(state["past"][:, 0]).shape[1:])
        if cfg.steps == 1 and cfg.flow.target in ("x", "v"):  # the only step sees no noise and leaves none
            x = torch.zeros(state.batch, 1, *shape, device=state.device)
        else:
            x = noise.normal(state.key, state.frame, 0, shape)[:, None]
        x = walk(x, tables.times(cfg.steps)[:, None], estimate, method=cfg.method)
        return self._push(state, self.crop(x[:, 0]), given, donate)

    def _after(self, state: State, given: Mapping[str, Tensor], hidden: str | None = None, back: int = 0) -> Around:
        """The surroundings of the frame after the newest, led to by ``given``; with ``back`` 1 those of the newest
        itself. ``hidden``: a control that is not shown, or ``history``."""
        ahead, blind = self.config.ahead, hidden == "history"
        past, known = state["past"], state["known"]
        rings = {}
        for name, kind in self.spec.given.items():
            held = state[f"given.{name}"]
            if kind.per == "once":
                rings[name] = held
            elif back:
                null = kind.null(state.batch, 1, device=state.device)
                rings[name] = held if kind.kind == "map" else torch.cat([null, held], 1)
            else:
                rings[name] = given[name][:, None] if kind.kind == "map" else torch.cat([held, given[name][:, None]], 1)
        if back:
            past = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], 1)
            known = torch.cat([torch.zeros_like(known[:, :1]), known[:, :-1]], 1)
        if blind:
            known = torch.zeros_like(known)
        embedded = self.conditions(rings, () if hidden is None else (hidden,))
        told = F.pad(known.to(past.dtype), (0, ahead))
        stacked = F.pad(self.pad(past) * known[..., None, None, None], (0, 0, 0, 0, 0, 0, 0, ahead)).flatten(1, 2)
        vectors = None
        if embedded.frame is not None:
            seen = F.pad(known, (0, 1), value=True)
            vectors = F.pad(embedded.frame * seen[..., None], (0, 0, 0, ahead))
        recall = (
            ring.recall(state, self.config.sink, bool(back), blind, self.config.retrieve)
            if self.config.memory
            else None
        )
        maps = None if embedded.maps is None else embedded.maps[:, -1]
        return self._assemble(stacked, told, vectors, embedded.once, maps, recall, embedded.text)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """The newest frame."""
        unit = (state["past"][:, -1] + 1.0) / 2.0 * state["known"][:, -1, None, None, None]
        return {self.sensor: unit if raw else (unit * 255.0).round().to(torch.uint8)}

    def features(self, state: State) -> Tensor:
        """(B, 4 × deep_width): coarse features of the newest frame seen as clean, after its past, pooled to 2×2."""
        return state["features"] if self.config.heads else self._features(state)

    def _features(self, state: State) -> Tensor:
        newest = self.pad(state["past"][:, -1])
        return self._finished(newest, self._after(state, {}, back=1))

    def _finished(self, frames: Tensor, around: Around) -> Float[Tensor, "n features"]:
        """Features of finished frames (N, C, H, W) in their surroundings."""
        t = torch.ones(len(frames), device=frames.device)
        _, deep = self.net.trunk(frames, around, self.condition(t, around))
        return quarters(deep.float()).flatten(1)

    def reward(self, state: State) -> Tensor:
        """(B,) expected reward."""
        self.require("reward")
        return dist.two_hot_mean(self.reward_head(state["features"]).float(), self.bins)

    def terminal(self, state: State) -> Tensor:
        """(B,) probability that the episode ended."""
        self.require("terminal")
        return torch.sigmoid(self.terminal_head(state["features"]).float()).squeeze(-1)

    # ------------------------------------------------------------------------------- clips

    @torch.no_grad()
    def fill(self, segment: Segment, known: Bool[Tensor, "b t"], seed: int = 0, table: Tensor | None = None) -> Segment:
        """Whole clips at once: keep the frames marked in ``known`` and dream the others, by a sampling table.

        segment: (B, T), whose controls lead to every frame; frames that are not known may hold anything. table: (S + 1,
        T) of :mod:`worldloom.nn.tables`; None: all together if the model was trained on whole clips, else one after the
        other. Raises :class:`ContractError` for a table or a marking that does not fit the clip, and
        :class:`UnsupportedError` for what the model was not trained to see: later frames (``ahead``), noisy ones
        (``joint``), or no frame at all.
        """
        cfg = self.config
        b, length = segment.first.shape
        if tuple(known.shape) != (b, length) or known.dtype != torch.bool:
            raise ContractError(
                f"known marks frames as ({b}, {length}) bool, found {tuple(known.shape)} {known.dtype}."
            )
        if table is None:
            table = tables.joint(length, max(8, cfg.steps)) if cfg.joint else tables.autoregressive(length, cfg.steps)
        tables.check_table(table, length)
        begun = ((table[0] > 0) & ~known.all(0).to(table.device)).nonzero().flatten().tolist()
        if begun:
            raise ContractError(
                f"The table begins frame {begun[0]} at {float(table[0, begun[0]]):g}, and it is not known: there "
                "is nothing but noise to begin with. Start it at 0, or mark it as known."
            )
        future = tables.needs_future(torch.where(known.all(0).cpu(), 1.0, table))
        later = bool((known[:, 1:] & ~known[:, :-1].cummin(1).values).any())
        if later and not cfg.ahead:
            raise UnsupportedError(
                "A known frame lies behind an unknown one, and this model sees only the past: train one with ahead "
                "above 0 (and joint), or mark known frames at the beginning alone."
            )
        if future and not cfg.joint:
            raise UnsupportedError(
                "The table denoises frames whose past is not yet clean, and this model was trained on clean pasts "
                "alone: train one with joint above 0, or take tables.autoregressive."
            )
        if not cfg.joint and not bool(known[:, 0].all()):
            self.require("unprompted")
        segment = segment.to(self.device)
        known = known.to(self.device)
        truth = self.enter(segment)
        keys = row_keys(b, seed, self.device)
        shape = tuple(truth.shape[2:])
        drawn = [noise.normal(keys, torch.full_like(keys, i), 0, shape) for i in range(length)]
        x = torch.where(known[..., None, None, None], truth, torch.stack(drawn, 1))
        both = torch.full((b,), bool(cfg.ahead and (future or later)), device=self.device)
        reach = reachable(segment.first, segment.valid, both)
        starts = segment.first.clone()
        starts[:, 0] = True
        clips = {
            hidden: Clip([], [], self.conditions(segment.control, () if hidden is None else (hidden,)))
            for hidden in (None, *cfg.guidance)
        }
        held: dict[str | None, list[Tensor]] = {hidden: [] for hidden in clips}

        def estimate(frames: list[Tensor], times: Tensor, moving: list[int], spans: list[float]) -> Tensor:
            span = torch.tensor(spans, device=self.device).expand(b, -1).flatten()

            def one(hidden: str | None) -> Tensor:
                clip, old = clips[hidden], held[hidden]
                for i, frame in enumerate(frames):
                    if i < len(old) and old[i] is frame:
                        continue
                    told = times[:, i]
                    self.show(clip, visible(frame, told), told, i if i < len(old) else None)
                held[hidden] = list(frames)
                seen = reach[:, moving] & (hidden != "history")
                around = self.around(clip, moving, seen, starts)
                noisy = torch.stack([frames[i] for i in moving], 1)
                return self.denoise(noisy.flatten(0, 1), times[:, moving].flatten(), around, span)

            return self.tidy(guided(cfg.guidance, one)).unflatten(0, (b, len(moving)))

        x = walk(x, table, estimate, known, cfg.method)
        unit = (self.crop(x) + 1.0) / 2.0
        frames = torch.where(
            known[..., None, None, None], segment.obs[self.sensor], (unit * 255.0).round().to(torch.uint8)
        )
        return dataclasses.replace(segment, obs={**segment.obs, self.sensor: frames})
