"""Same state, every action: whether each future goes where it should."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from worldloom.evaluation.figures import PSNR_CAP
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.probes.actions import choices, control_of, knows_state, nothing, only
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.counterfactual_futures import FRAMES, Displaced, displaced, futures, obeyed
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.inverse import inverse_model, told, triples
from worldloom.evaluation.schema import Figure

AT = 5
"""Horizon, in frames, of the figures without a curve."""
CHANGED = 16
"""Levels of 255 by which a pixel must differ in some channel to be another."""


@probe(actions=True, about="From the same state, does each action lead where it should?")
def counterfactual(dreams: Dreams) -> dict[str, Figure]:
    """Against the exact world where there is one: sign, size and angle of the way each action moves its object off
    from where doing nothing leads, and the action read from it. Elsewhere only how far the futures lie apart, and
    whether an inverse-dynamics model reads from each the action that was given."""
    if len(choices(dreams)) < 2:
        raise NotMeasurableError("There is but one action; counterfactuals need at least two.")
    if knows_state(dreams) and nothing(dreams) is not None:
        found, some = displaced(dreams), only(dreams, futures(dreams).frames.shape[1])
        return _signs(found, some) | _sizes(found, some) | _read_back(found, some) | _gated(dreams, found, some)
    return _separation(dreams)


def _signs(found: Displaced, some: Dreams) -> dict[str, Figure]:
    asked, right, ceiling = found.asked, found.right(found.dreamed), found.right(found.seen)
    rows = np.nonzero(asked)[1]
    lost = ~np.isfinite(found.away(found.dreamed)).all(-1)
    out = {
        "sign_right": some.figure(
            right[asked].astype(float), rows=rows, ceiling=ceiling[asked].astype(float), share=True, better="higher",
            title="Actions obeyed: right sign", n_of="starts × actions × frames",
            meaning=f"Each action held for {FRAMES} frames from the same state with the same noise: share of frames in "
            "which its object lies to the true side (within 90°) of where doing nothing leads. A model that ignores "
            "its actions has none right, one that moves at random half. A lost object counts as wrong. Ceiling: the "
            "exact world's frames through the same tracker.",
            blind_to="How far it went, and what else an action changed.",
        ),
        "lost": some.figure(
            lost[asked].astype(float), rows=rows, share=True, better="lower", title="Lost under an action",
            n_of="starts × actions × frames", floor=np.zeros(1),
            meaning="Share of those frames in which the dream has lost the object that the action pushes, under it or "
            "under no action. Only frames in which the tracker sees it in the exact world are asked for.",
        ),
    }  # fmt: skip
    if asked[:, :, 0].any():
        now = asked[:, :, 0]
        out["sign_right_at_once"] = some.figure(
            right[:, :, 0][now].astype(float), rows=np.nonzero(now)[1], share=True, better="higher",
            ceiling=ceiling[:, :, 0][now].astype(float), title="Actions obeyed at once",
            n_of="starts × actions",
            meaning="The same in the first dreamed frame alone: a model that obeys late has it wrong.",
            blind_to="Displacements near the tracker's own error.",
        )  # fmt: skip
    return out


def _sizes(found: Displaced, some: Dreams) -> dict[str, Figure]:
    at = min(AT, FRAMES) - 1
    dreamed, seen, true = (found.away(x)[:, :, at] for x in (found.dreamed, found.seen, found.true))
    both = found.asked[:, :, at] & np.isfinite(dreamed).all(-1)
    if not both.any():
        return {}
    rows = np.nonzero(both)[1]
    dreamed, seen, true = dreamed[both], seen[both], true[both]
    size = np.linalg.norm(true, axis=-1)
    after = f"{at + 1} frames after the prompt"
    far = size >= np.median(size) / 2  # a way that a wall has all but undone is nothing to divide by
    ratio, ceiling = ((x * true).sum(-1)[far] / size[far] ** 2 for x in (dreamed, seen))
    out = {
        "size_ratio": some.figure(
            ratio, rows=rows[far], ceiling=ceiling, better="neither",
            title="Size of what an action does", n_of="starts × actions",
            meaning=f"Way of the pushed object along the true way, over the true way, {after}: 1 is right, 0 ignores "
            "the action, below 0 does the opposite, above 1 overdoes it. Lost objects are left out: see lost.",
            blind_to="Ways across the true one: see difference_px.",
        ),
        "difference_px": some.figure(
            np.linalg.norm(dreamed - true, axis=-1), rows=rows, floor=np.linalg.norm(seen - true, axis=-1), unit="px",
            baselines={"ignoring_actions": size}, better="lower", n_of="starts × actions",
            title="Error of what an action does",
            meaning=f"Distance between dreamed and true displacement by an action, {after}. Who ignores the action "
            "errs by all of it.",
            blind_to="Errors that the dreams of all actions share: they cancel. Lost objects are left out: see lost.",
        ),
    }  # fmt: skip
    moved = np.linalg.norm(dreamed, axis=-1) > 0
    if moved.any():
        out["angle_deg"] = some.figure(
            _angle(dreamed[moved], true[moved]), rows=rows[moved], floor=_angle(seen, true), unit="°",
            better="lower", title="Angle of what an action does",
            n_of="starts × actions that moved anything",
            meaning=f"Angle between dreamed and true displacement by an action, {after}: 90° by luck, 180° the "
            "opposite.",
            blind_to="Actions that moved nothing: they have no angle.",
        )  # fmt: skip
    return out


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _read_back(found: Displaced, some: Dreams) -> dict[str, Figure]:
    """Nearest centroid: which action's usual displacement in the exact world is nearest to what was seen."""
    at = min(AT, FRAMES) - 1
    objects = sorted(set(found.objects))
    base = found.true[found.null, :, at][:, objects]

    def moved(x: np.ndarray) -> np.ndarray:  # (A, m, 2 * objects) from where nothing truly leads
        return (x[:, :, at][:, :, objects] - base).reshape(*x.shape[:2], -1)

    true = moved(found.true)
    actions, starts = true.shape[:2]
    if starts < 2:
        return {}
    others = (true.sum(1, keepdims=True) - true) / (starts - 1)  # each start's centroids are those of the others

    def hits(x: np.ndarray) -> np.ndarray:
        apart = np.square(x[:, None] - others[None]).sum(-1)  # (given, centroid, m)
        best = np.where(np.isfinite(apart).all(1), apart.argmin(1), -1)
        return best == np.arange(actions)[:, None]

    visible = np.isfinite(moved(found.seen)).all(-1)
    if not visible.any():
        return {}
    return {
        "action_told": some.figure(
            hits(moved(found.dreamed))[visible].astype(float), rows=np.nonzero(visible)[1], share=True, better="higher",
            ceiling=hits(moved(found.seen))[visible].astype(float), baselines={"chance": np.full(1, 1 / actions)},
            title="Action told from the way", n_of="starts × actions",
            meaning=f"Share of futures whose displacement {at + 1} frames after the prompt is nearest to the centroid "
            "of the action that was given, among those of all actions in the exact world (from the other starts). A "
            "lost object counts as wrong.",
            blind_to="Displacements that walls and other objects bend: the exact world's own share is the ceiling.",
        )
    }  # fmt: skip


