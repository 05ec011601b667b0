"""From pieces of stored episodes to one :class:`Segment`: bytes are read straight into the tensors' memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment
from worldloom.data.layout import compact
from worldloom.data.shards import read
from worldloom.data.store import Dataset

_FRAME_BY_FRAME = 4096  # bytes: with a stride, larger items are read one by one, smaller ones with what lies between


class Piece(NamedTuple):
    """Consecutive (or every ``stride``-th) frames of one episode, and where they go."""

    row: int
    """Row of the batch."""
    place: int
    """First frame of the row that is filled."""
    episode: int
    """Number of the episode."""
    start: int
    """First frame of the episode that is taken."""
    frames: int
    """How many are taken."""


def gather(dataset: Dataset, pieces: Iterable[Piece], batch: int, length: int, stride: int, pin: bool) -> Segment:
    """(batch, length, ...) from ``pieces``. What no piece fills is padding: zeros, null controls, ``valid`` false.

    With ``stride`` k > 1, a frame's controls are the last of the k that led to it and its reward is their sum.
    ``pin``: page-locked tensors, for copies to a GPU that do not wait.
    """
    pieces = list(pieces)
    whole = sum(p.frames for p in pieces) == batch * length
    spec = dataset.spec

    def frames(name: str, shape: tuple[int, ...], dtype: str, null: int) -> Tensor:
        tensor, array = empty((batch, length, *shape), np.dtype(dtype), pin)
        if not whole:
            _pad(array, pieces, null)
        read_stream(dataset, name, array, pieces, stride)
        return tensor

    obs = {n: frames(f"obs/{n}", s.shape, "|u1" if s.kind == "image" else "<f4", 0) for n, s in spec.shown.items()}
    control = {}
    for name, kind in spec.given.items():
        dtype = compact(kind).str
        if kind.per == "frame":
            value = frames(f"control/{name}", kind.shape, dtype, kind.n)
        else:
            value, array = empty((batch, *kind.shape), np.dtype(dtype), pin)
            heads = [p._replace(start=0, frames=1) for p in pieces if p.place == 0]
            read_stream(dataset, f"once/{name}", array[:, None], heads, 1)
        control[name] = value.to(kind.dtype)
    marks = [np.zeros((batch, length), bool) for _ in range(3)]
    first, valid, terminal = marks
    ends = dataset.index.terminal
    for row, place, episode, start, count in pieces:
        first[row, place] = start == 0
        valid[row, place : place + count] = True
        if ends[episode] == 1 and start + (count - 1) * stride == dataset.lengths[episode] - 1:
            terminal[row, place + count - 1] = True
    reward = None
    if dataset.has_reward:
        reward = frames("reward", (), "<f4", 0) if stride == 1 else _sums(dataset, pieces, batch, length, stride)
    known = torch.from_numpy(terminal) if dataset.has_terminal else None
    return Segment(obs, control, torch.from_numpy(first), torch.from_numpy(valid), reward, known, spec.once)


def empty(shape: tuple[int, ...], dtype: np.dtype, pin: bool) -> tuple[Tensor, np.ndarray]:
    """A tensor and an array that share memory. numpy allocates large arrays in huge pages, torch does not."""
    if pin:
        tensor = torch.from_numpy(np.empty(0, dtype)).new_empty(shape, pin_memory=True)
        return tensor, tensor.numpy()
    array = np.empty(shape, dtype)
    return torch.from_numpy(array), array


def _pad(array: np.ndarray, pieces: list[Piece], null: int) -> None:
    """Fill with ``null`` the frames after the last piece of each row."""
    filled = np.zeros(len(array), np.int64)
    for row, place, _, _, count in pieces:
        filled[row] = max(filled[row], place + count)
    for row in np.flatnonzero(filled < array.shape[1]).tolist():
        array[row, filled[row] :] = null


def read_stream(dataset: Dataset, name: str, array: np.ndarray, pieces: list[Piece], stride: int) -> None:
    """Read a stream's frames into ``array`` (batch, time, ...), which is contiguous."""
    item = array[0, 0].nbytes
    if not item:
        return
    row_bytes = array.shape[1] * item
    target = array.reshape(-1).view(np.uint8).data
    numbers = [p.episode for p in pieces]
    shards = dataset.index.shard[numbers].tolist()
    begins = dataset.streams[name][numbers].tolist()
    files = {shard: dataset.shards.file(shard) for shard in set(shards)}
    for (row, place, _, start, count), shard, begin in zip(pieces, shards, begins, strict=True):
        to, source = row * row_bytes + place * item, begin + start * item
        if stride == 1:
            read(files[shard], target[to : to + count * item], source)
        elif item >= _FRAME_BY_FRAME:
            for k in range(count):
                read(files[shard], target[to + k * item : to + (k + 1) * item], source + k * stride * item)
        else:
            between = np.empty(((count - 1) * stride + 1, item), np.uint8)
            read(files[shard], between.reshape(-1).data, source)
            np.frombuffer(target[to : to + count * item], np.uint8).reshape(count, item)[...] = between[::stride]


def _sums(dataset: Dataset, pieces: list[Piece], batch: int, length: int, stride: int) -> Tensor:
    """(batch, length) rewards of the ``stride`` frames up to each frame, as far as they lie in the episode."""
    out = np.zeros((batch, length), np.float32)
    for row, place, episode, start, count in pieces:
        last = start + (count - 1) * stride
        lead = max(0, start - stride + 1)
        rewards = np.zeros((1, last + 1 - lead), np.float32)
        read_stream(dataset, "reward", rewards, [Piece(0, 0, episode, lead, last + 1 - lead)], 1)
        padded = np.zeros((count, stride), np.float32)
        flat = padded.reshape(-1)
        flat[flat.size - rewards.size :] = rewards[0]
        out[row, place : place + count] = padded.sum(1)
    return torch.from_numpy(out)
