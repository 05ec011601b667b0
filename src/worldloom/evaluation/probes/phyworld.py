"""PhyWorld's protocol (Kang et al. 2025, arXiv 2411.02385) on our world: is a law learnt, or are cases remembered?

Fresh clips of every split, three frames given, the rest dreamed: how far are the velocities of dreamed balls from the
true ones, in distribution and out of it? Beside the paper's figure stand those that it does not report: what is
conserved, what is lost, and what a lookup of the nearest training clip would score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldloom.data.store import Dataset
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.phyworld_motion import (
    Given,
    before_wall,
    clip_mean,
    engine,
    mean_error,
    pair_counts,
    pair_velocity,
    straight_on,
    window_counts,
    window_velocity,
)
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.tracker import calibrate, detect
from worldloom.worlds.phyworld import FRAMES, PROMPT, STEP, TEST_SPLITS, UNIT, Split, counted

CLIPS, CLIPS_FULL = 96, 256
"""Clips of each split."""
CHANNEL = (2, 0)
"""The channel in which a ball, red or blue, is dark and the other is as bright as the background."""
FINE = (0.05, 0.01, 0.05)
"""px, px/frame, px: differences in position, velocity and radius below what a prompt shows. No scale of the retrieval
is finer: what is constant in the training clips (a velocity of zero, say) would count for everything."""
NAMES = {
    "in": "in distribution",
    "speed": "other speeds",
    "size": "other sizes",
    "both": "other speeds and sizes",
    "bands": "in the trained bands of speed",
    "gap": "in the gap between the trained bands",
    "wedge": "pairs of speeds that were trained on",
    "inside": "inside the hull of the trained pairs",
    "outside": "outside the hull of the trained pairs",
}
"""Split to what it is to the model."""


@dataclass(frozen=True)
class Judged:
    """What the tracker saw of n clips of one split."""

    given: Given
    real: np.ndarray
    """(n, T, K, 2) px, of the true frames; NaN where a ball was not seen."""
    dreamed: np.ndarray
    """The same of the dreamed ones."""
    real_radius: np.ndarray
    """(n, T, K) px."""
    dreamed_radius: np.ndarray
    """(n, T, K) px."""
    free: np.ndarray
    """(n, T) bool: frames that count by the truth."""
    box: tuple[float, float]
    """Width and height, px."""

    def counts(self, position: np.ndarray) -> np.ndarray:
        """(n, T) bool: a prediction's own frames, (n, T, K, 2) px; neither it nor the truth has met a wall yet."""
        return self.free & before_wall(self.given.position, position, self.given.radius, self.box)

    def five(self, position: np.ndarray) -> np.ndarray:
        """(n, T) bool: of these the frames that have two others on each side."""
        return window_counts(self.counts(position))


@probe(
    name="phyworld",
    exact=True,
    asked=True,
    about="Do balls keep to PhyWorld's laws of motion, at speeds and sizes that were trained on, and at others?",
)
def phyworld(dreams: Dreams) -> dict[str, Figure]:
    """Figures of every split that a model trained on this one is tested on; see docs/probes/phyworld.md."""
    world = dreams.world
    if world is None or world.phyworld is None:
        raise NotMeasurableError(
            "The run's data are of another world than PhyWorld's scenarios. Train one that is: worldloom train "
            "phyworld --world.scenario uniform, collision or parabola."
        )
    trained = world.phyworld
    if trained.split not in TEST_SPLITS:
        raise NotMeasurableError(
            f"The run was trained on the split {trained.split!r}, which is one to be tested on; PhyWorld's figures "
            f"need a run trained on one of {', '.join(TEST_SPLITS)}."
        )
    known = None if dreams.dataset is None else _remembered(dreams.dataset)
    figures: dict[str, Figure] = {}
    for split in TEST_SPLITS[trained.split]:
        figures |= _measure(dreams, world, split, known)
    return figures


def judged(dreams: Dreams, world: ExactWorld, split: Split) -> tuple[Dreams, Judged]:
    """Fresh clips of a split of ``world``'s scenario, dreamed and tracked, once a report."""

    def make() -> tuple[Dreams, Judged]:
        assert world.phyworld is not None
        other = dataclasses.replace(world, phyworld=dataclasses.replace(world.phyworld, split=split))
        held = other.fresh(CLIPS_FULL if dreams.full else CLIPS, PROMPT, FRAMES - PROMPT, dreams.seed)
        sub = dreams.of(held)
        return sub, _look(sub, world)

    return dreams.once(("phyworld", split), make)


