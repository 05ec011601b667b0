"""What a model may keep of weights that were trained for another world: by the names of its entries, never by chance.

A model class may have a method

    adopt(name, get, spec) -> Tensor | None

which is asked for each of its tensors when a run begins with the weights of another one (``train(..., init=run)``).
``name`` is the tensor's name in the state dict, ``get(name)`` a tensor of the other run or None, ``spec`` the world it
was trained on. It returns a tensor of the shape of its own, with NaN where the fresh values are to stay; or None to
leave the tensor to the rule for all: taken if name and shape are equal. A class without the method has only that rule.
What is returned without a call of ``get`` is no weight taken over but a value to begin with, such as zero.
The functions here are what such methods are made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from worldloom.contract import Control, Sensor

Get: TypeAlias = Callable[[str], Tensor | None]
"""A tensor of the other run by its name, or None where it has none of that name."""


def fresh(shape: torch.Size) -> Tensor:
    """NaN everywhere: nothing is taken over."""
    return torch.full(shape, math.nan)


def size(control: Control) -> int:
    """Entries of a control's layer: the choices and the null choice, or the numbers."""
    return control.n + 1 if control.kind == "discrete" else math.prod(control.shape)


def reach(control: Control) -> list[float]:
    """The largest size of each number of a control, by which it is divided; 1 where it has no bounds."""
    bounds = zip(control.low or [-math.inf], control.high or [math.inf], strict=False)
    reach = [max(abs(low), abs(high)) for low, high in bounds]
    return [r if 0 < r < math.inf else 1.0 for r in reach]


def same_entries(mine: Control, theirs: Control | None) -> list[tuple[int, int]]:
    """(index here, index there) of the entries (choices, or numbers of a continuous control) that mean the same.

    All, where the two controls are equal; else those of equal names; else none: an index alone means nothing. The null
    choice of one discrete control is that of any other.
    """
    if theirs is None or theirs.kind != mine.kind or mine.kind not in ("discrete", "continuous"):
        return []
    if mine == theirs:
        return [(i, i) for i in range(size(mine))]
    count = len(mine.names)
    unique = len(set(mine.names)) == count and len(set(theirs.names)) == len(theirs.names)
    place = {name: i for i, name in enumerate(theirs.names)} if unique else {}
    pairs = [(i, place[name]) for i, name in enumerate(mine.names) if name in place]
    return [*pairs, (mine.n, theirs.n)] if mine.kind == "discrete" else pairs


def by_entry(own: Tensor, there: Tensor | None, mine: Control, theirs: Control | None, dim: int) -> Tensor:
    """A control's layer, one slice along ``dim`` for each entry: those of :func:`same_entries` are taken, others NaN.

    own: the layer here, for its shape. there: the other run's, or None. A tensor of one dimension, such as a bias of
    numbers, belongs to no single entry: it is taken whole if any entry means the same.
    """
    out, pairs = fresh(own.shape), same_entries(mine, theirs)
    if there is None or theirs is None or there.ndim != own.ndim or not pairs:
        return out
    if own.ndim == 1 and dim > 0:
        return there.float() if there.shape == own.shape else out
    if there.shape[dim] != size(theirs) or there.select(dim, 0).shape != own.select(dim, 0).shape:
        return out
    for here, at in pairs:
        out.select(dim, here).copy_(there.select(dim, at))
    return out


def by_block(own: Tensor, there: Tensor | None, blocks: Iterable[tuple[int, int, int]]) -> Tensor:
    """A linear layer (outputs, inputs), NaN but for ``blocks``: (first column here, first column there, columns)."""
    out = fresh(own.shape)
    if there is not None and there.ndim == 2 and there.shape[0] == own.shape[0]:
        for here, at, count in blocks:
            out[:, here : here + count] = there[:, at : at + count]
    return out


def same_sensors(mine: Mapping[str, Sensor], theirs: Mapping[str, Sensor]) -> dict[str, str]:
    """Name here to name there: sensors of equal name and kind, then the only one of its kind that is left over."""
    pairs = {name: name for name, s in mine.items() if name in theirs and theirs[name].kind == s.kind}
    for kind in ("image", "range", "vector"):
        here = [n for n, s in mine.items() if s.kind == kind and n not in pairs]
        there = [n for n, s in theirs.items() if s.kind == kind and n not in pairs.values()]
        if len(here) == len(there) == 1:
            pairs[here[0]] = there[0]
    return pairs


__all__ = ["Get", "by_block", "by_entry", "fresh", "reach", "same_entries", "same_sensors", "size"]
