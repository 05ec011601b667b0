"""Where the episodes in a file of arrays begin and end, and which action led to which frame."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.files import OBJECTS, ArrayFile, Leaf
from worldloom.data.sources.arrays.shapes import (
    ACTIONS,
    DISCOUNTS,
    DONES,
    FIRSTS,
    LASTS,
    NUMBERS,
    SENSORS,
    TABLES,
    TERMINALS,
    TIMED,
    TIMEOUTS,
    Members,
    last,
    root_of,
)
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.names import natural


@dataclass(frozen=True)
class Segment:
    """One episode: rows ``start`` to ``stop`` of the actions, in entry ``lead`` where arrays are stacked."""

    start: int
    stop: int
    lead: int | None = None
    ended: bool | None = None
    """Whether arriving at its last frame truly ended it; None where the file does not say that of a frame it holds."""


@dataclass(frozen=True)
class Track:
    """Arrays of a file that belong together: a recording of one episode or of many."""

    file: str
    """The file's path within the source."""
    root: str
    """The group the arrays lie in; ``""`` for the file itself."""
    sensors: dict[str, str]
    """Sensor name to array."""
    frames: dict[str, Leaf]
    """Sensor name to the shape and dtype of one frame."""
    pictures: frozenset[str]
    """The sensors that are pictures."""
    following: dict[str, str]
    """Sensor name to the array of next frames, which holds an episode's last frame; may be empty."""
    action: tuple[str, ...]
    """Arrays whose columns together are the action; empty for plain video."""
    reward: str | None
    """Array of rewards."""
    segments: tuple[Segment, ...]
    """The episodes."""
    more: bool
    """Whether there is one frame more than actions."""
    pairing: Literal["next", "same"]
    """What row t of actions, rewards and flags means."""
    left: tuple[str, ...]
    """Arrays that are not used."""
    notes: tuple[str, ...]
    """What was understood beyond names."""

    @property
    def extra(self) -> bool:
        """Whether the frame that the last action led to is known."""
        return self.more or bool(self.following)

    @property
    def knows_ends(self) -> bool:
        """Whether it is known which episodes truly ended."""
        return all(s.ended is not None for s in self.segments)

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.file}: {self.root}" if self.root else self.file

    def length(self, segment: Segment) -> int:
        """Frames of an episode."""
        return segment.stop - segment.start + self.extra


def find_tracks(file: ArrayFile, config: ImportConfig) -> tuple[list[Track], list[DataError]]:
    """The recordings in a file, and what is wrong with those that can't be used.

    Raises :class:`DataError` where there is none at all.
    """
    roots: dict[str, list[str]] = {}
    for name in file.leaves:
        roots.setdefault(root_of(name), []).append(name)
    members = [Members(file, root, roots[root], config) for root in sorted(roots, key=natural)]
    members = [m for m in members if m.sensors]
    known = SENSORS | {*ACTIONS, *TIMED}
    objects = [name for name, why in file.odd.items() if why == OBJECTS and last(name) in known]
    if objects:
        raise DataError(f"{file.where}: {objects[0]} {OBJECTS}.")
    if not members:
        listed = ", ".join(f"{n} {leaf.shape}" for n, leaf in list(file.leaves.items())[:8]) or "none of numbers"
        raise DataError(
            f"{file.where}: no pictures or observations among its arrays ({listed}). Name them obs, image, frames or "
            "state, with time as the first axis."
        )
    ends = _table(file) if len(members) == 1 else None
    tracks, wrong = [], []
    for each in members:
        try:
            tracks.append(_track(each, ends))
        except DataError as error:
            wrong.append(error)
    return tracks, wrong


def _table(file: ArrayFile) -> np.ndarray | None:
    """(episodes, 2) first row, and last row plus one, of each episode, where a table says so."""
    names = {last(n): n for n in file.leaves}
    columns = {n: file.read(names[n]).reshape(-1).astype(np.int64) for n in TABLES if n in names}
    if "episode_ends" in columns:
        stop = columns["episode_ends"]
        start = np.concatenate([np.zeros(1, np.int64), stop])[:-1]
    elif "ep_len" in columns and "ep_offset" in columns:
        start, length = columns["ep_offset"], columns["ep_len"]
        if len(start) != len(length):
            raise DataError(
                f"{file.where}: ep_len has {len(length)} entries, ep_offset {len(start)}; expected as many."
            )
        stop = start + length
    else:
        return None
    if (start < 0).any() or (stop < start).any() or (start[1:] < stop[:-1]).any():
        raise DataError(f"{file.where}: the episodes' ends are not in order: expected rising numbers of rows.")
    return np.stack([start, stop], 1)


