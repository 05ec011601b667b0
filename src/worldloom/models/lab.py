"""The textbook lab's model, rebuilt exactly: a patch diffusion transformer that predicts noise, sampled by DDPM.

It is the baseline that speed and quality are set against, faults included. Its schedule is faulty: with 100 steps, β
from 1e-4 to 0.02 leaves ᾱ = 0.36 at the last one, so the model never sees the pure noise from which its sampling
starts (docs/lab.md shows what that does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from worldloom.configs import ConfigError, at_least, within
from worldloom.contract import ContractError, Controls, Loss, Segment, Spec, State, WorldModel, row_keys
from worldloom.models.adopt import Get, by_entry
from worldloom.nn import noise

CONTEXT = 3
"""Context frames of the lab's model."""


@dataclass(frozen=True)
class LabConfig:
    """The lab's model. The defaults are the textbook's and give 6,733,504 parameters on its data."""

    width: int = 256
    """Channels of every token."""
    layers: int = 6
    """Transformer blocks."""
    heads: int = 8
    """Attention heads."""
    patch: int = 8
    """Side of a patch in pixels."""
    steps: int = 100
    """Diffusion steps, in training and in sampling."""
    beta_first: float = 1e-4
    """β of the first step."""
    beta_last: float = 0.02
    """β of the last step; in between it is linear."""

    def __post_init__(self) -> None:
        at_least(self, 1, "width", "layers", "heads", "patch", "steps")
        within(self, 0.0, 1.0, "beta_first", "beta_last")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width must be a multiple of twice the heads: found {self.width} and {self.heads}.")

    @classmethod
    def debug(cls) -> LabConfig:
        """Tiny: trains on a CPU in seconds."""
        return cls(width=32, layers=1, heads=2, steps=4)


class Block(nn.Module):
    """Pre-norm self-attention over the target's tokens, cross-attention to the context's, and an MLP."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attend_self = nn.MultiheadAttention(width, heads, batch_first=True)
        self.attend_context = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x: (B, tokens, width); context: (B, context tokens, width)."""
        h = self.norm1(x)
        x = x + self.attend_self(h, h, h, need_weights=False)[0]
        x = x + self.attend_context(self.norm2(x), context, context, need_weights=False)[0]
        return x + self.mlp(self.norm3(x))