def _measure(
    dreams: Dreams, world: ExactWorld, split: Split, known: Mapping[str, np.ndarray] | None
) -> dict[str, Figure]:
    """The figures of one split; ``known``: what a lookup knows."""
    sub, seen = judged(dreams, world, split)
    true, frames, where = sub.truth["position"], sub.horizon, NAMES[split]
    truly = window_velocity(true)

    def error(position: np.ndarray) -> np.ndarray:
        return mean_error(window_velocity(position), truly, seen.five(position))

    def pair_error(position: np.ndarray) -> np.ndarray:
        return mean_error(pair_velocity(position), pair_velocity(true), pair_counts(seen.counts(position)))

    baselines = {"straight_on": error(straight_on(seen.given, frames))}
    if known is not None:
        baselines["nearest_training_clip"] = error(_nearest(known, seen.given))
    figures = {
        "error": _figure(
            sub, error(seen.dreamed), error(seen.real), baselines=baselines,
            ceiling=error(engine(world, seen.given, frames)),
            title=f"Velocity error, {where}", unit="units/s",
            meaning="Mean distance between dreamed and true velocity of a ball, over frames before the true or the "
            "dreamed one meets a wall (and after the collision), each velocity fitted to five frames. The box is 10 "
            "units wide; the ceiling is the exact engine, started from what the given frames show.",
            blind_to="Balls that are not there: frames without one are left out (see the share of clips that lost "
            "one). Where the ball is, and what it looks like.",
        ),
        "error_two_frames": _figure(
            sub,
            pair_error(seen.dreamed), pair_error(seen.real),
            title=f"Velocity error between two frames, {where}", unit="units/s",
            meaning="The same, each velocity the way from one frame to the next, as the paper takes it.",
            blind_to="The same; and it sees trembling that five frames smooth away.",
        ),
    }  # fmt: skip
    lost, lost_floor = (_lost(x, seen.counts(x)) for x in (seen.dreamed, seen.real))
    figures["lost"] = sub.figure(
        lost, share=True, floor=lost_floor, title=f"Clips that lost a ball, {where}", better="lower", n_of="clips",
        meaning="Share of dreams in which, in a frame that counts, a ball was not found. It is never filled in.",
        blind_to="Balls that appear, and clips of which no frame counts in the dream's own course.",
    )  # fmt: skip
    drift = [
        clip_mean(np.abs(r - seen.given.radius[:, None]) / UNIT, seen.counts(x))
        for r, x in ((seen.dreamed_radius, seen.dreamed), (seen.real_radius, seen.real))
    ]
    figures["radius"] = _figure(
        sub, *drift, title=f"Radius drift, {where}", unit="units",
        meaning="How far a ball's radius, by its mass, strays from that in the given frames.",
        blind_to="Its shape: a smeared ball of the same mass.",
    )  # fmt: skip
    if world.phyworld is not None and world.phyworld.scenario != "uniform":
        figures |= _conserved(sub, seen, where, world)
    return {f"{name}_{split}": figure for name, figure in figures.items()}


