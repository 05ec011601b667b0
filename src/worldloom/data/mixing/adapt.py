"""A dataset read as if it had been recorded to another spec: sizes, sensors, actions and rate changed when read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from worldloom.configs import at_least, to_json
from worldloom.contract import Control, Segment, Spec
from worldloom.data.episode import DataError, Episode
from worldloom.data.gather import Piece
from worldloom.data.index import canonical
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.pictures import Fit, fit
from worldloom.data.store import Dataset
from worldloom.data.windows import Windows

NOWHERE = -1
"""In :attr:`Reading.action`: a choice or an entry that the other spec does not have."""


@dataclass(frozen=True)
class Reading:
    """How a dataset is read as another spec. Plain JSON types, so that a run can remember it."""

    sensors: dict[str, str]
    """Each sensor of the other spec, and its name in the dataset."""
    fit: Literal["strict", "crop", "pad", "stretch"] = "strict"
    """How pictures of another shape are fitted; sizes are those of the specs."""
    stride: int = 1
    """Every how many frames are taken. An action is then the last of those that led to its frame."""
    action: tuple[int, ...] | None = None
    """Where each choice (or entry, if continuous) goes among the other spec's choices or entries, -1 for nowhere; None:
    as they are. A choice that becomes an entry is 1 there, all others 0."""
    reward: bool = True
    """Whether rewards are passed on."""
    terminal: bool = True
    """Whether true ends are passed on."""

    def __post_init__(self) -> None:
        at_least(self, 1, "stride")


def send_action(action: Tensor, source: Control, target: Control, places: Sequence[int]) -> Tensor:
    """Actions ``(*lead, *source.shape)`` of one space as ``(*lead, *target.shape)`` of another; null stays null.

    ``places``: where each choice or entry goes, see :attr:`Reading.action`.
    """
    if source.kind == "discrete" and target.kind == "discrete":
        table = [target.n if p == NOWHERE else p for p in places]
        return torch.tensor([*table, target.n])[action]
    lead = action.shape if source.kind == "discrete" else action.shape[:-1]
    out = torch.zeros((*lead, *target.shape))
    for i, place in enumerate(places):
        if place != NOWHERE:
            out[..., place] = (action == i).float() if source.kind == "discrete" else action[..., i]
    return out


class View(Dataset):
    """A dataset read as ``spec`` says, by ``reading``. Nothing on disk changes; frames are counted as they are read.

    What the reading would make wrong is left out: exact positions where pictures are resized, and what is known of the
    simulator where sizes, rate or actions are other than its own.
    """

    def __init__(self, source: Dataset, spec: Spec, reading: Reading):
        self.source, self.reading, self.spec = source, reading, spec
        self.path, self.header, self.index = source.path, source.header, source.index
        self.shards, self.streams, self._splits = source.shards, source.streams, source.splits
        self.lengths = -(-source.lengths // reading.stride)
        self.fits = _fits(source, spec, reading)
        changed = bool(self.fits) or reading.stride > 1 or reading.action is not None
        self.info = {k: v for k, v in source.info.items() if k != "world"} if changed else source.info
        named = [source.fingerprint, spec.to_json(), to_json(reading)]
        self._fingerprint = hashlib.sha256(canonical({"view": named}).encode()).hexdigest()[: len(source.fingerprint)]

    @property
    def fingerprint(self) -> str:
        """A hash of the dataset, and of how it is read."""
        return self._fingerprint

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """The dataset's own."""
        return self.source.splits

    @property
    def has_reward(self) -> bool:
        """Whether rewards are known and passed on."""
        return self.reading.reward and self.source.has_reward

    @property
    def has_terminal(self) -> bool:
        """Whether true ends are known and passed on."""
        return self.reading.terminal and self.source.has_terminal

    def adapt(self, segment: Segment) -> Segment:
        """A segment of the source, at this view's stride, as this view's spec."""
        obs = {}
        for name, sensor in self.spec.shown.items():
            value = segment.obs[self.reading.sensors[name]]
            if name in self.fits:
                value = self.fits[name].planes(value.flatten(0, 1)).unflatten(0, value.shape[:2])
                value = value.expand(*value.shape[:2], *sensor.shape).contiguous()
            obs[name] = value
        control = {}
        for name, kind in self.spec.given.items():
            its = self.source.spec.given.get(name)
            if its is None:
                control[name] = kind.null(*segment.first.shape)
            elif name == "action" and self.reading.action is not None:
                control[name] = send_action(segment.control[name], its, kind, self.reading.action)
            else:
                control[name] = segment.control[name]
        reward = segment.reward if self.reading.reward else None
        terminal = segment.terminal if self.reading.terminal else None
        return Segment(obs, control, segment.first, segment.valid, reward, terminal, self.spec.once)

    def gather(self, pieces: Iterable[Piece], batch: int, length: int, stride: int = 1, pin: bool = False) -> Segment:
        """As :meth:`Dataset.gather`, in this view's frames."""
        k = self.reading.stride
        own = [piece._replace(start=piece.start * k) for piece in pieces]
        return self.adapt(self.source.gather(own, batch, length, stride * k, pin and not self.fits))

    def windows(self, split: str = "train", length: int = 16) -> Windows:
        """What training draws its batches from."""
        return Windows(self, split, length) if self.reading.stride == 1 else _Phases(self, split, length)

    def episode(self, number: int, start: int = 0, stop: int | None = None, *, verify: bool = False) -> Episode:
        """Episode ``number``, or its frames ``start`` to ``stop``, as this view reads it."""
        k = self.reading.stride
        length = -(-int(self.source.lengths[number]) // k) if 0 <= number < len(self) else 0
        stop = length if stop is None else stop
        if length and not 0 <= start < stop <= length:
            raise DataError(f"Episode {number} has {length} frames; frames {start} to {stop} are not among them.")
        own = self.source.episode(number, start * k, (stop - 1) * k + 1, verify=verify)
        segment = self.gather([Piece(0, 0, number, start, stop - start)], 1, stop - start)
        return Episode(
            {name: x[0].numpy() for name, x in segment.obs.items()},
            {name: x[0].numpy() for name, x in segment.control.items()},
            None if segment.reward is None else segment.reward[0].numpy(),
            own.terminal if self.reading.terminal else None,
            {} if self.fits else {name: np.ascontiguousarray(x[::k]) for name, x in own.truth.items()},
            own.info,
        )

    def describe(self) -> dict[str, Any]:
        """What the view shows, as plain JSON."""
        return super().describe() | ({"truth": []} if self.fits else {})


class _Phases(Windows):
    """Windows of a view that takes every k-th frame: batches begin at any frame of an episode, not at every k-th."""

    def __init__(self, view: View, split: str, length: int):
        super().__init__(view, split, length)
        self._view, self._source = view, Windows(view.source, split, length, view.reading.stride)
        self.count = self._source.count

    def drawn(self, keys: Tensor, device: str | torch.device = "cpu") -> Segment:
        """See :meth:`Windows.drawn`."""
        segment = self._view.adapt(self._source.drawn(keys))
        return segment if str(device) == "cpu" else segment.to(device)


def _fits(source: Dataset, spec: Spec, reading: Reading) -> dict[str, Fit]:
    """For each picture that is not as the spec says: how it becomes so."""
    found = {}
    for name, sensor in spec.images.items():
        own = source.spec.shown[reading.sensors[name]].shape
        if own != sensor.shape:
            size = (sensor.shape[1], sensor.shape[2])
            config = ImportConfig(size=size, fit=reading.fit)
            found[name] = fit((own[1], own[2]), size, config, f"{source.path}, picture {name!r}")
    return found


__all__ = ["NOWHERE", "Reading", "View", "send_action"]
