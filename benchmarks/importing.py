"""Importing: 10,000 frames of 256×256 H.264 in ten files, shrunk to 64×64, hashed and durable on disk."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from worldloom.data.importing import import_data
from worldloom.data.sources import ImportConfig
from worldloom.imagination.video import write_video

FILES, FRAMES, SIDE, RUNS = 10, 1000, 256, 3


def _film(seed: int) -> np.ndarray:
    """(FRAMES, SIDE, SIDE, 3) uint8: a textured ground that slides, discs that move across it, and camera noise."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 256, (SIDE // 8, 2 * SIDE // 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    y, x = np.mgrid[:SIDE, :SIDE]
    noise = rng.integers(0, 6, (8, SIDE, SIDE, 3), np.uint8)
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.uint8)
    place, speed = rng.uniform(20, SIDE - 20, (4, 2)), rng.uniform(-4, 4, (4, 2))
    for t in range(FRAMES):
        frames[t] = ground[:, t % SIDE : t % SIDE + SIDE] // 2 + noise[t % 8]
        place += speed
        speed = np.where((place < 16) | (place > SIDE - 16), -speed, speed)
        for i, (cx, cy) in enumerate(place):
            frames[t][(x - cx) ** 2 + (y - cy) ** 2 < 200] = (250, 60 * i, 200 - 50 * i)
    return frames


def run() -> list[dict[str, Any]]:
    """Rows of {"what", "value", "unit", "n", "note"}."""
    rates, alone = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "films").mkdir()
        for seed in range(FILES):
            write_video(folder / "films" / f"{seed}.mp4", _film(seed), 30.0, scale=1)
        size = sum(p.stat().st_size for p in (folder / "films").iterdir()) / FILES / FRAMES
        for i in range(RUNS):
            for workers, found in ((None, rates), (1, alone)):
                begin = time.perf_counter()
                dataset = import_data(
                    folder / "films",
                    folder / f"out{i}-{workers}",
                    ImportConfig(size=(64, 64)),
                    workers=workers,
                    say=lambda _: None,
                )
                found.append(dataset.frames / (time.perf_counter() - begin))
    note = f"{FILES} files of {FRAMES} frames, {size:,.0f} bytes a frame; no actions"
    return [
        {"what": "import 256×256 H.264 to 64×64", "value": median(rates), "unit": "frames/s", "n": RUNS, "note": note},
        {"what": "the same with one thread", "value": median(alone), "unit": "frames/s", "n": RUNS, "note": ""},
    ]