def _gated(dreams: Dreams, found: Displaced, some: Dreams) -> dict[str, Figure]:
    obeying = obeyed(dreams)
    visible = np.isfinite(found.away(found.seen)).all(-1)
    count = np.maximum(visible.sum(-1), 1)
    error, floor = ((found.off(x) * visible).sum(-1) / count for x in (found.dreamed, found.seen))
    asked = obeying.asked
    did = asked & obeying.right
    return {
        "obeyed": some.figure(
            obeying.right[asked].astype(float), rows=np.nonzero(asked)[1], share=True, better="higher",
            title="Dreams that obeyed", n_of="starts × actions",
            meaning="Share of the futures whose displacement has the right sign in most frames.",
            blind_to="How far it went.",
        ),
        "position_error_obeyed_px": some.figure(
            error[did], rows=np.nonzero(did)[1], floor=floor[did], baselines={"all_dreams": error[asked]}, unit="px",
            better="lower", title="Position error of those that obeyed",
            n_of="futures that obeyed",
            meaning=f"Mean position error of the pushed object over {FRAMES} frames, of the futures that obeyed; "
            "beside it that of all. Physics is only asked of a dream that did what it was told to. Lost objects count "
            "as the frame's diagonal.",
            blind_to="Futures that did not obey: see obeyed for their share.",
        ),
    }  # fmt: skip


