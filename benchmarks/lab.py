"""`python -m benchmarks.lab RUN`: the lab, trained as long as RUN (a run of the recipe `balls`) and measured like it.

Writes docs/results/lab.json and lab.md. 32 starts × 20 frames each; the lab's take minutes, for it makes 100 passes a
frame. Also shows what the fault in the lab's schedule does: its samples from pure noise against samples begun where its
training ends.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import worldloom
from benchmarks.__main__ import RESULTS
from worldloom.data import Windows
from worldloom.files import read_json, write_atomic, write_json
from worldloom.models.lab import Lab
from worldloom.nn import noise
from worldloom.recipes import find
from worldloom.recipes.run import collect_data, run_recipe
from worldloom.shipped import home
from worldloom.worlds.lab import SAMPLES, LabWorldConfig

STARTS, FRAMES, PROMPT = 32, 20, 4
HORIZONS = ("1", "5", "10", "20")


def schedule_fault(model: Lab, data: Path, rows: int = 16) -> dict[str, float]:
    """Mean squared errors of sampled frames, begun in pure noise and begun in what training ends with."""
    segment = Windows(worldloom.Dataset(data), "test", PROMPT).batch(rows, 0, 0)
    truth = segment.obs["camera"][:, -1].float() / 255
    state = model.start(rows, 0)
    for t in range(PROMPT - 1):
        state = model.observe(state, {"camera": segment.obs["camera"][:, t]}, segment.control["action"][:, t])
    action = segment.control["action"][:, -1]
    e = noise.normal(state.key, state.frame, 0, model.shape)
    last = model.alphas_bar[-1]
    with torch.inference_mode():
        pure = model.sample(state, action, e)
        begun = model.sample(state, action, last.sqrt() * truth + (1 - last).sqrt() * e)
    return {
        "alpha_bar_last": float(last),
        "n": rows,
        "copy_last_mse": float(((state["past"][:, -1] - truth) ** 2).mean()),
        "from_pure_noise_mse": float(((pure - truth) ** 2).mean()),
        "from_where_training_ends_mse": float(((begun - truth) ** 2).mean()),
    }


def main() -> None:
    torch.set_num_threads(2)
    balls = home(sys.argv[1])
    out = balls.parent / "lab"
    seconds = read_json(balls / "summary.json")["train_seconds"]
    recipe = find("lab")
    recipe = replace(recipe, train=replace(recipe.train, steps=None, minutes=seconds / 60))
    run_recipe(recipe, out)
    held = replace(
        recipe,
        world=LabWorldConfig(first=SAMPLES, samples=STARTS * 20),
        collect=replace(recipe.collect, episodes=STARTS * 20, length=PROMPT + FRAMES),
    )
    collect_data(held, out / "long")
    setting: dict[str, Any] = {"starts": STARTS, "prompt": PROMPT, "horizon": FRAMES, "count_horizon": FRAMES}
    setting["other_actions"] = False  # the lab's actions can be read off its frames, and its dreams are slow
    reports = {
        "balls": worldloom.evaluate(balls, out=out / "balls-report", **setting),
        "lab": worldloom.evaluate(out, data=out / "long", out=out / "lab-report", **setting),
    }
    model = worldloom.load(out)
    assert isinstance(model, Lab)
    fault = schedule_fault(model, out / "data")
    names = ("position_error_px", "position_error_px_interval", "object_count_ok", "frames_per_second", "train_seconds")
    rows = {name: {k: r[k] for k in names} | {"parameters": r["run"]["parameters"]} for name, r in reports.items()}
    write_json(RESULTS / "lab.json", {"setting": setting, "seed": 0, "runs": rows, "schedule_fault": fault})
    write_atomic(RESULTS / "lab.md", page(rows, fault).encode())


def page(rows: dict[str, Any], fault: dict[str, float]) -> str:
    """The table, as Markdown."""
    lines = [
        "# The lab beside the recipe `balls`",
        "",
        "Written by `python -m benchmarks.lab runs/demo`: the lab was given as long as the run to train, on two CPU",
        "cores (the column has what it took: steps are counted out at the start, and machines drift).",
        f"{STARTS} held-out starts × {FRAMES} frames each, {PROMPT} prompt frames, seed 0; medians with 95 % intervals",
        "over episodes. Each model is measured on its own world (the lab has no antialiasing and bounces in steps).",
        "",
        "| | "
        + " | ".join(f"error at {h}, px" for h in HORIZONS)
        + " | one ball | frames/s | training, s | parameters |",
        "|---|" + "---|" * (len(HORIZONS) + 4),
    ]
    for name, r in rows.items():
        errors = [
            f"{r['position_error_px'][h]:.2f} ({', '.join(f'{x:.2f}' for x in r['position_error_px_interval'][h])})"
            for h in HORIZONS
        ]
        tail = f"{r['object_count_ok']:.1%} | {r['frames_per_second']:.3g} | {r['train_seconds']:.0f} | "
        tail += f"{r['parameters']:,}"
        lines.append(f"| {name} | {' | '.join(errors)} | {tail} |")
    lines += [
        "",
        "A ball that is not found counts as the frame's diagonal, 90.5 px.",
        "",
        "## The fault in the lab's schedule",
        "",
        f"ᾱ at the last of its 100 steps is {fault['alpha_bar_last']:.3f}. Mean squared error of one sampled frame",
        f"(brightness 0 to 1, n = {fault['n']:.0f}), by the model above:",
        "",
        "| frame | error |",
        "|---|---|",
        f"| copy of the last frame | {fault['copy_last_mse']:.4f} |",
        f"| sampled from pure noise, as the lab does | {fault['from_pure_noise_mse']:.4f} |",
        f"| sampled from √ᾱ x + √(1 − ᾱ) ε, where its training ends | {fault['from_where_training_ends_mse']:.4f} |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
