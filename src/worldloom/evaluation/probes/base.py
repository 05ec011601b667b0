"""What a probe is, how it is found by its name, and what becomes of one that can't measure."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from worldloom.configs import ConfigError, from_json
from worldloom.contract import WorldloomError
from worldloom.evaluation.probes.dreams import Dreams, ProbeError
from worldloom.evaluation.schema import FLAT, Figure
from worldloom.plugins import load, one_line, place

PROBES: dict[str, tuple[str, str]] = {
    "permanence": ("worldloom.evaluation.probes.permanence", "permanence"),
    "occlusion": ("worldloom.evaluation.probes.occlusion", "occlusion"),
    "inertia": ("worldloom.evaluation.probes.motion", "inertia"),
    "gravity": ("worldloom.evaluation.probes.motion", "gravity"),
    "walls": ("worldloom.evaluation.probes.contacts", "walls"),
    "contacts": ("worldloom.evaluation.probes.contacts", "contacts"),
    "constancy": ("worldloom.evaluation.probes.constancy", "constancy"),
    "causality": ("worldloom.evaluation.probes.causality", "causality"),
    "reversal": ("worldloom.evaluation.probes.reversal", "reversal"),
    "physics": ("worldloom.evaluation.probes.physics", "physics"),
    "phyworld": ("worldloom.evaluation.probes.phyworld", "phyworld"),
    "trust": ("worldloom.evaluation.probes.trust", "trust"),
    "regimes": ("worldloom.evaluation.probes.regimes", "regimes"),
    "prediction_time": ("worldloom.evaluation.probes.prediction_time", "prediction_time"),
    "fidelity": ("worldloom.evaluation.probes.fidelity", "fidelity"),
    "drift": ("worldloom.evaluation.probes.drift", "drift"),
    "half_life": ("worldloom.evaluation.probes.survival", "half_life"),
    "cost": ("worldloom.evaluation.probes.cost", "cost"),
    "action_gain": ("worldloom.evaluation.probes.actions_gain", "action_gain"),
    "inverse_dynamics": ("worldloom.evaluation.probes.inverse", "inverse_dynamics"),
    "counterfactual": ("worldloom.evaluation.probes.counterfactual", "counterfactual"),
    "noop": ("worldloom.evaluation.probes.actions_noop", "noop"),
    "undo": ("worldloom.evaluation.probes.undo", "undo"),
    "kernel": ("worldloom.evaluation.probes.distances", "kernel"),
    "frechet": ("worldloom.evaluation.probes.distances", "frechet"),
    "coverage": ("worldloom.evaluation.probes.distances", "covering"),
    "foreground": ("worldloom.evaluation.probes.foreground", "foreground"),
}
"""Probe name to (module, function) of those that come with the library. Loaded when they are asked for."""

SETS = ("default", "none")
"""Names that stand for several probes, or none."""


class NotMeasurableError(ProbeError):
    """Raised by a probe that finds that it can't measure here, with the reason as a sentence: no event of its kind
    happened, too few clips. The report lists it, and the other probes go on."""


ProbeFunction: TypeAlias = Callable[[Dreams], Mapping[str, Figure]]


@dataclass(frozen=True)
class Probe:
    """A function of :class:`Dreams`, its name, and what it can't do without. :func:`probe` makes one."""

    name: str
    """Its figures stand in the report as ``name/...``."""
    run: ProbeFunction
    """Measures."""
    truth: tuple[str, ...] = ()
    """Exact states that the data must hold, such as ``position``."""
    capabilities: tuple[str, ...] = ()
    """Optional parts of the contract that the model must have, such as ``reward``."""
    sensors: tuple[str, ...] = ()
    """Sensors that the model must dream."""
    actions: bool = False
    """Whether the world must take actions."""
    exact: bool = False
    """Whether it must be able to play the exact world behind the data (:attr:`Dreams.world`)."""
    full: bool = False
    """Whether it takes so long that only ``--full`` runs it unasked."""
    asked: bool = False
    """Whether it never runs unless it is asked for by its name."""
    about: str = ""
    """What it asks, in one sentence, for the report's page."""

    def lacks(self, dreams: Dreams) -> str:
        """What it misses in this model and these data, for a sentence; empty where it can run."""
        known, model = set(dreams.truth), dreams.model
        missing = [
            f"the truth {n!r} in the data (they hold {sorted(known) or 'none'})" for n in self.truth if n not in known
        ]
        capabilities = model.capabilities if model is not None else frozenset()
        missing += [f"a model with the capability {n!r}" for n in self.capabilities if n not in capabilities]
        missing += [f"the sensor {n!r}" for n in self.sensors if n not in dreams.spec.shown]
        missing += ["actions"] if self.actions and dreams.spec.action is None else []
        missing += ["an exact simulator of ours behind the data"] if self.exact and dreams.world is None else []
        return " and ".join(missing)

    def measure(self, dreams: Dreams) -> dict[str, Figure]:
        """Its figures by their full names. Raises :class:`ProbeError` that names the probe, whatever goes wrong."""
        try:
            found = self.run(dreams)
        except NotMeasurableError:
            raise
        except WorldloomError as error:
            raise ProbeError(f"The probe {self.name!r} failed: {error}") from error
        except Exception as error:
            said = f"{type(error).__name__}: {one_line(error)}{place(error)}"
            raise ProbeError(f"The probe {self.name!r} failed: {said}") from error
        return self._checked(found)

    def _checked(self, found: Any) -> dict[str, Figure]:
        if not isinstance(found, Mapping) or not found:
            raise ProbeError(
                f"The probe {self.name!r} must return a dictionary of figures by name (dreams.figure makes one), found "
                f"{'an empty one' if isinstance(found, Mapping) else type(found).__name__}."
            )
        named = {f"{self.name}/{name}": figure for name, figure in found.items()}
        for name, figure in named.items():
            if not re.fullmatch(r"\w+/[A-Za-z]\w*", name):
                raise ProbeError(
                    f"The probe {self.name!r} must name its figures by letters, digits and _, found {name!r}."
                )
            if not isinstance(figure, Figure):
                raise ProbeError(
                    f"The probe {self.name!r} must return figures, as dreams.figure makes them; {name!r} is a "
                    f"{type(figure).__name__}."
                )
            try:  # what is in the report can be read again
                from_json(Figure, json.loads(json.dumps(dataclasses.asdict(figure), allow_nan=False)), name)
            except (ConfigError, TypeError, ValueError) as error:
                raise ProbeError(f"The probe {self.name!r} returned a figure that is none: {error}") from error
        keys = [n if key == "value" else f"{n}_{key}" for n in named for key in FLAT]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise ProbeError(
                f"The probe {self.name!r} returned figures that would write {twice} twice into report.json: rename one."
            )
        return named


