"""Windows for training and starts for evaluation: which frames of which episodes, by seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Segment, mix, row_keys
from worldloom.data.episode import DataError
from worldloom.data.gather import Piece
from worldloom.data.splits import NAMES
from worldloom.data.store import Dataset


@runtime_checkable
class Batches(Protocol):
    """What training asks of its data: :class:`Windows` of one dataset, or those of a mixture."""

    length: int

    def batch(self, size: int, seed: int, step: int, device: str | torch.device = "cpu") -> Segment:
        """``size`` random windows (size, length, ...): a pure function of the data, ``seed`` and ``step``."""
        ...


class Windows:
    """Windows of ``length`` frames, ``stride`` apart, of a part of a dataset.

    A window never crosses the end of an episode, unless ``allow_crossing``. Episodes shorter than a window are kept:
    each counts as one window, from its first frame, padded at its end (zeros, null controls, ``valid`` false). So no
    episode is ever dropped. A window from frame 0 has ``first[0]`` true and the null action; one from mid-episode has
    ``first[0]`` false and the real action.

    With ``allow_crossing`` the episodes of the part lie end to end, in order, and a window may start at any frame of
    that row; ``first`` marks the frame where another episode begins. It needs stride 1 and no control given once.

    With ``stride`` k > 1, a frame's action is the last of the k that led to it and its reward the sum over them.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str | Sequence[int] | np.ndarray = "train",
        length: int = 16,
        stride: int = 1,
        allow_crossing: bool = False,
    ):
        if length < 1 or stride < 1:
            raise DataError(f"A window needs length and stride of at least 1, found {length} and {stride}.")
        if allow_crossing and (stride > 1 or any(c.per == "once" for c in dataset.spec.given.values())):
            raise DataError("Windows that cross episodes need stride 1 and no control that is given once.")
        self.dataset, self.length, self.stride, self.crossing = dataset, length, stride, allow_crossing
        self.episodes = _part(dataset, split)
        """(n,) int64: numbers of the part's episodes."""
        lengths = dataset.lengths[self.episodes]
        span = (length - 1) * stride + 1
        if allow_crossing:
            self._ends = np.cumsum(lengths)  # frame of the row of episodes at which each ends
            self.count = max(int(self._ends[-1]) - span + 1, 1)
        else:
            self._ends = np.cumsum(np.maximum(lengths - span + 1, 1))  # window at which each episode's windows end
            self.count = int(self._ends[-1])
        """Number of different windows; :meth:`batch` draws uniformly from them."""

    def __len__(self) -> int:
        """Number of different windows."""
        return self.count

    left_out: tuple[str, ...] = ()
    """Datasets without an episode in the split: none here, there is but the one."""

    @property
    def longest(self) -> int:
        """Frames of the longest episode, at the windows' stride."""
        return -(-int(self.dataset.lengths[self.episodes].max()) // self.stride)

    @property
    def parts(self) -> tuple[tuple[str, float, Windows], ...]:
        """Name, share of the rows and windows of each dataset that batches are drawn from: here the one."""
        return (("", 1.0, self),)

    def batch(self, size: int, seed: int, step: int, device: str | torch.device = "cpu") -> Segment:
        """``size`` random windows (size, length, ...): a pure function of the dataset, ``seed`` and ``step``.

        So a resumed training repeats it without any saved sampler state. Row i depends on (seed, step, i) alone: a
        smaller batch is the beginning of a larger one.
        """
        if size < 1:
            raise DataError(f"A batch needs at least one row, found {size}.")
        return self.drawn(mix(row_keys(size, seed), step), device)

    def drawn(self, keys: Tensor, device: str | torch.device = "cpu") -> Segment:
        """The windows (B, length, ...) that (B,) int64 random keys draw: each by its own key alone."""
        size = len(keys)
        draw = (keys.numpy().view(np.uint64) % np.uint64(self.count)).astype(np.int64)
        at = np.searchsorted(self._ends, draw, side="right")
        start = draw - np.where(at > 0, self._ends[at - 1], 0)
        pieces = self._crossing(at, start) if self.crossing else self._pieces(self.episodes[at], start, self.length)
        pin = torch.device(device).type == "cuda"
        segment = self.dataset.gather(pieces, size, self.length, self.stride, pin)
        return segment if str(device) == "cpu" else segment.to(device)

    def sequence(self, episode: int, start: int = 0, length: int | None = None) -> Segment:
        """One window (1, length, ...) of an episode, padded if the episode ends before."""
        return self.segment([(episode, start)], length)

    def segment(self, starts: Sequence[tuple[int, int]], length: int | None = None) -> Segment:
        """Windows from given (episode, start) pairs, (len(starts), length, ...), padded where episodes end before."""
        if not starts:
            raise DataError("Give at least one (episode, start).")
        length = self.length if length is None else length
        if length < 1:
            raise DataError(f"A window needs at least one frame, found length {length}.")
        lengths = self.dataset.lengths
        for episode, start in starts:
            if not 0 <= episode < len(lengths):
                raise DataError(f"There is no episode {episode}: the dataset has episodes 0 to {len(lengths) - 1}.")
            if not 0 <= start < lengths[episode]:
                raise DataError(f"Episode {episode} has {lengths[episode]} frames; none is frame {start}.")
        episodes, firsts = np.array(starts, np.int64).T
        return self.dataset.gather(self._pieces(episodes, firsts, length), len(starts), length, self.stride)

    def starts(self, count: int, prompt: int, horizon: int, seed: int = 0) -> list[tuple[int, int]]:
        """Up to ``count`` different (episode, start) from which ``prompt + horizon`` frames follow, for evaluation.

        Deterministic, and spread: no episode has a second start before every long enough one has a first. Asking for
        more keeps the ones before. Fewer are returned where there are no more; :class:`DataError` if there is none.
        """
        span = (prompt + horizon - 1) * self.stride + 1
        room = self.dataset.lengths[self.episodes] - span + 1
        usable = np.flatnonzero(room > 0)
        if not len(usable):
            longest = int(self.dataset.lengths[self.episodes].max())
            raise DataError(
                f"No episode is long enough for {prompt} + {horizon} frames (stride {self.stride}): the longest of "
                f"these {len(room)} has {longest}. Use a shorter horizon or collect longer episodes."
            )
        episodes = self.episodes[usable]
        keys = mix(torch.from_numpy(episodes), mix(torch.tensor(seed), 2))
        left = torch.argsort(keys).tolist()
        places: dict[int, list[int]] = {}
        found: list[tuple[int, int]] = []
        while left and len(found) < count:  # once round all episodes that have a start left
            for i in left[: count - len(found)]:
                if i not in places:
                    places[i] = _shuffled(int(room[usable[i]]), keys[i], count)
                found.append((int(episodes[i]), places[i].pop(0)))
            left = [i for i in left if places.get(i, [0])]
        return found

    def _pieces(self, episodes: np.ndarray, starts: np.ndarray, length: int) -> list[Piece]:
        left = -(-(self.dataset.lengths[episodes] - starts) // self.stride)
        counts = np.minimum(left, length).tolist()
        return [
            Piece(row, 0, episode, start, count)
            for row, (episode, start, count) in enumerate(zip(episodes.tolist(), starts.tolist(), counts, strict=True))
        ]

    def _crossing(self, at: np.ndarray, starts: np.ndarray) -> Iterator[Piece]:
        for row, (place, start) in enumerate(zip(at.tolist(), starts.tolist(), strict=True)):
            filled = 0
            while filled < self.length and place < len(self.episodes):
                episode = int(self.episodes[place])
                count = min(self.length - filled, int(self.dataset.lengths[episode]) - start)
                yield Piece(row, filled, episode, start, count)
                filled, place, start = filled + count, place + 1, 0


def _part(dataset: Dataset, split: str | Sequence[int] | np.ndarray) -> np.ndarray:
    """Episode numbers of a split's name, of ``all``, or as given."""
    if isinstance(split, str):
        if split not in (*NAMES, "all"):
            raise DataError(f"There is no split {split!r}: choose one of {', '.join(NAMES)} or all.")
        chosen = np.arange(len(dataset)) if split == "all" else dataset.splits[split]
        if not len(chosen):
            raise DataError(
                f"{dataset.path} has no episode in its {split!r} split: it has {len(dataset)} in all, and three or "
                "more give every split at least one. Collect more, or use split 'all'."
            )
        return chosen
    chosen = np.asarray(split, np.int64).reshape(-1)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(dataset):
        raise DataError(f"Episode numbers must lie in 0 to {len(dataset) - 1}, found {chosen.tolist()[:10]}.")
    return chosen


def _shuffled(size: int, key: torch.Tensor, count: int) -> list[int]:
    """The first ``count`` of the numbers below ``size``, in an order drawn from ``key``."""
    return torch.argsort(mix(torch.arange(size), key))[:count].tolist()
