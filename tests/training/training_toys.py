"""A model small enough to train in milliseconds, data for it, and a trainer in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
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
from worldloom.files import load_tensors
from worldloom.training import TrainConfig
from worldloom.training.checkpoints import list_checkpoints
from worldloom.training.logs import read_log

SPEC = Spec({"screen": Sensor("image", (1, 4, 5))}, {"action": Control("discrete", n=3)}, fps=10.0)


@dataclass(frozen=True)
class ToyConfig:
    hidden: int = 6
    noise: float = 0.1
    dropout: float = 0.0
    nan_at: int = -1


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
        error = (
            (self.predict(pixels[:, :-1] + noise, segment.control["action"][:, 1:]) - pixels[:, 1:]).square().mean(-1)
        )
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


def at_call(model: Toy, number: int, action) -> Toy:
    """``action()`` while the model computes its training loss for the ``number``-th time (counted over resumes)."""
    plain, left = model.loss, [action]

    def loss(segment, generator=None):
        if left and model.training and int(model.calls) == number - 1:
            left.pop()()
        return plain(segment, generator)

    model.loss = loss
    return model


def newest(out: Path) -> tuple[int, dict[str, Tensor], dict]:
    """Step, tensors and meta of the newest checkpoint of a run."""
    step, path = list_checkpoints(out / "checkpoints")[0]
    return (step, *load_tensors(path))


def same_outcome(one: Path, two: Path) -> None:
    """Assert that two runs have bitwise the same newest checkpoint, model and log (but for times)."""
    for (step, a, meta), (other, b, _) in [(newest(one), newest(two))]:
        assert step == other
        assert a.keys() == b.keys()
        assert meta["ema_updates"] > 0
        assert {n.split("/")[0] for n in a} == {"model", "ema", "optimizer"}
        for name in a:
            assert torch.equal(a[name], b[name]), name
    a, b = (load_tensors(out / "model.safetensors")[0] for out in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert untimed(one) == untimed(two)


def untimed(out: Path) -> list[dict]:
    """The records of a run's log without what depends on the clock."""
    timed = {"seconds", "steps_per_second", "frames_per_second"}
    return [{k: v for k, v in r.items() if k not in timed} for r in read_log(out / "log.jsonl")]


HELPER = """
import json, os, signal, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
import training_toys as toys
from worldloom.contract import WorldloomError
from worldloom.data.store import Dataset
from worldloom.training import train
from worldloom.training.logs import read_log

torch.set_num_threads(1)
toys.register()
# Once here, so that no child has to import what PyTorch imports at the first step. No thread may be left at a fork.
with tempfile.TemporaryDirectory() as folder:
    train(toys.Toy(), Dataset(sys.argv[2]), toys.quick(steps=1, prefetch=0), folder, echo=lambda line: None)


def child(order):
    model, settings = toys.Toy(), dict(order["settings"])
    pause = settings.pop("pause", 0.0)
    plain = model.loss
    def slow(segment, generator=None):
        if pause and model.training:
            print("computing a step", flush=True)
            time.sleep(pause)
        return plain(segment, generator)
    model.loss = slow
    if order["crash"] is not None:
        toys.crash_at_call(order["crash"])
    try:
        train(model, Dataset(sys.argv[2]), toys.quick(threads=1, **settings), order["out"])
        code = 0
    except WorldloomError as error:
        print(error, flush=True)
        code = getattr(error, "exit_code", 1)
    sys.stdout.flush()
    os._exit(code)


for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        file = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        child(order)
    log, output = Path(order["out"]) / "log.jsonl", Path(order["output"])
    before = len(read_log(log))
    for moment, delay, signum in order["signals"]:
        def come():
            if isinstance(moment, str):
                return output.exists() and moment in output.read_text()
            return len(read_log(log)) >= before + moment
        while not come() and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.01)
        time.sleep(delay)
        os.kill(pid, signum)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def crash_at_call(number: int) -> None:
    """Kill this process, as kill -9 does, at the ``number``-th call that a save makes to the operating system."""
    calls = 0

    def counted(plain):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **kwargs)

        return call

    os.fsync = counted(os.fsync)
    tempfile.mkstemp = counted(tempfile.mkstemp)
    Path.replace = counted(Path.replace)
    Path.unlink = counted(Path.unlink)


class Trainers:
    """Starts trainers as processes that can be killed, cheaply: one process imports PyTorch and is forked for each."""

    def __init__(self, data: Path, scratch: Path):
        command = [sys.executable, "-c", HELPER, str(Path(__file__).parent), str(data)]
        self._output = scratch / "output.txt"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)

    def run(self, out: Path, signals=(), crash: int | None = None, **settings) -> tuple[int, str]:
        """Exit code (negative: killed by that signal) and output of one training.

        signals: (moment, delay, number): ``delay`` seconds after the moment when so many new lines stand in the log,
        or such a text in the output. crash: the call of a save at which to die. A ``pause`` in the settings is slept
        at every step.
        """
        order = {"out": str(out), "signals": list(signals), "crash": crash, "settings": settings}
        order["output"] = str(self._output)
        self._output.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), self._output.read_text(encoding="utf-8")

    def close(self) -> None:
        """End the helper and, after a test that failed half-way, the trainer it still waits for: their own session."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
