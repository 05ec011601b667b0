"""A batch of sequences of what was shown and given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldloom.contract.errors import ContractError


@dataclass(frozen=True)
class Segment:
    """A batch of sequences, ``(B, T, ...)``."""

    obs: dict[str, Tensor]
    """Sensor name to (B, T, *sensor.shape); images uint8."""
    control: dict[str, Tensor]
    """Control name to (B, T, *control.shape), or (B, *control.shape) for those named in ``once``."""
    first: Tensor
    """(B, T) bool: the frame starts an episode."""
    valid: Tensor
    """(B, T) bool: the frame is real, not padding."""
    reward: Tensor | None = None
    """(B, T) float32, or None where the data have no rewards."""
    terminal: Tensor | None = None
    """(B, T) bool: arriving at the frame truly ended the episode; None where unknown."""
    once: frozenset[str] = frozenset()
    """Names of the controls that are given once, (B, ...) without an axis of time."""

    @property
    def action(self) -> Tensor | None:
        """(B, T, ...) the action that led to each frame; None for plain video."""
        return self.control.get("action")

    @property
    def batch(self) -> int:
        """B."""
        return self.first.shape[0]

    @property
    def length(self) -> int:
        """T."""
        return self.first.shape[1]

    def _map(self, fn: Any, once: Any = None) -> Segment:
        """Apply ``fn`` to tensors with (B, T), ``once`` (default ``fn``) to those with B alone."""

        def one(x: Tensor | None) -> Tensor | None:
            return None if x is None else fn(x)

        return Segment(
            {k: fn(v) for k, v in self.obs.items()},
            {k: (once or fn)(v) if k in self.once else fn(v) for k, v in self.control.items()},
            fn(self.first),
            fn(self.valid),
            one(self.reward),
            one(self.terminal),
            self.once,
        )

    def to(self, device: torch.device | str) -> Segment:
        """The same segment on another device."""
        return self._map(lambda x: x.to(device, non_blocking=torch.device(device).type == "cuda"))

    def rows(self, index: Tensor | slice | Sequence[int]) -> Segment:
        """Some of the sequences."""
        return self._map(lambda x: x[index])

    def time(self, window: slice) -> Segment:
        """Some of the frames: ``segment.time(slice(0, 4))`` is the first four of each sequence.

        Controls given once stay whole. One without an axis of time that :attr:`once` does not name raises
        :class:`ContractError`.
        """
        for name, x in self.control.items():
            if name not in self.once and x.shape[:2] != self.first.shape:
                raise ContractError(
                    f"Control {name!r} has shape {tuple(x.shape)} and no axis of {self.length} frames. If it is given "
                    "once for a sequence, name it in Segment.once."
                )
        return self._map(lambda x: x[:, window], once=lambda x: x)
