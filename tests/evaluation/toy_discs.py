"""A world of discs that bounce off walls, and a model that knows its law exactly, or breaks it in a chosen way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from worldloom.configs import to_json
from worldloom.contract import Control, Sensor, Spec, State, WorldModel, row_keys
from worldloom.data.episode import Episode
from worldloom.data.store import DatasetWriter
from worldloom.files import write_json
from worldloom.models.saved import save_model
from worldloom.nn.noise import uniform

COLOUR, GROUND = (255, 178, 84), (14, 16, 24)


def render(position: np.ndarray, size: int, radius: float, opacity=1.0) -> np.ndarray:
    """(..., K, 2) positions in px to (..., 3, size, size) uint8; pixel centres at (i + 0.5)."""
    at = np.arange(size) + 0.5
    distance = np.hypot(at - position[..., 0, None, None], at[:, None] - position[..., 1, None, None])
    cover = np.clip(radius + 0.5 - distance, 0, 1) * np.asarray(opacity)[..., None, None]
    alpha = np.clip(np.nansum(cover, -3), 0, 1)[..., None, :, :]
    colour, ground = (np.array(c, float)[:, None, None] for c in (COLOUR, GROUND))
    return np.round(ground + alpha * (colour - ground)).astype(np.uint8)


def advance(position, velocity, push, low: float, high: float):
    """One frame: push, move, reflect. Works on numpy arrays and tensors alike."""
    velocity = velocity + push
    position = position + velocity
    under, over = position < low, position > high
    position = position + under * 2 * (low - position) + over * 2 * (high - position)
    return position, velocity * (1 - 2 * (under | over))


def make_spec(size: int, actions: bool) -> Spec:
    given = {"action": Control("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0))} if actions else {}
    return Spec({"image": Sensor("image", (3, size, size)), "state": Sensor("vector", (4,))}, given, fps=20.0)


def write_discs(path, episodes=60, length=60, size=32, radius=3.0, speed=2.0, actions=True, seed=0, truth=True):
    """A dataset of one disc; ``state`` (x, y, vx, vy) is shown beside the image, for the model that knows the law."""
    rng, spec = np.random.default_rng(seed), make_spec(size, actions)
    with DatasetWriter(path, spec) as writer:
        for _ in range(episodes):
            x, v = rng.uniform(radius, size - radius, 2), rng.uniform(-speed, speed, 2)
            push = rng.uniform(-0.5, 0.5, (length, 2)).astype(np.float32) * actions
            push[0] = 0
            states = []
            for t in range(length):
                if t:
                    x, v = advance(x, v, push[t], radius, size - radius)
                states.append(np.concatenate([x, v]))
            state = np.stack(states)
            position = state[:, None, :2]
            writer.add(
                Episode(
                    {"image": render(position, size, radius), "state": state.astype(np.float32)},
                    {"action": push} if actions else {},
                    truth={"position": position} if truth else {},
                )
            )
    return path


@dataclass(frozen=True)
class ToyConfig:
    radius: float = 3.0
    fault: str = "none"
    after: int = 8


class Toy(WorldModel):
    """Reads the state sensor, then moves by the law. ``fault`` sets in ``after`` dreamed frames."""

    Config = ToyConfig

    def __init__(self, spec, config=None):
        super().__init__(spec, config or ToyConfig())
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def loss(self, segment, generator=None):
        raise NotImplementedError

    def start(self, batch, seed=0, control=None):
        zeros = torch.zeros(batch, dtype=torch.int64)
        return State({"key": row_keys(batch, seed), "frame": zeros, "x": torch.zeros(batch, 4), "dreamed": zeros})

    def observe(self, state, obs, control=None, *, first=None, donate=False):
        return state.replace(x=obs["state"], frame=state.frame + 1, dreamed=state["dreamed"] * 0)

    def step(self, state, control=None, *, donate=False):
        dreamed = state["dreamed"] + 1
        x, v = state["x"][:, :2], state["x"][:, 2:]
        push = 0.0
        if control is not None and self.config.fault != "deaf":
            push = control["action"] if isinstance(control, dict) else control
        size = self.spec.shown["image"].shape[-1]
        x, v = advance(x, v, push, self.config.radius, size - self.config.radius)
        if self.config.fault == "noisy":
            x = x + 0.8 * (uniform(state.key, state.frame, 0, (2,)) - 0.5)
        if self.config.fault == "still":
            x = torch.where((dreamed >= self.config.after)[:, None], state["x"][:, :2], x)
        return state.replace(x=torch.cat([x, v], 1), frame=state.frame + 1, dreamed=dreamed)

    def decode(self, state, *, raw=False):
        x, late = state["x"][:, None, :2].numpy(), (state["dreamed"] >= self.config.after).numpy()
        size, opacity = self.spec.shown["image"].shape[-1], np.ones((len(x), 1))
        if self.config.fault == "vanish":
            opacity[late] = 0
        if self.config.fault == "fade":
            opacity[late] = 0.2
        if self.config.fault == "double":
            twin = (x + size / 2) % (size - 2 * self.config.radius) + self.config.radius
            x = np.concatenate([x, np.where(late[:, None, None], twin, np.nan)], 1)
            opacity = np.ones(x.shape[:2])
        image = torch.from_numpy(render(x, size, self.config.radius, opacity))
        return {"image": image, "state": state["x"]}

    def features(self, state):
        return state["x"]


def write_run(path, data, fault="none", size=32, radius=3.0, actions=True, **config):
    """A run's folder of the toy model, without any training."""
    model = Toy(make_spec(size, actions), ToyConfig(radius, fault, **config))
    save_model(path / "model.safetensors", model)
    write_json(
        path / "config.json",
        {"data": {"path": str(data), "fingerprint": ""}, "model": to_json(model.config), "train": {"seed": 5}},
    )
    write_json(path / "summary.json", {"train_seconds": 12.5})
    return path
