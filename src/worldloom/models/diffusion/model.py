"""Next-frame diffusion behind the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least, within
from worldloom.contract import (
    ContractError,
    Controls,
    Loss,
    Segment,
    Spec,
    State,
    WorldModel,
    row_keys,
)
from worldloom.models.adopt import Get, by_entry
from worldloom.models.diffusion.backbone import Backbone, BackboneConfig, fourier
from worldloom.models.diffusion.flow import (
    FlowConfig,
    corrupt,
    draw_levels,
    euler,
    loss_weight,
    times,
    to_clean,
    visible,
)
from worldloom.nn import noise
from worldloom.nn.conv import quarters


@dataclass(frozen=True)
class DiffusionConfig:
    """Next-frame diffusion with a temporal stem."""

    history: int = 6
    """Past frames in the stem. Fewer may be known: an episode's start, or a short prompt."""
    prompt: int = 2
    """Least history that is trained. With less the next frame is a guess, whose large error would drown the rest."""
    short: float = 0.25
    """Share of training windows whose history is cut to a random length from ``prompt`` on."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """The network."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """Noise levels and loss."""
    steps: int = 2
    """Denoising steps of a dreamed frame."""
    residual: float = 0.8
    """Share of the last frame that the network's output is added to. At 1 it emits changes, which is learnt fastest;
    but what a dream leaves behind then stays until it is noticed. Below 1 such remains fade by this factor a frame."""
    targets: int = 4
    """Frames of a training window that are targets, its last ones; those before are only history."""
    context_noise: float = 0.0
    """Largest noise mixed into the past while training, a level a frame, told to the model. At sampling the past is
    declared clean."""
    own_past: float = 0.25
    """A frame predicted from pure noise takes the truth's place in the past of the window's next targets, if its error
    is below this fraction of the error of copying the last frame. 0: the past is always true."""

    def __post_init__(self) -> None:
        at_least(self, 1, "history", "steps", "targets", "prompt")
        within(self, 0.0, 1.0, "short", "context_noise", "residual")
        at_least(self, 0, "own_past")
        if self.prompt > self.history:
            raise ConfigError(f"prompt is at most history: found {self.prompt} and {self.history}.")

    @classmethod
    def debug(cls) -> DiffusionConfig:
        """Tiny: trains on a CPU in seconds."""
        return cls(history=3, backbone=BackboneConfig(width=16, deep_width=16, blocks=1, deep_blocks=1, condition=32))


class Diffusion(WorldModel):
    """A causal diffusion model of one image sensor.

    State: ``past`` (B, history, C, H, W) float in [-1, 1], newest last; ``known`` (B, history) bool, which of them
    exist; ``given.<name>`` (B, history, ...), the controls that led to them.
    """

    Config = DiffusionConfig
    capabilities: ClassVar[frozenset[str]] = frozenset({"decode"})

    def __init__(self, spec: Spec, config: DiffusionConfig | None = None):
        config = config or DiffusionConfig()
        super().__init__(spec, config)
        reason = self.supports(spec)
        if reason:
            raise ContractError(reason)
        self.config: DiffusionConfig = config
        (self.sensor,) = spec.images
        self.shape = spec.images[self.sensor].shape
        self.net = Backbone(config.backbone, self.shape[0], config.history)
        d, k = config.backbone.condition, config.history
        self.controls = nn.ModuleDict()
        for name, control in spec.given.items():
            discrete = control.kind == "discrete"
            self.controls[name] = nn.Embedding(control.n + 1, d) if discrete else nn.Linear(control.shape[0], d)
        # One slot a frame for the known-or-not flag and noise level of each past frame, and for each frame's controls.
        self.context = nn.Linear(2 * k, d)
        self.slots = nn.Linear((k + 1) * d, d, bias=False) if spec.given else None
        self.level = nn.Sequential(nn.Linear(32, d), nn.SiLU(), nn.Linear(d, d))
        self.mixer = nn.Sequential(nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def supports(spec: Spec) -> str | None:
        """Why this family can't model ``spec``, or None when it can."""
        if len(spec.images) != 1 or len(spec.shown) != 1:
            return (
                f"The diffusion family dreams one image sensor and nothing else; this world shows "
                f"{', '.join(spec.shown)}. Choose one image, or use the recurrent family."
            )
        odd = [n for n, c in spec.given.items() if c.kind not in ("discrete", "continuous") or c.per == "once"]
        return f"The diffusion family takes discrete and continuous controls per frame, not {odd}." if odd else None

    def adopt(self, name: str, get: Get, spec: Spec) -> Tensor | None:
        """What of another world's weights to begin with: of a control's layer, what belongs to entries of equal name.

        All other layers see frames of any size, so that a channel or a setting alone can change their shape. Controls
        that no world gave before begin silent: the model is then what it was until it has learnt what they do.
        """
        if name == "slots.weight" and not spec.given:
            return torch.zeros_like(self.get_parameter(name))
        if not name.startswith("controls."):
            return None
        control = name.split(".")[1]
        mine, own = self.spec.given[control], self.get_parameter(name)
        return by_entry(own, get(name), mine, spec.given.get(control), 0 if mine.kind == "discrete" else 1)

    @property
    def window(self) -> int:
        """Length of training windows that suits this model."""
        return self.config.history + self.config.targets

    # ------------------------------------------------------------------------------ pieces

    def _pad(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W) below and to the right to the multiple that the network needs."""
        m = self.net.multiple
        h, w = -x.shape[-2] % m, -x.shape[-1] % m
        return F.pad(x, (0, w, 0, h), value=-1.0) if h or w else x

    def _crop(self, x: Tensor) -> Tensor:
        return x[..., : self.shape[1], : self.shape[2]]

    def _repad(self, x: Tensor) -> Tensor:
        """A predicted frame in the range of true ones, its padding as theirs."""
        return self._pad(self._crop(x).clamp(-1.0, 1.0))

    def _embed(self, control: Mapping[str, Tensor]) -> Tensor | None:
        """Sum of the embedded controls, (..., condition); None for plain video."""
        parts = [module(control[name]) for name, module in self.controls.items()]
        return torch.stack(parts).sum(0) if parts else None

    def _condition(self, t: Tensor, known: Tensor, past_noise: Tensor, actions: Tensor | None) -> Tensor:
        """(N, condition) from level (N,), known (N, K) bool, noise (N, K), embedded controls (N, K+1, condition)."""
        cond = self.level(fourier(t, 32)) + self.context(torch.cat([known.to(t.dtype), past_noise], 1))
        if self.slots is not None and actions is not None:
            cond = cond + self.slots(actions.flatten(1))
        return self.mixer(cond)

    def _denoise(self, noisy: Tensor, stem: Tensor, last: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Clean-frame estimate (N, C, H, W). The network emits what to add to a share of the last frame."""
        output = self.net(visible(noisy, t), stem, cond).float()
        output = output + self.config.residual * last
        return to_clean(self.config.flow, output, noisy, t)

    # ---------------------------------------------------------------------------- training

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        """Velocity-space squared error of the window's last ``targets`` frames, each at its own noise level.

        The targets are visited in order. Where one was predicted from pure noise, and well, the prediction takes the
        truth's place in the past of the next: the model learns on what it will see when it dreams, and no pass is
        without a loss. (Feeding detached predictions back is the pushforward trick of Brandstetter et al. 2022.)
        """
        cfg, k = self.config, self.config.history
        frames = segment.obs[self.sensor]
        b, length = frames.shape[:2]
        if length <= cfg.prompt:
            raise ContractError(f"Training windows need more than prompt = {cfg.prompt} frames, found {length}.")
        device, begin = frames.device, max(cfg.prompt, length - cfg.targets)

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, device=device, generator=generator)

        clean = self._pad(frames.flatten(0, 1).float().div_(127.5).sub_(1.0)).unflatten(0, (b, length))
        nothing = torch.zeros_like(clean[:, 0])
        past = [nothing] * k + list(clean.unbind(1))  # frame i is at i + k; predictions will replace some
        embedded = self._embed(segment.control)
        # A past frame belongs to a target's history when it is real and no episode began between the two.
        episode = F.pad(torch.where(segment.valid, segment.first.cumsum(1) + 1, 0), (k, 0))
        cut = torch.randint(cfg.prompt, k + 1, (b, 1), device=device, generator=generator)
        full = rand(b, 1) >= cfg.short
        in_reach = full | (torch.arange(k, 0, -1, device=device) <= cut)
        pure = rand(b) < cfg.flow.pure

        sums = dict.fromkeys(("loss", "count", "mse", "onestep_mse", "pure"), torch.zeros((), device=device))
        for i in range(begin, length):
            target = clean[:, i]
            known = (episode[:, i : i + k] == episode[:, i + k, None]) & in_reach & segment.valid[:, i, None]
            history = torch.stack(past[i : i + k], 1) * known[..., None, None, None]
            level = torch.zeros(b, k, device=device)
            if cfg.context_noise:
                level = rand(b, k) * cfg.context_noise * (rand(b, k) < 0.5) * known
                extra = torch.randn(history.shape, device=device, generator=generator)
                history = torch.lerp(history, extra, level[..., None, None, None])
            actions = None
            if embedded is not None:
                earlier = F.pad(embedded, (0, 0, k, 0))[:, i : i + k] * known[..., None]
                actions = torch.cat([earlier, embedded[:, i, None]], 1)
            t = torch.where(pure, 0.0, draw_levels(cfg.flow, (b,), device, generator))
            noisy = corrupt(target, torch.randn(target.shape, device=device, generator=generator), t)
            cond = self._condition(t, known, level, actions)
            predicted = self._denoise(noisy, self.net.stem(history.flatten(1, 2)), history[:, -1], t, cond)
            error = (self._crop(predicted - target) ** 2).mean((1, 2, 3))

            real = segment.valid[:, i].to(error.dtype)
            sums["loss"] = sums["loss"] + (loss_weight(cfg.flow, t) * error * real).sum()
            sums["count"] = sums["count"] + real.sum()
            sums["mse"] = sums["mse"] + (error * real).sum().detach()
            sums["onestep_mse"] = sums["onestep_mse"] + (error * real * pure).sum().detach()
            sums["pure"] = sums["pure"] + (real * pure).sum()
            if cfg.own_past:
                # Only a dream that still follows the truth is worth going on from.
                still = (self._crop(history[:, -1] - target) ** 2).mean((1, 2, 3))
                fed = pure & (error.detach() < cfg.own_past * still)
                past[i + k] = torch.where(fed[:, None, None, None], self._repad(predicted.detach()), target)
        total = sums["loss"] / sums["count"].clamp_min(1)
        return Loss(
            total,
            {
                "mse": sums["mse"] / sums["count"].clamp_min(1),
                "onestep_mse": sums["onestep_mse"] / sums["pure"].clamp_min(1),
            },
        )

    # ---------------------------------------------------------------------------- dreaming

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        """An empty past."""
        if control:
            raise ContractError(f"This model is given nothing once for a sequence, found {sorted(control)}.")
        k, device = self.config.history, self.device
        tensors = {
            "key": row_keys(batch, seed, device),
            "frame": torch.zeros(batch, dtype=torch.int64, device=device),
            "past": torch.zeros(batch, k, *self.shape, device=device),
            "known": torch.zeros(batch, k, dtype=torch.bool, device=device),
        }
        for name, given in self.spec.given.items():
            tensors[f"given.{name}"] = given.null(batch, k, device=device)
        return State(tensors)

    def _push(self, state: State, frame: Tensor, control: Mapping[str, Tensor]) -> State:
        """The state after one more frame (B, C, H, W), led to by ``control``."""

        def shift(ring: Tensor, new: Tensor) -> Tensor:
            return torch.cat([ring[:, 1:], new[:, None]], 1)

        rings = {f"given.{name}": shift(state[f"given.{name}"], value) for name, value in control.items()}
        known = torch.ones(state.batch, dtype=torch.bool, device=state.device)
        return State(
            {
                "key": state.key,
                "frame": state.frame + 1,
                "past": shift(state["past"], frame),
                "known": shift(state["known"], known),
                **rings,
            }
        )

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
        self.spec.check_obs({**obs}, state.batch)
        given = self.spec.controls(control, state.batch, device=state.device)
        if first is not None:
            keep = ~first.to(state.device)
            state = state.replace(
                known=state["known"] & keep[:, None], past=state["past"] * keep[:, None, None, None, None]
            )
            for name, value in given.items():
                null = self.spec.given[name].null(state.batch, device=state.device)
                given[name] = torch.where(keep.reshape(-1, *[1] * (value.ndim - 1)), value, null)
        frame = obs[self.sensor].to(state.device).float().div(127.5).sub(1.0)
        return self._push(state, frame, given)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """Dream the next frame in ``config.steps`` denoising steps from keyed noise."""
        self.require_prompted(state)
        given = self.spec.controls(control, state.batch, device=state.device)
        shape = self._pad(state["past"][:, 0]).shape[1:]
        x = noise.normal(state.key, state.frame, 0, tuple(shape))
        past, actions = self._context(state, given)
        stem = self.net.stem(past.flatten(1, 2))
        schedule = times(self.config.steps)
        for now, then in pairwise(schedule):
            t = torch.full((state.batch,), now, device=state.device)
            cond = self._condition(t, state["known"], torch.zeros_like(state["known"], dtype=t.dtype), actions)
            x = euler(x, self._repad(self._denoise(x, stem, past[:, -1], t, cond)), now, then)
        return self._push(state, self._crop(x), given)

    def _context(self, state: State, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(B, K, C, H', W') padded past and (B, K+1, condition) embedded controls; unknown entries are zero."""
        known = state["known"]
        past = self._pad(state["past"].flatten(0, 1)).unflatten(0, known.shape) * known[..., None, None, None]
        embedded = self._embed({name: state[f"given.{name}"] for name in given})
        new = self._embed(given)
        if embedded is None or new is None:
            return past, None
        return past, torch.cat([embedded * known[..., None], new[:, None]], 1)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """The newest frame."""
        unit = (state["past"][:, -1] + 1.0) / 2.0 * state["known"][:, -1, None, None, None]
        return {self.sensor: unit if raw else (unit * 255.0).round().to(torch.uint8)}

    def features(self, state: State) -> Tensor:
        """(B, 4 × deep_width): coarse features of the newest frame seen as clean, after its past, pooled to 2×2."""
        newest = self._pad(state["past"][:, -1])
        earlier = State(
            {
                **state.tensors,
                "past": torch.cat([torch.zeros_like(state["past"][:, :1]), state["past"][:, :-1]], 1),
                "known": torch.cat([torch.zeros_like(state["known"][:, :1]), state["known"][:, :-1]], 1),
                **{
                    f"given.{name}": torch.cat([c.null(state.batch, 1, device=state.device), ring[:, :-1]], 1)
                    for name, c in self.spec.given.items()
                    for ring in [state[f"given.{name}"]]
                },
            }
        )
        past, actions = self._context(earlier, {name: state[f"given.{name}"][:, -1] for name in self.spec.given})
        t = torch.ones(state.batch, device=state.device)
        silent = torch.zeros_like(earlier["known"], dtype=t.dtype)
        cond = self._condition(t, earlier["known"], silent, actions)
        _, deep = self.net.trunk(visible(newest, t), self.net.stem(past.flatten(1, 2)), cond)
        return quarters(deep.float()).flatten(1)
