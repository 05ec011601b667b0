"""What is looked at but never trained on: validation loss, filmstrips, and the starts that travel with a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from worldloom.contract import Segment, WorldloomError, WorldModel
from worldloom.data.windows import Batches
from worldloom.training.config import TrainConfig
from worldloom.training.devices import autocast
from worldloom.training.filmstrip import dreamed_sensor, write_filmstrip
from worldloom.training.logs import RESERVED
from worldloom.training.update import draw_key

_SEED = 0x68656C64  # of the held-out draws: the same in all runs, whatever their seed
STARTS, STRIPS = 8, 3


class HeldOut:
    """Held-out episodes, always seen through the same windows and the same draws.

    Where there is no validation split, ``why_not`` says so: filmstrips and starts are then taken from the training
    episodes, and there is no validation loss rather than a flattering one.
    """

    def __init__(self, dataset: Any, config: TrainConfig, length: int, device: torch.device, precision: str):
        self.config, self.device, self.precision = config, device, precision
        self.why_not: str | None = None
        try:
            self.windows = dataset.windows("val", length)
        except WorldloomError as error:
            self.why_not = str(error)
            self.windows = dataset.windows("train", length)
        self._generator = torch.Generator(device=device)

    def validate(self, model: WorldModel) -> dict[str, float]:
        """Mean ``val_loss`` and ``val_<metric>`` over ``validate_batches`` batches, in evaluation mode.

        Of a mixture each part is validated on as many batches; the mean is over the parts by their shares, and
        ``val_loss/<part>`` is told of each. Empty where there is no validation split.
        """
        if self.why_not is not None:
            return {}
        sums: dict[str, float] = {}
        frames = 0.0
        parts: dict[str, float] = {}
        model.eval()
        with torch.no_grad():
            for name, share, windows in self.windows.parts:
                own, count = self._sums(model, windows)
                for metric, value in own.items():
                    sums[metric] = sums.get(metric, 0.0) + share * value
                frames += share * count
                if name:
                    parts[f"val_loss/{name}"] = own["loss"] / max(count, 1.0)
        return {f"val_{name}": total / max(frames, 1.0) for name, total in sums.items()} | parts

    def _sums(self, model: WorldModel, windows: Batches) -> tuple[dict[str, float], float]:
        """Loss and metrics summed over the valid frames of all batches, and the number of those frames."""
        sums: dict[str, float] = {}
        frames = 0.0
        for i in range(self.config.validate_batches):
            segment = windows.batch(self.config.batch, seed=_SEED, step=i, device=self.device)
            key = draw_key(_SEED, i, 0)
            self._generator.manual_seed(key)
            torch.manual_seed(key)
            with autocast(self.device, self.precision):
                loss = model.loss(segment, self._generator)
            count = float(segment.valid.sum())
            named = {f"model_{n}" if n in RESERVED else n: x for n, x in loss.metrics.items()}
            for name, value in {"loss": loss.total, **named}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * count
            frames += count
        return sums, frames

    def segment(self, count: int) -> tuple[Segment, int]:
        """Up to ``count`` windows of different episodes and how many of their frames are the prompt.

        They are ``prompt + sample_frames`` long, or as long as the longest episode.
        """
        longest = self.windows.longest
        if longest < 2:
            raise WorldloomError("All held-out episodes are a single frame long: there is nothing to dream.")
        prompt = min(self.config.prompt, longest - 1)
        horizon = min(self.config.sample_frames, longest - prompt)
        starts = self.windows.starts(count, prompt, horizon)
        return self.windows.segment(starts, prompt + horizon), prompt

    def filmstrip(self, model: WorldModel, path: Path) -> Path | None:
        """Write a filmstrip of a few held-out windows; None for a model that dreams no pictures."""
        if dreamed_sensor(model) is None:
            return None
        segment, prompt = self.segment(STRIPS)
        return write_filmstrip(path, model, segment, prompt, seed=_SEED)

    def save_starts(self, path: Path) -> None:
        """Write a few held-out windows beside the model, so that a run can dream without its data."""
        from worldloom.imagination.starts import save_starts

        save_starts(path, self.segment(STARTS)[0])


__all__ = ["HeldOut"]
