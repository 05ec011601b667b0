"""What a table says: which columns are the action, the reward, the end; and which table belongs to which recording."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from worldloom.contract import Control
from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.films.tables import SUFFIXES, Table
from worldloom.data.sources.names import natural
from worldloom.data.sources.pairing import pair

FRAME = frozenset({"frame", "frame_index", "frame_id", "frame_number", "frame_idx"})
"""Columns that number the frames."""
RECORDING = (
    *("video", "video_file", "file", "filename", "file_name", "path", "clip", "recording", "name"),
    *("episode", "episode_index", "episode_id"),
)
"""Columns that say which recording a row belongs to, likeliest first."""
REWARD = ("reward", "rewards", "next.reward")
TRUE_END = ("terminated", "terminal", "terminals", "is_terminal", "next.terminated")
END = ("done", "dones", "next.done", "is_last")
CUT = ("truncated", "truncations", "timeout", "timeouts", "next.truncated")
KNOWN = (
    frozenset({"", "unnamed: 0", "time", "timestamp", "timestamps", "time_s", "time_ms", "t", "index", "idx", "row"})
    | frozenset({"step", "steps", "task_index", "task"})
    | FRAME
    | frozenset((*RECORDING, *REWARD, *TRUE_END, *END, *CUT))
)
"""Columns that are never taken for the action unless they are named by ``--columns``."""

_ACTION = re.compile(r"actions?([._\[ ].*)?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Rows:
    """What the table of one recording says, row by row."""

    where: str
    """The table, for messages."""
    count: int
    """Rows that count: a last (or, paired ``same``, first) row without an action is none."""
    action: np.ndarray | None
    """(rows,) int64, float64 or object holding str; or (rows, D) numbers; None where no column is one."""
    names: tuple[str, ...]
    """Names of the action's columns."""
    reward: np.ndarray | None
    """(rows,) float64."""
    ended: bool | None
    """Whether the last row truly ended the recording; None where no column says."""
    last_ends: bool = False
    """Whether it is the very last row that says so: of the last frame's own action, if every frame has a row."""

    def paired(self, frames: int, control: Control | None, config: ImportConfig, where: str) -> tuple[np.ndarray, ...]:
        """(frames, *shape) actions that led to each frame, and (frames,) rewards of arriving there (0 where nothing
        led); either is empty where unknown. Raises :class:`DataError` where rows and frames do not fit."""
        none = np.zeros(0)
        action = none
        if control is not None and self.action is not None:
            values = self.action.reshape(len(self.action), *control.shape)
            action = pair(values, frames, control, config.rule, where)
        one = Control("continuous", (1,))
        earned = np.zeros(self.count) if self.reward is None else self.reward
        reward = pair(earned[:, None], frames, one, config.rule, where)
        return action, none if self.reward is None else reward[:, 0]


def read_rows(table: Table, config: ImportConfig) -> Rows:
    """The action, reward and end in a table. Raises :class:`DataError` that names the column and row at fault.

    Rewards and ends are paired as actions are: with ``next``, row t of all three tells of arriving at frame t + 1.
    """
    low = {name.strip().casefold(): name for name in table.columns}
    chosen = _chosen(table, low, config)
    widths = {name: table.columns[name] for name in chosen}
    lengths = {len(column) for column in widths.values()}
    if len(lengths) > 1:
        raise DataError(
            f"{table.where}: the columns {', '.join(chosen)} have {sorted(lengths)} rows; expected as many."
        )
    rows = lengths.pop() if lengths else table.rows
    action, names = _joined(table, widths)
    _counts_up(table, low)
    keep = slice(None)
    if action is not None and rows:
        blank = _blank(action)
        if config.rule == "next" and blank[-1]:
            keep = slice(0, rows - 1)  # nothing was done after the last frame
        elif config.rule == "same" and blank[0] and rows > 1:
            action = action.copy()
            action[0] = action[1]  # nothing led to the first frame: what stands here is never used
            blank[0] = blank[1]
        endless = action.dtype.kind == "f" and np.isinf(action.reshape(len(action), -1)).any(1)
        at = np.flatnonzero((blank | endless)[keep])
        if len(at):
            raise DataError(
                f"{table.where}: row {at[0]} (counted from 0) holds no action in {', '.join(chosen)}: it is empty, NaN "
                "or infinite; every row needs a number or a word."
            )
        action = action[keep]
        if action.dtype.kind == "f" and table.whole.issuperset(chosen):
            action = action.astype(np.int64)  # floats only for the sake of a blank
    reward = _numbers(table, low, REWARD, rows)
    if reward is not None:
        reward = reward[keep]
        if config.rule == "same" and len(reward):
            reward[0] = np.nan_to_num(reward[0])
        if action is None and config.rule == "next" and len(reward) and np.isnan(reward[-1]):
            keep = slice(0, rows - 1)
            reward = reward[:-1]
        if not np.isfinite(reward).all():
            raise DataError(f"{table.where}: the reward in row {np.flatnonzero(~np.isfinite(reward))[0]} is no number.")
    ended, last = _ended(table, low, rows, config.rule == "next")
    return Rows(table.where, len(range(rows)[keep]), action, names, reward, ended, last)


