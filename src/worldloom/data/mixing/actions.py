"""One space of actions for several datasets, in the way the user says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from worldloom.contract import Control
from worldloom.data.episode import DataError
from worldloom.data.mixing.adapt import NOWHERE
from worldloom.files import read_json

ActionMap: TypeAlias = Mapping[str, Mapping[str, str | int]]
"""By the name (or the number, from 1) of a dataset: which of its choices or entries is which of the first dataset's, by
name or by number from 0; ``none`` for one that is left out."""

Actions: TypeAlias = Literal["same", "union", "drop"] | ActionMap
"""See :class:`worldloom.data.mixing.mixture.Mixture`."""

Agreed: TypeAlias = tuple[Control | None, list[tuple[int, ...] | None]]
"""The common action (None for plain video), and where each dataset's choices or entries go (None: as they are)."""


def describe_action(control: Control | None) -> str:
    """A few words for a message."""
    if control is None:
        return "none (plain video)"
    size = f"{control.n} choices" if control.kind == "discrete" else f"{control.kind} {control.shape}"
    return size + (f" ({', '.join(control.names)})" if 0 < len(control.names) <= 8 else "")


def agree_actions(names: Sequence[str], controls: Sequence[Control | None], how: Actions | None) -> Agreed:
    """One action for datasets with these ``controls``. Raises :class:`DataError` where ``how`` does not settle it."""
    as_it_is: list[tuple[int, ...] | None] = [None] * len(controls)
    found = "; ".join(f"{n} {describe_action(c)}" for n, c in zip(names, controls, strict=True))
    if how == "drop":
        return None, as_it_is
    if how is None:
        if all(c == controls[0] for c in controls):
            return controls[0], as_it_is
        ways = ["union (those of all, side by side)", "drop (plain video)"]
        known = [c for c in controls if c is not None]
        if len(known) == len(controls) and len({(c.kind, c.n, c.shape) for c in known}) == 1:
            ways.append("same (equal in number: they mean what the first's mean)")
        if len({c.kind for c in known}) == 1 and controls[0] is not None:
            ways.append(f"or which is which, as {names[-1]}:0=1,1=0")
        raise DataError(f"actions: {found}. Say --actions {', '.join(ways)}.")
    odd = [
        n for n, c in zip(names, controls, strict=True) if c is not None and c.kind not in ("discrete", "continuous")
    ]
    if odd:
        raise DataError(f"actions: {found}. Only choices and numbers can be joined; use --actions drop.")
    if how == "same":
        return _same(controls, found), as_it_is
    if how == "union":
        return _union(names, controls)
    return _mapped(names, controls, how)


def _same(controls: Sequence[Control | None], found: str) -> Control | None:
    first, *rest = controls
    if any((c and (c.kind, c.shape, c.n)) != (first and (first.kind, first.shape, first.n)) for c in rest):
        raise DataError(f"actions: {found}. They are not equal in number, as --actions same says; use union or a map.")
    known = [c for c in controls if c is not None]
    if first is None or first.kind == "discrete":
        return first
    bounds = [[_bounds(c, i) for c in known] for i in range(first.shape[0])]
    return _continuous(first.names, [_widest(b) for b in bounds])


def _union(names: Sequence[str], controls: Sequence[Control | None]) -> Agreed:
    """Choices or entries side by side; those of one name, in different datasets, are one. Where some datasets have
    choices and others numbers, a choice becomes an entry that is 1 when it is taken."""
    discrete = all(c is None or c.kind == "discrete" for c in controls)
    labels: list[str] = []
    bounds: list[list[tuple[float, float] | None]] = []
    known: dict[tuple[str, str], int] = {}
    places: list[tuple[int, ...] | None] = []
    for name, control in zip(names, controls, strict=True):
        if control is None:
            places.append(None)
            continue
        mine: dict[tuple[str, str], int] = {}
        goes = []
        for i in range(_size(control)):
            label = control.names[i] if i < len(control.names) else None
            place = known.get((control.kind, label), len(labels)) if label is not None else len(labels)
            if place == len(labels):
                labels.append(label if label is not None and label not in labels else f"{name} {label or i}")
                bounds.append([])
            if label is not None:
                mine.setdefault((control.kind, label), place)
            bounds[place].append((0.0, 1.0) if control.kind == "discrete" else _bounds(control, i))
            goes.append(place)
        known = mine | known
        places.append(tuple(goes))
    if not labels:
        return None, places
    if discrete:
        return Control("discrete", n=len(labels), names=tuple(labels)), places
    return _continuous(tuple(labels), [_widest([*b, (0.0, 0.0)]) for b in bounds]), places


