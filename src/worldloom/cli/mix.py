"""Flags of `worldloom train` for several datasets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worldloom.contract import Spec, WorldloomError


@dataclass(kw_only=True)
class MixFlags:
    """How the datasets of --data are mixed. What is not said must not differ."""

    mix: tuple[float, ...] | None = None
    """Weights of the datasets, one each: the shares of what is trained on. By default their numbers of frames."""
    size: tuple[str, ...] | None = None
    """HEIGHT WIDTH that all pictures are resized to when read, or ``first``: those of the first dataset."""
    fit: Literal["strict", "crop", "pad", "stretch"] = "strict"
    """For --size, pictures of another shape: ``crop`` cuts the middle out, ``pad`` adds black, ``stretch`` distorts."""
    sensors: tuple[str, ...] | None = None
    """Sensors to keep, where not all datasets have the same. ``camera=image``: image is what some call camera."""
    actions: tuple[str, ...] | None = None
    """Where actions differ: ``union`` (side by side, equal names merged), ``same`` (equal in number, they mean what the
    first's mean), ``drop`` (plain video), or for each dataset which of its actions is which of the first's:
    ``NAME:0=2,1=3,2=none``, or a .json file of that."""
    fps_mix: Literal["stride", "ignore"] | None = None
    """Where frames per second differ: ``stride`` takes every k-th frame of the faster ones, ``ignore`` all of all."""


def take_all(args: list[str], flag: str) -> list[str]:
    """The values of ``flag A B ...``, ``flag=A``, however often it occurs; all are removed from the arguments."""
    values: list[str] = []
    left: list[str] = []
    at = 0
    while at < len(args):
        if args[at].startswith(f"{flag}="):
            values.append(args[at].split("=", 1)[1])
        elif args[at] == flag:
            begin = at + 1
            while at + 1 < len(args) and not args[at + 1].startswith("-"):
                at += 1
            if at < begin:
                raise WorldloomError(f"{flag} needs a value.")
            values += args[begin : at + 1]
        else:
            left.append(args[at])
        at += 1
    args[:] = left
    return values


def mixing(flags: MixFlags) -> dict[str, Any]:
    """The arguments of :class:`worldloom.data.mixing.mixture.Mixture` that were given; empty where none was."""
    from worldloom.data.mixing.actions import parse_actions

    size: Any = flags.size
    if size is not None and size != ("first",):
        if len(size) != 2 or not all(n.isdecimal() for n in size):
            raise WorldloomError(f"--size takes HEIGHT WIDTH in pixels, or first; found {' '.join(size)}.")
        size = (int(size[0]), int(size[1]))
    given = {
        "weights": flags.mix,
        "size": "first" if size == ("first",) else size,
        "sensors": flags.sensors,
        "actions": None if flags.actions is None else parse_actions(flags.actions),
        "fps": flags.fps_mix,
    }
    said = {name: value for name, value in given.items() if value is not None}
    return said | ({"fit": flags.fit} if flags.fit != "strict" else {})


def spec_of(data: list[str], sensors: list[str]) -> Spec | None:
    """The spec of the first of ``data`` that is a dataset, with the ``sensors`` to keep alone; None where none is."""
    from worldloom.data import Dataset

    made = [d for d in data if (Path(d) / "dataset.json").is_file()]
    if not made:
        return None
    spec = Dataset(made[0]).spec
    names = {name for word in sensors for name in word.split("=")}
    kept = {name: s for name, s in spec.shown.items() if name in names}
    return dataclasses.replace(spec, shown=kept) if kept else spec
