"""One optimiser step: a gradient from a batch, checked, clipped and applied. It never names a model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from worldloom.contract import Segment, WorldloomError, WorldModel, mix
from worldloom.training.compiled import Compiled
from worldloom.training.config import TrainConfig
from worldloom.training.devices import autocast
from worldloom.training.ema import Ema
from worldloom.training.logs import RESERVED
from worldloom.training.optim import lr_factor


class NonFiniteError(WorldloomError):
    """The loss, the gradient or the weights became NaN or infinite."""


@dataclass(frozen=True)
class Update:
    """What one step gave."""

    metrics: dict[str, float]
    """``loss``, ``grad_norm`` (before clipping), and the model's own metrics."""
    applied: bool
    """False where loss or gradient were not finite and the batch was left out."""


def draw_key(seed: int, step: int, piece: int) -> int:
    """Seed of the model's draws in one piece of one step: a hash of all three.

    Every step seeds its generator anew, so a resumed run repeats the draws without any stored generator state.
    """
    one = torch.tensor(seed, dtype=torch.int64)
    return int(mix(mix(mix(one, 0x7261), step), piece))


def pieces(segment: Segment, count: int) -> Iterator[tuple[Segment, Tensor | float]]:
    """The batch in ``count`` pieces of nearly equal size, each with its share of the valid frames.

    Models average their loss over valid frames; weighted by these shares the pieces' losses add up to the batch's.
    """
    if count == 1:
        yield segment, 1.0
        return
    total = segment.valid.sum().clamp_min(1)
    edges = [round(i * segment.batch / count) for i in range(count + 1)]
    for begin, end in pairwise(edges):
        piece = segment.rows(slice(begin, end))
        yield piece, piece.valid.sum() / total


class Updater:
    """The model, its optimiser and its average, stepped together."""

    def __init__(
        self,
        model: WorldModel,
        optimizer: torch.optim.Optimizer,
        ema: Ema,
        config: TrainConfig,
        device: torch.device,
        precision: str,
    ):
        self.model, self.optimizer, self.ema, self.config = model, optimizer, ema, config
        self.device, self.precision = device, precision
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.skips = 0  # batches in a row that were left out
        self._generator = torch.Generator(device=device)
        self._fast = Compiled(model).running if config.compile else contextlib.nullcontext

    def lr(self, step: int, steps: int) -> float:
        """Learning rate of update number ``step``."""
        c = self.config
        return c.lr * lr_factor(step, steps, c.warmup, c.decay, c.final_lr)

    def step(self, segment: Segment, step: int, steps: int) -> Update:
        """Update number ``step`` (from 0) of ``steps``.

        Raises :class:`NonFiniteError` before any weight is touched where loss or gradient are not finite, unless the
        configuration says to skip such batches.
        """
        # Forward passes may write running statistics into buffers; a batch that is left out must leave none there.
        skipping = self.config.nonfinite == "skip"
        buffers = {n: b.clone() for n, b in self.model.named_buffers()} if skipping else {}
        metrics = self.gradients(segment, step)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip or math.inf)
        values = self._read({**metrics, "grad_norm": norm})
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])
            self.optimizer.zero_grad(set_to_none=True)
            self._refuse(step, values)
            return Update(values, False)
        self.skips = 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(step, steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        return Update(values, True)

    def gradients(self, segment: Segment, step: int) -> dict[str, Tensor]:
        """Add the batch's gradient to the parameters; returns the loss and the model's metrics, still on the device."""
        self.model.train()
        sums: dict[str, Tensor] = {}
        for i, (piece, share) in enumerate(pieces(segment, self.config.accumulate)):
            key = draw_key(self.config.seed, step, i)
            self._generator.manual_seed(key)
            torch.manual_seed(key)  # for dropout and the like, which know only the global generator
            with autocast(self.device, self.precision), self._fast():
                loss = self.model.loss(piece, self._generator)
            (loss.total * share).backward()
            named = {f"model_{n}" if n in RESERVED else n: x for n, x in loss.metrics.items()}
            for name, value in {"loss": loss.total, **named}.items():
                part = value.detach().float() * share
                sums[name] = sums[name] + part if name in sums else part
        return sums

    @staticmethod
    def _read(tensors: dict[str, Tensor]) -> dict[str, float]:
        """All scalars by one transfer: on a GPU every ``item()`` waits for the device."""
        stacked = torch.stack([x.detach().float().reshape(()) for x in tensors.values()])
        return dict(zip(tensors, stacked.tolist(), strict=True))

    def _refuse(self, step: int, values: dict[str, float]) -> None:
        self.skips += 1
        skip = self.config.nonfinite == "skip"
        if skip and self.skips <= self.config.max_skips:
            return
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        many = f" and in the {self.skips - 1} batches before it" if skip and self.skips > 1 else ""
        raise NonFiniteError(f"The loss or its gradient is not finite at step {step}{many}: {shown}.")

    def check_weights(self, step: int) -> None:
        """Raise :class:`NonFiniteError` unless every weight and every average is finite; asked before each save."""
        tensors = [*self.parameters, *self.ema.tensors().values()]
        if not bool(torch.stack([x.detach().isfinite().all() for x in tensors]).all()):
            raise NonFiniteError(f"Weights became NaN or infinite by step {step}; they are not saved.")


__all__ = ["NonFiniteError", "Update", "Updater", "draw_key", "pieces"]