def _separation(dreams: Dreams) -> dict[str, Figure]:
    """Without an exact world: whether the futures differ, not whether they are right."""
    made = futures(dreams)
    actions, starts, frames = made.frames.shape[:3]
    some = only(dreams, starts)
    pairs = list(combinations(range(actions), 2))
    share, likeness = np.zeros((starts, frames)), np.zeros((starts, frames))
    for a, b in pairs:
        x, y = made.frames[a], made.frames[b]
        share += (np.abs(x.astype(np.int16) - y).max(2) > CHANGED).mean((-2, -1)) / len(pairs)
        likeness += psnr(torch.from_numpy(x), torch.from_numpy(y), PSNR_CAP).cpu().double().numpy() / len(pairs)
    last = dreams.shown[dreams.camera][:starts, -1:].astype(np.int16)
    real = dreams.real[dreams.camera][:starts, :frames]
    moved = (np.abs(real - last[:, : real.shape[1]]).max(2) > CHANGED).mean((-2, -1))
    blind = "Whether the futures are right: there is no exact world here to compare them with."
    same = {"what_really_changes": moved} if moved.shape == share.shape else {}
    out = {
        "futures_differ": some.figure(
            share, share=True, baselines=same, better="higher", title="Futures under different actions", blind_to=blind,
            past=True,
            meaning=f"Share of pixels that differ by more than {CHANGED} of 255 between dreams from the same state "
            "under different actions, each held, same noise; mean over all pairs of actions. 0: actions are ignored. "
            "Beside it the share that really changes since the prompt.",
        ),
        "futures_psnr_db": some.figure(
            likeness, better="lower", unit="dB", title="PSNR between futures", blind_to=blind, past=True,
            meaning=f"How alike those dreams are, {PSNR_CAP:g} dB where they are equal.",
        ),
    }  # fmt: skip
    return out | _told_by_model(dreams, some, blind)


def _told_by_model(dreams: Dreams, some: Dreams, blind: str) -> dict[str, Figure]:
    """Which action an inverse-dynamics model reads from each future; nothing where there are too few examples."""
    made = futures(dreams)
    if control_of(dreams).kind != "discrete":
        return {}
    try:
        model = inverse_model(dreams)
    except NotMeasurableError:
        return {}  # inverse_dynamics says so itself
    starts = made.frames.shape[1]
    shown = dreams.shown[dreams.camera][:starts]
    hits = [
        told(model, triples(shown, made.frames[a])[0]) == one.value
        for a, one in enumerate(made.actions)
        if one.value in model.classes
    ]
    if not hits:
        return {}  # none of these actions is in the training data
    share = np.stack(hits).mean((0, 2))
    return {
        "action_told": some.figure(
            share, share=True, better="higher", title="Action told from the future",
            baselines={"chance": np.full(starts, 1 / len(model.classes))},
            hashes={"inverse_dynamics": model.sha256},
            meaning="Share of the frames of those dreams from which an inverse-dynamics model, trained on real ones, "
            "reads the action that was given.",
            blind_to=f"{blind} What it can tell on real frames stands under inverse_dynamics.",
        )
    }  # fmt: skip


__all__ = ["counterfactual"]
