"""Is there a cause to every response, and a response to every cause?"""

from __future__ import annotations

import numpy as np

from worldloom.evaluation.events import JUMP, LEAP, SIDES, Contact, Events, Jumps, Turn, events, find_jumps
from worldloom.evaluation.flights import MARGIN, Paths
from worldloom.evaluation.flown import flown
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

EXCITED = 0.5
"""px: pushes must have carried an object this far from a straight line for its flight to tell what they did."""


def _jumps(dreams: Dreams) -> tuple[Jumps, Jumps]:
    def make() -> tuple[Jumps, Jumps]:
        found = flown(dreams)
        return find_jumps(found.real), find_jumps(found.dreamed)

    return dreams.once("jumps", make)


def unexplained(dreams: Dreams) -> Invariant:
    """Jumps without cause, as an invariant."""
    real, dreamed = _jumps(dreams)
    looked = np.flatnonzero(dreamed.looked)
    seen = real.looked > 0
    return Invariant(
        "unexplained", "Responses without cause",
        f"Sudden changes of velocity by over {JUMP:g} px/frame, or of place by over {LEAP:g} px, of objects that "
        f"nothing touches, beyond its pushes, per 100 frames of free flight (of at least {2 * SIDES} frames each).",
        100 * dreamed.found[looked] / dreamed.looked[looked], looked, 100 * real.found[seen] / real.looked[seen],
        "dreams", "per 100 frames", "mean", tolerance=1.0,
        blind_to=f"Changes that come gradually: see inertia; and those within {MARGIN:g} px of a wall or an object.",
    )  # fmt: skip


def unanswered(dreams: Dreams) -> Invariant:
    """Causes without response, as an invariant."""
    real, dreamed = events(dreams)

    def due(of: Events) -> tuple[np.ndarray, np.ndarray]:
        every: list[Turn | Contact] = [*of.turns, *of.contacts]
        found = [x for x in every if x.due]
        return np.array([not x.responded for x in found], float), np.array([x.row for x in found], int)

    values, rows = due(dreamed)
    return Invariant(
        "unanswered", "Causes without response", "Share of walls and objects flown into that turned nothing.",
        values, rows, due(real)[0], "walls and objects flown into", statistic="mean", share=True, tolerance=0.1,
        blind_to="Objects that are lost where they touch: see permanence.",
    )  # fmt: skip


def _obeyed(paths: list[Paths]) -> np.ndarray:
    """(m, 2): start, and the share of its pushes that each pushed flight shows, by least squares."""
    out = []
    for one in paths:
        for k in range(one.objects):
            for flight in one.flights[k]:
                if len(flight) < 6:
                    continue
                part = slice(flight.start, flight.stop + 1)
                t = np.arange(len(flight)) - (len(flight) - 1) / 2
                straight = np.linalg.qr(np.stack([np.ones_like(t), t], 1))[0]
                carried = one.position[part, k] - one.plain[part, k]
                carried = carried - 0.5 * one.law.gravity * np.arange(flight.start, flight.stop + 1)[:, None] ** 2
                moved = one.plain[part, k] + carried
                moved, carried = (x - straight @ (straight.T @ x) for x in (moved, carried))
                square = float(np.square(carried).sum())
                if square >= EXCITED**2 * len(flight):
                    out.append((one.row, float((moved * carried).sum()) / square))
    return np.array(out, float).reshape(-1, 2)


@probe(
    name="causality", truth=("position",), exact=True, about="Has every response a cause, and every cause a response?"
)
def causality(dreams: Dreams) -> dict[str, Figure]:
    """Jumps that nothing explains, walls and contacts that do nothing, and what pushes do."""
    real, dreamed = _jumps(dreams)
    if not dreamed.looked.any():
        raise NotMeasurableError(
            f"None of the dreams holds an object in free flight for {2 * SIDES} frames, as is needed to see a jump."
        )
    out = {"unexplained": unexplained(dreams).figure(dreams), "unanswered": unanswered(dreams).figure(dreams)}
    looked = np.flatnonzero(dreamed.looked)
    out["clean"] = dreams.figure(
        (dreamed.found[looked] == 0).astype(float), rows=looked, floor=(real.found[real.looked > 0] == 0).astype(float),
        share=True, better="higher", title="Dreams without unexplained jumps", n_of="dreams",
        meaning="Share of dreams in which no object that nothing touches changes its course suddenly.",
    )  # fmt: skip
    found = flown(dreams)
    if any(one.law.pushes.any() for one in found.dreamed[:1]):
        mine, true = _obeyed(found.dreamed), _obeyed(found.real)
        out["pushes"] = dreams.figure(
            mine[:, 1], rows=mine[:, 0].astype(int), floor=true[:, 1], statistic="median", better="neither",
            title="What pushes do", n_of="pushed free flights",
            meaning="The multiple of the given pushes that explains a flight best: 1 is obeyed, 0 ignored, 2 doubled.",
            blind_to="Pushes while something else touches, and which of several actions is wrong.",
        )  # fmt: skip
    return out


__all__ = ["causality", "unanswered", "unexplained"]
