"""World model against physics engine, on the same tasks: `python -m benchmarks.engines --exact RUN --hidden RUN`.

Two worlds. In the *exact* one the engine knows every law: two balls, gravity, elastic (the world that RUN was trained
on; nothing is done in it). In the *hidden* one (worldloom/worlds/stepped.py) there are drag, wind and lossy
impacts that the exact engine knows nothing of. All begin from what the tracker sees in four true frames. Writes
docs/results/engines.json and engines.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import RESULTS
from worldloom.configs import from_json
from worldloom.data.store import Dataset
from worldloom.evaluation.battery.fitting import fit_states, seen_positions
from worldloom.evaluation.datasets import at_home, find_data
from worldloom.evaluation.dreamers import ModelDreamer, extend
from worldloom.evaluation.engines import Engine, Exact, Learned, StraightOn, TimeStepped, fit, roll
from worldloom.evaluation.exact import ExactWorld, Played, as_held, find_exact
from worldloom.evaluation.figures import track
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.statistics import bootstrap
from worldloom.evaluation.tracker import match
from worldloom.files import read_json, write_atomic, write_json
from worldloom.imagination import absorb
from worldloom.models.saved import load_model
from worldloom.worlds.balls import PUSHES, BallsConfig
from worldloom.worlds.balls.render import Renderer
from worldloom.worlds.balls.world import spec_of
from worldloom.worlds.stepped import Stepped, SteppedConfig, elastic

STARTS, PROMPT, FRAMES = 64, 4, 60
HORIZONS = (5, 10, 30, 60)
EPISODES = (1, 4, 16, 64, 256)
HIDDEN = SteppedConfig(
    BallsConfig(balls=2, radius=5.0, speed=3.0, gravity=(0.0, 0.1)), substeps=20, restitution=0.85, drag=0.02, wind=0.05
)
"""The world whose laws the engine does not know; `worldloom train --env worldloom.worlds.stepped:Stepped` with
these values trains the run for it."""


def away(path: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, frames, K) px between predicted and true positions, as :func:`track` takes it of dreamed frames: in the
    nearest arrangement frame by frame, and no more than the frame's diagonal."""
    known = truth[:, PROMPT:]
    found = np.stack([[match(*pair)[0] for pair in zip(*rows, strict=True)] for rows in zip(path, known, strict=True)])
    return np.minimum(np.sqrt(np.square(found - known).sum(-1)), np.hypot(HIDDEN.balls.width, HIDDEN.balls.height))


def line(name: str, error: np.ndarray, seed: int, **more: Any) -> dict[str, Any]:
    """A row of the table: median error over starts and balls at each horizon, with its interval."""
    each = error.transpose(0, 2, 1).reshape(-1, error.shape[1])
    starts = np.repeat(np.arange(len(error)), error.shape[2])
    low, high = bootstrap(each, starts, "median", seed=seed)
    middle = np.median(each, 0)
    at = {str(h): [float(middle[h - 1]), float(low[h - 1]), float(high[h - 1])] for h in HORIZONS}
    return {"name": name, "median_px": at, "n": len(error), "seed": seed, **more}


def dreamed(model: Any, held: HeldOut) -> np.ndarray:
    """(n, frames, K) px error of a world model's dream, found by the tracker; lost objects count as the diagonal."""
    frames = ModelDreamer(model).dream(held, extend(held.control, FRAMES), FRAMES, seed=0, sensors=["camera"])
    seen = held.segment.obs["camera"].numpy()
    return track(seen[:, :PROMPT], seen[:, PROMPT:], frames["camera"].numpy(), held.truth["position"]).error


def clear(held: HeldOut) -> HeldOut:
    """The starts whose prompt shows every ball apart from the others in two frames or more: only these tell a speed."""
    seen = np.isfinite(seen_positions(held, PROMPT)).all(-1).sum(1)
    return held.rows(np.flatnonzero((seen >= 2).all(1)))


def straight(start: Mapping[str, np.ndarray]) -> np.ndarray:
    return roll(StraightOn(), start, FRAMES)


