"""When the frames of a recording were seen: a constant rate, or a constant rate made by leaving out and repeating."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

from worldloom.data.episode import DataError

T = TypeVar("T")

UNEVEN = 0.25
"""Gaps that differ from the usual one by more than this part of it are not constant."""
SAME_RATE = 0.005
"""Rates that differ by less than this part count as one: 29.97 and 30."""


class Constant(Generic[T]):
    """Frames as they come, (seconds, frame) to (number, frame), while :meth:`check` sees to it that they come evenly.

    tick: the unit in seconds in which the file counts time; gaps are never judged finer. rate: frames a second that
    are expected. where: the file, for messages. A time of None means that the file does not tell.
    """

    def __init__(self, frames: Iterator[tuple[float | None, T]], rate: float, tick: float, where: str):
        self.frames, self.rate, self.tick, self.where = frames, rate, tick, where
        self.count = 0
        """Frames so far."""
        self.usual: float | None = None
        self._times: list[float] = []
        self._before = 0

    def __iter__(self) -> Iterator[tuple[int, T]]:
        for when, frame in self.frames:
            if when is not None:
                self._times.append(when)
            number, self.count = self.count, self.count + 1
            yield number, frame

    def check(self) -> None:
        """Raise :class:`DataError` unless the frames since the last check came evenly, and at the expected rate."""
        times = np.array(self._times)
        if len(times) < 2:
            return
        gaps = np.diff(times)
        self.usual = check_even(gaps, self.tick, self.where, self._before, self.usual)
        mean, slack = float(gaps.mean()), self.tick * 2 / len(gaps)
        if len(gaps) >= 8 and abs(mean - 1 / self.rate) > 0.02 / self.rate + slack:
            raise DataError(
                f"{self.where}: {1 / mean:.4g} frames a second, where {self.rate:.4g} were expected; give --fps "
                f"{self.rate:.4g} to bring every recording to one rate."
            )
        self._before += len(gaps)
        self._times = self._times[-1:]


class Resampled(Generic[T]):
    """Frames at another rate, (seconds, frame) to (number of the source's frame, frame): at each new instant the frame
    that is nearest in time, the earlier of two that are equally near; none is blended. The first instant is the first
    frame's. Numbers that are left out were left out, numbers that come twice are repeated."""

    def __init__(self, frames: Iterator[tuple[float | None, T]], rate: float, fps: float, where: str):
        self.frames, self.where, self.rate = frames, where, rate
        # A grid a little off the source's would once in a while repeat or leave out a frame for no good.
        self.step = 1 / rate if abs(rate / fps - 1) <= SAME_RATE else 1 / fps
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, T]]:
        start, made, before = 0.0, 0, 0.0
        last: T | None = None
        slack = 1e-6 * self.step
        for when, frame in self.frames:
            when = self.count / self.rate if when is None else when
            if last is None:
                start = when
            else:
                if when <= before:
                    raise DataError(_backwards(self.where, self.count))
                while (due := start + made * self.step) - before <= when - due + slack:
                    yield self.count - 1, last
                    made += 1
            last, before = frame, when
            self.count += 1
        while last is not None and start + made * self.step <= before + slack:
            yield self.count - 1, last
            made += 1

    def check(self) -> None:
        """Any timing will do."""


def check_even(gaps: np.ndarray, tick: float, where: str, before: int = 0, usual: float | None = None) -> float:
    """The usual gap of (N,) gaps in seconds between frames ``before``, ``before + 1``, ...

    Raises :class:`DataError` that says what was found where one differs from it by more than :data:`UNEVEN` and by more
    than the file's clock rounds.
    """
    if (gaps <= 0).any():
        raise DataError(_backwards(where, before + 1 + int(np.flatnonzero(gaps <= 0)[0])))
    if not len(gaps):
        return usual or 0.0
    usual = float(np.median(gaps)) if usual is None else usual
    slack = max(UNEVEN * usual, 1.5 * tick)
    bad = np.flatnonzero(np.abs(gaps - usual) > slack)
    if not len(bad):
        return usual
    remedy = _remedy(float(np.delete(gaps, bad).mean()) if len(bad) < len(gaps) else usual, float(gaps.max()))
    times = np.round(gaps[bad] / usual)
    after, gap = before + int(bad[0]), float(gaps[bad[0]])
    more = f", and {len(bad) - 1} more such gaps" if len(bad) > 1 else ""
    found = f"usually {usual * 1000:.4g} ms apart, but {gap * 1000:.4g} ms after frame {after}{more}"
    if (times >= 2).all() and (np.abs(gaps[bad] - times * usual) <= np.maximum(0.1 * usual * times, 1.5 * tick)).all():
        lost = int(times.sum()) - len(bad)
        raise DataError(f"{where}: frames are missing: they are {found} ({lost} dropped). {remedy}")
    raise DataError(f"{where}: the frame rate varies: frames are {found}. {remedy}")


def _remedy(usual: float, largest: float) -> str:
    rate, slow = 1 / usual, f"{1 / largest:.3g}"
    rate = float(round(rate)) if abs(round(rate) / rate - 1) < 2 * SAME_RATE else rate
    return (
        f"Give --fps {rate:.4g} to resample to a constant rate (the nearest frame in time, left out or repeated, never "
        f"blended); where there are actions no frame can be repeated: --fps {slow} or less, or cut the file there."
    )


def _backwards(where: str, number: int) -> str:
    return (
        f"{where}: frame {number} has the time of the frame before it, or an earlier one. Write the file anew with "
        "right times (ffmpeg -i OLD -r RATE NEW.mp4)."
    )
