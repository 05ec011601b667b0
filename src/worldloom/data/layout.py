"""How the arrays of an episode become one run of bytes, and back.

An episode rests as its streams, one after the other, each starting at a multiple of 64 bytes. A stream is one array,
row-major and little-endian, so that any run of frames of one stream is one run of bytes: reading a window needs no
decoding and touches nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from worldloom.contract import Control, Spec, WorldloomError
from worldloom.data.episode import DataError, Episode

ALIGN = 64
_TRUTH_DTYPES = {"|b1", "|u1", "|i1"} | {f"<{kind}{size}" for kind in "iuf" for size in (2, 4, 8)}


@dataclass(frozen=True)
class Stream:
    """One array of an episode."""

    name: str
    """``obs/NAME``, ``control/NAME`` (per frame), ``once/NAME`` (given once), ``reward`` or ``truth/NAME``."""
    dtype: str
    """As numpy writes it, little-endian: ``|u1``, ``<f4``, ..."""
    shape: tuple[int, ...]
    """Shape of one frame's value (of the only value, for ``once/``)."""

    @property
    def once(self) -> bool:
        """Whether the value is given once for the episode, not with every frame."""
        return self.name.startswith("once/")

    @property
    def item(self) -> int:
        """Bytes of one frame's value."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def bytes(self, length: int) -> int:
        """Bytes in an episode of ``length`` frames."""
        return self.item * (1 if self.once else length)


Layout = tuple[Stream, ...]


def compact(control: Control) -> np.dtype[Any]:
    """The dtype in which a control rests: the smallest that holds 0..n for indices, float32 otherwise."""
    if control.kind not in ("discrete", "tokens"):
        return np.dtype("<f4")
    return np.dtype("|u1" if control.n < 2**8 else "<u2" if control.n < 2**16 else "<i8")


def spec_streams(spec: Spec) -> Layout:
    """The streams that every episode of a spec has (reward and truth come after them, where known)."""
    shown = [Stream(f"obs/{n}", "|u1" if s.kind == "image" else "<f4", s.shape) for n, s in spec.shown.items()]
    given = [
        Stream(f"{'control' if c.per == 'frame' else 'once'}/{n}", compact(c).str, c.shape)
        for n, c in spec.given.items()
    ]
    return (*shown, *given)


def starts(layout: Layout, length: int) -> tuple[list[int], int]:
    """Where each stream of an episode of ``length`` frames begins, relative to the episode, and the episode's bytes."""
    places, end = [], 0
    for stream in layout:
        begin = -(-end // ALIGN) * ALIGN
        places.append(begin)
        end = begin + stream.bytes(length)
    return places, end


def parse(streams: Any, spec: Spec) -> Layout:
    """The layout in an index line; :class:`DataError` unless it is one that :func:`pack` writes for ``spec``."""
    try:
        layout = tuple(Stream(str(n), str(d), tuple(int(x) for x in s)) for n, d, s in streams)
    except (TypeError, ValueError) as error:
        raise DataError(f"{streams!r} does not describe the streams of an episode.") from error
    fixed = spec_streams(spec)
    rest = layout[len(fixed) :]
    known = all(
        s == Stream("reward", "<f4", ()) or (s.name.startswith("truth/") and s.dtype in _TRUTH_DTYPES) for s in rest
    )
    if layout[: len(fixed)] != fixed or not known or any(n < 0 for s in rest for n in s.shape):
        raise DataError(f"Streams {[s.name for s in layout]} do not fit the spec, which has {[s.name for s in fixed]}.")
    return layout


def pack(episode: Episode, spec: Spec) -> tuple[Layout, bytearray]:
    """The layout and bytes of an episode. Raises :class:`DataError` unless it fits ``spec`` and its conventions."""
    for kind, found, known in (
        ("sensors", episode.obs, spec.shown),
        ("controls", episode.control, spec.given),
    ):
        if set(found) - set(known):
            raise DataError(f"An episode has {kind} {sorted(set(found) - set(known))} that the spec does not know.")
    episode.check(spec)
    length = episode.length
    arrays: list[tuple[Stream, np.ndarray]] = []
    for stream in spec_streams(spec):
        kind, name = stream.name.split("/", 1)
        value = episode.obs[name] if kind == "obs" else _control(name, spec.given[name], episode.control[name], length)
        arrays.append((stream, value))
    if episode.reward is not None:
        reward = np.asarray(episode.reward)
        if reward.shape != (length,) or not np.isfinite(reward).all():
            raise DataError(f"reward must be ({length},) finite numbers, found shape {reward.shape}.")
        arrays.append((Stream("reward", "<f4", ()), reward))
    for name in sorted(episode.truth):
        value = np.asarray(episode.truth[name])
        dtype = value.dtype.newbyteorder("<").str
        if dtype not in _TRUTH_DTYPES:
            raise DataError(f"Truth {name!r} must be booleans or numbers of at most 8 bytes, found {value.dtype}.")
        arrays.append((Stream(f"truth/{name}", dtype, value.shape[1:]), value))
    layout = tuple(stream for stream, _ in arrays)
    places, total = starts(layout, length)
    data = bytearray(total)
    for (stream, value), begin in zip(arrays, places, strict=True):
        target = np.frombuffer(data, stream.dtype, stream.bytes(length) // np.dtype(stream.dtype).itemsize, begin)
        target[...] = value.reshape(-1)
    return layout, data


def _control(name: str, control: Control, value: np.ndarray, length: int) -> np.ndarray:
    """The value, once it is sure that storing it loses nothing and that it obeys the conventions."""
    whole = control.kind in ("discrete", "tokens")
    if value.dtype.kind not in ("iu" if whole else "fiu"):
        raise DataError(f"Control {name!r} must be {'integers' if whole else 'numbers'}, found {value.dtype}.")
    lead = (length,) if control.per == "frame" else ()
    tensor = torch.from_numpy(np.array(value, dtype=np.int64 if whole else np.float32, order="C"))
    try:
        control.check(tensor, lead, name)
    except WorldloomError as error:
        raise DataError(f"An episode can't be stored: {error}") from error
    if name == "action" and lead and not bool((tensor[0] == control.null()).all()):
        null = f"index {control.n}" if whole else "zeros"
        raise DataError(
            f"action[0] must be null ({null}), found {tensor[0].tolist()}: action[t] is the one that led to frame t, "
            "and nothing led to the first. Shift the actions by one frame."
        )
    return tensor.numpy()


def join(layout: Layout, arrays: Iterable[np.ndarray], terminal: bool | None, info: dict[str, Any]) -> Episode:
    """An episode from the arrays of its streams; indices become int64 again."""
    episode = Episode({}, terminal=terminal, info=info)
    for stream, value in zip(layout, arrays, strict=True):
        kind, _, name = stream.name.partition("/")
        if kind == "obs":
            episode.obs[name] = value
        elif kind in ("control", "once"):
            episode.control[name] = value.astype(np.int64) if value.dtype.kind in "iu" else value
        elif kind == "truth":
            episode.truth[name] = value
        else:
            episode.reward = value
    return episode