def exact_world(run: Path, seed: int) -> dict[str, Any]:
    """Tasks in and off the range that the model was trained on, in the world whose law the engine knows."""
    run = at_home(run)
    dataset = Dataset(find_data(run, read_json(run / "config.json", sealed=True), None))
    world = find_exact(dataset.info)
    if world is None:
        raise SystemExit(f"{run} was not trained on a world of balls.")
    model = load_model(run, torch.device("cpu"))
    r, v, g = world.config.radii[1], world.config.speed, world.config.gravity
    tasks = {
        "as trained": world,
        "twice as fast": world.changed(speed=2 * v),
        "balls 40 % larger": world.changed(radius=1.4 * r),
        "gravity doubled": world.changed(gravity=(2 * g[0], 2 * g[1])),
    }
    out: dict[str, Any] = {"tasks": {}, "training_frames": int(dataset.frames)}
    for task, there in tasks.items():
        nulls = _stay(world, STARTS, PROMPT + FRAMES - 1)
        held = clear(there.fresh(STARTS, PROMPT, FRAMES, seed, nulls))
        start = _estimated(there, held)
        truth = held.truth["position"]
        engines: dict[str, Engine] = {
            "exact engine": Exact(there.config),
            "time-stepped engine, 10 steps a frame": TimeStepped(elastic(_still(there.config), substeps=10)),
            "time-stepped engine, 1 step a frame": TimeStepped(elastic(_still(there.config), substeps=1)),
        }
        rows = [line(name, away(roll(engine, start, FRAMES), truth), seed) for name, engine in engines.items()]
        if task == "gravity doubled":
            ignorant = Exact(world.config)
            rows.append(line("exact engine, not told of it", away(roll(ignorant, start, FRAMES), truth), seed))
        rows.append(line("world model", dreamed(model, held), seed))
        rows.append(line("straight on", away(straight(start), truth), seed))
        out["tasks"][task] = rows
        print(task, {row["name"]: round(row["median_px"]["30"][0], 2) for row in rows}, flush=True)
    out["cost"] = costs(model, world, seed)
    return out


def hidden_world(run: Path | None, seed: int) -> dict[str, Any]:
    """Laws that the engine does not know, and how much data it takes to make up for it."""
    scene, box = HIDDEN.balls, ExactWorld(HIDDEN.balls)
    train, test = _episodes(max(EPISODES), 64, seed + 1)[1], _episodes(STARTS, PROMPT + FRAMES, seed + 2)
    faster = dataclasses.replace(HIDDEN, balls=dataclasses.replace(scene, speed=2 * scene.speed))
    fast = _episodes(STARTS, PROMPT + FRAMES, seed + 3, faster)
    sets = {"as trained": test, "twice as fast": fast}
    held = {name: clear(as_held(Played(frames, truth, None), PROMPT)) for name, (frames, truth) in sets.items()}
    starts = {name: _estimated(box, one) for name, one in held.items()}
    rows = []

    def add(name: str, engine: Engine, episodes: int) -> None:
        errors = {s: away(roll(engine, starts[s], FRAMES), held[s].truth["position"]) for s in sets}
        rows.append({"name": name, "episodes": episodes, **{s: line(name, e, seed) for s, e in errors.items()}})
        print(name, episodes, {s: round(float(np.median(e[:, 29])), 2) for s, e in errors.items()}, flush=True)

    add("time-stepped engine that knows all laws", TimeStepped(HIDDEN), 0)
    add("exact engine that knows none of the three", Exact(scene), 0)
    for count in EPISODES:
        episodes = [{k: x[i] for k, x in train.items()} for i in range(count)]
        add("hybrid: exact engine and learned residual", fit(Learned(Exact(scene), scene), episodes, seed=seed), count)
        add("the same network without an engine", fit(Learned(StraightOn(), scene), episodes, seed=seed), count)
    if run is not None:
        run = at_home(run)
        model = load_model(run, torch.device("cpu"))
        dataset = Dataset(find_data(run, read_json(run / "config.json", sealed=True), None))
        _same_world(dataset, run)
        errors = {s: dreamed(model, one) for s, one in held.items()}
        name = "world model, from frames alone"
        rows.append({"name": name, "episodes": len(dataset), **{s: line(name, e, seed) for s, e in errors.items()}})
        print(name, {s: round(float(np.median(e[:, 29])), 2) for s, e in errors.items()}, flush=True)
    return {"rows": rows, "restitution": HIDDEN.restitution, "drag": HIDDEN.drag, "wind": HIDDEN.wind}


def costs(model: Any, world: ExactWorld, seed: int) -> list[dict[str, Any]]:
    """Milliseconds a frame of one world, state and picture, medians of many."""
    held = world.fresh(1, PROMPT, 2, seed, _stay(world, 1, PROMPT + 1))
    start = {name: held.truth[name][:, 0] for name in ("position", "velocity", "radius")}
    paint = Renderer(world.config)
    stepped = Stepped(elastic(_still(world.config), substeps=10))
    stepped.place(start["position"], start["velocity"], start["radius"])
    engine = Exact(world.config)
    now = [start["position"], start["velocity"]]

    def exactly() -> None:
        now[0], now[1] = engine.advance(now[0], now[1], start["radius"])
        paint.draw(now[0], start["radius"])

    state = [absorb(model, model.start(1, seed), held.segment.time(slice(0, PROMPT)))]
    stay = _stay(world, 1, 1)
    action = None if stay is None else torch.from_numpy(stay[0])

    def dream() -> None:
        with torch.inference_mode():
            state[0] = model.step(state[0], action)
            model.decode(state[0])["camera"].cpu()

    named: dict[str, Callable[[], Any]] = {
        "exact engine": exactly,
        "time-stepped engine, 10 steps a frame": stepped.step,
        "world model": dream,
    }
    times: dict[str, list[float]] = {name: [] for name in named}
    for turn in range(220):  # side by side: what slows one slows all
        for name, once in named.items():
            began = time.perf_counter()
            once()
            if turn >= 20:
                times[name].append(1000 * (time.perf_counter() - began))
    return [
        {"name": name, "ms": float(np.median(x)), "p90_ms": float(np.quantile(x, 0.9)), "n": len(x)}
        for name, x in times.items()
    ]


