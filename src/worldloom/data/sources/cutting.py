"""From the frames of a long recording to episodes, with the actions that led to each frame kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from worldloom.contract import Spec
from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.films.actions import Rows

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Timed(Protocol[T_co]):
    """Frames with their numbers in the source: :class:`~worldloom.data.sources.timing.Constant` or ``Resampled``."""

    @property
    def count(self) -> int:
        """Frames of the source so far."""

    def __iter__(self) -> Iterator[tuple[int, T_co]]: ...

    def check(self) -> None:
        """Raise where they do not come as they should."""


class Cutter:
    """The actions, rewards and end of one recording, piece by piece."""

    def __init__(self, name: str, spec: Spec, config: ImportConfig, rows: Rows | None):
        self.name, self.spec, self.config, self.rows = name, spec, config, rows
        self.before = -1
        self.action = self.reward = np.zeros(0)
        self.most = 0
        if rows is not None:
            self.most = rows.count + (config.rule == "next")
            self.action, self.reward = rows.paired(self.most, spec.action, config, rows.where)

    def expect(self, number: int, before: int) -> None:
        """Raise unless the table can tell of frame ``number``, which follows ``before``."""
        if self.rows is None:
            return
        if number >= self.most:
            raise DataError(
                f"{self.name}: more than {self.most} frames, but {self.rows.count} rows in {self.rows.where}; one row "
                f"for every frame is expected (pairing {self.config.rule!r})."
            )
        if number == before:
            raise DataError(
                f"{self.name}: at {self.config.fps:.4g} frames a second frame {number} would come twice, and no action "
                "led to the second; where there are actions give a lower --fps, or cut the file where it stands still."
            )

    def end(self, count: int, declared: int | None) -> None:
        """Raise unless the table fits the frames that there were."""
        if self.rows is None:
            return
        try:
            self.rows.paired(count, self.spec.action, self.config, f"{self.name}: {self.rows.where}")
        except DataError as error:
            lies = "" if declared in (None, count) else f" The file's header says {declared} frames, it holds {count}."
            raise DataError(f"{error}{lies}") from error

    def piece(self, obs: dict[str, np.ndarray], taken: list[int], total: int | None) -> Episode:
        """The episode of the frames ``taken``; ``total`` is the source's length where they are the last, else None."""
        self.before = taken[-1]
        episode = Episode(obs)
        if self.rows is None:
            return episode
        at = np.array(taken)
        if self.spec.action is not None:
            action = self.action[at]
            action[0] = self.spec.action.null().numpy()
            episode.control["action"] = action
        if self.rows.reward is not None:
            reward = np.zeros(len(at), np.float32)
            if len(at) > 1:
                # What a last row says led to a frame that nobody has; where the world ended by it, so did its reward.
                stop = taken[-1] + 1 if total is None else len(self.reward) if self.rows.last_ends else total
                reward[1:] = np.add.reduceat(self.reward[at[0] + 1 : stop], at[:-1] - at[0])
            episode.reward = reward
        if self.rows.ended is not None:
            episode.terminal = self.rows.ended and total is not None
        return episode


def episodes(
    frames: Timed[T], show: Callable[[T], np.ndarray], cutter: Cutter, declared: int | None
) -> Iterator[Episode]:
    """A recording in pieces.

    show: makes a frame of the source a picture (3, h, w) uint8. declared: how many frames the file claims to hold.
    """
    (sensor, kind), length = next(iter(cutter.spec.shown.items())), cutter.config.length
    taken: list[int] = []
    pictures = np.empty((0, *kind.shape), np.uint8)
    for number, frame in frames:
        cutter.expect(number, taken[-1] if taken else cutter.before)
        if len(taken) == length:
            frames.check()
            yield cutter.piece({sensor: pictures}, taken, None)
            taken, pictures = [], np.empty((0, *kind.shape), np.uint8)
        if len(taken) == len(pictures):
            room = min(length, max(64, 2 * len(pictures)))
            larger = np.empty((room, *kind.shape), np.uint8)
            larger[: len(pictures)] = pictures
            pictures = larger
        pictures[len(taken)] = show(frame)
        taken.append(number)
    frames.check()
    if not taken:
        raise DataError(f"{cutter.name}: holds no frames.")
    cutter.end(frames.count, declared)
    yield cutter.piece({sensor: pictures[: len(taken)].copy()}, taken, frames.count)
