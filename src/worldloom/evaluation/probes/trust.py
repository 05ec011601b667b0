"""The probe ``trust``: how far ahead a new dream may be believed, and whether that is true."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes import Dreams, NotMeasurableError, probe
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.trust.calibrate import calibrate, save_trust
from worldloom.evaluation.trust.conformal import conformal_quantile, scores
from worldloom.evaluation.trust.planned import Plans, planned_dreams
from worldloom.evaluation.trust.signals import Measured, measured
from worldloom.evaluation.trust.starts import fresh, strange_worlds
from worldloom.imagination.trust import UNITS, Bound, Trust

STARTS, FULL_STARTS = 128, 512
"""Calibration dreams."""
STRANGE, FULL_STRANGE = 4, 32
"""Dreams in each world that training never saw."""
PLANS, FULL_PLANS = Plans(24, 24), Plans(64, 64)
ELSEWHERE = 500_009
"""Added to the seed of the worlds that training never saw."""


@probe(
    name="trust",
    about="With 90 % confidence, within how many pixels for how many frames? Learnt from held-out dreams, tested on "
    "others, and on starts that nothing like was ever seen.",
)
def trust(dreams: Dreams) -> dict[str, Figure]:
    """Calibrate, write trust.json into the report's folder, and measure on the report's own dreams what it promises."""
    plans = FULL_PLANS if dreams.full else PLANS
    found, rest = calibrate(dreams, FULL_STARTS if dreams.full else STARTS, plans)
    if dreams.folder is not None:
        save_trust(found, dreams.folder)
    figures = kept(dreams, found, rest)
    if dreams.world is not None:
        figures |= strange(dreams, found, dreams.world, FULL_STRANGE if dreams.full else STRANGE)
    if found.contents.views["prompt"].rules[_kind(found)].planned is not None:
        figures |= planned(dreams, found, plans)
    return figures


def _kind(found: Trust) -> str:
    return next(iter(found.contents.views["prompt"].rules))


def bound_of(found: Trust, seen: Measured, actions: str = "recorded", kind: str | None = None) -> Bound:
    """The bounds of measured dreams, strange starts included."""
    return found.of_signals(found.contents.views["prompt"], seen.signals, actions, kind, regardless=True)


def held_by(bound: Bound, error: np.ndarray) -> np.ndarray:
    """(n,) bool: whether an error (n, T) stays under its bound at every frame."""
    frames = min(error.shape[1], bound.within.shape[1])
    return np.asarray((error[:, :frames] <= bound.within[:, :frames]).all(1))


def kept(dreams: Dreams, found: Trust, rest: Measured) -> dict[str, Figure]:
    """What is promised to the report's own starts, and whether it was kept."""
    c, kind = found.contents, _kind(found)
    seen = measured(dreams, found.familiar, c.horizon, c.sampler)
    bound = bound_of(found, seen)
    if not np.isfinite(bound.within).all():
        raise NotMeasurableError(f"No bound holds with {c.level:.0%}: {len(rest.groups)} held-out dreams are too few.")
    unit, error, floor = UNITS[kind], seen.error[kind], seen.floor[kind]
    base = f"Calibrated on {len(rest.groups)} dreams ({c.starts}), a further {c.fitted} for its shape."
    limit, limit_words = _limit(dreams, kind)
    figures = {
        "coverage": dreams.figure(
            held_by(bound, error), share=True, title="Dreams within their bound", better="higher", n_of="dreams",
            floor=held_by(bound, floor),
            meaning=f"Share of test dreams whose error stays under the bound at all {bound.within.shape[1]} frames at "
            f"once; {c.level:.0%} is promised. {base}",
            blind_to="How wide the bound is: infinite ones hold always.",
        ),
        "bound": dreams.figure(
            bound.within, statistic="median", title=f"Bound at {c.level:.0%}", unit=unit, better="lower",
            floor=floor, baselines={"same_for_all": _constant(c.level, rest, kind, bound)},
            meaning="What the error is promised to stay under up to each frame, median over starts; against one bound "
            "for all starts alike, from the same dreams.",
            blind_to="Whether it holds: see the dreams within their bound.",
        ),
        "frames_within": dreams.figure(
            bound.frames_within(limit).astype(np.float64), statistic="median", title=f"Believable within {limit_words}",
            unit="frames", better="higher", n_of="starts",
            meaning=f"Frames for which the bound stays below {limit:.3g} {unit}, {limit_words}.",
        ),
        "false_alarms": dreams.figure(
            ~bound.known, share=True, title="Familiar starts called strange", better="lower", n_of="starts",
            meaning=f"Share of test starts for which the bound says that it does not know; at most "
            f"{c.false_alarms:.0%} is promised.",
        ),
    }  # fmt: skip
    for other in seen.error:
        if other != kind:
            inside = held_by(bound_of(found, seen, kind=other), seen.error[other])
            figures[f"coverage_{other}"] = dreams.figure(
                inside, share=True, title=f"Dreams within their bound ({other})", better="higher", n_of="dreams",
                meaning="The same for the root mean square of the pixels' errors, 0 to 255.",
            )  # fmt: skip
    return figures


