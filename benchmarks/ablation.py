"""`python -m benchmarks ablation [--only GROUP] [--steps N] [--runs DIR]`: small trainings, alike in all but one thing.

Trains every row below on two worlds, two balls with pushes and gravity and the real Breakout, by the same trainer with
the same batches for the same number of steps, and measures each on the same held-out starts. A row that is finished is
kept: stopped, the command goes on where it was, and several of it, or --jobs of it, share the rows out among them.
Writes docs/results/ablation.json and .md and docs/ablation.md; `--page` writes these from what is finished.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout

from benchmarks.__main__ import RESULTS
from benchmarks.ablation_page import DECIDED_AT, figures, page
from benchmarks.trust import dreamed, open_run
from worldloom.configs import to_json
from worldloom.data import Dataset
from worldloom.evaluation.figures import PSNR_CAP, picture_figures, track
from worldloom.evaluation.heldout import HeldOut, draw
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.probes import Dreams
from worldloom.evaluation.probes.actions_gain import action_gain
from worldloom.evaluation.probes.counterfactual import counterfactual
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import bootstrap
from worldloom.files import read_json, write_atomic, write_json
from worldloom.imagination.settings import otherwise
from worldloom.models.diffusion import BackboneConfig, DiffusionConfig, FlowConfig
from worldloom.recipes import balls, breakout
from worldloom.recipes.base import Recipe
from worldloom.recipes.run import collect_data, run_recipe
from worldloom.training import TrainConfig
from worldloom.training.config import differences
from worldloom.worlds.balls import BallsConfig

STEPS, STARTS, PROMPT, SEED = 400, 96, 16, 0
"""Of a training; of the measurement: starts, true frames shown (so that the longest context is full), and its seed."""
HORIZONS = {"balls": (1, 5, 10, 20), "breakout": (1, 5, 10)}
BASE = DiffusionConfig(history=6, prompt=2, targets=4, steps=1, flow=FlowConfig(pure=0.5))
ATTENTION = replace(BASE, backbone=BackboneConfig(attention=2))


@dataclass(frozen=True)
class Row:
    """One training, and how it is dreamed from."""

    model: DiffusionConfig
    seed: int = 0
    otherwise: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further ways to dream with the same weights, label to settings of the model."""


FOUR = {"4 steps": {"steps": 4}}
ROWS = {
    "base": Row(BASE, otherwise=FOUR),
    "base, another seed": Row(BASE, seed=1),
    "flow": Row(replace(BASE, flow=replace(BASE.flow, target="flow")), otherwise=FOUR),
    "v": Row(replace(BASE, flow=replace(BASE.flow, target="v")), otherwise=FOUR),
    "noise": Row(
        replace(BASE, flow=replace(BASE.flow, target="noise", weighting="noise", pure=0.0)),
        otherwise={**FOUR, "16 steps": {"steps": 16}},
    ),
    "noise, weighed as x": Row(replace(BASE, flow=replace(BASE.flow, target="noise")), otherwise=FOUR),
    "min-SNR": Row(replace(BASE, flow=replace(BASE.flow, weighting="min_snr")), otherwise=FOUR),
    "context noise 0.05": Row(replace(BASE, context_noise=0.05), otherwise={"told 0.05": {"told_noise": 0.05}}),
    "context noise 0.3": Row(replace(BASE, context_noise=0.3), otherwise={"told 0.1": {"told_noise": 0.1}}),
    "history 2": Row(replace(BASE, history=2)),
    "history 4": Row(replace(BASE, history=4)),
    "history 10": Row(replace(BASE, history=10)),
    "attention": Row(ATTENTION),
    "memory 16": Row(replace(ATTENTION, memory=16)),
    "no local mixing": Row(replace(ATTENTION, backbone=replace(ATTENTION.backbone, local=False))),
    "actions added": Row(replace(ATTENTION, inject="add")),
    "actions attended to": Row(replace(ATTENTION, inject="cross")),
}
"""All trainings. Where others have attention, so has what they are compared with."""
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "target": (
        "What the network emits, and how its error is weighed",
        {
            "base": "x, weighed as a velocity", "flow": "flow: x - e", "v": "v", "noise": "noise: e, as DDPM",
            "noise, weighed as x": "noise, weighed as x is", "min-SNR": "x, weighed by min-SNR",
        },
    ),
    "noise": (
        "Context noise that the model is told",
        {"base": "none", "context noise 0.05": "up to 0.05", "context noise 0.3": "up to 0.3"},
    ),
    "length": (
        "Context length: frames in the stem",
        {"base": "6", "history 2": "2", "history 4": "4", "history 10": "10"},
    ),
    "memory": (
        "Context length: frames that attention recalls, beside 6 in the stem",
        {"attention": "0", "memory 16": "16"},
    ),
    "local": (
        "Local mixing",
        {"attention": "3×3 convolutions and attention", "no local mixing": "attention alone"},
    ),
    "inject": (
        "How actions are injected",
        {"attention": "modulate every block", "actions added": "added once", "actions attended to": "attended to"},
    ),
    "seed": ("Noise between trainings", {"base": "seed 0", "base, another seed": "seed 1"}),
}  # fmt: skip
"""Group to its title and its rows with what a reader calls them; the first is what the others are compared with."""


