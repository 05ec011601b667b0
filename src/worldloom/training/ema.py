"""The exponential moving average of a model's weights, which is what a run saves as its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from worldloom.files import DamagedFileError


def ema_decay(decay: float, updates: int) -> float:
    """Decay of update number ``updates`` (from 0): ``min(decay, (1 + u) / (10 + u))``.

    The average then spans about the newest ninth of a short run instead of still holding its random beginning.
    """
    return min(decay, (1 + updates) / (10 + updates))


class Ema:
    """Averaged copies of a model's trained parameters. ``decay`` 0 keeps none: the average is the model itself."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self.decay = decay
        self.updates = 0
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad] if decay else []
        self.names = [n for n, _ in named]
        self._live = [p for _, p in named]
        self._average = [p.detach().clone() for _, p in named]

    @torch.no_grad()
    def update(self) -> None:
        """average <- d * average + (1 - d) * weights, with d of :func:`ema_decay`."""
        if self._live:
            weight = 1 - ema_decay(self.decay, self.updates)
            torch._foreach_lerp_(self._average, [p.detach() for p in self._live], weight)
        self.updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name, for a checkpoint."""
        return dict(zip(self.names, self._average, strict=True))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Put back what :meth:`tensors` gave."""
        if set(tensors) != set(self.names):
            odd = sorted(set(tensors) ^ set(self.names))
            raise DamagedFileError(f"The checkpoint's averaged weights are of another model: {odd[:5]} do not match.")
        for name, average in zip(self.names, self._average, strict=True):
            if tensors[name].shape != average.shape:
                raise DamagedFileError(
                    f"The average of {name!r} has shape {tuple(tensors[name].shape)}, expected {tuple(average.shape)}."
                )
            average.copy_(tensors[name])
        self.updates = updates

    def state_dict(self) -> dict[str, Tensor]:
        """The model's whole state with averaged parameters (buffers as they are): what is saved as the model."""
        place = {id(p): i for i, p in enumerate(self._live)}
        full = self.model.state_dict(keep_vars=True)
        return {n: self._average[place[id(x)]] if id(x) in place else x.detach() for n, x in full.items()}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the model has the averaged weights. Storages change hands, nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self._live):
            parameter.data, self._average[i] = self._average[i], parameter.data


__all__ = ["Ema", "ema_decay"]
