"""The three runs that the exercises ask about, trained alike, or taken where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.trust import open_run
from worldloom.files import read_json
from worldloom.recipes import balls
from worldloom.recipes.base import Recipe
from worldloom.recipes.run import run_recipe
from worldloom.training.config import differences

RUNS = {
    "one": "one ball",
    "two": "two balls, same model",
    "large": "two balls, model of twice the width",
}
"""Names of the runs, and what a reader calls them."""
VALIDATE_EVERY, VALIDATE_BATCHES = 50, 8


@dataclass(frozen=True)
class Length:
    """How long to train: minutes for the first run, whose number of steps the others take over; or steps."""

    minutes: float | None
    steps: int | None
    episodes: int
    debug: bool


def recipe_of(name: str, length: Length, steps: int | None) -> Recipe:
    """The recipe ``balls``, with the textbook's second ball and twice the width where the name says so."""
    one = balls.recipe()
    if length.debug:
        one = one.debug()
    often = 4 if length.debug else VALIDATE_EVERY
    minutes = length.minutes if steps is None else None
    train = replace(
        one.train, steps=steps, minutes=minutes, validate_every=often, validate_batches=VALIDATE_BATCHES, sample_every=0
    )
    one = replace(one, train=train, collect=replace(one.collect, episodes=length.episodes))
    if name == "one":
        return one
    two = replace(one, world=replace(one.world, balls=2))
    return two if name == "two" else replace(two, model=larger(two.model))


def larger(config: Any) -> Any:
    """The same model of twice the channels: four times the parameters of its convolutions."""
    full = config.backbone.sizes
    return replace(config, backbone=replace(config.backbone, width=2 * full.width, deep_width=2 * full.deep_width))


def prepare(folder: Path, given: Mapping[str, Path | None], length: Length, only: list[str]) -> dict[str, Path]:
    """Run name to its folder; those not given are trained into ``folder``, or taken up again there."""
    found: dict[str, Path] = {}
    steps = length.steps
    for name in only:
        run = given.get(name) or folder / name
        if given.get(name) is None and not (run / "summary.json").exists():
            data = found["two"] / "data" if name == "large" and "two" in found else None
            run_recipe(recipe_of(name, length, steps), run, data=data)
        found[name] = run
        if length.steps is None:  # so that the others learn for as many steps as the first did
            steps = steps or int(read_json(run / "summary.json", sealed=True)["steps"])
    return found


def describe(run: Path) -> dict[str, Any]:
    """What a run is: size, steps, world, and its held-out loss by step."""
    config, summary = (read_json(run / f"{name}.json", sealed=True) for name in ("config", "summary"))
    context = open_run(run)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = {int(x["step"]): float(x["val_loss"]) for x in lines if x["kind"] == "validate"}
    return {
        "parameters": summary["parameters"],
        "steps": summary["steps"],
        "seconds": summary["train_seconds"],
        "batch": config["train"]["batch"],
        "training_seed": config["train"]["seed"],
        "world": context["dataset"].info["world"]["config"],
        "model": config["model"]["config"],
        "loss": [[step, curve[step]] for step in sorted(curve)],
    }


def unlike(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """In what two runs differ beside what they are meant to: then their losses can't be set beside each other."""
    out = []
    for a, b, meant in (("one", "two", {"balls"}), ("two", "large", {"width", "deep_width"})):
        if a in runs and b in runs:
            for part in ("world", "model", "steps", "batch"):
                for line in differences(runs[a][part], runs[b][part], part):
                    if line.split(":")[0].split(".")[-1] not in meant:
                        out.append(f"{a}, {b}: {line}")
    return out