def sinusoid(step: Int64[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Transformer's sinusoidal embedding of the diffusion step (Vaswani et al. 2017)."""
    frequency = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=step.device) / (width // 2))
    angle = step[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], 1)


class Lab(WorldModel):
    """The lab behind the contract. State: ``past`` (B, 3, C, H, W) float in [0, 1], newest last.

    The training loss looks at windows of four frames: three of context, one target, the target's action.
    """

    Config = LabConfig
    capabilities: frozenset[str] = frozenset({"decode"})
    window = CONTEXT + 1

    alphas_bar: Tensor

    def __init__(self, spec: Spec, config: LabConfig | None = None):
        config = config or LabConfig()
        super().__init__(spec, config)
        reason = self.supports(spec)
        if reason:
            raise ContractError(reason)
        self.config: LabConfig = config
        (self.sensor,) = spec.images
        self.shape = spec.images[self.sensor].shape
        if self.shape[1] % config.patch or self.shape[2] % config.patch:
            raise ContractError(f"Frames of {self.shape[1:]} can't be cut into patches of {config.patch} pixels.")
        (channels, height, width), c = self.shape, config
        self.grid = (height // c.patch, width // c.patch)
        tokens = self.grid[0] * self.grid[1]
        self.embed_target = nn.Conv2d(channels, c.width, c.patch, stride=c.patch)
        self.embed_context = nn.Conv2d(channels, c.width, c.patch, stride=c.patch)
        self.position_target = nn.Parameter(torch.randn(tokens, c.width) * 0.02)
        self.position_context = nn.Parameter(torch.randn(CONTEXT * tokens, c.width) * 0.02)
        self.embed_step = nn.Sequential(nn.Linear(c.width, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        action = spec.action
        if action is not None:
            size = action.shape[0] if action.kind == "continuous" else action.n + 1
            self.embed_action = nn.Sequential(nn.Linear(size, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.blocks = nn.ModuleList(Block(c.width, c.heads) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.out = nn.Linear(c.width, channels * c.patch**2)
        # A schedule, not weights: it follows from the config and is not saved.
        betas = torch.linspace(c.beta_first, c.beta_last, c.steps)
        self.register_buffer("alphas_bar", torch.cumprod(1 - betas, 0), persistent=False)

    @staticmethod
    def supports(spec: Spec) -> str | None:
        """Why this family can't model ``spec``, or None when it can."""
        if len(spec.shown) != 1 or len(spec.images) != 1:
            return f"The lab's model dreams exactly one image sensor; this world shows {sorted(spec.shown)}."
        if set(spec.given) - {"action"} or (spec.action and spec.action.kind not in ("continuous", "discrete")):
            return f"The lab's model is given an action and nothing else; this world gives {sorted(spec.given)}."
        return None

    def adopt(self, name: str, get: Get, spec: Spec) -> Tensor | None:
        """What of another world's weights to begin with: the action's columns by name. Positions depend on the size."""
        if name != "embed_action.0.weight" or self.spec.action is None:
            return None
        return by_entry(self.get_parameter(name), get(name), self.spec.action, spec.action, 1)

    def _tokens(self, past: Tensor, step: Tensor, action: Tensor | None) -> Tensor:
        """The 194 context tokens: three frames of 64, the diffusion step and the action."""
        b = past.shape[0]
        frames = self.embed_context(past.flatten(0, 1)).flatten(2).mT.reshape(b, -1, self.config.width)
        parts = [frames + self.position_context, self.embed_step(sinusoid(step, self.config.width))[:, None]]
        if action is not None and self.spec.action is not None:
            if self.spec.action.kind == "discrete":
                action = nn.functional.one_hot(action, self.spec.action.n + 1).float()
            parts.append(self.embed_action(action)[:, None])
        return torch.cat(parts, 1)

    def _encode(self, noisy: Tensor, past: Tensor, step: Tensor, action: Tensor | None) -> Tensor:
        """(B, tokens, width) of a noisy frame (B, C, H, W) after its past."""
        context = self._tokens(past, step, action)
        x = self.embed_target(noisy).flatten(2).mT + self.position_target
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x)

    def predict_noise(self, noisy: Tensor, past: Tensor, step: Tensor, action: Tensor | None) -> Tensor:
        """ε̂ (B, C, H, W) from the noisy frame, ``past`` (B, 3, C, H, W), ``step`` (B,) int64 and the action (B, A)."""
        (c, _, _), p, (gh, gw) = self.shape, self.config.patch, self.grid
        x = self.out(self._encode(noisy, past, step, action))
        x = x.reshape(-1, gh, gw, p, p, c).permute(0, 5, 1, 3, 2, 4)  # B, C, gh, p, gw, p
        return x.reshape(-1, c, gh * p, gw * p)

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        """Mean squared error of the noise, on the last frame of each run of four."""
        frames = segment.obs[self.sensor].float() / 255.0
        length = frames.shape[1]
        if length <= CONTEXT:
            raise ContractError(f"The lab trains on windows of {CONTEXT + 1} frames or more, found {length}.")
        past = frames.unfold(1, CONTEXT, 1)[:, :-1].movedim(-1, 2).flatten(0, 1)
        target = frames[:, CONTEXT:].flatten(0, 1)
        action = None if segment.action is None else segment.action[:, CONTEXT:].flatten(0, 1)
        # A window is used when its four frames are real and belong to one episode.
        good = segment.valid.unfold(1, CONTEXT + 1, 1).all(-1) & ~segment.first[:, 1:].unfold(1, CONTEXT, 1).any(-1)
        good = good.flatten().float()
        device = target.device
        step = torch.randint(self.config.steps, (len(target),), device=device, generator=generator)
        e = torch.randn(target.shape, device=device, generator=generator)
        abar = self.alphas_bar[step][:, None, None, None]
        noisy = abar.sqrt() * target + (1 - abar).sqrt() * e
        error = ((self.predict_noise(noisy, past, step, action) - e) ** 2).mean((1, 2, 3))
        total = (error * good).sum() / good.sum().clamp_min(1)
        return Loss(total, {"noise_mse": total.detach()})

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        """Three black frames."""
        if control:
            raise ContractError(f"The lab is given nothing once for a sequence, found {sorted(control)}.")
        return State(
            {
                "key": row_keys(batch, seed, self.device),
                "frame": torch.zeros(batch, dtype=torch.int64, device=self.device),
                "past": torch.zeros(batch, CONTEXT, *self.shape, device=self.device),
            }
        )

    def _push(self, state: State, frame: Tensor) -> State:
        past = torch.cat([state["past"][:, 1:], frame[:, None]], 1)
        return State({"key": state.key, "frame": state.frame + 1, "past": past})

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
        self.spec.controls(control, state.batch)
        if first is not None:
            state = state.replace(past=state["past"] * (~first.to(state.device))[:, None, None, None, None])
        return self._push(state, obs[self.sensor].to(state.device).float() / 255.0)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """Dream the next frame: :meth:`sample` from pure noise."""
        self.require_prompted(state)
        action = self.spec.controls(control, state.batch, device=state.device).get("action")
        x = self.sample(state, action, noise.normal(state.key, state.frame, 0, self.shape))
        return self._push(state, x.clamp(0.0, 1.0))

    def sample(self, state: State, action: Tensor | None, x: Tensor) -> Tensor:
        """(B, C, H, W) next frame, not clamped, by ancestral sampling (Ho et al. 2020, Algorithm 2, σ² = β) that begins
        at ``x`` (B, C, H, W). The state's keys make the draws between the steps."""
        for i in reversed(range(self.config.steps)):
            step = torch.full((state.batch,), i, device=state.device)
            e = self.predict_noise(x, state["past"], step, action)
            abar = self.alphas_bar[i]
            alpha = abar / self.alphas_bar[i - 1] if i else abar
            x = (x - (1 - alpha) / (1 - abar).sqrt() * e) / alpha.sqrt()
            if i:
                x = x + (1 - alpha).sqrt() * noise.normal(state.key, state.frame, i, self.shape)
        return x

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """The newest frame."""
        frame = state["past"][:, -1]
        return {self.sensor: frame if raw else (frame * 255.0).round().to(torch.uint8)}

    def features(self, state: State) -> Tensor:
        """(B, width): mean token of the newest frame, taken as clean, after the two before it."""
        past = torch.cat([torch.zeros_like(state["past"][:, :1]), state["past"][:, :-1]], 1)
        step = torch.zeros(state.batch, dtype=torch.int64, device=state.device)
        action = self.spec.action.null(state.batch, device=state.device) if self.spec.action else None
        return self._encode(state["past"][:, -1], past, step, action).mean(1)
