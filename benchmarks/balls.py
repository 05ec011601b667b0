"""Frames per second of the exact balls and of the textbook lab's own generator, side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from worldloom.worlds.balls import Balls, BallsConfig
from worldloom.worlds.lab import CONTEXT, lab_sample

REPEATS = 5
SECONDS = 0.4
WORLDS = 128


def run(repeats: int = REPEATS, seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Rows of {what, value, unit, n, note}. The makers take turns, so that a busy machine slows all alike."""
    makers: dict[str, Callable[[], int]] = {
        "lab's own generator": _lab(),
        "balls, one ball": _balls(BallsConfig()),
        "balls, four balls": _balls(BallsConfig(balls=4)),
        "balls, four balls with gravity": _balls(BallsConfig(balls=4, gravity=(0.0, 0.1))),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(repeats):
        for name, make in makers.items():
            rates[name].append(_rate(make, seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    base = medians["lab's own generator"]
    rows = []
    for name, values in rates.items():
        note = f"64x64x3, single process, range {min(values):.0f} to {max(values):.0f}"
        rows.append({"what": name, "value": round(medians[name]), "unit": "frames/s", "n": repeats, "note": note})
        if medians[name] is not base:
            ratio = round(medians[name] / base, 1)
            note = f"medians; {WORLDS} worlds a batch"
            rows.append({"what": f"{name} against the lab", "value": ratio, "unit": "x", "n": repeats, "note": note})
    return rows


def _rate(make: Callable[[], int], seconds: float) -> float:
    make()
    start, frames = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        frames += make()
    return frames / (time.perf_counter() - start)


def _lab() -> Callable[[], int]:
    index = 0

    def make() -> int:
        nonlocal index
        lab_sample(index)
        index += 1
        return CONTEXT + 1

    return make


def _balls(config: BallsConfig) -> Callable[[], int]:
    world = Balls(config, WORLDS)
    world.reset(seed=0)

    def make() -> int:
        world.step()
        return world.num

    return make


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:<50} {row['value']:>10} {row['unit']:<9} n={row['n']}  {row['note']}")
