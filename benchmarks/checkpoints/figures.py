"""What a shipped model can do: the figures that are asked of it, and what storing it in fewer bytes does to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checkpoints.pack import KINDS, rounded
from benchmarks.exercises.collisions import of_kind
from worldloom.data import Dataset
from worldloom.evaluation.dreamers import ModelDreamer
from worldloom.evaluation.evaluate import measure
from worldloom.evaluation.exact import find_exact
from worldloom.evaluation.figures import track
from worldloom.evaluation.heldout import draw
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import bootstrap
from worldloom.models.saved import load_model

PROMPT, HORIZON = 4, 50
AT = (1, 10, 50)
"""Frames ahead."""
LONG, DREAMS = 500, 64
"""Frames and number of the dreams in which objects are counted."""

Row = dict[str, Any]
WANTED: tuple[tuple[str, str, str, float | None, bool], ...] = (
    ("position_error_px", "1", "median position error after 1 frame, px", 0.05, True),
    ("position_error_px", "10", "after 10 frames, px", 0.6, True),
    ("position_error_px", "50", "after 50 frames, px", 6.0, True),
    ("walls/restitution_error", "", "error of the rebound from walls, median", None, True),
    ("walls/ignored", "", "walls flown into that turned nothing", None, True),
    ("counterfactual/sign_right", "", "direction of the response to pushes right", 0.98, False),
    ("causality/pushes", "", "what pushes do, of what they should", None, False),
    ("permanence/whole", "", f"dreams of {HORIZON} frames that keep their objects", None, False),
    ("trust/coverage", "", "dreams within the bound that trust.json promises with 90 %", None, False),
)
"""Figure of the report, horizon, what the page calls it, the goal, and whether less is better."""
CONTACTS = (
    ("momentum_error", "momentum error at collisions, relative, median", 0.05),
    ("restitution_error", "error of the rebound from each other, median", None),
    ("ghosts", "ghosts: passed through, of contacts", 0.02),
    ("left_out", "contacts that could not be judged", None),
)
"""Figures of the probe of contacts, on fresh starts before which the exact world foresees just one: held-out
episodes of two balls show few."""
ONE_BALL = ("position_error_px",)
"""Figures whose goals are those of the world of one ball."""


def measured(packed: Path, dataset: Dataset, out: Path, starts: int, seed: int) -> list[Row]:
    """All rows of a packed run; its trust.json is written into ``out``."""
    world = find_exact(dataset.info)
    assert world is not None
    several, pushed = world.config.balls > 1, world.config.action != "none"
    probes = ["permanence", "walls", *["causality", "counterfactual"] * pushed, "trust"]
    found = measure(
        packed, data=dataset.path, out=out, starts=starts, prompt=PROMPT, horizon=HORIZON, count_horizon=HORIZON,
        seed=seed, probes=probes,
    )  # fmt: skip
    if found.failed:
        raise SystemExit(" ".join(found.failed.values()))
    figures = found.report.figures
    rows = []
    for name, horizon, what, goal, less in WANTED:
        if name in figures:
            goal = goal if several is False or name not in ONE_BALL else None
            rows.append(row(figures[name], horizon, what, goal, less))
    if several:
        rows += touching({"model": load_model(packed), "dataset": dataset, "world": world}, max(starts, DREAMS), seed)
    long = measure(
        packed, data=dataset.path, out=out, starts=min(starts, DREAMS), prompt=PROMPT, horizon=HORIZON,
        count_horizon=LONG, seed=seed, probes="none", other_actions=False,
    )  # fmt: skip
    count = long.report.figures["object_count_ok"]
    what = f"frames with the right number of objects, dreams of {LONG}"
    return [*rows, row(count, "", what, None if several else 0.999, False)]


def touching(context: dict[str, Any], starts: int, seed: int) -> list[Row]:
    """What becomes of contacts; nothing where no dream shows one."""
    found = (of_kind(context, "contact", starts, seed) or {}).get("probe", {})
    rows = []
    for name, what, goal in CONTACTS:
        if name in found:
            one = found[name]
            reached = None if goal is None or one["value"] is None else bool(one["value"] <= goal)
            rows.append({
                "what": what, "value": one["value"], "interval": one["interval"], "n": one["n"], "n_of": "contacts",
                "seed": seed, "floor": one["floor"], "ceiling": None, "goal": goal, "reached": reached,
            })  # fmt: skip
    return rows


def row(figure: Figure, horizon: str, what: str, goal: float | None, less: bool) -> Row:
    """One figure, at one horizon, as the page has it."""

    def at(x: Any) -> Any:
        return x.get(horizon) if horizon and isinstance(x, dict) else x

    value, interval = at(figure.value), at(figure.interval)
    reached = None if goal is None or value is None else bool(value <= goal if less else value >= goal)
    return {
        "what": what, "value": value, "interval": interval, "n": figure.n, "n_of": figure.n_of, "seed": figure.seed,
        "floor": at(figure.floor), "ceiling": at(figure.ceiling), "goal": goal,
        "reached": reached,
    }  # fmt: skip


def rounding(run: Path, dataset: Dataset, starts: int, seed: int) -> list[Row]:
    """Position error of the same dreams with weights as they were trained, and as they can be stored."""
    held = draw(dataset, starts, PROMPT, HORIZON, HORIZON, seed)
    camera = next(iter(dataset.spec.images))
    seen, frames = held.segment.obs[camera].numpy(), [h for h in AT if h <= held.horizon]
    rows: list[Row] = []
    errors: dict[str, np.ndarray] = {}
    for kind in ("float32", *KINDS):
        model = load_model(run)
        if kind != "float32":
            model.load_state_dict(rounded(model.state_dict(), KINDS[kind]))
        dream = ModelDreamer(model).dream(held, held.control, held.horizon, seed=seed, sensors=[camera])[camera]
        error = track(seen[:, :PROMPT], seen[:, PROMPT:], dream.numpy(), held.truth["position"]).error
        errors[kind] = error.transpose(0, 2, 1).reshape(-1, held.horizon)[:, [h - 1 for h in frames]]
        groups = np.repeat(held.episodes, error.shape[2])
        low, high = bootstrap(errors[kind], groups, "median", seed=seed)
        other = errors[kind] - errors["float32"]
        worse, better = bootstrap(other, groups, "median", seed=seed)
        rows.append({
            "stored": kind, "frames": frames, "median_px": np.median(errors[kind], 0).tolist(),
            "interval": np.stack([low, high], 1).tolist(), "more_px": np.median(other, 0).tolist(),
            "more_interval": np.stack([worse, better], 1).tolist(), "n": len(groups), "seed": seed,
        })  # fmt: skip
        print(f"{run}, {kind}: {rows[-1]['median_px']}", flush=True)
    return rows
