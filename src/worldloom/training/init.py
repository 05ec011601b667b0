"""Beginning with the weights of another run: what fits is taken over, and all of it is said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldloom.contract import Control, Sensor, Spec, WorldloomError, WorldModel
from worldloom.models.adopt import Get, same_entries, same_sensors
from worldloom.models.saved import describe_model, read_model, same_family
from worldloom.training.config import differences

INIT_FILE = "init.json"
_SHOWN = 5  # tensors named on a printed line
_ENOUGH = 0.5


@dataclass
class Account:
    """What of another run's weights a model began with: printed in short, and whole in the run's ``init.json``."""

    source: str
    """The file that was read."""
    family: str
    """Its family."""
    step: int | None
    """The training step of its weights."""
    taken: list[str] = field(default_factory=list)
    """Tensors that were taken over whole."""
    partly: dict[str, str] = field(default_factory=dict)
    """Tensors of which a part was taken over, and which."""
    new: dict[str, str] = field(default_factory=dict)
    """Tensors that keep their fresh values, and why."""
    unused: list[str] = field(default_factory=list)
    """Tensors of the other run that were not used."""
    numbers: int = 0
    """Numbers (entries of tensors) taken over."""
    of: int = 0
    """Numbers in all of the model's tensors."""
    notes: list[str] = field(default_factory=list)
    """How the two worlds and configurations differ."""

    @property
    def share(self) -> float:
        """The larger of two shares taken over: of the tensors (at least in part), and of the numbers in them."""
        used = len(self.taken) + len(self.partly)
        return max(used / max(1, used + len(self.new)), self.numbers / max(1, self.of))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for ``init.json``."""
        return dataclasses.asdict(self)

    def lines(self) -> list[str]:
        """The account in a few lines."""
        count = len(self.taken) + len(self.partly) + len(self.new)
        if not self.partly and not self.new:
            first = f"Took all {count} tensors from {self.source}."
        else:
            parts = f" and {len(self.partly)} in part" if self.partly else ""
            first = (
                f"Took {len(self.taken)} of {count} tensors whole{parts} from {self.source}, "
                f"{100 * self.numbers / max(1, self.of):.1f} % of the model's numbers; the whole list: {INIT_FILE}."
            )
        lines = [first]
        if self.partly:
            lines.append(f"  in part: {_some([f'{n} ({what})' for n, what in self.partly.items()])}")
        if self.new:
            lines.append(f"  new: {_some([f'{n} ({why})' for n, why in self.new.items()])}")
        if self.unused:
            lines.append(f"  not used: {_some(self.unused)}")
        return lines + [f"  {note}" for note in self.notes]


def take_over(model: WorldModel, path: str | Path, *, force: bool = False) -> Account:
    """Begin ``model`` with the weights of another run (its folder, or a model file): the averaged ones it saved.

    A tensor is taken where name and shape are equal, unless the model's method ``adopt`` says otherwise
    (:mod:`worldloom.models.adopt`), as the families do for what depends on the names of actions and sensors. All else
    keeps its fresh values. Raises :class:`WorldloomError`, with the model untouched, where the other run is missing,
    damaged or of another family, and where neither half of the tensors nor half of their numbers can be taken; with
    ``force`` only where none can.
    """
    file, weights, meta = read_model(path)
    there, here = meta["model"], describe_model(model)
    if not same_family(here["family"], there["family"]):
        raise WorldloomError(
            f"{file} holds a model of the family {there['family']!r}, and this one is of {here['family']!r}: weights "
            f"go over within a family only. Train a {there['family']!r}, or leave out --init."
        )
    spec = Spec.from_json(there["spec"])
    account = Account(str(file), there["family"], meta.get("step"))
    values = _values(model, weights, spec, account)
    account.notes += _configurations(there["config"], here["config"])
    account.notes += _worlds(spec, model.spec, getattr(model, "adopt", None) is not None, type(model).__name__)
    if not account.numbers or (account.share < _ENOUGH and not force):
        raise WorldloomError(_too_little(account))
    own = model.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            value = value.to(own[name].device)
            own[name].copy_(torch.where(value.isnan(), own[name], value) if name in account.partly else value)
    return account


def _values(model: WorldModel, weights: Mapping[str, Tensor], spec: Spec, account: Account) -> dict[str, Tensor]:
    """What will be copied into each tensor, NaN where it keeps its own; ``account`` is told of every one."""
    adopt: Callable[[str, Get, Spec], Tensor | None] | None = getattr(model, "adopt", None)
    values: dict[str, Tensor] = {}
    used: set[str] = set()
    read: set[str] = set()  # what the hook asked for

    def get(name: str) -> Tensor | None:
        if name in weights:
            read.add(name)
        return weights.get(name)

    for name, own in model.state_dict().items():
        account.of += own.numel()
        read = set()
        value = adopt(name, get, spec) if adopt is not None else None
        if value is None:
            value = weights.get(name)
            if value is None or value.shape != own.shape or value.is_floating_point() != own.is_floating_point():
                account.new[name] = _why(value, own)
                continue
            read = {name}
        else:
            if value.shape != own.shape:
                raise WorldloomError(
                    f"{type(model).__name__}.adopt gave {name!r} the shape {tuple(value.shape)}; expected that of its "
                    f"own tensor, {tuple(own.shape)}."
                )
            known = ~value.isnan()
            if not bool(known.any()):
                account.new[name] = _why(weights.get(name), own, "has another meaning there")
                continue
            if not read:  # nothing of the other run: a value to begin with, such as zero
                account.new[name] = f"{_why(weights.get(name), own)}; set by adopt"
                values[name] = torch.where(known, value, own.cpu())
                continue
            if not bool(known.all()):
                account.partly[name] = _which(known)
                account.numbers += int(known.sum())
        if name not in account.partly:
            account.taken.append(name)
            account.numbers += own.numel()
        values[name] = value
        used |= read
    account.unused = sorted(weights.keys() - used)
    return values


def _why(there: Tensor | None, own: Tensor, equal: str = "is of another kind there") -> str:
    if there is None:
        return "not there"
    if there.shape != own.shape:
        return f"{_times(there)} there, {_times(own)} here"
    return equal


def _times(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "a number"


def _which(known: Tensor) -> str:
    """In words, where a mask is true: whole rows, whole columns, or a share."""
    for dim, what in enumerate(("rows", "columns")[: known.ndim]):
        slices = known.movedim(dim, 0).reshape(known.shape[dim], -1)
        if bool((slices.all(1) == slices.any(1)).all()):
            index = slices.all(1).nonzero().flatten().tolist()
            return f"{what} {_ranges(index)} of {known.shape[dim]}"
    return f"{int(known.sum())} of {known.numel()} numbers"


def _ranges(index: list[int]) -> str:
    """``0-3, 7`` for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for i in index:
        if parts and parts[-1][1] == i - 1:
            parts[-1][1] = i
        else:
            parts.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _some(names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _configurations(there: Any, here: Any) -> list[str]:
    found = differences(there, here)
    return [f"configuration (there -> here): {_some(found)}"] if found else []


# ------------------------------------------------------------------------------- how the worlds differ


def _worlds(there: Spec, here: Spec, hooked: bool, kind: str) -> list[str]:
    """A line for each sensor and control that differs."""
    notes = []
    pairs = same_sensors(here.shown, there.shown)
    for name, sensor in here.shown.items():
        other = pairs.get(name)
        if other is None:
            notes.append(f"sensor {name!r} is new")
        elif other != name or there.shown[other].shape != sensor.shape:
            called = "" if other == name else f" (called {other!r})"
            notes.append(f"sensor {name!r}: {_size(there.shown[other])} there{called}, {_size(sensor)} here")
    notes += [f"sensor {name!r} of that run is not shown here" for name in there.shown if name not in pairs.values()]
    for name, control in here.given.items():
        if name not in there.given:
            notes.append(f"control {name!r} is new")
        elif control != there.given[name]:
            notes.append(f"control {name!r}: {_control(there.given[name], control)}")
            if not hooked:
                notes.append(
                    f"careful: {kind} has no method `adopt` that says which of its weights belong to {name!r}; those "
                    "of equal name and shape were taken, and mean what they meant there"
                )
        elif control.kind in ("discrete", "continuous") and not control.names:
            notes.append(f"control {name!r} has no names on either side: its entries are taken to mean what they meant")
    notes += [f"control {name!r} of that run is not given here" for name in there.given if name not in here.given]
    if there.fps != here.fps:
        notes.append(f"{there.fps:g} frames/s there, {here.fps:g} here: a frame's motion differs by as much")
    return notes


def _size(sensor: Sensor) -> str:
    return "×".join(map(str, sensor.shape))


def _control(there: Control, here: Control) -> str:
    if there.kind != here.kind:
        return f"{there.kind} there, {here.kind} here; its layer is new"
    pairs = same_entries(here, there)
    what, count = ("choices", here.n) if here.kind == "discrete" else ("numbers", math.prod(here.shape))
    same = [here.names[i] for i, _ in pairs if i < len(here.names)]
    if not same:
        named = bool(here.names and there.names)
        by = "none of equal name" if named else "and no names on both sides to match them by"
        other = there.n if here.kind == "discrete" else math.prod(there.shape)
        return f"{other} {what} there, {count} here, {by}: all new"
    new = [n for n in here.names if n not in same]
    gone = [n for n in there.names if n not in same]
    if not new and not gone and here.names == there.names:
        return f"the same {what}, other bounds"
    parts = [f"by name from there: {', '.join(same)}"]
    parts += [f"new: {', '.join(new)}"] if new else []
    parts += [f"not here: {', '.join(gone)}"] if gone else []
    return "; ".join(parts)


def _too_little(account: Account) -> str:
    """Why the weights do not fit, and what to do."""
    configured = [n for n in account.notes if n.startswith("configuration")]
    worlds = [n for n in account.notes if not n.startswith("configuration")]
    used, count = (len(account.taken) + len(account.partly), len(account.new))
    unfit = [f"{n} ({why})" for n, why in account.new.items()]
    advice = (
        "Build the model with that run's configuration (from the shell: leave out --model.*)"
        if configured
        else "Take a run of a world that is more alike"
    )
    force = ", or give --force to begin with what fits" if account.numbers else ""
    reasons = "; ".join([*configured, *worlds])
    return (
        f"The weights in {account.source} do not fit this model: {used} of {used + count} tensors could be taken over. "
        f"Not: {_some(unfit)}.{f' They differ: {reasons}.' if reasons else ''} {advice}{force}, or leave out --init."
    )


__all__ = ["INIT_FILE", "Account", "take_over"]
