"""A dreamed frame of the recipe `balls` against one of the lab, batch 1, random weights, in turn."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from worldloom.contract import State, WorldModel
from worldloom.models import build
from worldloom.recipes import find
from worldloom.worlds import make_world


def _start(model: WorldModel) -> tuple[State, torch.Tensor | None]:
    state = model.start(1, 0)
    action = model.spec.action.null(1) if model.spec.action is not None else None
    for _ in range(4):
        obs = {n: torch.zeros(1, *s.shape, dtype=s.dtype) for n, s in model.spec.shown.items()}
        state = model.observe(state, obs, action)
    return state, action


def _frames(model: WorldModel, count: int) -> float:
    """Seconds a frame, decoded."""
    state, action = _start(model)
    with torch.inference_mode():
        begin = time.perf_counter()
        for _ in range(count):
            state = model.step(state, action)
            model.decode(state)
    return (time.perf_counter() - begin) / count


def run(n: int = 5) -> list[dict[str, Any]]:
    balls = find("balls")
    ours = build("diffusion", make_world("balls").spec, balls.model).eval()
    lab_recipe = find("lab")
    from worldloom.recipes.run import open_world

    lab = build("lab", open_world(lab_recipe).spec, lab_recipe.model).eval()
    _frames(ours, 20)
    _frames(lab, 1)
    fast, slow = [], []
    for _ in range(n):
        fast.append(_frames(ours, 60))
        slow.append(_frames(lab, 1))
    ratio = statistics.median(b / a for a, b in zip(fast, slow, strict=True))
    return [
        {"what": "balls, dreamed frames/s, batch 1", "value": 1 / statistics.median(fast), "unit": "frames/s", "n": n},
        {"what": "the lab, a frame", "value": statistics.median(slow), "unit": "s", "n": n},
        {"what": "the lab's time for a frame / ours", "value": ratio, "unit": "×", "n": n, "note": "median of pairs"},
    ]