def _stay(world: ExactWorld, count: int, frames: int) -> np.ndarray | None:
    """Actions that do nothing, of those that the model was trained on (the null action stands at an episode's first
    frame alone)."""
    control = spec_of(world.config).action
    if control is None:
        return None
    if control.kind == "discrete":
        return np.full((count, frames), PUSHES.index("stay"))
    return np.zeros((count, frames, *control.shape), np.float32)


def _still(config: BallsConfig) -> BallsConfig:
    return dataclasses.replace(config, action="none")


def _estimated(world: ExactWorld, held: HeldOut) -> dict[str, np.ndarray]:
    """Positions and velocities at the last frame of the prompt, as they are seen in it."""
    count = len(held.episodes)
    found = fit_states(world, held, np.zeros(count, np.int64), np.arange(count))
    return {**found, "radius": np.asarray(held.truth["radius"][:, 0], np.float64)}


def _episodes(
    count: int, frames: int, seed: int, config: SteppedConfig = HIDDEN
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames (n, T, C, H, W) and truth (n, T, ...) of the time-stepped world."""
    world = Stepped(config, count, seed)
    seen = [world.reset()]
    seen += [world.step() for _ in range(frames - 1)]
    return np.stack([f.obs["camera"] for f in seen], 1), {
        n: np.stack([f.truth[n] for f in seen], 1) for n in seen[0].truth
    }


def _same_world(dataset: Dataset, run: Path) -> None:
    described = (dataset.info.get("world") or {}).get("config")
    if described is None or from_json(SteppedConfig, described, "the run's world") != HIDDEN:
        raise SystemExit(f"{run} was not trained on the hidden world of benchmarks/engines.py.")


def page(results: dict[str, Any]) -> str:
    """The tables."""

    def cell(row: Mapping[str, Any], h: int) -> str:
        middle, low, high = row["median_px"][str(h)]
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    exact, hidden = results["exact"], results["hidden"]
    lines = [
        "# World model against physics engine",
        "",
        f"Written by `python -m benchmarks.engines` on {results['machine']}, seed {results['seed']}. Median position "
        f"error in px over two balls and {STARTS} starts, less those whose prompt never shows the balls apart, with "
        f"its 95 % interval, each begun from what the tracker sees in {PROMPT} true frames. Balls are held against the "
        "nearest arrangement, by no more than the frame's diagonal, whoever predicts. The frame is 64 px wide. See "
        "../engines.md.",
        "",
        "## The engine knows the laws",
        "",
        f"The world model was trained on {exact['training_frames']:,} frames; the engines on none.",
        "",
        "| task | who | " + " | ".join(f"{h} frames" for h in HORIZONS) + " |",
        "|---|---|" + "---|" * len(HORIZONS),
    ]
    for task, rows in exact["tasks"].items():
        lines += [f"| {task} | {row['name']} | {' | '.join(cell(row, h) for h in HORIZONS)} |" for row in rows]
    lines += ["", "| cost of a frame, one world, picture and all | median ms | 90 % under | n |", "|---|---|---|---|"]
    lines += [f"| {c['name']} | {c['ms']:.2f} | {c['p90_ms']:.2f} | {c['n']} |" for c in exact["cost"]]
    lines += [
        "",
        "## The engine does not know the laws",
        "",
        f"Drag of {hidden['drag']} a frame, wind of {hidden['wind']} px/frame² in the upper half, impacts that keep "
        f"{hidden['restitution']} of the normal speed. Networks learn from true states of that many episodes of 64 "
        "frames; the world model from frames.",
        "",
        "| who | episodes | 10 frames | 30 frames | 60 frames | 30 frames, twice as fast |",
        "|---|---|---|---|---|---|",
    ]
    for row in hidden["rows"]:
        usual, fast = row["as trained"], row["twice as fast"]
        cells = [cell(usual, 10), cell(usual, 30), cell(usual, 60), cell(fast, 30)]
        lines.append(f"| {row['name']} | {row['episodes']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=Path, required=True, help="run trained on a world of two balls")
    parser.add_argument("--hidden", type=Path, help="run trained on the hidden world")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # small matrices: a second thread waits more than it works
    machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    results: dict[str, Any] = {"machine": machine, "seed": args.seed}
    results["hidden"] = hidden_world(args.hidden, args.seed)
    results["exact"] = exact_world(args.exact, args.seed)
    write_json(RESULTS / "engines.json", results)
    write_atomic(RESULTS / "engines.md", page(results).encode())


if __name__ == "__main__":
    main()
