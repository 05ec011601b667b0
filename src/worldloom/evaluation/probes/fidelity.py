"""Statistical fidelity: whether a dream that no longer shows what happens still shows what could."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.horizon import Long, late, long_dreams, window_figure, window_length, windowed
from worldloom.evaluation.probes.survival import motion, positions
from worldloom.evaluation.schema import Figure

TURN = 0.5
"""A velocity that changes by more than this multiple of the usual speed from one frame to the next is a sharp turn."""
FEW = 8
"""Values that a window needs for a distance."""

Distance: TypeAlias = Callable[[np.ndarray, np.ndarray], float]

TITLES = {
    "speed": "speeds",
    "energy": "mechanical energies",
    "turns": "sharp turns (contacts)",
    "distance": "distances between objects",
    "brightness": "brightness",
    "contrast": "contrast",
    "motion": "motion from frame to frame",
}


@probe(
    name="fidelity",
    about="When a dream no longer shows what really happens: does it still show what could happen in this world?",
)
def fidelity(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/fidelity.md."""
    long = long_dreams(dreams)
    objects = "position" in long.dreams.truth
    dreamed, real, other = _objects(long) if objects else _pictures(long)
    length = window_length(long)
    out: dict[str, Figure] = {}
    known, others = long.dreams.horizon, long.reference.horizon
    for name in dreamed:
        out |= _figures(
            long,
            name,
            windowed(dreamed[name], long.length if not objects else known, length),
            windowed(real[name], known, length),
            windowed(other[name], others, length),
        )
    if not out:
        raise NotMeasurableError("No quantity of the true windows varies: there is no spread to measure distances by.")
    return out


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """W₁ = ∫ |F_a − F_b| between two samples (m,) and (n,): the mean distance that probability must be moved."""
    gaps, apart = _between(a, b)
    return float((np.abs(apart) * gaps).sum())


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """2 E|X − Y| − E|X − X′| − E|Y − Y′| = 2 ∫ (F_a − F_b)² of two samples (m,), (n,), in the unit of the values.
    (Székely & Rizzo 2013, *Energy statistics*; others call its square root so.)"""
    gaps, apart = _between(a, b)
    return float(2 * (np.square(apart) * gaps).sum())


