"""How fast a model dreams, and how long it trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldloom.contract import Segment, State, WorldModel
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import bootstrap
from worldloom.files import read_json
from worldloom.imagination import absorb
from worldloom.imagination.rollout import given_once
from worldloom.training.trainer import FEW_STEPS

SPEED_FRAMES, SPEED_SECONDS = 60, 8.0
"""Frames that are timed at most, and for how long at most."""


def speed(model: WorldModel, held: HeldOut, seed: int) -> Figure:
    """Frames a second at batch 1: step and decode, every frame brought to the CPU, median after a warm-up."""
    prompt: Segment = held.segment.time(slice(0, held.prompt)).rows(slice(0, 1))
    control = {n: x[:1].to(model.device) for n, x in held.control.items() if n in model.spec.given}
    once = given_once(model.spec, prompt.to(model.device).control)
    times: list[float] = []
    with torch.inference_mode():
        state: State = absorb(model, model.start(1, seed, once), prompt, donate=True)
        began = time.perf_counter()
        for t in range(SPEED_FRAMES + 5):
            start = time.perf_counter()
            state = model.step(state, {n: x[:, t % x.shape[1]] for n, x in control.items()} or None, donate=True)
            for frame in model.decode(state).values():
                frame.cpu()
            times.append(time.perf_counter() - start)
            if time.perf_counter() - began > SPEED_SECONDS and len(times) > 1:
                break
    measured = np.array(times[min(5, len(times) // 2) :])
    low, high = bootstrap(measured, None, "median", seed=seed)
    return Figure(
        value=float(1 / np.median(measured)),
        interval=(float(1 / high), float(1 / low)) if np.isfinite(low) else None,
        n=len(measured),
        n_of="frames timed",
        seed=seed,
        title="Speed of dreaming",
        unit="frames/s",
        statistic="median",
        better="higher",
        meaning="One dream alone, with the model's default sampler, each frame decoded and brought to the CPU.",
        blind_to="Other machines: it holds for this device and these threads.",
    )


def train_seconds(run: Path, config: Mapping[str, Any], seed: int, notes: list[str]) -> Figure:
    """Training time as the trainer wrote it down."""
    file = run / "summary.json"
    summary = read_json(file, sealed=True) if file.exists() else {}
    value = summary.get("train_seconds") if isinstance(summary, Mapping) else None
    if not isinstance(value, (int, float)):
        value = None
        notes.append("Training time is unknown: the run has no summary.json with train_seconds (not finished yet?).")
    steps = summary.get("steps") if isinstance(summary, Mapping) else None
    if isinstance(steps, int) and steps < FEW_STEPS:
        notes.append(f"The model was trained for {steps} steps, which is hardly enough to learn from.")
    trained = (config.get("train") or {}).get("seed", seed)
    return Figure(
        value=None if value is None else float(value),
        interval=None,
        n=0 if value is None else 1,
        n_of="training",
        seed=int(trained),
        title="Training",
        unit="s",
        statistic="total",
        better="lower",
        meaning="Time spent training, on the machine that trained. The seed is that of the training.",
    )


__all__ = ["speed", "train_seconds"]
