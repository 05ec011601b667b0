"""The detection table: what every probe says of every known-bad world, against what it says of the true one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from worldloom.evaluation.battery.corruptions import BATTERY, dreamer, make_dreams
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.figures import object_figures, picture_figures, track
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes import Dreams, Probe, find_probes, measure_all, probe
from worldloom.evaluation.schema import Figure
from worldloom.worlds.balls import BallsConfig

MARGIN = 0.05
"""A difference below this share of the larger of two values is none, however narrow their intervals."""
TINY = 1e-6
"""So is one below this: rounding."""

WORLDS: dict[str, ExactWorld] = {
    "pushed": ExactWorld(BallsConfig(balls=3, radius=6.0, gravity=(0.0, 0.05), action="discrete", push=0.5)),
    "free": ExactWorld(BallsConfig(balls=3, radius=6.0)),
    "hidden": ExactWorld(BallsConfig(radius=3.0, speed=2.5, occluder=(26.0, 0.0, 40.0, 64.0))),
}
"""Where the table is measured: three large balls that meet often, under mild gravity, one of them pushed by discrete
actions; the same three without gravity or actions; and a small one that passes behind an occluder."""
OBJECTS = ("permanence", "inertia", "gravity", "walls", "contacts", "constancy", "causality", "reversal", "physics")
"""Probes of the laws that objects obey."""
ONLY: dict[str, tuple[str, ...]] = {
    "free": ("pictures", "objects", *OBJECTS, "foreground", "fidelity", "drift"),
    "hidden": ("occlusion", "permanence"),
}
"""Probes that a world is there for, where not for all."""
APART = ("cost", "trust", "phyworld")
"""Probes that ask nothing that a bad world could get wrong: of time and memory; of the model's own doubts; and of
worlds of their own (they have their own tests)."""
SHARED = ("inverse_model", "lyapunov", "background", "followed true frames")
"""What probes learn from the true world alone (see :meth:`Dreams.once`): made once for all dreamers of one world and
setting."""

TRAINED = 8
"""Frames that no model was trained on, as nothing here is trained: probes of the long run dream ten times as many."""

Verdict = Literal["detected", "blind", "better", "unmeasured"]


@dataclass(frozen=True)
class Setting:
    """How a table is measured."""

    starts: int = 32
    """Dreams of each world."""
    prompt: int = 4
    """True frames before each."""
    horizon: int = 32
    """Dreamed frames."""
    seed: int = 0
    """Of the starts, the dreams and the intervals."""


SETTINGS: dict[str, Setting] = {"hidden": Setting(starts=64, horizon=40)}
"""Of the table, where not as :class:`Setting` stands: few balls pass behind an occluder."""


@dataclass
class Asked:
    """What the probes said of one dreamer."""

    figures: dict[str, Figure] = field(default_factory=dict)
    """By full name."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Name of a probe that can't measure here, and why."""
    failures: dict[str, str] = field(default_factory=dict)
    """Name of a probe that failed, and how."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Processor time, by probe."""
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """What the next dreamer in the same world and setting need not learn again: give it to :func:`ask`."""


def _pictures(dreams: Dreams) -> dict[str, Figure]:
    camera = dreams.camera
    true, dream = (torch.from_numpy(part[camera].copy()) for part in (dreams.real, dreams.dreamed))
    last = torch.from_numpy(dreams.shown[camera][:, -1].copy())
    return picture_figures(true, dream, last, dreams.episodes, dreams.seed)


def _objects(dreams: Dreams) -> dict[str, Figure]:
    import numpy as np

    camera = dreams.camera
    position = np.concatenate([dreams.truth_shown["position"], dreams.truth["position"]], 1)
    tracked = track(dreams.shown[camera], dreams.real[camera], dreams.dreamed[camera], position)
    return object_figures(tracked, dreams.episodes, dreams.seed)


BASIC: tuple[Probe, ...] = (
    probe(_pictures, name="pictures", about="The report's own figures of pictures."),
    probe(_objects, name="objects", truth=("position",), about="The report's own figures of objects."),
)
"""What every report measures without a probe, as probes."""


def all_probes(world: str, given: str | Sequence[str] = "default") -> list[Probe]:
    """Those of the table in one of :data:`WORLDS`: the report's own figures, and the probes that ``given`` names (see
    :func:`~worldloom.evaluation.probes.find_probes`)."""
    every = [*BASIC, *find_probes(given)]
    return [p for p in every if p.name in ONLY.get(world, (p.name,)) and p.name not in APART]


