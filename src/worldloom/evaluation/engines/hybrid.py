"""Physics engines as predictors of states, a network that learns the same from data, and the two together.

A hybrid is an engine with a learned residual: the engine moves the discs by the laws it knows, a small network adds
what it gets wrong (Ajay et al. 2018, *Augmenting Physical Simulators with Stochastic Neural Networks*; Zeng et al.
2019, *TossingBot*). Without an engine beneath it the same network has to learn all of the motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from worldloom.contract import WorldloomError
from worldloom.worlds.balls import BallsConfig
from worldloom.worlds.balls.dynamics import advance
from worldloom.worlds.stepped import Stepped, SteppedConfig

FAR = 1e3
"""px. Where a network's motion runs off to, it stays: beyond this nothing is called a position any more."""


@runtime_checkable
class Engine(Protocol):
    """Whatever moves discs on by one frame."""

    def advance(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """position, velocity: (N, K, 2) px, px/frame; radius: (N, K) px. Returns both one frame later."""
        ...


@dataclass(frozen=True)
class Exact:
    """Elastic discs, every impact solved for (:mod:`worldloom.worlds.balls`)."""

    scene: BallsConfig
    """Box and gravity."""

    def advance(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Engine`."""
        box = (float(self.scene.width), float(self.scene.height))
        moved = advance(_inside(position, radius, box), velocity, radius, box, self.scene.gravity)
        return moved[0], moved[1]


@dataclass(frozen=True)
class TimeStepped:
    """The same scene in steps of finite length (:mod:`worldloom.worlds.stepped`)."""

    config: SteppedConfig
    """Scene, steps a frame, and its laws."""

    def advance(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Engine`."""
        world = Stepped(self.config, len(position))
        world.place(position, velocity, radius)
        truth = world.step().truth
        return truth["position"], truth["velocity"]


@dataclass(frozen=True)
class StraightOn:
    """No law at all: every disc keeps its velocity."""

    def advance(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Engine`."""
        return position + velocity, velocity


@dataclass
class Learned:
    """A network that adds to what ``beneath`` says: over an engine a hybrid, over :class:`StraightOn` a model that has
    to learn every law from data. :func:`fit` trains it."""

    beneath: Engine
    """What it corrects."""
    scene: BallsConfig
    """The box, for scaling."""
    width: int = 96
    """Units of each of the two hidden layers."""
    net: nn.Module | None = field(default=None, repr=False)
    """(…, inputs) to (…, 4): corrections of place and velocity, in units of ``scale``."""
    scale: np.ndarray = field(default_factory=lambda: np.ones(4))
    """(4,) standard deviations of the corrections in the training data."""

    def advance(self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Engine`. Raises :class:`WorldloomError` before it is trained."""
        if self.net is None:
            raise WorldloomError("This model of states is not trained yet: use fit().")
        x, v = self.beneath.advance(position, velocity, radius)
        with torch.inference_mode():
            added = self.net(self.inputs(position, velocity, radius, x, v)).cpu().double().numpy() * self.scale
        return np.clip(x + added[..., :2], -FAR, FAR), np.clip(v + added[..., 2:], -FAR, FAR)

    def inputs(
        self, position: np.ndarray, velocity: np.ndarray, radius: np.ndarray, x: np.ndarray, v: np.ndarray
    ) -> Tensor:
        """(N, K, 18) float32: each disc before, what ``beneath`` made of it, and the nearest other disc likewise."""
        box = np.array([self.scene.width, self.scene.height], float)
        own = [2 * position / box - 1, velocity / 4, radius[..., None] / 10, x - position, v - velocity]
        count = position.shape[1]
        if count > 1:
            away = position[:, None] - position[:, :, None]
            distance = np.sqrt(np.square(away).sum(-1)) + np.where(np.eye(count, dtype=bool), np.inf, 0.0)
            near = distance.argmin(-1)
            rows = np.arange(len(position))[:, None]
            gap = (distance.min(-1) - radius - radius[rows, near])[..., None]
            other = [
                (position[rows, near] - position) / 20,
                velocity[rows, near] / 4,
                (x[rows, near] - x) / 20,
                np.tanh(gap / 4),
                radius[rows, near][..., None] / 10,
                np.ones_like(gap),
            ]
        else:
            other = [np.zeros((*position.shape[:2], 9))]
        return torch.from_numpy(np.concatenate([*own, *other], -1).astype(np.float32))


def fit(
    model: Learned,
    episodes: Sequence[Mapping[str, np.ndarray]],
    *,
    seed: int = 0,
    steps: int = 1500,
    batch: int = 1024,
) -> Learned:
    """Train on the states of whole episodes, each ``position`` (T, K, 2), ``velocity`` (T, K, 2), ``radius`` (T, K).

    One frame ahead: mean squared correction in units of its standard deviation, AdamW with a cosine. The same seed
    gives the same network. Returns ``model``. Raises :class:`WorldloomError` for episodes of a single frame.
    """
    pairs = [
        (e["position"][:-1], e["velocity"][:-1], e["radius"][:-1], e["position"][1:], e["velocity"][1:])
        for e in episodes
        if len(e["position"]) > 1
    ]
    if not pairs:
        raise WorldloomError("A model of states learns from pairs of frames: give episodes of two frames or more.")
    x, v, r, after_x, after_v = (np.concatenate([np.asarray(p[i], np.float64) for p in pairs]) for i in range(5))
    made_x, made_v = model.beneath.advance(x, v, r)
    missing = np.concatenate([after_x - made_x, after_v - made_v], -1)
    model.scale = np.maximum(missing.std((0, 1)), 1e-3)
    inputs = model.inputs(x, v, r, made_x, made_v).flatten(0, 1)
    target = torch.from_numpy((missing / model.scale).astype(np.float32)).flatten(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        last = nn.Linear(model.width, 4)
        nn.init.zeros_(last.weight)  # at first the engine is trusted as it is
        nn.init.zeros_(last.bias)
        net = nn.Sequential(
            nn.Linear(inputs.shape[1], model.width), nn.SiLU(), nn.Linear(model.width, model.width), nn.SiLU(), last
        )
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            rows = torch.randint(len(inputs), (min(batch, len(inputs)),))
            loss = (net(inputs[rows]) - target[rows]).square().clamp(max=100).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.net = net.eval()
    return model


def roll(engine: Engine, start: Mapping[str, np.ndarray], frames: int) -> np.ndarray:
    """(N, frames, K, 2) px: where the discs of ``start`` (``position``, ``velocity``, ``radius``) go."""
    x, v = np.asarray(start["position"], np.float64), np.asarray(start["velocity"], np.float64)
    out = []
    for _ in range(frames):
        x, v = engine.advance(x, v, np.asarray(start["radius"], np.float64))
        out.append(x)
    return np.stack(out, 1)


def _inside(position: np.ndarray, radius: np.ndarray, box: tuple[float, float]) -> np.ndarray:
    """Discs that a correction moved out of the box, put back."""
    return np.clip(position, radius[..., None], np.array(box) - radius[..., None])


__all__ = ["Engine", "Exact", "Learned", "StraightOn", "TimeStepped", "fit", "roll"]
