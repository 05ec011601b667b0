"""`python -m benchmarks.which A B`: two models of one world, compared by the report and then put to work.

A is trained without actions and for longer, B with them and for less. Measures both as `worldloom evaluate A B` does
(into A's and B's folders, and `comparison/`), then lets a planner choose actions in each model's dreams and does what
it chose in the true world. Writes docs/results/which.json and which.md; docs/which-model.md says what they mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import RESULTS
from benchmarks.trust import dreamed, open_run
from worldloom.evaluation.compare import FOLDER, compare, contrast
from worldloom.evaluation.probes import Dreams
from worldloom.evaluation.schema import TIMED, load_report
from worldloom.evaluation.statistics import bootstrap
from worldloom.evaluation.trust.planned import goals, nearest
from worldloom.files import read_json, write_atomic, write_json
from worldloom.shipped import home

STARTS, PROMPT, CHOICES, FRAMES, SEED = 64, 4, 16, 24, 0
"""Of the planner: starts, frames shown, sequences tried from each, their length, and the seed of all."""
SHOWN = (
    "frechet/embedded", "frechet/random3d", "kernel/embedded", "psnr_gain_db", "position_error_px", "physics/score",
    "counterfactual/sign_right", "counterfactual/obeyed", "action_gain/psnr_db", "inverse_dynamics/ratio",
    "prediction_time/mean_frames", "half_life/position_mean_frames",
)  # fmt: skip


def plan(dreams: Dreams, pushed: int, draw: np.ndarray, aims: np.ndarray) -> np.ndarray:
    """(n,) which of each start's sequences (n * K, T) ends, in the dream, with the pushed ball nearest to its goal."""
    rows = np.arange(len(dreams))
    control = {"action": draw} if dreams.spec.action is not None else {}
    tried = dreams.dream(control, draw.shape[1], rows=rows.repeat(len(draw) // len(rows)))[dreams.camera]
    return nearest(dreams, aims, rows, tried, dreams.truth_shown["position"], pushed)


def put_to_work(runs: dict[str, Path]) -> dict[str, Any]:
    """Px between the pushed ball and its goal after the plan was done in the true world: by model, by chance, and the
    best that these sequences hold."""
    contexts = {name: open_run(run) for name, run in runs.items()}
    world = next(iter(contexts.values()))["world"]
    if world is None or world.null is None:
        raise SystemExit(f"{list(runs)} were not trained on balls that take actions: no plan could be done.")
    held = world.fresh(STARTS, PROMPT, FRAMES, SEED)
    draw = world.actions(STARTS * CHOICES, FRAMES, SEED + 1)
    assert draw is not None
    aims = goals(world, STARTS, SEED)
    start = {name: x[:, PROMPT - 1].repeat(CHOICES, 0) for name, x in held.truth.items()}
    done = world.play(start, draw, FRAMES).truth["position"][:, -1, world.config.pushed]
    away = np.hypot(*(done - aims.repeat(CHOICES, 0)).T).reshape(STARTS, CHOICES)
    found = {}
    for name, context in contexts.items():
        chosen = plan(dreamed(context, held, SEED), world.config.pushed, draw, aims)
        found[f"chosen in the dreams of {name}"] = away[np.arange(STARTS), chosen]
    found |= {"one at random": away.mean(1), "the best of them, by the exact world": away.min(1)}
    out = {}
    for name, values in found.items():
        low, high = bootstrap(values, seed=SEED)
        out[name] = {"mean_px": float(values.mean()), "interval": [float(low), float(high)], "n": STARTS, "seed": SEED}
    return out


def page(result: dict[str, Any], planned: dict[str, Any], steps: dict[str, dict[str, Any]]) -> str:
    """Both as tables."""
    runs = list(result["runs"])
    lines = [
        "# Two models of one world",
        "",
        f"Written by `python -m benchmarks.which {' '.join(f'runs/{r}' for r in runs)}`. What follows from it: "
        "[model A or model B?](../which-model.md)",
        "",
        "| run | is given | parameters | steps | seconds of training |",
        "|---|---|---|---|---|",
    ]
    for run in runs:
        one = result["runs"][run]
        lines.append(
            f"| {run} | {', '.join(one['controls']) or 'nothing'} | {one['parameters']:,} | "
            f"{steps[run]['steps']:,} | {steps[run]['train_seconds']:.0f} |"
        )
    lines += ["", "What `comparison.html` says at its head:", ""]
    untimed = [c for c in result["choices"] if c["figure"].split("/")[0] not in TIMED]  # this machine is not quiet
    lines += [f"- **{c['purpose']}**: {c['words']}" for c in untimed]
    lines += [f"- {note}" for note in result["notes"]]
    lines += ["", f"| figure | better | {' | '.join(runs)} | surely best |", f"|---|---|{'---|' * len(runs)}---|"]
    for name in (n for n in SHOWN if n in result["figures"]):
        one = result["figures"][name]
        cells = []
        for run in runs:
            value, span = one["value"].get(run), one["interval"].get(run)
            text = "not measured" if value is None else f"{value:.3g}"
            cells.append(text + (f" ({span[0]:.3g}, {span[1]:.3g})" if span else ""))
        ahead = f", {one['horizon']} frames ahead" if one["horizon"] else ""
        unit = f", {one['unit']}" if one["unit"] and one["unit"] != "%" else ""
        lines.append(
            f"| `{name}`{ahead}{unit} | {one['better']} | {' | '.join(cells)} | {one['surely_best'] or 'not shown'} |"
        )
    lines += [
        "",
        "## Put to work",
        "",
        f"From {STARTS} fresh starts a planner tries {CHOICES} random sequences of {FRAMES} actions in a model's "
        "dreams and does, in the true world, the one whose dream brings the pushed ball nearest to a goal drawn at "
        "random. How far from the goal it then is:",
        "",
        "| the sequence | mean distance, px | interval of 95 % |",
        "|---|---|---|",
    ]
    for name, row in planned.items():
        lines.append(f"| {name} | {row['mean_px']:.1f} | {row['interval'][0]:.1f} to {row['interval'][1]:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--again", action="store_true", help="from the reports and plans that are there")
    given = parser.parse_args()
    torch.set_num_threads(2)
    runs = {run.resolve().name: run for run in map(home, given.runs)}
    if given.again:
        result = contrast({name: load_report(Path(FOLDER) / name) for name in runs})
        planned = read_json(RESULTS / "which.json")["planned"]
    else:
        result = compare(list(runs.values()), out=FOLDER, probes=["default", "frechet"])
        planned = put_to_work(runs)
    summary = {name: read_json(run / "summary.json", sealed=True) for name, run in runs.items()}
    steps = {name: {key: one[key] for key in ("steps", "train_seconds")} for name, one in summary.items()}
    write_json(RESULTS / "which.json", {"comparison": result, "planned": planned, "training": steps})
    write_atomic(RESULTS / "which.md", page(result, planned, steps).encode())


if __name__ == "__main__":
    main()
