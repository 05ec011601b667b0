"""Valid prediction time: how long a dream shows what really happens, beside how long anyone could."""

from __future__ import annotations

import dataclasses

import numpy as np

from worldloom.evaluation.lyapunov import Exponent, exponent, horizon
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.horizon import best_guess, long_dreams
from worldloom.evaluation.probes.survival import PATIENCE, lasting_figures, positions
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.survival import Lives, first_failure

THETA = 0.4
"""Error, as a share of the state's own spread, above which a prediction is no longer valid: the usual value in the
forecasting of chaos."""


@probe(
    name="prediction_time",
    truth=("position",),
    about="For how long does a dream show what really happens, and for how long could anyone know it?",
)
def prediction_time(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/prediction_time.md."""
    long = long_dreams(dreams).dreams
    found, known = followed(long), long.truth["position"].astype(np.float64)
    objects = known.shape[2]
    spread = float(np.sqrt(np.square(known - known.mean((0, 1, 2))).sum(-1).mean()))
    if not spread > 0:
        raise NotMeasurableError("No object moves in the true frames: there is no spread to measure errors by.")
    real, dreamed = (positions(part, objects) for part in (found.real, found.dreamed))
    judged = np.isfinite(real).all((2, 3))
    if not judged.any():
        raise NotMeasurableError("The tracker finds the objects in none of the true frames, so no error can be judged.")
    floor = state_error(real, known)
    guess = best_guess(long)

    def valid(where: np.ndarray) -> Lives:
        return valid_for(state_error(where, known) / spread, judged)

    lives = valid(dreamed)
    last = long.truth_shown["position"].astype(np.float64)
    steps = np.arange(1, long.horizon + 1)[:, None, None]
    baselines = {"copy_last": valid(np.broadcast_to(last[:, -1:], known.shape))}
    if long.prompt > 1:
        baselines["constant_velocity"] = valid(last[:, -1:] + steps * (last[:, -1:] - last[:, -2:-1]))
    figures = lasting_figures(
        long, lives, long.horizon, title="Valid predictions",
        meaning=f"Valid until the first frame at which the root mean square error of the objects' positions exceeds "
        f"{THETA:g} of their spread ({spread:.1f} px), or an object is lost for {PATIENCE} frames. The ceiling is the "
        "exact world, begun where the tracker sees its objects in the prompt.",
        blind_to="Velocities, and whether what follows is another possible future or nonsense (see fidelity).",
        floor=valid(real),
        ceiling=None if guess is None else valid(guess),
        baselines=baselines,
    )  # fmt: skip
    figures["mean_seconds"] = scaled(figures["mean_frames"], 1 / dreams.spec.fps, "s", "seconds")
    if dreams.world is not None:
        found_rate = dreams.once(
            "lyapunov",
            lambda: exponent(dreams.world, twins=128 if dreams.full else 32, seed=dreams.seed),  # type: ignore[arg-type]
        )
        figures |= _in_lyapunov_times(found_rate, figures["mean_frames"], floor[judged], spread, dreams.seed)
    return figures


def state_error(where: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n, T) px, root mean square distance of the K objects (n, T, K, 2) from where they are; inf where one is lost."""
    error: np.ndarray = np.sqrt(np.square(where - known).sum(-1).mean(-1))
    return np.where(np.isfinite(error), error, np.inf)


def valid_for(error: np.ndarray, judged: np.ndarray, theta: float = THETA) -> Lives:
    """Lives of predictions from their errors (n, T) in units of the spread: they end at the first above ``theta``, or
    with the first of :data:`~worldloom.evaluation.probes.survival.PATIENCE` frames in a row without an object."""
    seen = np.isfinite(error)
    wrong = first_failure(seen & (error > theta), judged)
    lost = first_failure(~seen, judged, PATIENCE)
    first = np.where(lost.failed & (~wrong.failed | (lost.frame < wrong.frame)), lost.frame, wrong.frame)
    return Lives(first, wrong.failed | lost.failed)


def scaled(figure: Figure, factor: float, unit: str, words: str) -> Figure:
    """The same figure in another unit."""

    def times(x: float | None) -> float | None:
        return None if x is None else x * factor

    pair = figure.interval if isinstance(figure.interval, tuple) else None
    return dataclasses.replace(
        figure,
        value=times(figure.value),  # type: ignore[arg-type]
        interval=None if pair is None else (pair[0] * factor, pair[1] * factor),
        floor=times(figure.floor),  # type: ignore[arg-type]
        ceiling=times(figure.ceiling),  # type: ignore[arg-type]
        baselines={n: times(x) for n, x in figure.baselines.items()},  # type: ignore[arg-type]
        unit=unit,
        title=f"{figure.title}, in {words}",
    )


def _in_lyapunov_times(
    found: Exponent, frames: Figure, floor: np.ndarray, spread: float, seed: int
) -> dict[str, Figure]:
    chaos = (
        f"Chaotic: errors grow e-fold in {1 / found.rate:.1f} frames."
        if found.chaotic
        else "Not chaotic: twins part no faster than in proportion to time, so that there is no Lyapunov time to count "
        "in, and errors at the start cost little."
    )
    out = {
        "lyapunov_rate": Figure(
            value=found.rate,
            interval=found.interval,
            n=found.twins,
            n_of="pairs of twins",
            seed=seed,
            title="Largest Lyapunov exponent of the world",
            unit="/frame",
            statistic="mean",
            better="neither",
            floor=found.linear,
            meaning=f"Of the exact world, by twin runs over {found.frames} frames after as many to settle; the "
            f"floor is what twins show that part in proportion to time. {chaos}",
            blind_to="The model: it is a property of the world, and of its starts and random actions.",
        )
    }
    if found.chaotic:
        out["lyapunov_times"] = scaled(frames, found.rate, "1/λ", "Lyapunov times")
        error = float(np.median(floor))
        out["lyapunov_ceiling_frames"] = Figure(
            value=horizon(found.rate, error, THETA * spread),
            interval=(
                horizon(found.interval[1], error, THETA * spread),
                horizon(found.interval[0], error, THETA * spread),
            ),
            n=found.twins,
            n_of="pairs of twins",
            seed=seed,
            title="Ceiling by the Lyapunov exponent",
            unit="frames",
            statistic="mean",
            better="neither",
            meaning=f"T* = ln(θσ/δ)/λ: frames until the tracker's own error (δ = {error:.3g} px) has grown to what "
            "counts as wrong: as long as a start known from one frame is good for.",
            blind_to="That a prompt shows velocities less sharply than positions: the ceiling beside mean_frames, by "
            "the exact world, counts that.",
        )
    return out