def recipe_of(world: str, row: Row, steps: int, threads: int) -> Recipe:
    """The recipe that trains a row on a world."""
    made = balls.recipe() if world == "balls" else breakout.recipe()
    if world == "balls":
        made = replace(
            made, world=BallsConfig(balls=2, radius=5.0, speed=2.0, gravity=(0.0, 0.1), action="discrete", push=0.5)
        )
    train = TrainConfig(
        steps=steps, batch=12, optimizer="muon", lr=2e-3, warmup=min(50, steps // 8), decay="linear", ema=0.99,
        validate_every=0, sample_every=0, keep=1, threads=threads, seed=row.seed,
    )  # fmt: skip
    return replace(made, model=row.model, train=train)


def data_of(world: str, runs: Path, given: Path | None) -> Path:
    """The world's dataset: the one given, or one that is collected once."""
    if given is not None and (given / "dataset.json").is_file():
        return given
    folder = runs / "data" / world
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        recipe = recipe_of(world, ROWS["base"], 1, 1)
        there = (folder / "dataset.json").is_file()
        if not there or len(Dataset(folder).lengths) < recipe.collect.episodes:
            collect_data(recipe, folder)
    return folder


# ----------------------------------------------------------------------------------- measuring


def three(figure: Figure, h: int | None = None) -> list[float | None]:
    """[value, low, high] of a figure, at a horizon where it has several."""
    value: Any = figure.value
    interval: Any = figure.interval
    if h is not None:
        value, interval = value.get(str(h)), interval.get(str(h))
    return [value, *(interval or (None, None))]


Measured: TypeAlias = tuple[dict[str, list[float | None]], np.ndarray]
"""Figures, each with its interval, and (n,) of every start the value that a verdict goes by."""


def of_balls(dreams: Dreams) -> Measured:
    """Median position error by horizon, the push's direction, and what foretells without a model; of every start the
    mean error of its balls."""
    shown, real, dream = (x[dreams.camera] for x in (dreams.shown, dreams.real, dreams.dreamed))
    position = np.concatenate([dreams.truth_shown["position"], dreams.truth["position"]], 1)
    seen = track(shown, real, dream, position)
    objects = seen.error.shape[2]
    groups = np.repeat(dreams.episodes, objects)
    out: dict[str, list[float | None]] = {}
    for name, error in (("error_px", seen.error), ("still_px", seen.still), ("straight_px", seen.straight)):
        assert error is not None
        flat = error.transpose(0, 2, 1).reshape(-1, error.shape[1])
        low, high = bootstrap(flat, groups, "median", seed=dreams.seed)
        for h in HORIZONS["balls"]:
            out[f"{name} {h}"] = [float(x[h - 1]) for x in (np.median(flat, 0), low, high)]
    out["push_right"] = three(counterfactual.run(dreams)["sign_right"])
    return out, seen.error[:, DECIDED_AT["balls"] - 1].mean(1)


def of_breakout(dreams: Dreams) -> Measured:
    """PSNR over copying the last frame, and what the true actions are worth; of every start the former."""
    real, dream, shown = (torch.from_numpy(np.array(x[dreams.camera])) for x in (
        dreams.real, dreams.dreamed, dreams.shown
    ))  # fmt: skip
    last = shown[:, -1]
    gain = picture_figures(real, dream, last, dreams.episodes, dreams.seed)["psnr_gain_db"]
    worth = action_gain.run(dreams)["psnr_db"]
    out = {f"gain_db {h}": three(gain, h) for h in HORIZONS["breakout"]}
    at = DECIDED_AT["breakout"] - 1
    each = psnr(real[:, at], dream[:, at], PSNR_CAP) - psnr(real[:, at], last, PSNR_CAP)
    return out | {f"actions_db {h}": three(worth, h) for h in HORIZONS["breakout"]}, each.cpu().double().numpy()


MEASURES: dict[str, Callable[[Dreams], Measured]] = {"balls": of_balls, "breakout": of_breakout}


def measure(run: Path, world: str, row: Row, starts: int) -> dict[str, Any]:
    """A trained row's figures, by how it is dreamed from (the empty name: as it was trained to)."""
    context = open_run(run)
    held: HeldOut = draw(context["dataset"], starts, PROMPT, max(HORIZONS[world]), 0, SEED)
    found, each = {}, {}
    for label, settings in {"": {}, **row.otherwise}.items():
        one = {**context, "model": otherwise(context["model"], **settings)}
        found[label], values = MEASURES[world](dreamed(one, held, SEED))
        each[label] = [float(x) for x in values]
    return {"figures": found, "each": each, "episodes": held.episodes.tolist()}


# ------------------------------------------------------------------------------------ the rows


def slug(name: str) -> str:
    """A row's name as a folder's."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def wanted(only: Sequence[str]) -> list[str]:
    """Rows of the groups asked for, and the two seeds by which differences are judged."""
    names = {name for group in {*only, "seed"} for name in GROUPS[group][1]}
    return [name for name in ROWS if name in names]


@dataclass(frozen=True)
class Place:
    """Where everything lies, and how long it takes."""

    runs: Path
    steps: int
    starts: int

    def folder(self, world: str, name: str) -> Path:
        """A row's run."""
        return self.runs / f"{self.steps}-steps" / world / slug(name)

    def made_of(self, world: str, name: str) -> list[Any]:
        """What a row's figures depend on, beside code and data. Of the model what is set: settings that the family
        has been given since, and a row leaves as they are, make it no other row."""
        row = ROWS[name]
        model = differences(to_json(DiffusionConfig()), to_json(row.model))
        ways = {label: dict(settings) for label, settings in row.otherwise.items()}
        return [model, row.seed, ways, self.steps, self.starts, PROMPT, list(HORIZONS[world])]

    def found(self, world: str, name: str) -> dict[str, Any] | None:
        """A row's figures, where they are there and of the same setting."""
        file = self.folder(world, name) / "ablation.json"
        row = read_json(file) if file.exists() else None
        return row if row is not None and row["made_of"] == self.made_of(world, name) else None


def work(place: Place, world: str, name: str, data: Path, threads: int) -> bool:
    """Train and measure one row, unless it is done or another process is at it; whether it is done now."""
    folder = place.folder(world, name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            if place.found(world, name) is not None:
                return True
            print(f"{world}: {name}", flush=True)
            row = ROWS[name]
            run_recipe(recipe_of(world, row, place.steps, threads), folder, data=data, say=lambda _: None)
            summary = read_json(folder / "summary.json", sealed=True)
            result = {
                "made_of": place.made_of(world, name),
                "seed": row.seed,
                "parameters": summary["parameters"],
                "seconds_a_step": summary["train_seconds"] / max(summary["steps"], 1),
                "threads": threads,
                **measure(folder, world, row, place.starts),
            }
            write_json(folder / "ablation.json", result)
            return True
    except Timeout:
        return False


def gather_rows(place: Place, file: Path) -> dict[str, Any]:
    """All finished rows of both worlds, as they are shown, into ``file``."""
    worlds = {w: {n: found for n in ROWS if (found := place.found(w, n)) is not None} for w in HORIZONS}
    result = {
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "steps": place.steps,
        "seed": SEED,
        "prompt": PROMPT,
        "horizons": {w: list(h) for w, h in HORIZONS.items()},
        "groups": {g: {"title": title, "rows": rows} for g, (title, rows) in GROUPS.items()},
        "base": to_json(BASE),
        "worlds": worlds,
    }
    write_json(file, result)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ablation", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="some of the groups")
    parser.add_argument("--worlds", nargs="+", choices=list(HORIZONS), default=list(HORIZONS))
    parser.add_argument("--steps", type=int, default=STEPS, help="of every training")
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument(
        "--breakout", type=Path, default=Path("runs/breakout/data"), help="its dataset; collected where there is none"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the rows out")
    parser.add_argument("--most", type=int, help="rows that each process does at most; the others another time")
    parser.add_argument("--page", action="store_true", help="write the page from what is finished")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    place = Place(given.runs, given.steps, given.starts)
    helpers = []
    if not given.page:
        again = list(sys.argv[1:] if arguments is None else arguments)
        again = again[1:] if again[:1] == ["ablation"] else again
        helpers = [
            subprocess.Popen([sys.executable, "-m", "benchmarks.ablation", *again, "--jobs", "1"])
            for _ in range(given.jobs - 1)
        ]
        done = 0
        for world in given.worlds:
            data = data_of(world, given.runs, given.breakout if world == "breakout" else None)
            for name in wanted(given.only):
                if place.found(world, name) is None and (given.most is None or done < given.most):
                    done += work(place, world, name, data, given.threads)
    if any(helper.wait() for helper in helpers):
        raise SystemExit("A process that shared the rows failed: what it said stands above. Start the command again.")
    (given.docs / "results").mkdir(parents=True, exist_ok=True)
    result = gather_rows(place, given.docs / "results" / "ablation.json")
    write_atomic(given.docs / "results" / "ablation.md", figures(result).encode())
    write_atomic(given.docs / "ablation.md", page(result).encode())


if __name__ == "__main__":
    main()