def _conserved(sub: Dreams, seen: Judged, where: str, world: ExactWorld) -> dict[str, Figure]:
    """Momentum and energy, for each unit of mass (masses go with the true r²)."""
    mass = np.square(sub.truth_shown["radius"][:, :1])  # (n, 1, K)
    mass = mass / mass.sum(-1, keepdims=True)
    first_v = sub.truth_shown["velocity"][:, :1] / (UNIT * STEP)
    first_y = sub.truth_shown["position"][:, :1, :, 1]
    gravity = world.config.gravity[1] / (UNIT * STEP**2)

    def energy(v: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((mass * (np.square(v).sum(-1) / 2 - gravity * (y - first_y) / UNIT)).sum(-1))

    def momentum(v: np.ndarray) -> np.ndarray:
        across = (mass[..., None] * v).sum(2)
        return across[..., :1] if gravity else across

    parts: dict[str, list[np.ndarray]] = {"energy": [], "momentum": []}
    for position in (seen.dreamed, seen.real):
        v, counts = window_velocity(position), seen.five(position)
        away = momentum(v) - momentum(first_v)
        parts["momentum"].append(clip_mean(np.sqrt(np.square(away).sum(-1)), counts))
        parts["energy"].append(clip_mean(np.abs(energy(v, position[..., 1]) - energy(first_v, first_y)), counts))
    what = "horizontal momentum" if gravity else "momentum of both balls together"
    kind = "kinetic and potential energy" if gravity else "kinetic energy of both balls"
    return {
        "momentum": _figure(
            sub, *parts["momentum"], title=f"Momentum error, {where}", unit="units/s",
            meaning=f"How far the {what}, over their mass, strays from that of the start.",
            blind_to="Momentum that goes to the wrong ball, and frames in which a ball is missing.",
        ),
        "energy": _figure(
            sub, *parts["energy"], title=f"Energy error, {where}", unit="units²/s²",
            meaning=f"How far the {kind}, over their mass, strays from that of the start.",
            blind_to="The direction of motion, and frames in which a ball is missing.",
        ),
    }  # fmt: skip


def _figure(
    sub: Dreams,
    values: np.ndarray,
    floor: np.ndarray,
    *,
    baselines: Mapping[str, np.ndarray] | None = None,
    ceiling: np.ndarray | None = None,
    **words: Any,
) -> Figure:
    """One value a clip, of the clips that have one: those whose balls were seen for long enough."""
    rows = np.flatnonzero(np.isfinite(values))

    def known(x: np.ndarray) -> np.ndarray:
        return x[np.isfinite(x)]

    return sub.figure(
        values[rows],
        rows=rows,
        floor=known(floor),
        ceiling=None if ceiling is None else known(ceiling),
        baselines={name: known(x) for name, x in (baselines or {}).items()},
        better="lower",
        n_of="clips in which it could be measured",
        **words,
    )


def _look(sub: Dreams, world: ExactWorld) -> Judged:
    """Track what was given, what followed and what was dreamed, of every clip, each ball by its own colour.

    On white, red is what blue light lacks, and blue what red light lacks: each ball is alone in one channel, where
    the heaviest blob is the ball, wherever it is. Two that touch need no parting, a hit from a fast ball is not taken
    for a loss, and a ball that changes its colour is lost.
    """
    camera, balls = sub.camera, sub.truth["position"].shape[2]
    shown, real, dreamed = (x[camera][:, :, CHANNEL[:balls]] for x in (sub.shown, sub.real, sub.dreamed))
    frames = np.concatenate([shown, real, dreamed], 1)
    ground = np.full((1, *shown.shape[-2:]), 255, np.float32)
    position, radius = np.empty((*frames.shape[:3], 2)), np.empty(frames.shape[:3])
    for i, k in np.ndindex(len(frames), balls):
        found = detect(frames[i, :, k, None], calibrate(shown[i, :, k, None], 1, ground))
        heaviest = np.nan_to_num(found.mass, nan=-1.0).argmax(1)[:, None]
        position[i, :, k] = np.take_along_axis(found.position, heaviest[..., None], 1)[:, 0]
        radius[i, :, k] = np.sqrt(np.take_along_axis(found.mass, heaviest, 1)[:, 0] / np.pi)
    cuts = [shown.shape[1], shown.shape[1] + real.shape[1]]
    (x, *xs), (r, *rs) = np.split(position, cuts, 1), np.split(radius, cuts, 1)
    hits = {k: np.concatenate([sub.truth_shown[k], sub.truth[k]], 1) for k in ("wall_hits", "ball_hits")}
    box = (float(world.config.width), float(world.config.height))
    free = counted(hits)[:, sub.prompt :]
    return Judged(Given(x, np.median(r, 1)), xs[0], xs[1], rs[0], rs[1], free, box)


def _lost(position: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n,) 1.0 where a ball is not seen in one of the frames that count."""
    unseen = ~np.isfinite(position).all((2, 3))
    return (unseen & counts).any(1).astype(np.float64)


def _remembered(dataset: Dataset) -> dict[str, np.ndarray]:
    """Truth of the training clips that are long enough, name to (N, 32, ...)."""
    numbers = [int(n) for n in dataset.splits["train"] if dataset.lengths[n] >= FRAMES]
    if not numbers:
        raise NotMeasurableError(
            f"No training clip of {dataset.path} has the {FRAMES} frames of PhyWorld's: the longest has "
            f"{int(dataset.lengths.max())}. Collect with --collect.length {FRAMES}."
        )
    clips = [dataset.episode(number, 0, FRAMES).truth for number in numbers]
    return {name: np.stack([clip[name] for clip in clips]) for name in ("position", "velocity", "radius")}


def _nearest(known: Mapping[str, np.ndarray], given: Given) -> np.ndarray:
    """(n, T, K, 2) px: how the training clip went on whose given frames are most alike, in place, speed and size.

    Differences are taken in standard deviations of the training clips, but see :data:`FINE`. What a model that only
    remembers could do at best: the nearest is chosen by the state, not by pixels, and replayed exactly.
    """
    parts = zip(
        (known["position"][:, PROMPT - 1], _mean_velocity(known["position"]), known["radius"][:, 0]),
        (given.position[:, -1], given.velocity, given.radius),
        FINE,
        strict=True,
    )
    total = np.zeros((len(given.radius), len(known["radius"])))
    for stored, asked, fine in parts:
        flat, query = stored.reshape(len(stored), -1), asked.reshape(len(asked), -1)
        scale = np.maximum(flat.std(0), fine)
        total += np.square((query[:, None] - flat[None]) / scale).sum(-1)
    clips = known["position"][np.where(np.isfinite(total), total, np.inf).argmin(1), PROMPT:]
    out = np.array(clips, np.float64)
    out[~np.isfinite(total).all(1)] = np.nan
    return out


def _mean_velocity(position: np.ndarray) -> np.ndarray:
    return (position[:, PROMPT - 1] - position[:, 0]) / (PROMPT - 1)


__all__ = ["CLIPS", "CLIPS_FULL", "NAMES", "Judged", "judged", "phyworld"]
