"""A run that is asked for videos: which prompts, which true videos beside them, and how many passes it took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldloom.configs import from_json
from worldloom.contract import WorldloomError, WorldModel
from worldloom.evaluation.datasets import open_data
from worldloom.evaluation.exact import FRESH
from worldloom.evaluation.prompts import Shown, look
from worldloom.evaluation.statistics import bootstrap, share_interval
from worldloom.files import read_json
from worldloom.imagination.prompts import prompted
from worldloom.models.saved import load_model
from worldloom.worlds.balls import Captions, CaptionsConfig
from worldloom.worlds.balls.captions import Meaning, caption, draw_meaning

ROWS = 32
"""Videos dreamed at once."""


@dataclass
class Played:
    """True videos of n meanings, with what is behind them."""

    meanings: list[Meaning]
    """What each shows."""
    frames: np.ndarray
    """(n, T, 3, H, W) uint8."""
    truth: dict[str, np.ndarray]
    """(n, T, ...) as :class:`~worldloom.worlds.balls.Captions` tells it; NaN for balls that are not there."""

    @property
    def texts(self) -> list[str]:
        """The plainest caption of each, which says all."""
        return [caption(m) for m in self.meanings]


@dataclass
class Asked:
    """A run's model and its world."""

    model: WorldModel
    world: CaptionsConfig
    seed: int
    seconds: float = 0.0
    """Spent dreaming."""
    passes: int = 0
    """Frames that the network denoised."""
    _floors: dict[Any, Shown] = field(default_factory=dict)

    def meanings(self, n: int, seed: int = 0) -> list[Meaning]:
        """n whole meanings, each value with the same chance."""
        random = np.random.default_rng((self.seed, seed, 77))
        return [draw_meaning(random, self.world.counts, self.world.colours) for _ in range(n)]

    def play(
        self, meanings: Sequence[Meaning], frames: int, size: tuple[int, int] | None = None, turn: bool = False
    ) -> Played:
        """Fresh true videos of meanings. ``turn``: of the same first pictures, but each ball starts another way."""
        height, width = size or (self.world.height, self.world.width)
        world = Captions(replace(self.world, height=height, width=width), len(meanings))
        seen = [world.show(meanings, FRESH + self.seed)]
        if turn:
            angle = np.random.default_rng((self.seed, 5)).uniform(0, 2 * np.pi, world._v.shape[:2])
            speed = np.hypot(world._v[..., 0], world._v[..., 1])  # NaN for balls that are not there
            world._v = speed[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        seen += [world.step() for _ in range(frames - 1)]
        truth = {name: np.stack([f.truth[name] for f in seen], 1) for name in seen[0].truth}
        return Played(list(meanings), np.stack([f.obs["camera"] for f in seen], 1), truth)

    def floor(self, meanings: Sequence[Meaning], frames: int, size: tuple[int, int] | None = None) -> Shown:
        """What true videos of these meanings show; looked at once."""
        key = (tuple(meanings), frames, size)
        if key not in self._floors:
            self._floors[key] = look(self.play(meanings, frames, size).frames, self.world)
        return self._floors[key]

    def dream(
        self,
        texts: Sequence[str],
        first: np.ndarray | None = None,
        last: np.ndarray | None = None,
        rows: int = ROWS,
        **asked: Any,
    ) -> np.ndarray:
        """(n, T, 3, H, W) uint8: a video of each text, from what it begins and ends with (n, P, 3, H, W)."""
        sensor = next(iter(self.model.spec.images))
        counted = self.model.get_submodule("net").register_forward_pre_hook(self._count)
        begun, out = time.monotonic(), []
        try:
            for i in range(0, len(texts), rows):
                part = slice(i, i + rows)
                ends = {
                    name: torch.from_numpy(np.ascontiguousarray(x[part]))
                    for name, x in (("first", first), ("last", last))
                    if x is not None
                }
                made = prompted(self.model, text=list(texts[part]), seed=1_000_003 * self.seed + i, **ends, **asked)
                out.append(made.obs[sensor].numpy())
        finally:
            counted.remove()
            self.seconds += time.monotonic() - begun
        return np.concatenate(out)

    def _count(self, _: Any, inputs: tuple[Any, ...]) -> None:
        self.passes += len(inputs[0])


def open_asked(run: Path, seed: int) -> Asked:
    """The run's model, and the world whose words it learnt."""
    dataset = open_data(run, read_json(run / "config.json", sealed=True), None).dataset
    told = dataset.info.get("world", {})
    if told.get("env") != "captions":
        raise WorldloomError(f"{run} was not trained on captioned balls but on {told.get('env', 'other data')}.")
    return Asked(load_model(run), from_json(CaptionsConfig, told["config"], "world"), seed)


def share(values: np.ndarray, seed: int) -> list[float | None]:
    """Mean of shares (n,) with its interval."""
    low, high = share_interval(values, seed=seed)
    return [float(values.mean()), *(float(x) if np.isfinite(x) else None for x in (low, high))]


def difference(a: np.ndarray, b: np.ndarray, seed: int) -> list[float | None]:
    """Mean of a - b (n,), the same prompts on both sides, with its interval."""
    low, high = bootstrap(a - b, seed=seed)
    return [float((a - b).mean()), *(float(x) if np.isfinite(x) else None for x in (low, high))]