def _chosen(table: Table, low: dict[str, str], config: ImportConfig) -> list[str]:
    """Names of the columns that are the action."""
    if config.actions == "none":
        return []
    if config.columns:
        missing = [c for c in config.columns if c.casefold() not in low]
        if missing:
            raise DataError(f"{table.where}: there is no column {missing[0]!r}; it has {', '.join(table.columns)}.")
        return [c if c in table.columns else low[c.casefold()] for c in config.columns]
    starred = [name for name in table.columns if _ACTION.fullmatch(name.strip())]
    return starred or [name for key, name in low.items() if key not in KNOWN]


def _joined(table: Table, columns: dict[str, np.ndarray]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The columns side by side, and the name of each."""
    if not columns:
        return None, ()
    if len(columns) == 1:
        name, column = next(iter(columns.items()))
        flat = column if column.ndim == 1 else column.reshape(len(column), -1)
        return flat, (name,) if flat.ndim == 1 else tuple(f"{name}_{i}" for i in range(flat.shape[1]))
    text = [name for name, column in columns.items() if column.dtype == object]
    if text:
        row = next((i for i, cell in enumerate(columns[text[0]]) if not _is_number(cell)), 0)
        raise DataError(
            f"{table.where}: {columns[text[0]][row]!r}, in row {row} (counted from 0) of the column {text[0]!r}, is no "
            f"number. Mend it, or say which columns are the action: --columns NAME ... (of {', '.join(columns)})."
        )
    parts, names = [], []
    for name, column in columns.items():
        parts.append(column.reshape(len(column), -1))
        names += [name] if column.ndim == 1 else [f"{name}_{i}" for i in range(parts[-1].shape[1])]
    return np.concatenate(parts, 1), tuple(names)


def _is_number(cell: str) -> bool:
    try:
        return cell == "" or math.isfinite(float(cell))
    except ValueError:
        return False


def _blank(action: np.ndarray) -> np.ndarray:
    """(rows,) whether a row says nothing, or not all."""
    if action.dtype == object:
        return np.array([a == "" for a in action], bool)
    if action.dtype.kind != "f":
        return np.zeros(len(action), bool)
    return np.isnan(action.reshape(len(action), -1)).any(1)


def _numbers(table: Table, low: dict[str, str], names: Iterable[str], rows: int) -> np.ndarray | None:
    """The first of the columns that is there, as (rows,) float64."""
    for key in names:
        if key in low:
            column = table.columns[low[key]]
            if column.dtype == object or column.size != rows:
                raise DataError(f"{table.where}: the column {low[key]!r} must be {rows} numbers, one a row.")
            return np.array(column, np.float64).reshape(rows)
    return None


def _ended(table: Table, low: dict[str, str], rows: int, following: bool) -> tuple[bool | None, bool]:
    """(:attr:`Rows.ended`, :attr:`Rows.last_ends`)."""
    cut = _numbers(table, low, CUT, rows)
    true, end = _numbers(table, low, TRUE_END, rows), _numbers(table, low, END, rows)
    done = true if true is not None else end
    if done is None or not rows:
        return (None if cut is None or not rows or not cut[-1] > 0 else False), False
    at = np.flatnonzero(done > 0)
    last = rows - 2 if following else rows - 1  # of as many rows as frames, the last but one led to the last frame
    if len(at) and at[0] < last:
        raise DataError(
            f"{table.where}: row {at[0]} of {rows} says that the recording ended there. One recording is one episode: "
            "cut it into one file for each."
        )
    if true is None and cut is not None and bool((cut[max(0, last) :] > 0).any()):
        return False, False
    return len(at) > 0, len(at) > 0 and bool(at[0] == rows - 1)


def _counts_up(table: Table, low: dict[str, str]) -> None:
    for key in FRAME & low.keys():
        column = table.columns[low[key]]
        if column.ndim == 1 and column.dtype != object and len(column) > 1:
            gaps = np.flatnonzero(np.diff(column) != 1)
            if len(gaps):
                a, b = column[gaps[0] : gaps[0] + 2]
                raise DataError(
                    f"{table.where}: the column {low[key]!r} goes from {a:g} to {b:g} (row {gaps[0] + 1}); expected "
                    "one row for every frame, in order."
                )


# ----------------------------------------------------------------------------------------------- many recordings


def beside(folder_names: set[str], stem: str) -> list[str]:
    """Names of the tables among ``folder_names`` that belong to a recording called ``stem`` (without its suffix)."""
    ends = [f"{between}{s}" for between in ("", ".actions", "_actions") for s in SUFFIXES]
    found = [name for e in ends for name in (stem + e, stem + e.upper()) if name in folder_names]
    return list(dict.fromkeys(found))


def split_by_recording(table: Table, names: list[str]) -> tuple[dict[str, Table], str]:
    """One table of a whole folder as one for each recording it knows, and the column that said so.

    names: all recordings of the folder, those that can't be used among them, or numbers would count past them. A row
    names one by its path, with or without suffix, or by a number: the one at the end of the recordings' names where
    each has its own, else the place in their order. Raises :class:`DataError` where no column can be that.
    """
    low = {name.strip().casefold(): name for name in table.columns}
    key = next((low[k] for k in RECORDING if k in low), None)
    if key is None:
        if len(names) == 1:
            return {names[0]: table}, ""
        raise DataError(
            f"{table.where}: a table for {len(names)} recordings needs a column 'video' or 'episode' that says which; "
            f"it has {', '.join(table.columns)}."
        )
    column = table.columns[key]
    if column.dtype == object:
        known = _by_text(names)
        whose = [known.get(str(v).replace("\\", "/").removeprefix("./").casefold()) for v in column]
    else:
        numbered = _by_number(names)
        whose = [numbered.get(int(v)) if np.isfinite(v) and v == int(v) else None for v in column]
    kept = {name: c for name, c in table.columns.items() if name != key and len(c) == len(column)}
    rest = Table(table.where, kept, table.whole)
    places: dict[str, list[int]] = {}
    for row, name in enumerate(whose):
        if name is not None:
            places.setdefault(name, []).append(row)
    return {name: rest.take(np.array(rows)) for name, rows in places.items()}, key


def _by_text(names: list[str]) -> dict[str, str]:
    """What a row may call a recording: its path, the file's name, either without suffix; where that is not shared."""
    calls: dict[str, set[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        for call in (name, path.name, str(path.with_suffix("")), path.stem):
            calls.setdefault(call.casefold(), set()).add(name)
    return {call: next(iter(meant)) for call, meant in calls.items() if len(meant) == 1}


def _by_number(names: list[str]) -> dict[int, str]:
    ends = [re.search(r"(\d+)$", PurePosixPath(name).stem) for name in names]
    numbers = [int(m[1]) for m in ends if m]
    if len(set(numbers)) == len(names):
        return dict(zip(numbers, names, strict=True))
    return dict(enumerate(sorted(names, key=natural)))


def words(parts: list[Rows]) -> tuple[str, ...]:
    """The choices, in order, where actions are words; empty where they are numbers. Mixed raises :class:`DataError`."""
    text = [r for r in parts if r.action is not None and r.action.dtype == object]
    if not text:
        return ()
    rest = [r for r in parts if r.action is not None and len(r.action) and r.action.dtype != object]
    if rest:
        raise DataError(f"Actions are words in {text[0].where} and numbers in {rest[0].where}; expected one of them.")
    every = {str(a) for r in text if r.action is not None for a in r.action}
    return tuple(sorted(every, key=natural))


def folder_table(folder: Path) -> Path | None:
    """The table of a whole folder, ``actions.csv`` and its like; None where there is none."""
    found = sorted(p for p in folder.iterdir() if p.stem.casefold() == "actions" and p.suffix.lower() in SUFFIXES)
    if len(found) > 1:
        raise DataError(f"{folder}: {found[0].name} and {found[1].name} are both tables of the folder; keep one.")
    return found[0] if found else None
