"""`python -m benchmarks speed RUN`: one trained model, dreamed from with every remedy for cost.

Times frames at batch 1 and 16 (all settings take turns in one process, so that a machine's drift falls on all alike),
tracks dreams from starts that no dataset holds, and counts bytes. `--shortcut RUN` adds clips by a model that learnt
long steps. Further: a ring of memory against making it anew at every frame, and a dream of --frames frames, both with
random weights, on which time does not depend. Writes docs/results/speed.json and .md and docs/speed.md; `--page` writes
the pages from the JSON alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.__main__ import RESULTS
from benchmarks.speed_page import figures, page
from benchmarks.trust import open_run
from worldloom import accelerate
from worldloom.contract import Segment, Sensor, Spec, State, WorldloomError, WorldModel
from worldloom.evaluation.dreamers import ModelDreamer
from worldloom.evaluation.figures import Tracked, object_figures, track
from worldloom.evaluation.heldout import HeldOut
from worldloom.files import read_json, tensors_hash, write_atomic, write_json
from worldloom.imagination import absorb
from worldloom.imagination.rollout import given_once
from worldloom.imagination.settings import otherwise
from worldloom.models.diffusion import BackboneConfig, Diffusion, DiffusionConfig
from worldloom.nn import tables

PROMPT, HORIZON, STARTS = 8, 50, 64
HORIZONS = ("1", "10", "50")
BATCHES = (1, 16)
ROUNDS = 9
FRAMES = {1: 24, 16: 4}
"""Frames of a round, by batch."""
LONG = 10_000
MEMORY = DiffusionConfig(history=6, memory=16, sink=1, joint=0.5, steps=1, backbone=BackboneConfig(attention=2))
"""Of the parts with random weights."""
CLIP = 16
"""Frames of a clip."""


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the configuration."""
    precision: str = "float32"
    compiled: bool = False

    def make(self, model: WorldModel) -> WorldModel:
        """The model so set."""
        model = otherwise(model, **self.settings)
        if self.precision == "float32" and not self.compiled:
            return model
        return accelerate(model, self.precision, self.compiled)  # type: ignore[arg-type]


SETTINGS = (
    Setting("as trained"),
    Setting("1 Euler step", {"steps": 1, "method": "euler"}),
    Setting("2 Euler steps", {"steps": 2, "method": "euler"}),
    Setting("4 Euler steps", {"steps": 4, "method": "euler"}),
    Setting("2 Heun steps", {"steps": 2, "method": "heun"}),
    Setting("bf16", precision="bf16"),
    Setting("int8 linear layers", precision="int8"),
    Setting("compiled", compiled=True),
    Setting("compiled, bf16", precision="bf16", compiled=True),
)


def possible(model: WorldModel, settings: Sequence[Setting]) -> tuple[dict[str, WorldModel], dict[str, str]]:
    """The settings that can be had here, and why not the others."""
    made, left = {}, {}
    for one in settings:
        try:
            made[one.name] = one.make(model)
        except WorldloomError as error:
            left[one.name] = str(error)
    return made, left


# ------------------------------------------------------------------------------------------------------------ time


def prompted(model: WorldModel, held: HeldOut, batch: int) -> tuple[State, dict[str, torch.Tensor]]:
    """``batch`` rows that have seen a prompt (starts are repeated where there are fewer), and what leads onward."""
    rows = np.arange(batch) % len(held.episodes)
    some = held.rows(rows)
    clip = some.segment.time(slice(0, held.prompt))
    state = absorb(model, model.start(batch, 0, given_once(model.spec, clip.control)), clip, donate=True)
    return state, {n: x[:, 0] for n, x in some.control.items() if n in model.spec.given}


def frame_times(
    models: Mapping[str, WorldModel], held: HeldOut, batch: int, rounds: int, frames: int
) -> dict[str, dict[str, Any]]:
    """By name: milliseconds a frame (step and decode, median of rounds in which all take turns), and against the first:
    the median of the rounds' ratios, with the least and the most."""
    with torch.inference_mode():
        begun = {name: prompted(model, held, batch) for name, model in models.items()}
        states = {name: state for name, (state, _) in begun.items()}
        taken: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(rounds + 1):
            for name, model in models.items():
                state, control = states[name], begun[name][1] or None
                each = []
                for _ in range(frames):
                    began = time.perf_counter()
                    state = model.step(state, control, donate=True)
                    model.decode(state)
                    each.append(1e3 * (time.perf_counter() - began))
                states[name] = state
                if turn:  # the first warms up, and compiles
                    taken[name].append(statistics.median(each))
    first = np.array(next(iter(taken.values())))
    out = {}
    for name, ms in taken.items():
        ratio = np.array(ms) / first
        out[name] = {
            "ms": float(np.median(ms)),
            "frames_per_second": 1e3 * batch / float(np.median(ms)),
            "times_plain": [float(np.median(ratio)), float(ratio.min()), float(ratio.max())],
            "rounds": rounds,
            "frames": frames,
        }
    return out


