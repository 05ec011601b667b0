"""The recurrent family: a compact state, half memory and half chance (RSSM; Hafner et al. 2019, 2023).

    memory      h_t = GRU(h_{t-1}, z_{t-1}, a_t)
    prior       z_t ~ p(z | h_t)               what ``step`` samples
    posterior   z_t ~ q(z | h_t, E(o_t))       what ``observe`` samples
    outputs     o_t, r_t, end_t from [h_t, z_t]

z is a vector of categoricals, sampled with straight-through gradients. Trained by reconstruction and by a KL between
posterior and prior whose two directions have their own weights (DreamerV3, eq. 4 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldloom.configs import ConfigError, at_least, within
from worldloom.contract import (
    ContractError,
    Control,
    Controls,
    Loss,
    Segment,
    Spec,
    State,
    WorldModel,
    mix,
    row_keys,
)
from worldloom.models.adopt import Get, reach
from worldloom.models.recurrent_adopt import adopt
from worldloom.nn import distributions as dist
from worldloom.nn.conv import ConvDecoder, ConvEncoder, RMSNorm, image_floats, mlp
from worldloom.nn.noise import gumbel


@dataclass
class RecurrentConfig:
    """Sizes and loss weights of :class:`Recurrent`."""

    deter: int = 256
    """Width of the memory h."""
    stoch: int = 16
    """Number of categorical variables in z."""
    classes: int = 16
    """Classes of each variable."""
    units: int = 256
    """Width of the hidden layers."""
    channels: int = 24
    """Channels of the image encoder's first halving; they double twice."""
    unimix: float = 0.01
    """Share of the uniform distribution mixed into prior and posterior."""
    free_nats: float = 1.0
    """The KL of a frame, summed over the variables, is not pushed below this."""
    dynamics_scale: float = 1.0
    """Weight of the KL that moves the prior towards the posterior."""
    representation_scale: float = 0.1
    """Weight of the KL that moves the posterior towards the prior."""
    bins: int = 255
    """Bins of the reward's two-hot classes, from -symexp(20) to symexp(20); an odd number."""

    def __post_init__(self) -> None:
        at_least(self, 1, "deter", "stoch", "classes", "units", "channels", "bins")
        within(self, 0.0, 1.0, "unimix")
        if self.bins % 2 == 0:
            raise ConfigError(f"bins must be odd, so that one of them is zero, found {self.bins}.")

    @classmethod
    def debug(cls) -> RecurrentConfig:
        """A size that trains in seconds, for tests."""
        return cls(deter=48, stoch=6, classes=6, units=48, channels=8, bins=41)


class Controller(nn.Module):
    """One frame's discrete and continuous controls as one vector. The null value of each is what a reset sees."""

    def __init__(self, given: dict[str, Control], width: int):
        super().__init__()
        self.given = dict(sorted(given.items()))  # saved specs come back in another order
        given = self.given
        self.inputs = sum(c.n + 1 if c.kind == "discrete" else c.shape[0] for c in given.values())
        self.net = mlp(self.inputs, width, 1) if given else None
        self.scale = {name: reach(control) for name, control in given.items()}

    def forward(self, control: Mapping[str, Tensor], reset: Tensor) -> Tensor | None:
        """(B, width), or None for a world that is given nothing. ``reset`` (B,) bool: rows whose action is forgotten.

        What is given once belongs to the whole sequence, and stays.
        """
        if self.net is None:
            return None
        parts = []
        for name, kind in self.given.items():
            value = control[name]
            if kind.per == "frame":
                null = kind.null(device=value.device)
                value = torch.where(reset.reshape(-1, *[1] * (value.ndim - 1)), null, value)
            if kind.kind == "discrete":
                parts.append(F.one_hot(value, kind.n + 1).float())
            else:
                value = value / torch.tensor(self.scale[name], device=value.device)
                parts.append(value / value.detach().abs().clamp(min=1))  # an unbounded action can't drown the rest
        return self.net(torch.cat(parts, -1))


