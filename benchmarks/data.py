"""Episodes on disk: random windows of 16 frames 64×64×3, warm cache, one process; writing and verifying."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Dataset, DatasetWriter, Episode, Windows
from worldloom.data.gather import Piece, read_stream

EPISODES, LENGTH, BATCH = 60, 250, 32
SPEC = Spec({"image": Sensor("image", (3, 64, 64))}, {"action": Control("discrete", n=4)})


def _write(path: Path) -> float:
    """Seconds to write the data."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (LENGTH, 3, 64, 64), dtype=np.uint8)
    action = np.arange(LENGTH) % 4
    action[0] = 4
    begin = time.perf_counter()
    with DatasetWriter(path, SPEC) as writer:
        for _ in range(EPISODES):
            writer.add(Episode({"image": image}, {"action": action}, np.zeros(LENGTH, np.float32), False))
    return time.perf_counter() - begin


def _rates(work: Callable[[int], object], windows: int, runs: int, per_run: int) -> list[float]:
    """Windows a second, one figure a run; ``work`` does one batch of ``windows``."""
    work(0)
    found = []
    for run in range(runs):
        begin = time.perf_counter()
        for step in range(per_run):
            work(run * per_run + step)
        found.append(per_run * windows / (time.perf_counter() - begin))
    return found


def run() -> list[dict[str, Any]]:
    """Rows of {"what", "value", "unit", "n", "note"}."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        frames = EPISODES * LENGTH
        seconds = _write(path)
        rows.append(_row("write 64×64×3 frames, hashed and durable", [frames / seconds], "frames/s"))
        data = Dataset(path)
        begin = time.perf_counter()
        data.verify()
        rows.append(_row("verify every hash", [data.index.bytes.sum() / (time.perf_counter() - begin) / 1e6], "MB/s"))

        rng = np.random.default_rng(1)
        target = np.zeros((BATCH, 16, 3, 64, 64), np.uint8)
        mapped = np.memmap(path / "shards" / "000000.bin", mode="r").view(np.ndarray)
        size = 16 * 3 * 64 * 64

        def pieces() -> list[Piece]:
            draws = zip(rng.integers(0, EPISODES, BATCH), rng.integers(0, LENGTH - 16, BATCH), strict=True)
            return [Piece(row, 0, int(e), int(start), 16) for row, (e, start) in enumerate(draws)]

        def raw(step: int) -> None:
            read_stream(data, "obs/image", target, pieces(), 1)

        def by_map(step: int) -> None:
            flat = target.reshape(BATCH, -1)
            for row, _, episode, start, _ in pieces():
                begin = int(data.streams["obs/image"][episode]) + start * size // 16
                flat[row] = mapped[begin : begin + size]

        rows.append(_row("windows into one buffer (pread)", _rates(raw, BATCH, 7, 60), "windows/s"))
        rows.append(_row("the same by numpy memmap, for scale", _rates(by_map, BATCH, 7, 60), "windows/s"))
        for batch in (32, 64):
            windows = Windows(data, "train", 16)
            rates = _rates(lambda step, w=windows, b=batch: w.batch(b, 0, step), batch, 7, 40)
            rows.append(_row(f"training batches of {batch}", rates, "windows/s", "images, actions, rewards, marks"))
    return rows


def _row(what: str, values: list[float], unit: str, note: str = "") -> dict[str, Any]:
    return {"what": what, "value": float(median(values)), "unit": unit, "n": len(values), "note": note}
