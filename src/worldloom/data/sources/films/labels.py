"""The tables of many recordings together: which belongs to which, whether they agree, the control that fits all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from worldloom.contract import ContractError, Control, WorldloomError
from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig, Problem
from worldloom.data.sources.films.actions import Rows, beside, folder_table, read_rows, split_by_recording, words
from worldloom.data.sources.films.tables import SUFFIXES, read_table
from worldloom.data.sources.names import hidden, shown
from worldloom.data.sources.pairing import infer_control, pairing_note


@dataclass
class Found:
    """One recording, as far as its headers tell."""

    name: str
    """Path within the source, on one line."""
    path: Path
    sizes: dict[tuple[int, int], str]
    """(height, width) of its pictures, as shown, each with where it was found."""
    rate: float
    """Frames a second; 0 where unknown."""
    frames: int | None
    """Frames as declared, None where unknown."""
    exact: bool = False
    """Whether ``frames`` was counted, not only declared."""
    calls: list[tuple[Path, str]] = field(default_factory=list)
    """(folder, name without suffix) of the tables that would belong to it."""


class Labels:
    """What the tables beside recordings, or one for all of them, say.

    path: the source. every: names of all its recordings, those that can't be used among them. declared: the action that
    the source is known to have, if it is known. Raises :class:`DataError` where the tables can't be used at all; what
    is wrong with single ones stands in :attr:`problems`.
    """

    def __init__(
        self, path: Path, config: ImportConfig, found: list[Found], every: list[str], declared: Control | None
    ):
        self.path, self.config, self.every, self.declared = path, config, every, declared
        self.problems: list[Problem] = []
        self.rows: dict[str, Rows] = {}
        """Name of a recording to what its table says; empty for plain video."""
        self.partial: list[str] = []
        """What only some tables tell, a line each."""
        self.good, self.control, self.notes = self._tabled(found)
        """Recordings that can be used; the action, or None; what to tell the user."""

    def _tabled(self, found: list[Found]) -> tuple[list[Found], Control | None, list[str]]:
        """Those whose tables, if there are any, can be used; the control; and what to say about it."""
        if self.config.actions == "none" or not found:
            return found, None, []
        rows, broken, said = self._read_tables(found)
        if not rows and not broken:
            if self.config.columns:
                raise DataError(f"{self.path} has no tables to take the columns {', '.join(self.config.columns)} from.")
            return found, None, [f"No tables of actions found ({found[0].calls[0][1]}.csv, say): plain video."]
        good = []
        for f in found:
            if f.name in rows:
                good.append(f)
            elif f.name not in broken:
                self._problem(
                    f.name,
                    f"has no table of actions ({f.calls[0][1]}.csv, say), though {len(rows)} others have one; add it, "
                    "or give --actions none for plain video.",
                    "no table",
                )
        rows = self._alike({f.name: rows[f.name] for f in good})
        control, rows = self._control(rows)
        for f in list(good):
            if f.name in rows and f.exact and f.frames is not None:
                try:
                    rows[f.name].paired(f.frames, control, self.config, rows[f.name].where)
                except DataError as error:
                    self._problem(f.name, error, "rows")
                    del rows[f.name]
        self.rows = rows
        return [f for f in good if f.name in rows], control, said + self._said(control) + self.partial

    def _read_tables(self, found: list[Found]) -> tuple[dict[str, Rows], set[str], list[str]]:
        """What the tables say, the recordings whose table is broken (told as problems), and notes."""
        rows: dict[str, Rows] = {}
        broken: set[str] = set()
        listed: dict[Path, set[str]] = {}
        used: set[Path] = set()
        for f in found:
            tables: list[Path] = []
            for folder, stem in f.calls:
                if folder not in listed:
                    listed[folder] = _names(folder)
                names = listed[folder]
                tables += [folder / name for name in beside(names, stem)]
                if tables:
                    break
            used.update(tables)
            try:
                if len(tables) > 1:
                    raise DataError(f"{tables[0].name} and {tables[1].name} are both tables for it; keep one.")
                if tables:
                    rows[f.name] = read_rows(read_table(tables[0], shown(tables[0].name)), self.config)
            except WorldloomError as error:
                self._problem(f.name, error, "table")
                broken.add(f.name)
        folder = self.path if self.path.is_dir() else self.path.parent
        whole = folder_table(folder)
        missing = [f.name for f in found if f.name not in rows and f.name not in broken]
        if whole is not None and missing and whole not in used:
            used.add(whole)
            parts, key = split_by_recording(read_table(whole, shown(whole.name)), self.every)
            for name in missing:
                if name in parts:
                    try:
                        rows[name] = read_rows(parts[name], self.config)
                    except WorldloomError as error:
                        self._problem(name, error, "table")
                        broken.add(name)
            if key and self.path.is_dir():
                told = [name for name in parts if name in {f.name for f in found}]
                say = f": {len(told)} of {len(found)} recordings have rows" + (f", {told[0]} first" if told else "")
                return rows, broken, [f"Table {shown(whole.name)}, by its column {key!r}{say}."]
        unused = [
            shown(name)
            for at, names in listed.items()
            for name in sorted(names)
            if self.path in (at, *at.parents)
            and Path(name).suffix.lower() in SUFFIXES
            and not hidden(name)
            and at / name not in used
        ]
        return rows, broken, [f"Tables that belong to no recording: {', '.join(unused[:5])}."] if unused else []

    def _alike(self, rows: dict[str, Rows]) -> dict[str, Rows]:
        """All with the same columns, in the order of the first; those that lack one become problems."""
        if not rows:
            return rows
        names = next(iter(rows.values())).names
        out = {}
        for name, r in rows.items():
            if r.names != names and set(r.names) == set(names) and r.action is not None:
                r = replace(r, names=names, action=r.action[:, [r.names.index(n) for n in names]])
            if len(r.names) == len(names) and (r.names == names or len(names) == 1):
                out[name] = r
                continue
            mine, theirs = ", ".join(r.names) or "none", ", ".join(names) or "none"
            self._problem(
                name, f"the columns of actions in {r.where} are {mine}; those of the first table are {theirs}.", "table"
            )
        return out

    def _control(self, rows: dict[str, Rows]) -> tuple[Control | None, dict[str, Rows]]:
        """The control that fits all tables, and the rows, words made numbers; rewards and ends known of all or none."""
        if self._some(rows, "rewards", [r.where for r in rows.values() if r.reward is None]):
            rows = {name: replace(r, reward=None) for name, r in rows.items()}
        if self._some(rows, "ends", [r.where for r in rows.values() if r.ended is None]):
            rows = {name: replace(r, ended=None) for name, r in rows.items()}
        parts = [r.action for r in rows.values() if r.action is not None]
        if not parts:
            return None, rows
        choices = words(list(rows.values()))
        if choices:
            if self.config.actions == "continuous":
                raise DataError(f"{self.path}: actions are words ({', '.join(choices[:4])}), not numbers.")
            place = {word: i for i, word in enumerate(choices)}
            for name, r in rows.items():
                if r.action is not None:
                    rows[name] = replace(r, action=np.array([place[str(a)] for a in r.action.reshape(-1)], np.int64))
            return Control("discrete", n=len(choices), names=choices), rows
        declared = self.declared if self.config.actions == "auto" else None
        if declared is not None and not self.config.columns and all(_takes(declared, part) for part in parts):
            return declared, rows
        kind = self.config.actions
        assert kind != "none"  # asked for above
        return infer_control(parts, next(iter(rows.values())).names, kind, str(self.path)), rows

    def _some(self, rows: dict[str, Rows], what: str, lacking: list[str]) -> bool:
        """Whether some tables lack something; notes it where others have it."""
        if 0 < len(lacking) < len(rows):
            self.partial.append(
                f"Left out: the {what}, which {len(lacking)} of {len(rows)} tables do not tell ({lacking[0]}, say)."
            )
        return bool(lacking)

    def _said(self, control: Control | None) -> list[str]:
        rows = next(iter(self.rows.values()), None)
        if rows is None:
            return []
        said = []
        if control is not None and rows.action is not None:
            if control.kind == "discrete":
                names = f" ({', '.join(control.names[:8])}{', ...' if control.n > 8 else ''})" if control.names else ""
                said.append(f"Actions: {control.n} choices{names}, from {', '.join(rows.names)}.")
            else:
                said.append(f"Actions: {control.shape[0]} numbers, from {', '.join(rows.names)}.")
            said.append(pairing_note(self.config.rule))
            t = 0 if self.config.rule == "next" else 1
            if len(rows.action) > t:
                value = np.atleast_1d(rows.action[t])
                if control.kind == "discrete" and control.names:
                    value = np.array([control.names[int(value[0])]])
                pairs = [
                    f"{n}={v:.4g}" if not isinstance(v, str) else f"{n}={v}"
                    for n, v in zip(rows.names, value, strict=False)
                ]
                more = ", ..." if len(pairs) > 4 else ""
                said.append(f"For example {next(iter(self.rows))}: row {t} ({', '.join(pairs[:4])}{more}) -> frame 1.")
        both = [n for n, there in (("rewards", rows.reward), ("ends", rows.ended)) if there is not None]
        if both:
            last = " An end (and its reward) in the last frame's own row counts for that frame."
            last = last if rows.ended is not None and self.config.rule == "next" else ""
            said.append(f"The tables also tell the {' and '.join(both)}, paired like the actions.{last}")
        return said

    def _problem(self, name: str, error: WorldloomError | str, kind: str) -> None:
        self.problems.append(Problem(name, str(error).removeprefix(f"{name}: "), kind))


def _names(folder: Path) -> set[str]:
    try:
        return {p.name for p in folder.iterdir()}
    except OSError:  # the folder above the source may be nobody's business
        return set()


def _takes(control: Control, actions: np.ndarray) -> bool:
    """Whether (rows,) or (rows, D) are values of the control, none of them a null choice."""
    if control.kind == "discrete" and (actions != np.round(actions)).any():
        return False
    try:
        values = torch.from_numpy(np.ascontiguousarray(actions)).reshape(len(actions), *control.shape).to(control.dtype)
        control.check(values, (len(actions),), "action")
    except (ContractError, RuntimeError):
        return False
    return control.kind != "discrete" or not bool((values == control.n).any())
