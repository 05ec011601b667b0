"""A dreamed frame of the recipe `balls` against one of the lab, alone and sixteen together; random weights, in turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from worldloom.contract import State, WorldModel
from worldloom.imagination.settings import otherwise
from worldloom.models import build
from worldloom.recipes import find
from worldloom.recipes.run import open_world
from worldloom.worlds import make_world

TOGETHER = 16
PEERS = {"DIAMOND (github.com/eloialonso/diamond)": 0.082, "IRIS (github.com/eloialonso/iris)": 0.106}
"""Their time for a 64×64 frame at batch 1 over the lab's, by their own code with default settings and random weights,
timed in one process with the lab on two CPU cores in float32 (2026-11); ± 30 %."""


def _start(model: WorldModel, batch: int) -> tuple[State, torch.Tensor | None]:
    state = model.start(batch, 0)
    action = model.spec.action.null(batch) if model.spec.action is not None else None
    for _ in range(8):
        obs = {n: torch.zeros(batch, *s.shape, dtype=s.dtype) for n, s in model.spec.shown.items()}
        state = model.observe(state, obs, action)
    return state, action


def _seconds(model: WorldModel, batch: int, frames: int) -> float:
    """A frame of all rows, stepped and decoded."""
    with torch.inference_mode():
        state, action = _start(model, batch)
        begin = time.perf_counter()
        for _ in range(frames):
            state = model.step(state, action, donate=True)
            model.decode(state)
        return (time.perf_counter() - begin) / frames


def run(n: int = 5) -> list[dict[str, Any]]:
    balls = find("balls")
    ours = build("diffusion", make_world("balls").spec, balls.model).eval()
    own = int(ours.config.steps)
    lab_recipe = find("lab")
    lab = build("lab", open_world(lab_recipe).spec, lab_recipe.model).eval()
    default = f"default sampler ({own} step{'s' if own > 1 else ''})"
    others = [("1 step", {"steps": 1, "method": "euler"}), ("2 steps", {"steps": 2, "method": "euler"})]
    settings = [(default, ours)]
    settings += [(name, otherwise(ours, **one)) for name, one in others if one["steps"] != own]
    ways = {f"{name}, batch {batch}": (model, batch) for name, model in settings for batch in (1, TOGETHER)}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    slow: list[float] = []
    for turn in range(n + 1):
        for name, (model, batch) in ways.items():
            seconds = _seconds(model, batch, 40 if batch == 1 else 6)
            if turn:  # the first warms up
                taken[name].append(seconds)
        seconds = _seconds(lab, 1, 1)
        if turn:
            slow.append(seconds)
    rows = []
    for name, (_, batch) in ways.items():
        rate = batch / statistics.median(taken[name])
        rows.append({"what": f"balls, 64×64, {name}", "value": rate, "unit": "frames/s", "n": n})
    for name, _ in settings:
        one, many = taken[f"{name}, batch 1"], taken[f"{name}, batch {TOGETHER}"]
        ratio = statistics.median(TOGETHER * a / b for a, b in zip(one, many, strict=True))
        rows.append({"what": f"{name}: frames/s of {TOGETHER} dreams / of one", "value": ratio, "unit": "×", "n": n})
    rows.append({"what": "the lab, a frame (100 steps)", "value": statistics.median(slow), "unit": "s", "n": n})
    for name, _ in settings:
        ratio = statistics.median(b / a for a, b in zip(taken[f"{name}, batch 1"], slow, strict=True))
        what = f"the lab's time for a frame / ours, {name}"
        rows.append({"what": what, "value": ratio, "unit": "×", "n": n, "note": "median of pairs"})
    note = "their public code beside the lab, timed in 2026-11 and not again"
    for name, share in PEERS.items():
        what = f"the lab's time for a frame / that of {name}"
        rows.append({"what": what, "value": 1 / share, "unit": "×", "n": 1, "note": note})
    return rows
