"""A model small enough to train in milliseconds, data for it, and a trainer in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from worldloom.contract import Control, Controls, Loss, Segment, Sensor, Spec, State, WorldModel, row_keys
from worldloom.data.episode import Episode
from worldloom.data.store import Dataset
from worldloom.data.writer import DatasetWriter
from worldloom.training import TrainConfig

SPEC = Spec({"screen": Sensor("image", (1, 4, 5))}, {"action": Control("discrete", n=3)}, fps=10.0)


@dataclass(frozen=True)
class ToyConfig:
    hidden: int = 6
    noise: float = 0.1
    dropout: float = 0.0
    nan_at: int = -1
    nan_buffer: bool = False


class Toy(WorldModel):
    """Predicts the next frame from this one and the action, by two layers. It draws noise, as real models do."""

    Config = ToyConfig
    window = 5

    def __init__(self, spec: Spec = SPEC, config: ToyConfig | None = None):
        super().__init__(spec, config or ToyConfig())
        torch_state = torch.get_rng_state()
        torch.manual_seed(3)
        self.inside = nn.Linear(20 + 4, self.config.hidden)
        self.norm = nn.LayerNorm(self.config.hidden)
        self.drop = nn.Dropout(self.config.dropout)
        self.outside = nn.Linear(self.config.hidden, 20)
        torch.set_rng_state(torch_state)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(()))

    def predict(self, pixels: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([pixels, nn.functional.one_hot(action, 4).float()], -1)
        return self.outside(self.drop(torch.tanh(self.norm(self.inside(x)))))

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        if self.training:
            self.calls += 1
        pixels = segment.obs["screen"].float().flatten(2) / 255
        noise = torch.randn(pixels[:, :-1].shape, generator=generator) * self.config.noise
        error = (self.predict(pixels[:, :-1] + noise, segment.control["action"][:, 1:]) - pixels[:, 1:]).square().mean(-1)
        weight = segment.valid[:, 1:].float()
        total = (error * weight).sum() / weight.sum().clamp_min(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * total.detach()
        if self.config.nan_at >= 0 and self.training and int(self.calls) > self.config.nan_at:
            total = total * float("nan")
            self.mean = total.detach()
        return Loss(total, {"error": total.detach(), "seconds": torch.tensor(7.0)})

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        zeros = torch.zeros(batch, dtype=torch.int64)
        return State({"key": row_keys(batch, seed), "frame": zeros, "pixels": torch.zeros(batch, 20)})

    def observe(self, state: State, obs: Mapping[str, Tensor], control=None, *, first=None, donate=False) -> State:
        return state.replace(pixels=obs["screen"].float().flatten(1) / 255, frame=state.frame + 1)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        action = self.spec.controls(control, state.batch)["action"]
        return state.replace(pixels=self.predict(state["pixels"], action), frame=state.frame + 1)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        pixels = state["pixels"].clamp(0, 1).reshape(-1, 1, 4, 5)
        return {"screen": pixels if raw else (pixels * 255).to(torch.uint8)}

    def features(self, state: State) -> Tensor:
        return state["pixels"]


def make_data(path: Path, episodes: int = 6, length: int = 12, seed: int = 0) -> Dataset:
    """Episodes in which a bright column moves left, stays or moves right with the action."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(path, SPEC) as writer:
        for _ in range(episodes):
            action = rng.integers(0, 3, length)
            action[0] = 3
            at = (rng.integers(5) + np.cumsum(np.where(action == 3, 0, action - 1))) % 5
            screen = np.zeros((length, 1, 4, 5), np.uint8)
            screen[np.arange(length), :, :, at] = 255
            writer.add(Episode({"screen": screen}, {"action": action.astype(np.int64)}))
    return Dataset(path)


def quick(**changes) -> TrainConfig:
    """A configuration that trains in a moment, in float32 on the CPU."""
    base = {"steps": 20, "batch": 4, "precision": "float32", "device": "cpu", "log_every": 5, "sample_every": 0}
    base |= {"validate_every": 10, "validate_batches": 2, "checkpoint_minutes": None, "lr": 0.01, "warmup": 2}
    base |= {"sample_frames": 6, "prompt": 3}
    if "minutes" in changes:
        base["steps"] = None
    return TrainConfig(**{**base, **changes})


def register(monkeypatch=None) -> None:
    """Let the registry know the toy as family ``toy``."""
    from worldloom import models

    entry = (Toy.__module__, "Toy")
    if monkeypatch is None:
        models.FAMILIES["toy"] = entry
    else:
        monkeypatch.setitem(models.FAMILIES, "toy", entry)


MAIN = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import training_toys as toys
from worldloom.contract import WorldloomError
from worldloom.data.store import Dataset
from worldloom.training import train
toys.register()
settings = json.loads(sys.argv[4])
pause = settings.pop("pause", 0.0)
model = toys.Toy()
if pause:
    plain = model.loss
    def slow(segment, generator=None):
        time.sleep(pause)
        return plain(segment, generator)
    model.loss = slow
try:
    train(model, Dataset(sys.argv[2]), toys.quick(threads=1, **settings), sys.argv[3])
except WorldloomError as error:
    print(error, flush=True)
    sys.exit(getattr(error, "exit_code", 1))
"""


def launch(data: Path, out: Path, settings: str) -> subprocess.Popen[str]:
    """``train`` in a process of its own; ``settings`` is JSON for :func:`quick`, and ``pause`` seconds a step."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", MAIN, here, str(data), str(out), settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
