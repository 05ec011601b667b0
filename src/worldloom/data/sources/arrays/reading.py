"""Slices of a track's arrays: the frames, actions and rewards of a part of one episode, as they rest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.episodes import Segment, Track
from worldloom.data.sources.arrays.files import ArrayFile


def pieces(frames: int, length: int) -> list[tuple[int, int]]:
    """(start, stop) of the parts of about equal length, at most ``length``, into which a recording is cut."""
    count = -(-frames // length)
    edges = [frames * k // count for k in range(count + 1)]
    return list(pairwise(edges))


def rewards_of(
    file: ArrayFile, track: Track, name: str, segment: Segment, start: int, stop: int, where: str
) -> np.ndarray:
    """(stop - start,) the reward of arriving at each frame; 0 at an episode's first where the file has none for it."""
    shift = 1 if track.pairing == "next" else 0
    begin, end = max(start - shift, 0), stop - shift
    value = file.read(name, segment.start + begin, segment.start + end, segment.lead)
    out = np.zeros(stop - start, np.float32)
    with np.errstate(over="ignore"):
        out[stop - start - (end - begin) :] = value.reshape(end - begin).astype(np.float32)
    if not np.isfinite(out).all():
        raise DataError(f"{where}: rewards hold NaN or infinite values.")
    return out


def frames_of(file: ArrayFile, track: Track, name: str, segment: Segment, start: int, stop: int) -> np.ndarray:
    """Frames ``start`` to ``stop`` of an episode as they rest."""
    held = segment.stop - segment.start + track.more
    array, lead = track.sensors[name], segment.lead
    value = file.read(array, segment.start + start, segment.start + min(stop, held), lead)
    if stop > held:
        final = file.read(track.following[name], segment.stop - 1, segment.stop, lead)
        value = np.concatenate([value, final.astype(value.dtype)])
    return value


def actions_of(file: ArrayFile, track: Track, segment: Segment, start: int, stop: int) -> np.ndarray:
    """Rows ``start`` to ``stop`` of the file's actions as (rows, columns)."""
    parts = [file.read(name, start, stop, segment.lead) for name in track.action]
    return np.concatenate([p.reshape(stop - start, -1) for p in parts], 1)


def vectors(value: np.ndarray, name: str, where: str) -> np.ndarray:
    """Frames (T, ...) of numbers as float32 (T, D). :class:`DataError` for NaN and infinities."""
    with np.errstate(over="ignore"):
        out = value.reshape(len(value), -1).astype(np.float32)
    if not np.isfinite(out).all():
        row = int(np.flatnonzero(~np.isfinite(out).all(1))[0])
        raise DataError(f"{where}: {name} holds NaN or infinite values, first {row} rows in. Mend or leave out.")
    return out


def led(track: Track, segment: Segment) -> tuple[int, int]:
    """The rows of the file's actions that led to a frame of the episode."""
    if track.pairing == "same":
        return segment.start + 1, segment.stop
    return segment.start, segment.stop - (not track.extra)


def one_hot(rows: np.ndarray) -> bool:
    """Whether every row of several columns is a single 1 among zeros."""
    return rows.shape[1] > 1 and bool((((rows == 0) | (rows == 1)).all(1) & ((rows == 1).sum(1) == 1)).all())
