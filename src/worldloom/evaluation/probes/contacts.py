"""What touches: do walls and other objects turn an object as the elastic law says, and only when they touch?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worldloom.evaluation.events import Events, Turn, events
from worldloom.evaluation.flights import LEAST_FRAMES
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

CROWDED = (
    f"Events in quick succession, and objects that stick to what they meet or are lost there: each event needs "
    f"{LEAST_FRAMES} frames of free flight before and after it; see left_out."
)


def _left_out(
    dreams: Dreams, real: tuple[list[Any], list[int]], dreamed: tuple[list[Any], list[int]], what: str
) -> Figure:
    """Share of the candidates that could not be judged. real, dreamed: events, and starts of those left out."""
    rows = np.array([x.row for x in dreamed[0]] + dreamed[1], int)
    return dreams.figure(
        np.repeat([0.0, 1.0], [len(dreamed[0]), len(dreamed[1])]), rows=rows,
        floor=np.repeat([0.0, 1.0], [len(real[0]), len(real[1])]), share=True, better="lower",
        title=f"{what} left out", n_of=f"{what.lower()} that may have been",
        meaning="Share that was not measured: something else was too near in time, or the object was not seen, or it "
        "never flew again.",
    )  # fmt: skip


def _column(found: list[Any], value: Callable[..., float]) -> tuple[np.ndarray, np.ndarray]:
    """Values that are finite, and their starts."""
    values = np.array([value(x) for x in found], float)
    rows = np.array([x.row for x in found], int)
    fine = np.isfinite(values)
    return values[fine], rows[fine]


def _above(x: float) -> float:
    """x where it is above 0, else 0; what no frame shows stays NaN."""
    return float(np.maximum(x, 0.0))


def _made(real: list[Any], dreamed: list[Any], value: Callable[..., float], **words: Any) -> Invariant:
    values, rows = _column(dreamed, value)
    return Invariant(values=values, rows=rows, floor=_column(real, value)[0], blind_to=CROWDED, **words)


def turning(dreams: Dreams) -> list[Invariant]:
    """The invariants of walls, made once a report."""
    return dreams.once("turning", lambda: _turning(dreams))


def _turning(dreams: Dreams) -> list[Invariant]:
    real, dreamed = events(dreams)
    if not dreamed.turns and not real.turns:
        raise NotMeasurableError(
            f"No object meets a wall with {LEAST_FRAMES} frames of free flight before and after it, neither in the "
            "dreams nor in the true frames: give a longer horizon."
        )
    answered = ([t for t in real.turns if t.responded], [t for t in dreamed.turns if t.responded])
    due = ([t for t in real.turns if t.due], [t for t in dreamed.turns if t.due])
    turns = "turns at walls"
    return [
        _made(*answered, lambda t: abs(t.after / t.before - 1), name="restitution_error", n_of=turns, tolerance=0.05,
              title="Error of the rebound from walls",
              meaning="|e - 1|, e = -v'·n / v·n the ratio of the speeds off and onto the wall; 1 in an elastic world."),
        _made(*answered, lambda t: t.along, name="along", n_of=turns, unit="px/frame", tolerance=0.1,
              title="Change of velocity along the wall", meaning="A smooth wall changes none of it."),
        _made(*answered, lambda t: abs(t.beyond), name="turn_px", n_of=turns, unit="px", tolerance=0.5,
              title="Distance between wall and turn",
              meaning="How far the rim was from the wall, in front of it or beyond, where the flights before and after "
              "meet."),
        _made(*due, lambda t: float(not t.responded), name="ignored", n_of="walls flown into", statistic="mean",
              share=True, tolerance=0.1, title="Walls ignored",
              meaning="Share of objects on their way into a wall that were not turned by it."),
    ]  # fmt: skip


def touching(dreams: Dreams) -> list[Invariant]:
    """The invariants of contacts, made once a report."""
    return dreams.once("touching", lambda: _touching(dreams))


def _touching(dreams: Dreams) -> list[Invariant]:
    objects = dreams.truth["position"].shape[2]
    if objects < 2:
        raise NotMeasurableError("The world has one object; contacts need two.")
    real, dreamed = events(dreams)
    if not dreamed.contacts and not real.contacts:
        raise NotMeasurableError(
            f"No two objects meet with {LEAST_FRAMES} frames of free flight before and after it, neither in the dreams "
            "nor in the true frames: give more starts or a longer horizon."
        )
    answered = ([c for c in real.contacts if c.responded], [c for c in dreamed.contacts if c.responded])
    due = ([c for c in real.contacts if c.due], [c for c in dreamed.contacts if c.due])
    every = (real.contacts, dreamed.contacts)
    pairs = "contacts of two objects"
    return [
        _made(*answered, lambda c: abs(c.parting / c.closing - 1), name="restitution_error", n_of=pairs, tolerance=0.1,
              title="Error of the rebound from each other",
              meaning="|e - 1|, e the ratio of the speeds of parting and of closing along the line of centres."),
        _made(*answered, lambda c: c.drift / c.carried, name="momentum_error", n_of=pairs, tolerance=0.05,
              title="Momentum lost or gained",
              meaning="|Σ m v' - Σ m v| / Σ m |v|, masses as radius squared."),
        _made(*answered, lambda c: abs(c.energy), name="energy_error", n_of=pairs, tolerance=0.05,
              title="Energy lost or gained", meaning="|E' - E| of both, kinetic and potential, by the kinetic."),
        _made(*due, lambda c: float(not c.responded), name="ghosts", n_of="objects flown into", statistic="mean",
              share=True, tolerance=0.1, title="Ghost contacts",
              meaning="Share of pairs on their way into each other that pass without an exchange of momentum."),
        _made(*every, lambda c: _above(c.deepest), name="penetration_px", n_of=pairs, unit="px", statistic="mean",
              tolerance=0.5, title="Deepest overlap",
              meaning="How deep the discs overlap at the deepest frame of a contact, max(0, rᵢ + rⱼ - d)."),
        _made(*answered, lambda c: _above(-c.overlap), name="distance_px", n_of=pairs, unit="px", tolerance=0.5,
              title="Contact at a distance", meaning="Gap between the rims where the paths before and after meet."),
    ]  # fmt: skip


def _rebound(dreams: Dreams, real: np.ndarray, found: tuple[np.ndarray, np.ndarray], n_of: str) -> Figure:
    return dreams.figure(
        found[0], rows=found[1], floor=real, statistic="median", title="Restitution", better="neither", n_of=n_of,
        meaning="Ratio of the speeds after and before; 1 is elastic, less loses energy, more makes it.",
        blind_to=CROWDED,
    )  # fmt: skip


@probe(
    name="walls", truth=("position",), exact=True, about="Do walls turn objects as a mirror does, and where they are?"
)
def walls(dreams: Dreams) -> dict[str, Figure]:
    """Rebound, velocity along the wall, place of the turn, walls ignored."""
    parts = turning(dreams)
    real, dreamed = events(dreams)
    out = {one.name: one.figure(dreams) for one in parts}
    out["restitution"] = _rebound(dreams, _ratios(real.turns)[0], _ratios(dreamed.turns), "turns at walls")
    out["left_out"] = _left_out(
        dreams, (real.turns, real.crowded_turns), (dreamed.turns, dreamed.crowded_turns), "Turns at walls"
    )
    return out


def _ratios(found: list[Turn]) -> tuple[np.ndarray, np.ndarray]:
    return _column([t for t in found if t.responded], lambda t: t.after / t.before)


@probe(name="contacts", truth=("position",), exact=True, about="Do objects that meet exchange momentum as they should?")
def contacts(dreams: Dreams) -> dict[str, Figure]:
    """Rebound, momentum, energy, ghosts, overlap, contact at a distance."""
    parts = touching(dreams)
    real, dreamed = events(dreams)
    out = {one.name: one.figure(dreams) for one in parts}

    def ratio(of: Events) -> tuple[np.ndarray, np.ndarray]:
        return _column([c for c in of.contacts if c.responded], lambda c: c.parting / c.closing)

    out["restitution"] = _rebound(dreams, ratio(real)[0], ratio(dreamed), "contacts of two objects")
    out["left_out"] = _left_out(
        dreams, (real.contacts, real.crowded_contacts), (dreamed.contacts, dreamed.crowded_contacts), "Contacts"
    )
    return out


__all__ = ["contacts", "touching", "turning", "walls"]
