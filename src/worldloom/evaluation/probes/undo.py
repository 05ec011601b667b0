"""There and back: an action, its inverse, and whether the dream comes back to where doing nothing leads."""

from __future__ import annotations

import numpy as np

from worldloom.evaluation.probes.actions import (
    Choice,
    acted,
    choices,
    held_still,
    inverses,
    knows_state,
    nothing,
    only,
    played,
    where,
)
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure

STARTS, PAIRS = 24, 3
"""Of the usual run."""
HOLD = 3
"""Frames of the first push: 3 there, 6 against, 3 there again. A push changes a velocity, so that one inverse for one
action would bring back the velocity alone; these bring back velocity and place."""
RETURNED = 0.25
"""px from doing nothing within which the exact world must end for a start to count: walls and contacts in between can't
be undone."""


@probe(actions=True, about="Does an action followed by its inverse lead back?")
def undo(dreams: Dreams) -> dict[str, Figure]:
    """World stability (arXiv 2503.08122: actions, then their inverses), in px and against the exact
    world's own return."""
    pairs = _pairs(inverses(dreams, choices(dreams)), dreams.full)
    null = nothing(dreams)
    if not pairs or null is None or not knows_state(dreams):
        raise NotMeasurableError(
            "There and back needs an action with its inverse, one that does nothing, and exact starts (position, "
            f"velocity, radius); found {len(pairs)} pairs, {'an' if null else 'no'} action that does nothing, and the "
            f"truth {sorted(dreams.truth_shown) or 'none'}."
        )
    starts = len(dreams) if dreams.full else min(len(dreams), STARTS)
    frames, turn = 4 * HOLD, 2 * HOLD - 1  # the furthest from doing nothing is reached just before the way back
    scripts = [held_still(null, starts, frames)]
    for there, back in pairs:
        parts = [(there, HOLD), (back, 2 * HOLD), (there, HOLD)]
        scripts.append(np.concatenate([held_still(one, starts, n) for one, n in parts], 1))
    objects = [acted(dreams, there) for there, _ in pairs]
    truly = [played(dreams, one, frames) for one in scripts]
    true = _away([one.truth["position"] for one in truly], objects)
    seen = _away([where(dreams, one.frames) for one in truly], objects)
    rows = slice(0, starts)
    clips = [dreams.dream({"action": one}, frames, rows=rows)[dreams.camera] for one in scripts]
    got = _away([where(dreams, one) for one in clips], objects)

    asked = (np.linalg.norm(true[:, :, -1], axis=-1) <= RETURNED) & (np.linalg.norm(true[:, :, turn], axis=-1) > 1)
    asked &= np.isfinite(seen[:, :, [turn, -1]]).all((-1, -2))
    if not asked.any():
        raise NotMeasurableError(
            f"None of {asked.size} ways there and back ends within {RETURNED:g} px of doing nothing in the exact "
            "world, at least 1 px out on its way: walls and contacts are everywhere. Give a wider world."
        )
    return _figures(only(dreams, starts), asked, got[:, :, [turn, -1]], seen[:, :, [turn, -1]], true[:, :, turn])


def _pairs(found: list[tuple[Choice, Choice]], full: bool) -> list[tuple[Choice, Choice]]:
    """Each pair once (left and right, not right and left again); both ways in the full run."""
    if full:
        return found
    once: list[tuple[Choice, Choice]] = []
    for there, back in found:
        if all(there.label != known.label for _, known in once):
            once.append((there, back))
    return once[:PAIRS]


def _away(positions: list[np.ndarray], objects: list[int]) -> np.ndarray:
    """(pairs, m, T, 2) px of each pair's object away from doing nothing, which is the first of (m, T, K, 2)."""
    null, ways = positions[0], positions[1:]
    return np.stack([way[:, :, k] - null[:, :, k] for way, k in zip(ways, objects, strict=True)])


def _figures(some: Dreams, asked: np.ndarray, got: np.ndarray, seen: np.ndarray, out: np.ndarray) -> dict[str, Figure]:
    """got, seen: (pairs, m, 2, 2) px away from doing nothing when furthest and at the end; out: (pairs, m, 2) true."""
    reach = np.linalg.norm(out, axis=-1)

    def went(x: np.ndarray) -> np.ndarray:
        ratio: np.ndarray = (x[:, :, 0] * out).sum(-1) / np.maximum(reach, 1e-9) ** 2
        return ratio

    def came(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, :, 1], axis=-1)

    def did(x: np.ndarray) -> np.ndarray:
        whole = np.isfinite(x).all((-1, -2))
        return whole & (np.nan_to_num(went(x)) > 0.5) & (np.nan_to_num(came(x)) < reach / 4)

    tracked = asked & np.isfinite(got).all((-1, -2))
    rows, all_rows = np.nonzero(tracked)[1], np.nonzero(asked)[1]
    script = f"{HOLD} frames of an action, {2 * HOLD} of its inverse, {HOLD} of the action"
    return {
        "done_and_undone": some.figure(
            did(got)[asked].astype(float), rows=all_rows, ceiling=did(seen)[asked].astype(float), share=True,
            better="higher", title="Done and undone", n_of="starts × pairs",
            meaning=f"Share of dreams that went out and came back under {script}: when furthest at least half the true "
            "way in the true direction, at the end within a quarter of it from where doing nothing leads. Who ignores "
            "actions never went. A lost object counts as failed. Only starts that the exact world does undo.",
            blind_to="Errors that the dream under no action shares.",
        ),
        "return_error_px": some.figure(
            came(got)[tracked], rows=rows, floor=came(seen)[asked], unit="px", statistic="median", better="lower",
            baselines={"never_undone": reach[asked]}, title="Error of the return", n_of="starts × pairs",
            meaning=f"Distance of the pushed object, after {script}, from where the same dream has it when nothing is "
            "done; the floor is the exact world's own, by the same tracker. Lost objects are left out.",
            blind_to="Dreams that never went: who ignores actions returns perfectly. See went_ratio.",
        ),
        "went_ratio": some.figure(
            went(got)[tracked], rows=rows, ceiling=went(seen)[asked], better="neither",
            title="Way out", n_of="starts × pairs",
            meaning="Way from doing nothing when furthest, along the true one, over the true one: 1 is right, 0 "
            "ignores the actions, below 0 does the opposite.",
            blind_to="Lost objects: they are left out.",
        ),
    }  # fmt: skip


__all__ = ["undo"]
