"""`python -m benchmarks checkpoints [--only NAME] [--minutes M] [--from RUN]`: the models that come with the package.

Trains each by the recipe of its name under --runs (or takes --from, a run that exists), stores it in half the bytes
under src/worldloom/shipped/NAME, measures what is stored on held-out episodes, and writes docs/results/checkpoints.json
and .md. Stopped, it goes on with the training; `--page` writes the page from the JSON alone.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import RESULTS
from benchmarks.checkpoints.figures import measured, rounding
from benchmarks.checkpoints.pack import KINDS, pack, ship
from benchmarks.checkpoints.page import page
from worldloom.data import Dataset
from worldloom.evaluation.datasets import find_data
from worldloom.files import read_json, tensors_hash, write_atomic, write_json
from worldloom.imagination.trust import TENSORS_FILE, TRUST_FILE
from worldloom.models.saved import load_model
from worldloom.recipes import find
from worldloom.recipes.run import run_recipe
from worldloom.shipped import FOLDER

NAMES = ("balls", "duo")
"""The shipped models, each by the recipe of its name."""


def trained(name: str, folder: Path, minutes: float, debug: bool = False) -> Path:
    """A run of the recipe: trained, taken up again, or found finished."""
    recipe = find(name).debug() if debug else find(name)
    if not debug:
        recipe = replace(recipe, train=replace(recipe.train, minutes=minutes, steps=None))
    run_recipe(recipe, folder)
    return folder


def made(name: str, run: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Pack a run, measure what was packed, ship it; returns its entry in the JSON."""
    config = read_json(run / "config.json", sealed=True)
    dataset = Dataset(find_data(run, config, None))
    recipe = find(name).debug() if given.debug else find(name)
    summary = read_json(run / "summary.json", sealed=True)
    stored = rounding(run, dataset, min(given.starts, 128), given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        packed, report = Path(scratch) / name, Path(scratch) / "report"
        pack(run, packed, dataset, recipe.collect, given.precision)
        rows = measured(packed, dataset, report, given.starts, given.seed)
        for file in (TRUST_FILE, TENSORS_FILE):
            shutil.copyfile(report / file, packed / file)
        model = load_model(packed)
        files = ship(packed, name, given.into)
    return {
        "steps": summary["steps"], "train_seconds": summary["train_seconds"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": summary["precision"], "device": summary["device"], "train": config["train"],
        "world": dataset.info["world"], "weights": tensors_hash(model.state_dict(), {})[:12], "bytes": files,
        "stored": given.precision, "starts": given.starts, "seed": given.seed, "rows": rows, "rounding": stored,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}",
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks checkpoints", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="some of the models")
    parser.add_argument("--minutes", type=float, default=60.0, help="training of each")
    parser.add_argument("--from", dest="run", type=Path, help="a finished run to take for the one model of --only")
    parser.add_argument("--runs", type=Path, default=Path("runs/checkpoints"), help="folder of the trainings")
    parser.add_argument("--precision", choices=list(KINDS), default="float16", help="how weights are stored")
    parser.add_argument("--starts", type=int, default=256, help="held-out starts of the figures")
    parser.add_argument("--seed", type=int, default=0, help="of starts, dreams and intervals")
    parser.add_argument("--into", type=Path, default=FOLDER, help="where to ship")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write the page")
    parser.add_argument("--debug", action="store_true", help="tiny models, to see that all works")
    parser.add_argument("--page", action="store_true", help="the page from the JSON, nothing trained or measured")
    given = parser.parse_args(arguments)
    if given.run is not None and len(given.only) != 1:
        parser.error("--from is the run of one model: say of which by --only")
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    file = given.docs / "results" / "checkpoints.json"
    found: dict[str, Any] = read_json(file) if file.exists() else {"models": {}}
    for name in [] if given.page else given.only:
        run = given.run or trained(name, given.runs / name, given.minutes, given.debug)
        found["models"][name] = made(name, run, given)
        found["models"] = {n: found["models"][n] for n in NAMES if n in found["models"]}
        write_json(file, found)
    write_atomic(given.docs / "results" / "checkpoints.md", page(found["models"]).encode())


if __name__ == "__main__":
    main()
