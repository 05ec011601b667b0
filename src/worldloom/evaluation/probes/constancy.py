"""Do objects keep their looks: size, shape and colour, each against its own in the prompt?"""

from __future__ import annotations

from typing import Any

import numpy as np

from worldloom.evaluation.flights import MARGIN, Paths
from worldloom.evaluation.flown import flown
from worldloom.evaluation.invariants import Invariant
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import NotMeasurableError, probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.permanence import median_seen
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.tracking import Tracks

SEEABLE = 2.3
"""ΔE*ab of a difference in colour that is just noticeable (Mahy, Van Eycken and Oosterlinck 1994)."""
BLIND = f"Objects within {MARGIN:g} px of a wall or of another object, and those that were lost."


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB or grey colours (..., C), 0 to 255 (IEC 61966-2-1; CIE 15)."""
    if rgb.shape[-1] != 3:
        rgb = np.repeat(rgb.mean(-1, keepdims=True), 3, -1)
    share = np.clip(rgb, 0, 255) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _looks(tracks: Tracks, count: int, clear: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass (T, K), shorter by longer axis (T, K), colour in L*a*b* (T, K, 3); NaN where it is not alone."""
    mass, axes, colour = (x[:, :count].copy() for x in (tracks.mass, tracks.axes, tracks.colour))
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = axes[..., 1] / axes[..., 0]
    tint = lab(colour)
    whole = clear & ~tracks.parted[:, :count]
    for x in (mass, shape, tint):
        x[~whole] = np.nan
    return mass, shape, tint


def _errors(shown: list[Tracks], tracks: list[Tracks], paths: list[Paths], count: int) -> np.ndarray:
    """(m, 4): start, and how far size, shape and colour of each object are from its prompt's, its mean over frames."""
    out = []
    for before, after, path in zip(shown, tracks, paths, strict=True):
        own = [median_seen(x) for x in _looks(before, count, before.seen[:, :count])]
        mass, shape, tint = _looks(after, count, path.alone)
        for k in range(count):
            errors = (
                np.abs(mass[:, k] / own[0][k] - 1),
                np.abs(shape[:, k] - own[1][k]),
                np.linalg.norm(tint[:, k] - own[2][k], axis=-1),
            )
            if all(np.isfinite(e).any() for e in errors):
                out.append((path.row, *(float(np.nanmean(e)) for e in errors)))
    return np.array(out, float).reshape(-1, 4)


def keeping(dreams: Dreams) -> list[Invariant]:
    """The invariants of looks, made once a report."""
    return dreams.once("keeping", lambda: _keeping(dreams))


def _keeping(dreams: Dreams) -> list[Invariant]:
    found, paths = followed(dreams), flown(dreams)
    count = found.radius.shape[1]
    real = _errors(found.shown, found.real, paths.real, count)
    dreamed = _errors(found.shown, found.dreamed, paths.dreamed, count)
    words: dict[str, Any] = {"n_of": "objects", "statistic": "mean", "blind_to": BLIND}

    def of(column: int, **more: Any) -> Invariant:
        return Invariant(
            values=dreamed[:, column], rows=dreamed[:, 0], floor=real[:, column], **words, **more
        )  # fmt: skip

    return [
        of(1, name="size", title="Change of size", tolerance=0.05,
           meaning="Relative change of an object's area against its own in the prompt, mean over the dream."),
        of(2, name="shape", title="Change of shape", tolerance=0.05,
           meaning="Change of the ratio of its shorter to its longer axis (1: a disc)."),
        of(3, name="colour", title="Change of colour", unit="ΔE", tolerance=SEEABLE,
           meaning=f"Distance in CIE L*a*b* from its own colour in the prompt; {SEEABLE} is just noticeable."),
    ]  # fmt: skip


@probe(name="constancy", truth=("position",), about="Do objects keep their size, shape and colour?")
def constancy(dreams: Dreams) -> dict[str, Figure]:
    """Change of area, of the ratio of axes, and of colour, object by object against its own prompt."""
    found = keeping(dreams)
    if not len(found[0].values):
        raise NotMeasurableError(
            f"No object is seen alone, in the prompt and by more than {MARGIN:g} px in the dream: its size, shape and "
            "colour can't be compared."
        )
    return {one.name: one.figure(dreams) for one in found}


__all__ = ["constancy", "keeping", "lab"]
