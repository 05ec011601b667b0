"""Whoever can be asked what happens next: a model, or, to test the probes, a world with a known fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Spec, WorldModel
from worldloom.evaluation.heldout import HeldOut
from worldloom.imagination import imagine

BATCH = 32
"""Dreams side by side: fixed, so that a report can be made again to the last digit."""

Mode: TypeAlias = Literal["free", "teacher"]
"""``free``: on its own frames. ``teacher``: every stretch of ``every`` frames begins from the true history."""


@runtime_checkable
class Dreamer(Protocol):
    """Dreams on from held-out starts under given controls."""

    spec: Spec
    """What it shows and is given."""

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """Sensor name to (B, frames, *shape), resting dtype, on the CPU; B the starts of ``held``.

        control: name to (B, >= frames, ...). mode, every: see :data:`Mode`; ``teacher`` needs ``frames`` of truth.
        The same arguments give the same dreams; another ``seed`` other draws.
        """
        ...


class ModelDreamer:
    """A world model, 32 dreams side by side."""

    def __init__(self, model: WorldModel) -> None:
        self.model, self.spec = model, model.spec

    def dream(
        self,
        held: HeldOut,
        control: Mapping[str, Tensor],
        frames: int,
        *,
        seed: int,
        sensors: Sequence[str],
        mode: Mode = "free",
        every: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Tensor]:
        """See :class:`Dreamer`."""
        rows = len(held.episodes)
        control = {name: x[:, :frames] for name, x in control.items() if name in self.spec.given}
        parts: dict[str, list[Tensor]] = {name: [] for name in sensors}
        for batch, begin in enumerate(range(0, rows, BATCH)):
            piece = slice(begin, min(begin + BATCH, rows))
            whole = held.segment.rows(piece)
            truth = whole.time(slice(held.prompt, held.prompt + frames)) if mode == "teacher" else None
            dream = imagine(
                self.model,
                whole.time(slice(0, held.prompt)),
                {name: x[piece] for name, x in control.items()} or None,
                frames,
                seed=seed + 1_000_003 * batch,  # rows of different batches draw differently
                mode=mode,
                observe_every=every if mode == "teacher" else 0,
                truth=truth,
            )
            for name, part in parts.items():
                part.append(dream.obs[name].cpu())
            say(f"  dreamed {piece.stop} of {rows}")
        return {name: torch.cat(part) for name, part in parts.items()}


def extend(control: Mapping[str, Tensor], frames: int) -> dict[str, Tensor]:
    """Controls (B, T, ...) of ``frames`` frames, repeated from the first on where there are fewer."""
    out = {}
    for name, x in control.items():
        index = torch.from_numpy(np.arange(frames) % x.shape[1])
        out[name] = x[:, index]
    return out


__all__ = ["BATCH", "Dreamer", "Mode", "ModelDreamer", "extend"]
