"""Cost: time, memory and energy that a dreamed frame takes on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worldloom.contract import Segment, State, WorldModel
from worldloom.evaluation.dreamers import extend
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.cost_meters import Counter, Memory, energy_counter
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure
from worldloom.imagination import absorb
from worldloom.imagination.rollout import given_once

BATCHES = (1, 4, 16, 64)
"""Dreams side by side."""
FRAMES, WARM = 200, 3
"""Frames timed at most of each batch, after some to warm up ..."""
SECONDS = 2.0
"""... and for this long at most (ten times as long if ``dreams.full``) ..."""
LEAST = 5
"""... but no fewer frames than this."""
ELSEWHERE = "Other machines: it holds for this device, these threads, and what else ran."


@dataclass(frozen=True)
class Timed:
    """One batch of dreams, timed."""

    seconds: np.ndarray
    """(n,) of each frame of all dreams together: step, decode, bring to the CPU."""
    memory: float | None
    """Bytes that were needed beyond the model."""
    state: float
    """Bytes that one dream holds between frames."""
    joules: float | None
    """Of the n frames."""


@probe(name="cost", about="What do dreamed frames cost in time, memory and energy on this machine?")
def cost(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/cost.md."""
    model = dreams.model
    if model is None:
        raise NotMeasurableError("No model dreams here, and only a model has a cost.")
    memory = Memory(model.device)
    counter, words = energy_counter(model.device)
    seconds = SECONDS * (10 if dreams.full else 1)
    runs = {size: timed(model, dreams.held, size, seconds, dreams.seed, memory, counter) for size in BATCHES}
    alone = runs[1]
    out: dict[str, Figure] = {}
    for percent in (50, 90, 99):
        out[f"latency_p{percent}_ms"] = _latency(alone.seconds, percent, dreams.seed)
    for size, run in runs.items():
        side = "one dream alone" if size == 1 else f"{size} dreams side by side"
        out[f"frames_per_second_{size}"] = _inverse(
            run.seconds, float(size), dreams.seed, title=f"Speed, {side}", unit="frames/s", better="higher",
            meaning="Frames of all dreams together, each decoded and brought to the CPU.",
        )  # fmt: skip
    wanted = 60 * dreams.spec.fps
    low, middle, high = (float(wanted * x) for x in _quantile(alone.seconds, 50, dreams.seed))
    out["seconds_per_minute"] = Figure(
        middle, (low, high), len(alone.seconds), "frames timed", dreams.seed, "Compute for a minute of video", "s",
        "median", "lower",
        f"For {wanted:g} frames, a minute at {dreams.spec.fps:g} a second, one dream alone. Under 60 it can be played.",
        ELSEWHERE,
    )  # fmt: skip
    for size, run in runs.items():
        side = "one dream alone" if size == 1 else f"{size} dreams side by side"
        out[f"memory_{size}_mib"] = _plain(
            None if run.memory is None else run.memory / 2**20, dreams, f"Memory, {side}", "MiB", memory.meaning,
            "Memory that was free within the process before, and is used again.",
        )  # fmt: skip
    out["state_kib"] = _plain(
        alone.state / 2**10, dreams, "State of a dream", "KiB", "Memory that one dream holds between frames.",
        "What a frame needs while it is made.",
    )  # fmt: skip
    out["parameters"] = _plain(
        float(sum(p.numel() for p in model.parameters())), dreams, "Parameters", "", "Numbers that training set.",
        "How often each is used for a frame.",
    )  # fmt: skip
    out["energy_per_frame_mj"] = _plain(
        None if alone.joules is None else 1e3 * alone.joules / len(alone.seconds), dreams, "Energy of a frame", "mJ",
        words if counter is None else f"Energy of {words} while one dream ran alone, whatever else ran then included.",
        "The rest of the machine.",
    )  # fmt: skip
    return out


def timed(
    model: WorldModel,
    held: HeldOut,
    size: int,
    seconds: float,
    seed: int,
    memory: Memory,
    counter: Counter | None,
) -> Timed:
    """Dream ``size`` dreams side by side for up to :data:`FRAMES` frames or ``seconds``, the starts repeated."""
    start = held.rows(np.arange(size) % len(held.episodes))
    prompt: Segment = start.segment.time(slice(0, held.prompt)).to(model.device)
    total = FRAMES + WARM
    control = {n: x.to(model.device) for n, x in extend(start.control, total).items() if n in model.spec.given}
    times: list[float] = []
    memory.begin()
    with torch.inference_mode():
        state: State = absorb(model, model.start(size, seed, given_once(model.spec, prompt.control)), prompt)
        joules = 0.0
        for t in range(total):
            if t == WARM:
                joules = counter() if counter is not None else 0.0
            began = time.perf_counter()
            state = model.step(state, {n: x[:, t] for n, x in control.items()} or None, donate=True)
            for frame in model.decode(state).values():
                frame.cpu()
            times.append(time.perf_counter() - began)
            if sum(times[WARM:]) > seconds and len(times) >= WARM + LEAST:
                break
        spent = None if counter is None else counter() - joules
    held_bytes = sum(x.nbytes for x in state.tensors.values()) / size
    return Timed(np.array(times[WARM:]), memory.growth(), held_bytes, spent)


def _quantile(seconds: np.ndarray, percent: int, seed: int) -> tuple[float, float, float]:
    """Low end, value and high end of a percentile of (n,) seconds, by drawing the frames anew."""
    drawn = np.random.default_rng(seed).choice(seconds, (1000, len(seconds)))
    low, high = np.quantile(np.quantile(drawn, percent / 100, axis=1), [0.025, 0.975])
    return float(low), float(np.quantile(seconds, percent / 100)), float(high)


def _latency(seconds: np.ndarray, percent: int, seed: int) -> Figure:
    low, middle, high = (1e3 * x for x in _quantile(seconds, percent, seed))
    enough = len(seconds) * (100 - percent) >= 100  # one frame at least lies beyond it
    words = f"{percent} % of the frames of one dream alone took no longer, decoding and the way to the CPU included."
    if not enough:
        words = f"Not measured: {len(seconds)} frames were timed, and this needs {100 // (100 - percent)}."
    return Figure(
        middle if enough else None, (low, high) if enough else None, len(seconds), "frames timed", seed,
        f"Latency, {percent}th percentile", "ms", "median", "lower", words, ELSEWHERE,
    )  # fmt: skip


def _inverse(seconds: np.ndarray, frames: float, seed: int, **words: Any) -> Figure:
    low, middle, high = (frames / x for x in _quantile(seconds, 50, seed))
    return Figure(
        value=middle, interval=(high, low), n=len(seconds), n_of="frames timed", seed=seed, statistic="median",
        blind_to=ELSEWHERE, **words,
    )  # fmt: skip


def _plain(value: float | None, dreams: Dreams, title: str, unit: str, meaning: str, blind_to: str) -> Figure:
    return Figure(
        value, None, 0 if value is None else 1, "measurements", dreams.seed, title, unit, "total", "lower", meaning,
        blind_to,
    )  # fmt: skip