# --------------------------------------------------------------------------------------------------------- quality


def quality(frames: torch.Tensor, held: HeldOut, seed: int) -> dict[str, Any]:
    """Median px from the true positions, and the share of frames with the right number of objects, of dreams (B, H, C,
    h, w) from held-out starts."""
    horizon = frames.shape[1]
    (sensor,) = held.segment.obs
    seen = held.segment.obs[sensor].numpy()
    shown, true = seen[:, : held.prompt], seen[:, held.prompt : held.prompt + horizon]
    where = held.truth["position"][:, : held.prompt + horizon].astype(np.float64)
    found: Tracked = track(shown, true, frames.numpy(), where)
    made = object_figures(found, held.episodes, seed)
    error, count = made["position_error_px"], made["object_count_ok"]
    keys = [h for h in (*HORIZONS, "5", str(horizon)) if isinstance(error.value, dict) and h in error.value]
    return {
        "error_px": {h: [error.value[h], *(error.interval[h] or (None, None))] for h in keys},  # type: ignore[index]
        "floor_px": {h: error.floor[h] for h in keys},  # type: ignore[index]
        "count_right": [count.value, *(count.interval or (None, None))],
        "n": error.n,
    }


def dreamed(model: WorldModel, held: HeldOut, seed: int) -> torch.Tensor:
    """(B, horizon, C, h, w) uint8."""
    (sensor,) = model.spec.images
    return ModelDreamer(model).dream(held, held.control, held.horizon, seed=seed, sensors=[sensor])[sensor]


# ----------------------------------------------------------------------------------------------------------- bytes


def state_bytes(state: State) -> int:
    """Of one row."""
    return sum(x.nbytes for x in state.tensors.values()) // state.batch