def probe(
    run: ProbeFunction | None = None,
    *,
    name: str | None = None,
    truth: Sequence[str] = (),
    capabilities: Sequence[str] = (),
    sensors: Sequence[str] = (),
    actions: bool = False,
    exact: bool = False,
    full: bool = False,
    asked: bool = False,
    about: str = "",
) -> Any:
    """Make a :class:`Probe` of a function, and say what it needs::

        @worldloom.probe(truth=("position",))
        def drift(dreams): ...

    A function without needs is a probe as it is.
    """

    def wrap(function: ProbeFunction) -> Probe:
        own = name or str(getattr(function, "__name__", type(function).__name__))
        needs = (tuple(truth), tuple(capabilities), tuple(sensors))
        return Probe(own, function, *needs, actions, exact, full, asked, about)

    return wrap if run is None else wrap(run)


def find_probes(given: str | Sequence[str | Probe | ProbeFunction], full: bool = False) -> list[Probe]:
    """Probes by name (of ours, or ``module:function`` of the user's; commas part several), or given as they are.

    ``default`` stands for all of ours that run unasked (``full``: those that take long too), ``none`` for nothing.
    """
    found: list[Probe] = []
    for one in [given] if isinstance(given, str) else given:
        if isinstance(one, str):
            for name in [n.strip() for n in one.split(",") if n.strip()]:
                found += {"default": default_probes(full), "none": []}[name] if name in SETS else [_named(name)]
        else:
            found.append(_made(one, str(getattr(one, "__name__", type(one).__name__))))
    names = [p.name for p in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ProbeError(f"Several probes are named {twice}: their figures would take each other's place. Rename one.")
    return found


def default_probes(full: bool = False) -> list[Probe]:
    """Ours that run unasked."""
    every = [_named(name) for name in PROBES]
    return [p for p in every if not p.asked and (full or not p.full)]


def _named(name: str) -> Probe:
    if ":" in name:
        return _made(load(name, ProbeError), name)
    if name not in PROBES:
        near = difflib.get_close_matches(name, PROBES, 1)
        ours = f"Probes: {', '.join(PROBES)}. " if PROBES else ""
        hint = f"Did you mean {near[0]!r}? " if near else ours
        raise ProbeError(f"There is no probe {name!r}. {hint}Your own is named as module:function.")
    return dataclasses.replace(_made(load(":".join(PROBES[name]), ProbeError), name), name=name)


def _made(one: Any, label: str) -> Probe:
    if isinstance(one, Probe):
        made = one
    elif isinstance(one, type) or not callable(one):
        raise ProbeError(f"{label} is a {type(one).__name__}, not a function of the dreams that returns figures.")
    else:
        made = probe(one)
    if not re.fullmatch(r"[A-Za-z]\w*", made.name):
        raise ProbeError(f"A probe is named by letters, digits and _, found {made.name!r}: give probe(name=...).")
    return made


@dataclass
class Probed:
    """What the probes of one report found."""

    figures: dict[str, Figure] = field(default_factory=dict)
    """By full name."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Name of a probe that can't be used here, and why."""
    failures: dict[str, str] = field(default_factory=dict)
    """Name of a probe that failed, and how."""


def measure_all(probes: Sequence[Probe], dreams: Dreams, say: Callable[[str], None]) -> Probed:
    """Run every probe that can; one that fails does not take the others' figures with it."""
    out = Probed()
    for one in probes:
        if lacks := one.lacks(dreams):
            out.unmeasured[one.name] = f"It needs {lacks}."
            continue
        say(f"Probe {one.name}")
        try:
            out.figures |= one.measure(dreams)
        except NotMeasurableError as reason:
            out.unmeasured[one.name] = str(reason)
        except ProbeError as error:
            out.failures[one.name] = str(error)
    return out


__all__ = [
    "PROBES",
    "SETS",
    "Dreams",
    "NotMeasurableError",
    "Probe",
    "ProbeError",
    "ProbeFunction",
    "default_probes",
    "find_probes",
    "measure_all",
    "probe",
]