def _between(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths between neighbouring values of both samples, and the difference of their distribution functions there."""
    a, b = np.sort(a), np.sort(b)
    every = np.sort(np.concatenate([a, b]))
    at = every[:-1]
    share = np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
    return np.diff(every), share


def quantities(
    position: np.ndarray, radius: np.ndarray, gravity: tuple[float, float], usual: float
) -> dict[str, np.ndarray]:
    """What paths say of a world's state, each (n, T', values of a frame), NaN where an object was not seen.

    position: (n, T, K, 2) px; radius: (n, K) px, masses being r². usual: px/frame, see :data:`TURN`. ``speed`` of each
    object, ``energy`` (kinetic, and potential under gravity) of all together by mass, ``turns`` 1 at a sharp turn,
    ``distance`` of each pair.
    """
    velocity = np.diff(position, axis=1)
    middle = (position[:, 1:] + position[:, :-1]) / 2
    mass = np.square(radius)[:, None]
    heights = (middle * np.asarray(gravity, float)).sum(-1)
    energy = (mass * (0.5 * np.square(velocity).sum(-1) - heights)).sum(-1, keepdims=True) / mass.sum(-1, keepdims=True)
    change = np.sqrt(np.square(np.diff(velocity, axis=1)).sum(-1))
    turns = np.where(np.isfinite(change), (change > TURN * usual).astype(float), np.nan)
    out = {"speed": np.sqrt(np.square(velocity).sum(-1)), "energy": energy, "turns": turns}
    first, second = np.triu_indices(position.shape[2], 1)
    if len(first):
        out["distance"] = np.sqrt(np.square(position[:, :, first] - position[:, :, second]).sum(-1))
    return out


def usual_speed(position: np.ndarray) -> float:
    """px/frame, root mean square speed of paths (n, T, K, 2)."""
    return float(np.sqrt(np.square(np.diff(position, axis=1)).sum(-1).mean()))


def _objects(long: Long) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    dreams = long.dreams
    found = followed(dreams)
    truth = long.reference.truth
    other = truth["position"][:, dreams.prompt :].astype(np.float64)
    objects = other.shape[2]
    radius = found.radius
    gravity = dreams.world.config.gravity if dreams.world is not None else (0.0, 0.0)
    usual = usual_speed(other)
    others = truth["radius"][:, 0] if "radius" in truth else np.broadcast_to(radius.mean(0), (len(other), objects))
    dreamed, real = (
        quantities(positions(part, objects), radius, gravity, usual) for part in (found.dreamed, found.real)
    )
    return dreamed, real, quantities(other, others, gravity, usual)


def _pictures(long: Long) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    camera, prompt = long.dreams.camera, long.dreams.prompt
    other = long.reference.segment.obs[camera][:, prompt:].numpy()
    return picture_values(long.frames), picture_values(long.dreams.real[camera]), picture_values(other)


def picture_values(frames: np.ndarray) -> dict[str, np.ndarray]:
    """``brightness``, ``contrast`` (standard deviation) and ``motion``, each (n, T', 1), of frames (n, T, C, H, W)."""
    flat = frames.reshape(*frames.shape[:2], -1)
    light = np.stack([clip.astype(np.float32).mean(1) for clip in flat]).astype(np.float64)
    contrast = np.stack([clip.astype(np.float32).std(1) for clip in flat]).astype(np.float64)
    return {"brightness": light[..., None], "contrast": contrast[..., None], "motion": motion(frames)[..., None]}


def _figures(long: Long, name: str, dreamed: np.ndarray, real: np.ndarray, other: np.ndarray) -> dict[str, Figure]:
    """values: (n, J, ...) of dreamed, true and other windows."""
    count = dreamed.shape[1]
    together = other.shape[1] < count  # the truth ends earlier: all of its windows stand for the later ones
    spread = float(np.nanstd(other))
    if not spread > 1e-9:
        return {}

    def apart(distance: Distance, x: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """(J,) of each window; past the end of the truth its windows are repeated."""
        out = np.full(count, np.nan)
        kept, rest = x[mine], other[theirs]
        for j in range(count):
            window, known = kept[:, j % x.shape[1]], rest if together else rest[:, j]
            window, known = window[np.isfinite(window)], known[np.isfinite(known)]
            if len(window) >= FEW and len(known) >= FEW:
                out[j] = distance(window, known) / spread
        return out

    every = np.ones(len(dreamed), bool), np.ones(len(other), bool)
    against = "all real windows together" if together else "real windows of the same frames"
    out = {}
    for key, distance, words in (
        ("wasserstein", wasserstein, "how far their values must be moved to become those of real windows (W₁)"),
        ("energy_distance", energy_distance, "2∫(F − F′)² between their distribution and that of real windows"),
    ):
        out[f"{name}_{key}"] = window_figure(
            long,
            partial(apart, distance, dreamed),
            apart(distance, real, *every),
            dreamed.shape[2],
            late,
            title=f"{TITLES[name].capitalize()}: {key.replace('_', ' ')}",
            unit="σ",
            meaning=f"Windows of {dreamed.shape[2]} dreamed frames: {words}, in standard deviations of the real "
            f"values; mean over the windows after the first. Against {against}, of other episodes; the floor is the "
            "same for the true frames of these starts.",
            blind_to="Objects that are lost (see half_life), and the order in which things happen.",
        )
    out[f"{name}_over_floor"] = window_figure(
        long,
        lambda mine, theirs: apart(wasserstein, dreamed, mine, theirs) - apart(wasserstein, real, mine, theirs),
        np.zeros(count),
        dreamed.shape[2],
        late,
        title=f"{TITLES[name].capitalize()}: Wasserstein over the floor",
        unit="σ",
        meaning="The Wasserstein distance of the dream less that of the true frames of the same starts, both against "
        "the same other episodes: what these have in common cancels, so that its interval is narrower. Above 0 the "
        "dream is further from the real world than reality is.",
        blind_to="Objects that are lost (see half_life), and the order in which things happen.",
        signed=True,
    )
    return out