def starts(world: ExactWorld, setting: Setting) -> HeldOut:
    """The starts that all dreamers of a table share."""
    return world.fresh(setting.starts, setting.prompt, setting.horizon, setting.seed)


def ask(
    world: ExactWorld,
    name: str,
    probes: Sequence[Probe],
    setting: Setting,
    held: HeldOut | None = None,
    shared: Mapping[Hashable, Any] | None = None,
) -> Asked:
    """What ``probes`` say of the dreamer ``name`` (see :func:`~worldloom.evaluation.battery.dreamer`).

    held: the starts, as :func:`starts` draws them. shared: of an earlier answer for the same world and setting.
    """
    held = starts(world, setting) if held is None else held
    began = time.process_time()
    dreams = make_dreams(
        world, dreamer(name, world), setting.starts, setting.prompt, setting.horizon, setting.seed, held
    )
    dreams = dataclasses.replace(dreams, trained_frames=TRAINED)
    dreams.cache.update(shared or {})
    out = Asked(seconds={"dreaming": time.process_time() - began})
    for one in probes:
        began = time.process_time()
        probed = measure_all([one], dreams, lambda _: None)
        out.seconds[one.name] = time.process_time() - began
        out.figures |= probed.figures
        out.unmeasured |= probed.unmeasured
        out.failures |= probed.failures
    out.shared = {key: dreams.cache[key] for key in SHARED if key in dreams.cache}
    return out


def judge(bad: Figure | None, true: Figure | None) -> Verdict:
    """Whether a figure tells a bad world from the true one.

    ``detected``: at some horizon (or as a whole) the two intervals lie apart, the bad world's on the worse side, and
    the values differ by more than :data:`MARGIN` of the larger and, where lower is better, by more than the figure's
    floor: within it lies what the instrument does to true frames. Where neither side is better, both are the worse.
    ``better``: likewise, on the better side, and nowhere on the worse. ``blind``: neither. ``unmeasured``: one of the
    two could not be measured, or has no interval.
    """
    if bad is None or true is None:
        return "unmeasured"
    parts: list[Any] = [bad.value, bad.interval, true.value, true.interval, bad.floor, true.floor]
    cells = [tuple(parts)]
    if isinstance(bad.value, Mapping) and isinstance(true.value, Mapping):
        rows: list[Any] = [x or {} for x in parts]
        cells = [tuple(row.get(h) for row in rows) for h in bad.value]
    sides = [_side(*cell, sign=1 if bad.better == "lower" else -1) for cell in cells]
    known = [abs(s) if bad.better == "neither" else s for s in sides if s is not None]
    if not known:
        return "unmeasured"
    if max(known) > 0:
        return "detected"
    return "better" if min(known) < 0 else "blind"


def _side(bad: Any, bad_interval: Any, true: Any, true_interval: Any, *floors: Any, sign: int) -> int | None:
    """1: worse, -1: better, 0: can't be told apart; None where something is missing."""
    if bad is None or true is None or bad_interval is None or true_interval is None:
        return None
    least = max((abs(f) for f in floors if f is not None and sign > 0), default=0.0)
    if abs(bad - true) <= max(MARGIN * max(abs(bad), abs(true)), TINY, least):
        return 0
    if sign * bad > sign * true:
        return int(_gap(bad_interval, true_interval, sign) > 0)
    return -int(_gap(true_interval, bad_interval, sign) > 0)


def _gap(worse: tuple[float, float], other: tuple[float, float], sign: int) -> float:
    """How far the interval ``worse`` lies beyond ``other`` in the direction of ``sign``."""
    return worse[0] - other[1] if sign > 0 else other[0] - worse[1]


def names(world: ExactWorld) -> list[str]:
    """The bad worlds that exist beside ``world``."""
    return [name for name, one in BATTERY.items() if one.fits(world)]


__all__ = [
    "APART",
    "BASIC",
    "MARGIN",
    "OBJECTS",
    "ONLY",
    "SETTINGS",
    "WORLDS",
    "Asked",
    "Setting",
    "Verdict",
    "all_probes",
    "ask",
    "judge",
    "names",
    "starts",
]
