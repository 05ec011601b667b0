"""Do dreamed clips come from the same distribution as real ones? Kernel and Fréchet distances, density and coverage."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from worldloom.evaluation.distances.clips import Clips, Features, clips, enough, measured
from worldloom.evaluation.distances.coverage import NEAREST, coverage
from worldloom.evaluation.distances.frechet import PARTS, DistanceError, extrapolated
from worldloom.evaluation.distances.kernel import kernel_distance
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import bootstrap, share_interval

BLIND = {
    "random3d": "Rare events and fine laws: whether balls pass through each other hardly moves these features.",
    "embedded": "What its training never asked about, and pictures that look nothing like moving discs.",
    "state": "What the tracker does not measure: textures, backgrounds, and all but the objects.",
}
"""Extractor to what its features do not tell."""
OWN = "What its features do not tell; a distance is blind to all else."
ALSO = " Single clips: each may be wrong while all together are distributed rightly."


@probe(name="kernel", about="Are dreamed clips, all together, distributed as real ones are?")
def kernel(dreams: Dreams) -> dict[str, Figure]:
    """Unbiased kernel distance between dreamed and real clips, by each extractor, and whether it could be chance."""
    found = clips(dreams)
    enough(found, "The kernel distance", 32, 4)
    out: dict[str, Figure] = {}
    for name, one in measured(dreams).items():
        groups = (found.episodes, found.others)
        ours = kernel_distance(one.dreamed, one.real, *groups, seed=dreams.seed)
        true = kernel_distance(one.followed, one.real, *groups, seed=dreams.seed)
        out[name] = _figure(
            dreams, found, one, name, ours.value, (ours.low, ours.high), true.value, "lower",
            f"Kernel distance ({name})",
            f"Squared maximum mean discrepancy (unbiased, cubic kernel) between dreamed and real clips of "
            f"{found.frames} frames, by the features of {name}. About 0 where dreams are distributed as the truth is; "
            f"single values can be negative. The floor is real against real, of as many clips.",
        )  # fmt: skip
        out[f"{name}_p"] = _figure(
            dreams, found, one, name, ours.p, None, true.p, "higher", f"Kernel distance by chance ({name})",
            f"How likely so large a kernel distance is where dreamed and real clips are distributed alike (a "
            f"permutation test; the floor: real against real). Below 0.05 the dreams can be told from the truth, by "
            f"the features of {name} and {len(found)} clips.",
        )  # fmt: skip
    return out


@probe(name="frechet", full=True, about="How far apart are the distributions of dreamed and real clips, at any n?")
def frechet(dreams: Dreams) -> dict[str, Figure]:
    """Fréchet distance, extrapolated to infinitely many clips, by each extractor."""
    found = clips(dreams)
    enough(found, "The Fréchet distance", 128, PARTS)
    out: dict[str, Figure] = {}
    for name, one in measured(dreams).items():
        groups, title = (found.episodes, found.others), f"Fréchet distance at n = ∞ ({name})"
        try:
            ours = extrapolated(one.dreamed, one.real, *groups, seed=dreams.seed)
        except DistanceError as reason:  # of too many features: the other extractors' figures stand
            said = f"Not measured. {reason}"
            out[name] = _figure(dreams, found, one, name, None, None, None, "lower", title, said)
            continue
        true = extrapolated(one.followed, one.real, *groups, seed=dreams.seed)
        figure = _figure(
            dreams, found, one, name, ours.value, (ours.low, ours.high), true.value, "lower",
            title,
            f"Squared Fréchet distance between dreamed and real clips of {found.frames} frames, by the features of "
            f"{name}, extrapolated to infinitely many clips; so it can be negative where there is no difference. At "
            f"n = {len(found)}, as others report it, it is {ours.raw:.4g}; real against real it is {true.raw:.4g}.",
        )  # fmt: skip
        out[name] = dataclasses.replace(figure, blind_to=figure.blind_to + " All but mean and covariance of features.")
    return out


@probe(name="coverage", full=True, about="How much of the dreams is lifelike, and how much of life is dreamed?")
def covering(dreams: Dreams) -> dict[str, Figure]:
    """Density and coverage, precision and recall, by each extractor."""
    found = clips(dreams)
    enough(found, "Coverage", 64, 4)
    out: dict[str, Figure] = {}
    for name, one in measured(dreams).items():
        ours, true = coverage(one.real, one.dreamed), coverage(one.real, one.followed)
        for measure, groups, means in (
            ("density", found.episodes, "Real clips' neighbourhoods (each reaching to its 5th neighbour) that hold a "
             "dreamed clip, over 5: about 1 for lifelike dreams, less where they lie off the real ones."),
            ("coverage", found.others, "Share of real clips in whose neighbourhood a dreamed one lies: how much of "
             "what happens is dreamed of."),
            ("precision", found.episodes, "Share of dreamed clips that lie in any real one's neighbourhood."),
            ("recall", found.others, "Share of real clips that lie in any dreamed one's neighbourhood."),
        ):  # fmt: skip
            values, floor = getattr(ours, measure), getattr(true, measure)
            if measure == "density":
                low, high = (float(x) for x in bootstrap(values, groups, seed=dreams.seed))
                if low == high:  # no clip in any: certainty that resampling makes up
                    low, high = float("nan"), float("nan")
            else:
                low, high = share_interval(values, groups, seed=dreams.seed)
            figure = _figure(
                dreams, found, one, name, float(values.mean()), (low, high), float(floor.mean()), "higher",
                f"{measure.capitalize()} ({name})",
                f"{means} {len(found)} clips of {found.frames} frames; by the features of {name}. The floor is that of "
                f"real clips.",
            )  # fmt: skip
            out[f"{name}_{measure}"] = dataclasses.replace(
                figure,
                blind_to=f"{figure.blind_to} How far off a clip is that lies in no neighbourhood (k = {NEAREST}).",
            )
    return out


def _figure(
    dreams: Dreams,
    found: Clips,
    one: Features,
    name: str,
    value: float | None,
    interval: tuple[float, float] | None,
    floor: float | None,
    better: Literal["lower", "higher"],
    title: str,
    meaning: str,
) -> Figure:
    words: dict[str, Any] = {"title": title, "meaning": meaning, "unit": "", "better": better, "statistic": "mean"}
    return Figure(
        value=value,
        interval=interval if interval is None or np.isfinite(interval).all() else None,
        n=len(found),
        n_of="clips on each side",
        seed=dreams.seed,
        floor=floor,
        blind_to=BLIND.get(name, OWN) + ALSO,
        hashes={"extractor": one.hash},
        **words,
    )


__all__ = ["covering", "frechet", "kernel"]
