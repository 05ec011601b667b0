"""`python -m benchmarks exercises [--minutes M]`: train what the lab's exercises ask about, measure, write the page.

Trains three runs under --runs (one ball for --minutes; two balls, and two balls with a model of twice the width, for
as many steps), unless they lie there or are given; then measures, which takes some minutes more. Writes
docs/results/exercises.json and .md, docs/media/exercises_*.png and docs/exercises.md. Stopped, it goes on where it was;
`--page` writes page and pictures from the JSON alone.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import RESULTS
from benchmarks.exercises import collisions, drift, plots
from benchmarks.exercises.page import figures, page
from benchmarks.exercises.runs import RUNS, Length, describe, prepare, unlike
from benchmarks.trust import open_run
from worldloom.files import read_json, tensors_hash, write_atomic, write_json


def measure(runs: Mapping[str, Path], starts: int, dreams: int, frames: int, seed: int, file: Path) -> dict[str, Any]:
    """All figures of the page. Each is written into ``file`` as soon as it is there, and is not measured again for the
    same weights in the same way."""
    old = read_json(file) if file.exists() else {}
    result: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "seed": seed,
        "runs": {name: describe(run) for name, run in runs.items()},
        "made_of": old.get("made_of", {}),
        "events": {name: row for name, row in old.get("events", {}).items() if name in runs},
        "drift": {name: row for name, row in old.get("drift", {}).items() if name in runs},
    }
    result["unlike"] = unlike(result["runs"])
    for name, run in runs.items():
        context = open_run(run)
        weights = tensors_hash(context["model"].state_dict(), {})
        parts: dict[str, Any] = {"events": [starts], "drift": [dreams, frames]}
        for part, sizes in parts.items():
            if part == "drift" and name == "large":
                continue
            key, made_of = f"{part} of {name}", [weights, seed, *sizes]
            if name in result[part] and result["made_of"].get(key) == made_of:
                continue
            how = collisions.measure if part == "events" else drift.measure
            result[part][name] = how(context, *sizes, seed)
            result["made_of"][key] = made_of
            print(f"{key}: measured", flush=True)
            write_json(file, result)
    for part in ("events", "drift"):
        result[part] = {name: result[part][name] for name in RUNS if name in result[part]}
    write_json(file, result)
    return result


def write(result: Mapping[str, Any], docs: Path) -> None:
    """Pictures and page."""
    pictures = {
        "loss": plots.losses(result["runs"]),
        "events": plots.meetings(result["events"]),
        "drift": plots.growth(result["drift"], drift.TEXTBOOK["px_a_frame"]),
    }
    (docs / "media").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_atomic(docs / "media" / f"exercises_{name}.png", picture)
    write_atomic(docs / "exercises.md", page(result).encode())
    write_atomic(docs / "results" / "exercises.md", figures(result).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks exercises", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=6.0, help="training of the first run; the others as many steps"
    )
    parser.add_argument("--steps", type=int, help="instead of minutes")
    parser.add_argument("--episodes", type=int, default=1500, help="of each world, 128 frames each")
    parser.add_argument("--runs", type=Path, default=Path("runs/exercises"), help="folder of the runs")
    for name, text in RUNS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"a run that exists: {text}")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="some of the runs")
    parser.add_argument("--starts", type=int, default=192, help="of each kind of event")
    parser.add_argument("--dreams", type=int, default=128, help="of the drift")
    parser.add_argument("--frames", type=int, default=240, help="of each of these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--debug", action="store_true", help="tiny models, to see that all works")
    parser.add_argument("--page", action="store_true", help="page and pictures from the JSON, nothing measured")
    parser.add_argument("--docs", type=Path, default=RESULTS.parent, help="where to write")
    given = parser.parse_args(arguments)
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    file = given.docs / "results" / "exercises.json"
    if not given.page:
        length = Length(
            given.minutes, 12 if given.debug else given.steps, 8 if given.debug else given.episodes, given.debug
        )
        lying = {name: getattr(given, name) for name in RUNS}
        runs = prepare(given.runs, lying, length, [name for name in RUNS if name in given.only])
        file.parent.mkdir(parents=True, exist_ok=True)
        measure(runs, given.starts, given.dreams, given.frames, given.seed, file)
    write(read_json(file), given.docs)


if __name__ == "__main__":
    main()
