"""One score for the laws of the world, and the score of each law beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from worldloom.evaluation.invariants import FLOORS, SHOWN, Invariant, overall
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.causality import unexplained
from worldloom.evaluation.probes.constancy import keeping
from worldloom.evaluation.probes.contacts import touching, turning
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.motion import falling, steadiness
from worldloom.evaluation.probes.permanence import staying
from worldloom.evaluation.probes.reversal import reversing
from worldloom.evaluation.schema import Figure

SOURCES: dict[str, Callable[[Dreams], list[Invariant]]] = {
    "permanence": lambda dreams: [staying(dreams)],
    "inertia": steadiness,
    "gravity": lambda dreams: [falling(dreams)],
    "walls": turning,
    "contacts": touching,
    "constancy": keeping,
    "causality": lambda dreams: [unexplained(dreams)],
    "reversal": reversing,
}
"""Name of the probe that reports them raw, and its invariants."""


def laws(dreams: Dreams) -> dict[str, Invariant]:
    """What can be scored here, by the name of its raw figure, PROBE_FIGURE."""
    found: dict[str, Invariant] = {}
    for name, source in SOURCES.items():
        try:
            some = source(dreams)
        except NotMeasurableError:
            continue  # the probe of that name says so in the report, with the reason
        found |= {f"{name}_{one.name}": one for one in some if one.usable}
    return found


@probe(name="physics", truth=("position",), exact=True, about="Taken together, how well does the dream keep the laws?")
def physics(dreams: Dreams) -> dict[str, Figure]:
    """The score of each invariant, and their median."""
    found = laws(dreams)
    if not found:
        raise NotMeasurableError("None of the laws could be measured: see the reasons of the other physics probes.")
    parts = {name: one.scored(dreams) for name, one in found.items()}
    value, interval = overall(list(found.values()), dreams)
    first = next(iter(parts.values()))
    score = dataclasses.replace(
        first, value=value, interval=interval, n=len(parts), n_of="laws", statistic="median", title="Physics score",
        meaning="Median over the laws of exp(-(error - floor)/tolerance): 1 is as the world itself. A tolerance is "
        f"{FLOORS:g} times the floor, or what the law's page states where that is larger. A law of which the true "
        f"frames hold {SHOWN} events or more and the dreams none has 0.",
        blind_to="Half of the laws: a median does not see a fault that breaks few of them. Read the parts.",
    )  # fmt: skip
    least = min(found, key=lambda name: found[name].worth)
    worst = dataclasses.replace(
        parts[least], title="Worst of the laws", meaning=f"The lowest score, here of {least}: {parts[least].meaning}",
        blind_to="That the worst of many is low by chance: see its interval, and its raw figure.",
    )  # fmt: skip
    return {"score": score, "worst": worst, **parts}


__all__ = ["laws", "physics"]
