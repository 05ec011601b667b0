"""Datasets of any size, action and rate, whose frames say where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import Dataset, DatasetWriter, Episode

DISCRETE = Control("discrete", n=4)


def make(
    path: Path,
    tone: int,
    lengths: list[int],
    *,
    size: tuple[int, int] = (10, 12),
    channels: int = 3,
    control: Control | None = DISCRETE,
    fps: float = 10.0,
    name: str = "camera",
    extra: dict[str, int] | None = None,
    more: dict[str, Control] | None = None,
    reward: bool = True,
    terminal: bool | None = True,
) -> Dataset:
    """Frame t of episode e has pixels tone, e and t (grey: t alone) but for noise below the first row, the reward
    100 e + t, the true position (e, t), and a random action."""
    rng = np.random.default_rng(tone)
    shown = {name: Sensor("image", (channels, *size))}
    shown |= {n: Sensor("vector", (d,)) for n, d in (extra or {}).items()}
    spec = Spec(shown, ({} if control is None else {"action": control}) | (more or {}), float(fps))
    with DatasetWriter(path, spec, {"world": {"env": "toy"}, "kept": tone}) as writer:
        for number, length in enumerate(lengths):
            t = np.arange(length)
            image = rng.integers(0, 256, (length, channels, *size)).astype(np.uint8)
            image[:, :, 0] = np.stack([np.full(length, tone), np.full(length, number), t], 1)[:, -channels:, None]
            obs = {name: image}
            obs |= {n: np.full((length, d), number, np.float32) for n, d in (extra or {}).items()}
            given = {n: _values(c, length, rng) for n, c in spec.given.items()}
            writer.add(
                Episode(
                    obs,
                    given,
                    (100 * number + t).astype(np.float32) if reward else None,
                    terminal,
                    {"position": np.stack([np.full(length, number), t], 1)[:, None].astype(np.float32)},
                )
            )
    return Dataset(path)


def _values(control: Control, length: int, rng: np.random.Generator) -> np.ndarray:
    if control.kind == "discrete":
        value = rng.integers(0, control.n, length)
        value[0] = control.n
        return value
    value = rng.uniform(-1, 1, (length, *control.shape)).astype(np.float32)
    value[0] = 0
    return value