def work(model: WorldModel) -> dict[str, int]:
    """Multiplications of a frame of one dream, by kind of layer. (Those between queries and keys are not counted.)"""
    with torch.no_grad():
        state = model.start(1, 0, _empty_once(model.spec))
        control = {n: c.null(1) for n, c in model.spec.given.items() if c.per == "frame"}
        obs = {n: torch.zeros(1, *s.shape, dtype=s.dtype) for n, s in model.spec.shown.items()}
        state = model.observe(state, obs, control or None)
        with FlopCounterMode(display=False) as counted:
            model.step(state, control or None)
    by_kind = {str(kind).split(".")[-1]: n // 2 for kind, n in counted.get_flop_counts()["Global"].items()}
    return {"Linear": by_kind.get("mm", 0) + by_kind.get("addmm", 0), "Conv2d": by_kind.get("convolution", 0)}


def _empty_once(spec: Spec) -> dict[str, torch.Tensor] | None:
    return {n: c.null(1) for n, c in spec.given.items() if c.per == "once"} or None


def _peak() -> int:
    """Largest resident bytes of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss counts from before a process became this program
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _grow(run: Path, setting: Setting, threads: int, out: Any) -> None:
    """Of a process of its own: by how much its peak grows when a loaded model is so set and dreams 16 rows."""
    torch.set_num_threads(threads)
    context = open_run(run)
    held = context["world"].fresh(BATCHES[-1], PROMPT, 1, 0)
    with torch.inference_mode():
        before = _peak()
        model = setting.make(context["model"])
        state, control = prompted(model, held, BATCHES[-1])
        for _ in range(4):
            state = model.step(state, control or None, donate=True)
            model.decode(state)
    out.put(_peak() - before)


def growth(run: Path, setting: Setting, threads: int) -> int:
    """Bytes by which the peak of a process of its own grows: see :func:`_grow`."""
    fresh = multiprocessing.get_context("spawn")
    out = fresh.Queue()
    process = fresh.Process(target=_grow, args=(run, setting, threads, out))
    process.start()
    found = out.get(timeout=600)
    process.join()
    return int(found)


# ---------------------------------------------------------------------------------------------------------- memory


def random_model(config: DiffusionConfig = MEMORY, side: int = 64) -> Diffusion:
    """Random weights, those that begin at zero too."""
    torch.manual_seed(0)
    model = Diffusion(Spec({"camera": Sensor("image", (3, side, side))}), config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model


def recompute(model: Diffusion, rounds: int, frames: int) -> dict[str, Any]:
    """A frame by ``step``, whose memory is a ring, against the same frame by ``fill`` of the whole past that the ring
    holds; in turn. ``apart``: the largest difference between their frames, in levels of 255, over a short dream."""
    length = model.config.memory + 1
    generator = torch.Generator().manual_seed(0)
    (sensor,) = model.spec.images
    seen = torch.randint(0, 256, (1, length, *model.pixels), generator=generator, dtype=torch.uint8)
    flags = torch.zeros(1, length, dtype=torch.bool)
    clip = Segment({sensor: seen}, {}, flags, ~flags)
    known = ~flags
    known[:, -1] = False
    table = tables.autoregressive(length, model.config.steps)

    def begun(upto: int) -> State:
        return absorb(model, model.start(1, 0), clip.time(slice(0, upto)), donate=True)

    cached: list[float] = []
    anew: list[float] = []
    with torch.inference_mode():
        state = begun(length - 1)
        for turn in range(rounds + 1):
            for taken, made in (
                (cached, lambda: model.decode(model.step(state))),
                (anew, lambda: model.fill(clip, known, 0, table)),
            ):
                each = []
                for _ in range(frames):
                    began = time.perf_counter()
                    made()
                    each.append(1e3 * (time.perf_counter() - began))
                if turn:
                    taken.append(statistics.median(each))
        some = 6
        filled = model.fill(clip, (torch.arange(length) < some)[None], 0, table)
        state, apart = begun(some), 0
        for t in range(some, length):
            state = model.step(state, donate=True)
            one = model.decode(state)[sensor].int() - filled.obs[sensor][:, t].int()
            apart = max(apart, int(one.abs().max()))
    ratio = np.array(anew) / np.array(cached)
    return {
        "memory": model.config.memory, "ring_ms": float(np.median(cached)), "anew_ms": float(np.median(anew)),
        "anew_over_ring": [float(np.median(ratio)), float(ratio.min()), float(ratio.max())],
        "apart": apart, "rounds": rounds, "frames": frames,
    }  # fmt: skip


def long_dream(model: Diffusion, frames: int, part: int = 100) -> dict[str, Any]:
    """A dream of so many frames: medians of its first and its last ``part`` frames (after a warm-up), as they were
    dreamed, and again side by side, a young dream and the old one in turn; bytes of the state and of the process."""
    (sensor,) = model.spec.images
    obs = {sensor: torch.zeros(1, *model.pixels, dtype=torch.uint8)}

    def timed(state: State) -> tuple[State, float]:
        began = time.perf_counter()
        state = model.step(state, donate=True)
        model.decode(state)
        return state, 1e3 * (time.perf_counter() - began)

    with torch.inference_mode():
        state = model.observe(model.start(1, 0), obs)
        for _ in range(20):
            model.step(state)
        times, sizes, peaks = [], [], []
        for t in range(frames):
            state, ms = timed(state)
            times.append(ms)
            if t in (part - 1, frames - 1):
                sizes.append(state_bytes(state))
                peaks.append(_peak())
        young, pairs = model.observe(model.start(1, 1), obs), []
        for _ in range(part):
            young, a = timed(young)
            state, b = timed(state)
            pairs.append((a, b))
    first, last = statistics.median(times[:part]), statistics.median(times[-part:])
    a, b = (statistics.median(x) for x in zip(*pairs, strict=True))
    return {
        "frames": frames, "part": part, "first_ms": first, "last_ms": last, "last_over_first": last / first,
        "young_ms": a, "old_ms": b, "old_over_young": b / a,
        "state_bytes": sizes, "peak_growth_bytes": peaks[1] - peaks[0],
        "parameters": sum(p.numel() for p in model.parameters()), "memory": model.config.memory,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------- shortcuts


def shortcuts(run: Path, starts: int, seed: int, rounds: int) -> dict[str, Any]:
    """Whole clips by a model that learnt long steps: all frames together, in one step, two and more, in turn."""
    context = open_run(run)
    model = context["model"]
    if not getattr(model.config, "shortcut", 0):
        raise WorldloomError(f"The model in {run} learnt no shortcuts: train it with model.shortcut above 0.")
    prompt = min(PROMPT, model.window // 2)
    length = model.window
    held = context["world"].fresh(starts, prompt, length - prompt, seed)
    clip = held.segment.time(slice(0, length))
    known = torch.zeros(starts, length, dtype=torch.bool)
    known[:, :prompt] = True
    by_table = {f"{n} step{'s' if n > 1 else ''} a clip": tables.joint(length, n) for n in (8, 4, 2, 1)}
    by_table["frame by frame"] = tables.autoregressive(length, model.config.steps)
    ways: dict[str, Callable[[Segment, torch.Tensor], Segment]] = {
        name: functools.partial(model.fill, seed=seed, table=table) for name, table in by_table.items()
    }
    one, mark = clip.rows(slice(0, 1)), known[:1]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way(one, mark)
            if turn:
                taken[name].append(1e3 * (time.perf_counter() - began) / (length - prompt))
    (sensor,) = model.spec.images
    first = np.array(next(iter(taken.values())))
    rows = {}
    for name, way in ways.items():
        frames = torch.cat(
            [way(clip.rows(slice(i, i + CLIP)), known[i : i + CLIP]).obs[sensor] for i in range(0, starts, CLIP)]
        )[:, prompt:]
        rows[name] = {
            "ms": float(np.median(taken[name])),
            "times_plain": float(np.median(np.array(taken[name]) / first)),
            **quality(frames, held, seed),
        }
    return {"frames": length - prompt, "prompt": prompt, "rounds": rounds, "rows": rows}


# ------------------------------------------------------------------------------------------------------------ main


def measure(run: Path, given: argparse.Namespace, file: Path) -> dict[str, Any]:
    """All figures; those of quality, which do not drift, are kept from an earlier file about the same weights."""
    context = open_run(run)
    model: WorldModel = context["model"]
    if context["world"] is None:
        raise SystemExit(f"{run} was not trained on a world of ours: nothing says where its objects should be.")
    torch._dynamo.config.automatic_dynamic_shapes = False  # each batch size is compiled for itself
    key = [tensors_hash(model.state_dict(), {}), given.starts, given.seed, PROMPT, HORIZON]
    old = read_json(file) if file.exists() else {}
    known = old.get("rows", {}) if old.get("made_of") == key else {}
    held = context["world"].fresh(given.starts, PROMPT, HORIZON, given.seed)
    models, left = possible(model, SETTINGS)
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "made_of": key, "seed": given.seed, "starts": given.starts, "prompt": PROMPT, "horizon": HORIZON,
        "run": run.name, "parameters": sum(p.numel() for p in model.parameters()),
        "default": {"steps": model.config.steps, "method": model.config.method},
        "left_out": left, "multiplications": work(model), "rows": {},
    }  # fmt: skip
    times = {batch: frame_times(models, held, batch, given.rounds, FRAMES[batch]) for batch in BATCHES}
    for one in SETTINGS:
        if one.name not in models:
            continue
        row = {f"batch_{batch}": times[batch][one.name] for batch in BATCHES}
        before = known.get(one.name, {})
        if "quality" in before:
            row["quality"], row["growth_bytes"] = before["quality"], before["growth_bytes"]
        else:
            row["quality"] = quality(dreamed(models[one.name], held, given.seed), held, given.seed)
            row["growth_bytes"] = growth(run, one, torch.get_num_threads())
        with torch.inference_mode():
            row["state_bytes"] = state_bytes(prompted(models[one.name], held, 1)[0])
        result["rows"][one.name] = row
        print(one.name, json.dumps({k: v for k, v in row.items() if k != "quality"}), flush=True)
        write_json(file, result)
    result["ring"] = recompute(random_model(), given.rounds, FRAMES[1])
    result["long"] = long_dream(random_model(), given.frames)
    if given.shortcut is not None:
        result["shortcut"] = shortcuts(given.shortcut, given.starts, given.seed, given.rounds)
    elif "shortcut" in old:
        result["shortcut"] = old["shortcut"]
    write_json(file, result)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run, or the name of a shipped checkpoint")
    parser.add_argument("--shortcut", type=Path, help="a run that learnt shortcuts")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--frames", type=int, default=LONG, help="of the long dream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="pages from the JSON, nothing measured")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write")
    given = parser.parse_args(arguments)
    if given.run is None and not given.page:
        parser.error("give a run, or --page")
    torch.set_num_threads(given.threads)
    file = given.docs / "results" / "speed.json"
    if not given.page:
        file.parent.mkdir(parents=True, exist_ok=True)
        measure(given.run, given, file)
    result = read_json(file)
    write_atomic(given.docs / "results" / "speed.md", figures(result).encode())
    write_atomic(given.docs / "speed.md", page(result).encode())


if __name__ == "__main__":
    main()