def _mapped(names: Sequence[str], controls: Sequence[Control | None], how: ActionMap) -> Agreed:
    first, *rest = controls
    if first is None:
        raise DataError(
            f"actions: {names[0]} has none, so none can be mapped to its. Give first what the others follow."
        )
    numbers = {str(i + 1): name for i, name in enumerate(names)}
    told = {name if name in names else numbers.get(name, name): entries for name, entries in how.items()}
    unknown = [n for n in told if n not in names[1:]]
    if unknown:
        raise DataError(f"actions: there is no dataset {unknown[0]!r} to map; there are {', '.join(names[1:])}.")
    places: list[tuple[int, ...] | None] = [None]
    bounds = [[_bounds(first, i)] for i in range(_size(first))]
    for name, control in zip(names[1:], rest, strict=True):
        if name not in told:
            if control is not None and control != first:
                raise DataError(
                    f"actions: {name} has {describe_action(control)}; say which is which: {name}:0=0,1=none."
                )
            places.append(None)
            continue
        if control is None:
            raise DataError(f"actions: {name} has none; leave it out of the map.")
        if control.kind != first.kind:
            raise DataError(f"actions: {name} has {describe_action(control)}; only what is of one kind can be mapped.")
        goes = [NOWHERE - 1] * _size(control)
        for left, right in told[name].items():
            target = NOWHERE if str(right) == "none" else _number(str(right), first, names[0])
            goes[_number(str(left), control, name)] = target
        forgotten = [control.names[i] if control.names else str(i) for i, p in enumerate(goes) if p < NOWHERE]
        if forgotten:
            raise DataError(f"actions: say where {', '.join(forgotten)} of {name} should go (=none: nowhere).")
        for i, place in enumerate(goes):
            if place != NOWHERE:
                bounds[place].append(_bounds(control, i))
        places.append(tuple(goes))
    if first.kind == "discrete":
        return first, places
    return _continuous(first.names, [_widest([*b, (0.0, 0.0)]) for b in bounds]), places


def _number(word: str, control: Control, where: str) -> int:
    if word in control.names:
        return control.names.index(word)
    if word.isdecimal() and int(word) < _size(control):
        return int(word)
    known = ", ".join(control.names) if control.names else f"0 to {_size(control) - 1}"
    raise DataError(f"actions: {where} has no {word!r}; it has {known}.")


def _size(control: Control) -> int:
    return control.n if control.kind == "discrete" else control.shape[0]


def _bounds(control: Control, entry: int) -> tuple[float, float] | None:
    """Lower and upper bound of an entry; None where one is missing."""
    return (control.low[entry], control.high[entry]) if control.low and control.high else None


def _widest(bounds: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The narrowest range that holds all; None where one is unbounded."""
    finite = [b for b in bounds if b is not None and math.isfinite(b[0]) and math.isfinite(b[1])]
    if len(finite) < len(bounds):
        return None
    return min(low for low, _ in finite), max(high for _, high in finite)


def _continuous(names: tuple[str, ...], bounds: Sequence[tuple[float, float] | None]) -> Control:
    known = [b for b in bounds if b is not None]
    if len(known) < len(bounds):  # bounds are of all entries or of none
        return Control("continuous", (len(bounds),), names=names)
    low, high = zip(*known, strict=True)
    return Control("continuous", (len(bounds),), names=names, low=low, high=high)


def parse_actions(words: Sequence[str]) -> Actions:
    """What `--actions` says: ``same``, ``union``, ``drop``, a JSON file of an :data:`ActionMap`, or ``B:0=2,1=3`` for
    each dataset that is mapped."""
    match list(words):
        case ["same" | "union" | "drop" as how]:
            return how
        case [file] if file.endswith(".json"):
            return _checked(read_json(Path(file)), file)
    found: dict[str, dict[str, str]] = {}
    for word in words:
        name, colon, pairs = word.rpartition(":")
        split = [pair.rpartition("=") for pair in pairs.split(",")]
        if not colon or not all(left and right for left, _, right in split):
            raise DataError(
                f"--actions takes same, union, drop, a .json file, or DATASET:0=2,1=3 (its 0 is the first's 2); found "
                f"{word!r}."
            )
        found.setdefault(name, {}).update({left: right for left, _, right in split})
    return found


def _checked(value: Any, where: str) -> ActionMap:
    if not isinstance(value, dict) or not all(
        isinstance(m, dict) and all(isinstance(x, (str, int)) for x in m.values()) for m in value.values()
    ):
        raise DataError(f'{where} must be like {{"DATASET": {{"0": 2, "1": "left"}}}}.')
    return value


__all__ = ["ActionMap", "Actions", "agree_actions", "describe_action", "parse_actions"]