def _limit(dreams: Dreams, kind: str) -> tuple[float, str]:
    """How large an error still leaves something to believe."""
    if kind == "position":
        known = dreams.truth.get("radius")
        if known is not None:
            return float(np.median(known)), "one radius"
        return 4.0, "4 px"
    last = dreams.shown[dreams.camera][:, -1:].astype(np.float32)
    still = np.stack([np.square(x - y).mean() for x, y in zip(dreams.real[dreams.camera], last, strict=True)])
    return float(np.median(np.sqrt(still))), "what standing still costs"


def _constant(level: float, rest: Measured, kind: str, bound: Bound) -> np.ndarray:
    """(n, H) the bound without signals: one curve for all, by the same dreams, of the same shape as the median one."""
    curve = np.median(bound.within, 0)
    q = conformal_quantile(scores(rest.error[kind], curve), rest.groups, level)
    return np.broadcast_to(q * curve, bound.within.shape)


def strange(dreams: Dreams, found: Trust, world: ExactWorld, count: int) -> dict[str, Figure]:
    """Starts in worlds that training never saw: does the bound say that it does not know them?"""
    parts = [_in_world(dreams, found, other, count, i) for i, other in enumerate(strange_worlds(world).values())]
    broken, flagged = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    several = dataclasses.replace(dreams, episodes=np.arange(len(broken)))
    words = f"{', '.join(strange_worlds(world))}: {count} dreams each"
    rows = np.flatnonzero(broken)
    return {
        "strange_broken": several.figure(
            broken, share=True, title="Strange dreams that break the bound", better="lower", n_of="dreams",
            meaning=f"Share of dreams from starts in worlds that training never saw ({words}) that leave the bound "
            "which familiar starts have.",
        ),
        "strange_caught": several.figure(
            flagged[rows].astype(np.float64), rows=rows, share=True, title="Broken bounds that were foretold",
            better="higher", n_of="broken bounds",
            meaning="Of the dreams that break the bound there, the share for whose starts it says beforehand that it "
            "does not know.",
            blind_to="Changes that show only after the prompt.",
        ),
    }  # fmt: skip


def _in_world(dreams: Dreams, found: Trust, world: ExactWorld, count: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) whether dreams of a strange world break the bound, and whether their starts are called strange."""
    held = fresh(dreams, world, count, ELSEWHERE + 101 * index + dreams.seed)
    seen = measured(dreams.of(held), found.familiar, found.contents.horizon, found.contents.sampler)
    bound = bound_of(found, seen)
    return ~held_by(bound, seen.error[_kind(found)]), ~bound.known


def planned(dreams: Dreams, found: Trust, plans: Plans) -> dict[str, Figure]:
    """Dreams whose actions were chosen by how they look, on other starts than those of the calibration."""
    rows = np.arange(min(plans.test, len(dreams)))
    there = planned_dreams(dreams, rows, plans)
    seen = measured(there, found.familiar, found.contents.horizon, found.contents.sampler)
    kind = _kind(found)
    error = seen.error[kind]
    promise = f"Share of dreams within the bound where a planner chose the actions ({plans.words}), "
    own = f"under the bound calibrated on {plans.calibration} such plans from other starts."
    return {
        "planned_as_recorded": there.figure(
            held_by(bound_of(found, seen), error), share=True, better="higher", n_of="dreams",
            title="Planned dreams within the bound of recorded actions",
            meaning=promise + "under the bound for actions as they were recorded.",
        ),
        "planned_coverage": there.figure(
            held_by(bound_of(found, seen, "planned"), error), share=True, better="higher", n_of="dreams",
            title="Planned dreams within their own bound", meaning=promise + own,
        ),
    }  # fmt: skip


__all__ = ["bound_of", "held_by", "trust"]
