"""The command that measures the same once more. Only a page tells it: report.json is the same wherever a run lies."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldloom.evaluation.probes import PROBES, Probe, default_probes
from worldloom.evaluation.schema import Report

COUNTED = 100
"""Frames in which objects are counted unless asked otherwise."""


@dataclass(frozen=True)
class Asked:
    """What a measurement was asked for, in the user's own words, as far as report.json does not hold it."""

    run: str = ""
    """Path of the run; empty where only the name of its folder is known."""
    options: tuple[str, ...] = ()
    """Words of the command line for the dataset, the extractor and the model's class, where they were given."""
    probes: dict[str, str] = field(default_factory=dict)
    """Name of a probe of the user's own to its ``module:function``."""


def as_given(run: Path, probes: Iterable[Probe], kind: type | None, **given: Any) -> Asked:
    """From the arguments of a measurement. kind: the model's class; given: further options by name, None where the
    user gave none."""
    options = {"model": None if kind is None else _place(kind), **given}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    own = {p.name: _place(p.run) for p in probes if p.name not in PROBES}
    return Asked(str(run), tuple(words), {name: place for name, place in own.items() if place is not None})


def _place(thing: Any) -> str | None:
    """``module:name`` of a class or function that can be imported by it; None of another."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{module}:{name}" if module and name and name.isidentifier() and module != "__main__" else None


def again(report: Report, given: Asked | None = None) -> str:
    """The command, as far as the report and what was ``given`` tell it."""
    s, given = report.setting, given or Asked()
    names = {*report.probes, *report.unmeasured}
    words = ["worldloom", "evaluate", given.run or report.run.name, *given.options]
    words += ["--starts", str(s.starts), "--prompt", str(s.prompt), "--horizon", str(s.horizon)]
    if s.count_horizon not in (0, max(COUNTED, s.horizon)):
        words += ["--count-horizon", str(s.count_horizon)]
    if names != {p.name for p in default_probes(s.full)}:
        ours = [name for name in PROBES if name in names]
        own = [given.probes.get(name, f"MODULE:{name}") for name in sorted(names - set(ours))]
        words += ["--probes", *(ours + own or ["none"])]
    words += ["--seed", str(s.seed), *(["--full"] if s.full else [])]
    return shlex.join(words)


__all__ = ["Asked", "again", "as_given"]