class Recurrent(WorldModel):
    """RSSM over images, range images and vectors; discrete and continuous controls, per frame or given once."""

    Config = RecurrentConfig
    capabilities: frozenset[str] = frozenset({"decode", "reward", "terminal", "unprompted"})

    @classmethod
    def supports(cls, spec: Spec) -> str | None:
        """Why this family can't model a spec, or None if it can."""
        other = sorted(name for name, c in spec.given.items() if c.kind in ("map", "tokens"))
        return f"it takes discrete and continuous controls only, and {other} are maps or tokens" if other else None

    def __init__(self, spec: Spec, config: RecurrentConfig | None = None):
        config = config or RecurrentConfig()
        super().__init__(spec, config)
        if reason := self.supports(spec):
            raise ContractError(f"The recurrent family can't model this world: {reason}.")
        self.once = [name for name, c in spec.given.items() if c.per == "once"]
        self.sensors = dict(sorted(spec.shown.items()))  # saved specs come back in another order
        self.encoders = nn.ModuleList()
        self.decoders = nn.ModuleList()
        latent, embedded = config.stoch * config.classes, 0
        width = config.deter + latent
        for sensor in self.sensors.values():
            if sensor.kind == "vector":
                self.encoders.append(mlp(sensor.shape[0], config.units, 2))
                self.decoders.append(mlp(width, config.units, 2, sensor.shape[0]))
                embedded += config.units
            else:
                encoder = ConvEncoder(sensor.shape, config.channels)
                self.encoders.append(encoder)
                self.decoders.append(ConvDecoder(sensor.shape, config.channels, width))
                embedded += encoder.width
        self.controller = Controller(spec.given, config.units)
        self.join = mlp(latent + (config.units if spec.given else 0), config.units, 1)
        self.gates = nn.Sequential(nn.Linear(config.deter + config.units, 3 * config.deter), RMSNorm(3 * config.deter))
        self.prior = mlp(config.deter, config.units, 1, latent)
        self.posterior = mlp(config.deter + embedded, config.units, 1, latent)
        self.reward_head = mlp(width, config.units, 1, config.bins, zero=True)
        self.terminal_head = mlp(width, config.units, 1, 1)
        self.register_buffer("bins", dist.symexp_bins(config.bins), persistent=False)
        self.bins: Tensor

    def adopt(self, name: str, get: Get, spec: Spec) -> Tensor | None:
        """What of another world's weights to begin with: :mod:`worldloom.models.recurrent_adopt`."""
        return adopt(self, name, get, spec)

    # ------------------------------------------------------------------------------ one frame

    def _embed(self, obs: Mapping[str, Tensor]) -> Tensor:
        """(B, E) features of frames (B, *shape)."""
        parts = []
        for (name, sensor), encoder in zip(self.sensors.items(), self.encoders, strict=True):
            x = obs[name].to(self.device)
            parts.append(encoder(image_floats(x) - 0.5 if sensor.kind == "image" else dist.symlog(x)))
        return torch.cat(parts, -1)

    def _memory(self, deter: Tensor, stoch: Tensor, control: Mapping[str, Tensor], reset: Tensor) -> Tensor:
        """h_t (B, D) from h_{t-1}, z_{t-1} (B, S·K) and the controls; ``reset`` rows (B,) start from nothing."""
        keep = (~reset)[:, None]
        deter, stoch = deter * keep, stoch * keep
        given = self.controller(control, reset)
        x = self.join(stoch if given is None else torch.cat([stoch, given], -1))
        forget, candidate, update = self.gates(torch.cat([deter, x], -1)).chunk(3, -1)
        update = torch.sigmoid(update - 1)  # remember by default
        return update * torch.tanh(torch.sigmoid(forget) * candidate) + (1 - update) * deter

    def _log_probs(self, head: nn.Module, x: Tensor) -> Tensor:
        """(..., stoch, classes) log-probabilities of z."""
        return dist.unimix(head(x).unflatten(-1, (self.config.stoch, self.config.classes)), self.config.unimix)

    def _advance(self, state: State, control: Controls, reset: Tensor, obs: Mapping[str, Tensor] | None) -> State:
        given = self.spec.controls(control, state.batch, device=self.device)
        given |= {name: state[f"given_{name}"] for name in self.once}
        deter = self._memory(state["deter"], state["stoch"], given, reset)
        if obs is None:
            log_probs = self._log_probs(self.prior, deter)
        else:
            log_probs = self._log_probs(self.posterior, torch.cat([deter, self._embed(obs)], -1))
        draws = gumbel(state.key, state.frame, 0, tuple(log_probs.shape[1:]))
        stoch = dist.straight_through(log_probs, draws).flatten(1)
        return state.replace(deter=deter, stoch=stoch, frame=state.frame + 1)

    # ------------------------------------------------------------------------------- dreaming

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        """The empty state of ``batch`` rows; ``control`` holds what is given once, (B, *shape) each."""
        tensors = {
            "key": row_keys(batch, seed, self.device),
            "frame": torch.zeros(batch, dtype=torch.int64, device=self.device),
            "deter": torch.zeros(batch, self.config.deter, device=self.device),
            "stoch": torch.zeros(batch, self.config.stoch * self.config.classes, device=self.device),
        }
        once = self.spec.controls_once(control, batch, self.device)
        return State(tensors | {f"given_{name}": value for name, value in once.items()})

    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        """The posterior at the next frame. ``donate`` is accepted and changes nothing: states are small."""
        self.spec.check_obs(obs, state.batch)
        reset = torch.zeros_like(state.frame, dtype=torch.bool) if first is None else first.to(self.device)
        return self._advance(state, control, reset, obs)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """The prior at the next frame."""
        return self._advance(state, control, torch.zeros_like(state.frame, dtype=torch.bool), None)

    def features(self, state: State) -> Tensor:
        """(B, deter + stoch·classes): memory and sample, side by side."""
        return torch.cat([state["deter"], state["stoch"]], -1)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """Sensors of the newest frame. Range images and vectors are predicted in symlog space."""
        features, seen = self.features(state), state.frame > 0
        out = {}
        for (name, sensor), x in zip(self.sensors.items(), self._decoded(features), strict=True):
            x = x if sensor.kind == "image" else dist.symexp(x)
            x = x * seen.reshape(-1, *[1] * len(sensor.shape))
            out[name] = (x * 255).round().to(torch.uint8) if sensor.kind == "image" and not raw else x
        return out

    def _decoded(self, features: Tensor) -> list[Tensor]:
        """Each sensor, (B, *shape), as it is trained: images in (0, 1), the others in symlog space."""
        raw = [decoder(features) for decoder in self.decoders]
        kinds = [sensor.kind for sensor in self.sensors.values()]
        return [torch.sigmoid(x) if kind == "image" else x for x, kind in zip(raw, kinds, strict=True)]

    def reward(self, state: State) -> Tensor:
        """(B,) expected reward."""
        return dist.two_hot_mean(self.reward_head(self.features(state)), self.bins)

    def terminal(self, state: State) -> Tensor:
        """(B,) probability that the episode ended."""
        return torch.sigmoid(self.terminal_head(self.features(state))).squeeze(-1)

    # ------------------------------------------------------------------------------- training

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        """Reconstruction (squared error summed over entries; vectors in symlog space), reward, end, and both KLs.

        Heads are trained only where the segment has rewards or ends. ``states`` are the posteriors, (B·T) rows.
        """
        B, T = segment.first.shape
        config, device = self.config, self.device
        embedded = self._embed({k: v.flatten(0, 1) for k, v in segment.obs.items()}).unflatten(0, (B, T))
        deter = torch.zeros(B, config.deter, device=device)
        stoch = torch.zeros(B, config.stoch * config.classes, device=device)
        draws = torch.rand(B, T, config.stoch, config.classes, generator=generator, device=device)
        draws = -torch.log(-torch.log(draws.clamp(1e-7, 1 - 1e-7)))
        memories, samples, posteriors = [], [], []
        for t in range(T):
            given = {k: v if k in self.once else v[:, t] for k, v in segment.control.items()}
            deter = self._memory(deter, stoch, given, segment.first[:, t])
            log_probs = self._log_probs(self.posterior, torch.cat([deter, embedded[:, t]], -1))
            stoch = dist.straight_through(log_probs, draws[:, t]).flatten(1)
            memories.append(deter)
            samples.append(stoch)
            posteriors.append(log_probs)
        memory, sample, posterior = torch.stack(memories, 1), torch.stack(samples, 1), torch.stack(posteriors, 1)
        prior = self._log_probs(self.prior, memory)
        features = torch.cat([memory, sample], -1)

        frames: dict[str, Tensor] = {}  # name to (B, T), the loss of each frame
        for (name, sensor), decoded in zip(self.sensors.items(), self._decoded(features.flatten(0, 1)), strict=True):
            target = segment.obs[name].flatten(0, 1)
            target = image_floats(target) if sensor.kind == "image" else dist.symlog(target)
            frames[f"loss_{name}"] = (decoded - target).square().flatten(1).sum(-1).unflatten(0, (B, T))
        if segment.reward is not None:
            frames["loss_reward"] = dist.two_hot_loss(self.reward_head(features), segment.reward, self.bins)
        if segment.terminal is not None:
            logits = self.terminal_head(features).squeeze(-1)
            frames["loss_terminal"] = F.binary_cross_entropy_with_logits(
                logits, segment.terminal.float(), reduction="none"
            )
        kl = dist.categorical_kl(posterior.detach(), prior)
        back = dist.categorical_kl(posterior, prior.detach())
        frames["loss_kl"] = config.dynamics_scale * kl.clamp(min=config.free_nats)
        frames["loss_kl"] = frames["loss_kl"] + config.representation_scale * back.clamp(min=config.free_nats)

        count = segment.valid.sum().clamp(min=1)
        means = {k: torch.where(segment.valid, v, 0.0).sum() / count for k, v in frames.items()}
        metrics = {k: v.detach() for k, v in means.items()}
        metrics["kl"] = torch.where(segment.valid, kl, 0.0).sum().detach() / count
        return Loss(torch.stack(list(means.values())).sum(), metrics, self._states(segment, memory, sample, generator))

    def _states(self, segment: Segment, memory: Tensor, sample: Tensor, generator: torch.Generator | None) -> State:
        """The posteriors (B, T, ·) as (B·T) rows, each with a fresh key."""
        B, T = segment.first.shape
        halves = torch.randint(
            2**31 - 1, (2, B * T), generator=generator, device=self.device
        )  # as wide as any GPU's are
        tensors = {
            "key": mix(halves[0], halves[1]),
            "frame": torch.arange(1, T + 1, device=self.device).repeat(B),
            "deter": memory.flatten(0, 1),
            "stoch": sample.flatten(0, 1),
        }
        for name in self.once:
            tensors[f"given_{name}"] = segment.control[name].repeat_interleave(T, 0)
        return State(tensors)