def _track(members: Members, ends: np.ndarray | None) -> Track:
    stacked = members.stacked()
    frames, pictures = members.frames(stacked)
    episodes, rows, more = members.rows(stacked)
    flags = _Flags(members, episodes, rows)
    notes: list[str] = list(flags.notes)
    pairing = members.config.rule
    if more:
        pairing = "next"
    elif members.config.pairing == "auto" and flags.first is not None:
        pairing, note = _dreamer(members, flags)
        notes.append(note)
    following = members.following() if pairing == "next" and not more else {}
    extra = more or bool(following)
    said = extra or pairing == "same"
    segments = []
    for episode in range(episodes):
        for start, stop in flags.cut(episode, ends):
            ended = bool(flags.terminal[episode, stop - 1]) if flags.terminal is not None and said else None
            segments.append(Segment(start, stop, episode if stacked else None, ended))
    if more and len(segments) > episodes:
        raise DataError(
            f"{members.where}: flags say that an episode ends before the last row, but there is one frame more than "
            "rows. Save one episode a file."
        )
    kept = [s for s in segments if s.stop - s.start + extra >= 2]
    if len(kept) < len(segments):
        notes.append(f"Left out: {len(segments) - len(kept)} episodes of a single frame.")
    if not kept:
        raise DataError(f"{members.where}: no episode of at least two frames.")
    if not said and (members.reward or flags.terminal is not None):
        notes.append(
            "The frame that an episode's last action led to is not in the files, so neither its reward nor whether it "
            "ended is known. Save one frame more than actions (or next_obs) to keep them."
        )
    used = {*members.sensors.values(), *members.action, *following.values()}
    others = [members.local[n] for n in members.names if n not in used and last(n) not in {*TIMED, *TABLES}]
    said_left = {x.split(" ", 1)[0] for x in members.left}
    return Track(
        members.file.where,
        members.root,
        members.sensors,
        frames,
        pictures,
        following,
        members.action,
        members.reward,
        tuple(kept),
        more,
        pairing,
        (*members.left, *(n for n in others if n not in said_left)),
        tuple(notes),
    )


class _Flags:
    """The flags of all rows, (episodes, rows) bool each; None where there is none."""

    def __init__(self, members: Members, episodes: int, rows: int):
        self.members, self.rows = members, rows
        self.shape = (episodes, rows)
        self.notes: list[str] = []
        self.first, self.last, self.timeout = self._read(FIRSTS), self._read(LASTS), self._read(TIMEOUTS)
        self.terminal, self.done = self._read(TERMINALS), self._read(DONES)
        discount, self.numbers = self._numbers(DISCOUNTS), self._numbers(NUMBERS)
        if self.terminal is None and self.done is not None:
            self.terminal = self.done if self.timeout is None else self.done & ~self.timeout
            if self.timeout is None:
                self.notes.append("done is read as a true end: what was cut by a time limit can't be told from it.")
        elif self.terminal is None and discount is not None:
            self.terminal = discount == 0

    def _numbers(self, names: tuple[str, ...]) -> np.ndarray | None:
        name = self.members.find(names)
        if name is None:
            return None
        value = self.members.file.read(name)
        if value.size != self.shape[0] * self.shape[1]:
            raise DataError(f"{self.members.where}: {name} must have one number a row, found {value.shape}.")
        return value.reshape(self.shape)

    def _read(self, names: tuple[str, ...]) -> np.ndarray | None:
        value = self._numbers(names)
        return None if value is None else value != 0

    def cut(self, episode: int, ends: np.ndarray | None) -> list[tuple[int, int]]:
        """(first row, last row plus one) of the episodes in an entry."""
        if ends is not None:
            if len(ends) and ends[-1, 1] > self.rows:
                raise DataError(
                    f"{self.members.where}: an episode ends at row {ends[-1, 1]}, there are {self.rows}. Write it anew."
                )
            return [(int(a), int(b)) for a, b in ends]
        begins = np.zeros(self.rows + 1, bool)
        begins[[0, self.rows]] = True
        for after in (self.terminal, self.done, self.timeout, self.last):
            if after is not None:
                begins[1:] |= after[episode]
        if self.first is not None:
            begins[:-1] |= self.first[episode]
        if self.numbers is not None:
            begins[1:-1] |= self.numbers[episode, 1:] != self.numbers[episode, :-1]
        places = np.flatnonzero(begins).tolist()
        return list(pairwise(places))


def _dreamer(members: Members, flags: _Flags) -> tuple[Literal["next", "same"], str]:
    """What row t of the actions means where ``is_first`` is there.

    DreamerV2 writes the action that led to frame t, zeros in an episode's first row; DreamerV3 the action taken after
    frame t, zeros in its last row. Zeros decide; where they do not, the first of the two.
    """
    zero = np.ones(flags.shape, bool)
    for name in members.action:
        zero &= (members.file.read(name).reshape(*flags.shape, -1) == 0).all(-1)
    first, final = flags.first, flags.last
    at_first = bool(zero[first].all()) if first is not None else False
    at_last = final is not None and bool(final.any()) and bool(zero[final].all())
    if at_last and not at_first:
        return "next", "is_first, and actions that are zero in last rows: row t was taken after frame t (DreamerV3)."
    return "same", "is_first: row t of the actions led to frame t (DreamerV2). --pairing next if it was taken after."
