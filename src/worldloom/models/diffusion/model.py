"""The diffusion family behind the contract: next-frame dreams from a ring of the past, and whole clips by any table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from worldloom.contract import (
    Controls,
    Loss,
    Segment,
    Spec,
    State,
    row_keys,
)
from worldloom.models.adopt import Get, by_entry
from worldloom.models.diffusion import ring
from worldloom.models.diffusion.backbone import Around
from worldloom.models.diffusion.clip import reachable
from worldloom.models.diffusion.config import DiffusionConfig
from worldloom.models.diffusion.denoiser import Denoiser
from worldloom.models.diffusion.filling import BLUR, fill
from worldloom.models.diffusion.flow import as_level, corrupt
from worldloom.models.diffusion.sampling import guided, walk
from worldloom.models.diffusion.shortcut import shortcut_clips
from worldloom.models.diffusion.training import next_frames, whole_clips
from worldloom.nn import distributions as dist
from worldloom.nn import noise, tables
from worldloom.nn.conv import mlp

BINS = 255
"""Classes of the reward's two-hot head, as DreamerV3."""
CODEC_FRAMES = 32
"""Frames of a batch from which its autoencoder learns, in whole windows: it is soon good, and costs as much as the
network."""


class Diffusion(Denoiser):
    """A causal diffusion model of one image sensor.

    State: ``past`` (B, history, C, H, W) float in [-1, 1], newest last; ``known`` (B, history) bool, which of them
    exist; ``given.<name>`` (B, history, ...) the controls that led to them, for a map (B, 1, ...) the newest alone, for
    what is given once (B, ...); with memory, what :mod:`ring` holds; with heads, the newest frame's ``features``.
    """

    Config = DiffusionConfig

    def __init__(self, spec: Spec, config: DiffusionConfig | None = None):
        super().__init__(spec, config)
        config = self.config
        self.capabilities = frozenset(
            {"decode", "fill"}
            | ({"unprompted"} if config.joint else set())
            | ({"reward", "terminal"} if config.heads else set())
        )
        d = config.backbone.sizes.condition
        if config.heads:
            width = 4 * config.backbone.sizes.deep_width
            self.reward_head = mlp(width, 2 * d, 1, BINS, zero=True)
            self.terminal_head = mlp(width, 2 * d, 1, 1)
            self.register_buffer("bins", dist.symexp_bins(BINS), persistent=False)
            self.bins: Tensor
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

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

    @property
    def shift(self) -> float:
        """Where the steps of sampling tables lie that suit this model."""
        return self.config.flow.shift

    @property
    def dream_settings(self) -> tuple[str, ...]:
        """Settings that may change after training (:func:`worldloom.imagination.settings.otherwise`)."""
        own = ("steps", "method", "guidance", "history_level", "told_noise")
        return (*own, *(("retrieve", "archive") if self.config.retrieve else ()))

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
        if self.codec is not None:
            part = segment.rows(slice(0, -(-CODEC_FRAMES // segment.length)))
            video = part.obs[self.sensor].float().div_(127.5).sub_(1.0)
            rebuilt, parts = self.codec.loss(video, generator, part.valid)
            total, metrics = total + rebuilt, metrics | parts
        if cfg.heads and (segment.reward is not None or segment.terminal is not None):
            head, more = self._head_loss(segment)
            total, metrics = total + head, metrics | more
        return Loss(total, metrics)

    def _head_loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of reward and end of the window's last frames, from the features of finished frames."""
        b, length = segment.first.shape
        targets = range(max(0, length - self.config.targets), length)
        truth = self.enter(segment)
        clip = self.clip(truth, torch.ones(b, length, device=truth.device), segment.control)
        reach = reachable(segment.first, segment.valid)[:, list(targets)]
        frames = truth[:, list(targets)].flatten(0, 1)
        features = self.finished(frames, self.around(clip, targets, reach, segment.first)).unflatten(
            0, (b, len(targets))
        )
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
        tensors = {
            "key": row_keys(batch, seed, device),
            "frame": torch.zeros(batch, dtype=torch.int64, device=device),
            "past": torch.zeros(batch, cfg.history, *self.shape, device=device),
            "known": torch.zeros(batch, cfg.history, dtype=torch.bool, device=device),
        }
        for name, value in self.spec.controls_once(control, batch, device).items():
            tensors[f"given.{name}"] = value
        for name, kind in self.spec.given.items():
            if kind.per == "frame":
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
            tensors["features"] = self.finished(self.pad(frame), self._after(state, control))
        if self.heard is not None:
            told = torch.full((state.batch,), 1 - self.config.told_noise, device=state.device)
            note = self.heard(told[:, None])
            noted = self.conditions({name: x[:, None] for name, x in control.items()}).noted
            note = note if noted is None else note + noted[:, 0]
            tensors |= ring.write(
                state, self.net.remember(self._declared(self.pad(frame), told), note), self.config.sink, donate
            )
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
        frame = self.encode(obs[self.sensor].to(state.device)[:, None])[:, 0]
        return self._push(state, self.crop(frame), given, donate)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """Dream the next frame in ``config.steps`` denoising steps from keyed noise."""
        given = self.check_inputs(state, control)
        cfg = self.config
        arounds: dict[str | None, Around] = {}

        def estimate(frames: list[Tensor], times: Tensor, _: list[int], spans: list[float]) -> Tensor:
            span = torch.full((state.batch,), spans[0], device=state.device)

            def one(hidden: str | None) -> Tensor:
                if hidden not in arounds:
                    arounds[hidden] = self._after(state, given, hidden, told=1 - cfg.told_noise)
                return self.denoise(frames[0], times[:, 0], arounds[hidden], span)

            return self.tidy(guided(cfg.guidance, one))[:, None]

        shape = tuple(self.pad(state["past"][:, 0]).shape[1:])
        if cfg.steps == 1 and cfg.flow.target in ("x", "v") and not cfg.shortcut:  # no noise is seen, and none is left
            x = torch.zeros(state.batch, 1, *shape, device=state.device)
        else:
            x = noise.normal(state.key, state.frame, 0, shape)[:, None]
        x = walk(x, tables.times(cfg.steps, cfg.flow.shift)[:, None], estimate, method=cfg.method)
        return self._push(state, self.crop(x[:, 0]), given, donate)

    def _after(
        self,
        state: State,
        given: Mapping[str, Tensor],
        hidden: str | None = None,
        back: int = 0,
        told: float = 1.0,
    ) -> Around:
        """The surroundings of the frame after the newest, led to by ``given``; with ``back`` 1 those of the newest
        itself. ``hidden``: a control that is not shown, or ``history``; ``told``: the level told of known frames."""
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
        past = self.pad(past)
        if blind:
            level = self.config.history_level
            known = known & (level > 0)
            levels = known * level
            shown = self.shown(self._blurred(state, past, back), levels) * known[..., None, None, None]
        else:
            levels = known * told
            shown = self._declared(past, levels)
        embedded = self.conditions(rings, () if hidden is None else (hidden,))
        stacked, levels = F.pad(shown, (0, 0, 0, 0, 0, 0, 0, ahead)).flatten(1, 2), F.pad(levels, (0, ahead))
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
        return self._assemble(stacked, levels, vectors, embedded.once, maps, recall, embedded.text)

    def _blurred(self, state: State, past: Tensor, back: int) -> Tensor:
        """The past as guidance on history compares with: through noise that is each frame's own."""
        level = self.config.history_level
        if level == 0:
            return past
        k, numbers = past.shape[1], state.frame[:, None] - back + torch.arange(-past.shape[1], 0, device=past.device)
        drawn = [noise.normal(state.key, numbers[:, j].clamp_min(0), BLUR, past.shape[2:]) for j in range(k)]
        return corrupt(past, torch.stack(drawn, 1), torch.full(past.shape[:2], level, device=past.device))

    def _declared(self, frames: Tensor, level: Tensor) -> Tensor:
        """What is shown of clean frames that are declared to stand at a level: x_t without its noise."""
        return self.shown(frames * as_level(level, frames), level)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """The newest frame."""
        unit = self.leave(state["past"][:, -1]) * state["known"][:, -1, None, None, None]
        return {self.sensor: unit if raw else (unit * 255.0).round().to(torch.uint8)}

    def features(self, state: State) -> Tensor:
        """(B, 4 × deep_width): coarse features of the newest frame seen as clean, after its past, pooled to 2×2."""
        return state["features"] if self.config.heads else self._features(state)

    def _features(self, state: State) -> Tensor:
        newest = self.pad(state["past"][:, -1])
        return self.finished(newest, self._after(state, {}, back=1))

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
        T) of :mod:`worldloom.nn.tables`; None: all together in ``steps`` steps, but at least 8, if the model was
        trained on whole clips, else one after the other in ``steps``. Raises :class:`ContractError` for a table or a
        marking that does not fit the clip, and :class:`UnsupportedError` for what the model was not trained to see:
        later frames (``ahead``), noisy ones (``joint``), or no frame at all.
        """
        return fill(self, segment, known, seed, table)
