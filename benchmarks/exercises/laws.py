"""How an error grows with the horizon: laws, fitted to a mean curve and judged on starts that the fit did not see.

All horizons of one dream lean on each other, so residuals along a curve are no independent draws and an information
criterion would count one dream many times. What is drawn independently are the starts: laws are fitted to the mean
curve of one half of them and judged by that of the other half, for many random halvings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Law:
    """e(h) = scale x shape(h), the shape with at most one parameter of its own."""

    text: str
    """The formula, as a reader sees it."""
    shape: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Of horizons and the inner parameter, which broadcast."""
    inner: tuple[float, float] | None = None
    """Range of the inner parameter; None: it has none."""
    even: bool = False
    """Whether the inner parameter is searched evenly, and not by its logarithm."""


LAWS = {
    "linear": Law("a h", lambda h, _: h),
    "h^1.5": Law("a h^1.5", lambda h, _: h**1.5),
    "saturating": Law("c (1 - exp(-h/τ))", lambda h, tau: -np.expm1(-h / tau), (1.0, 2000.0)),
    "power": Law("a h^b", lambda h, b: h**b, (0.1, 4.0), even=True),
    "saturating h^1.5": Law("c (1 - exp(-(h/τ)^1.5))", lambda h, tau: -np.expm1(-((h / tau) ** 1.5)), (1.0, 2000.0)),
}
"""A constant error of the velocity gives ``linear``; kicks to it, independent from frame to frame, h^1.5 (the sum of a
random walk); in a box either ends in ``c``, the distance of two objects that have nothing to do with each other."""


@dataclass(frozen=True)
class Fit:
    """A law with its parameters."""

    law: str
    scale: float
    """a, px/frame^b; or c, px."""
    inner: float | None
    """τ, frames; or b."""

    def at(self, h: np.ndarray) -> np.ndarray:
        """px at horizons h."""
        return self.scale * LAWS[self.law].shape(np.asarray(h, float), np.asarray(self.inner or 0.0))


def fit(law: str, h: np.ndarray, e: np.ndarray) -> Fit:
    """Least squares of log e over horizons h (H,) of errors e (H,) px, > 0, every octave of h of equal weight.

    Relative errors, as a curve over several orders of size is else fitted at its end alone. The scale follows in closed
    form; an inner parameter by a search refined twice.
    """
    one = LAWS[law]
    h, weight = np.asarray(h, float), 1 / np.asarray(h, float)
    weight, log = weight / weight.sum(), np.log(np.maximum(e, 1e-9))

    def scaled(inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(G,) misfit and log scale at each of these inner parameters."""
        rest = log - np.log(np.maximum(one.shape(h, inner[:, None]), 1e-300)) + 0 * inner[:, None]
        middle = rest @ weight
        return np.square(rest - middle[:, None]) @ weight, middle

    if one.inner is None:
        return Fit(law, float(np.exp(scaled(np.zeros(1))[1][0])), None)
    low, high = one.inner if one.even else (np.log(one.inner[0]), np.log(one.inner[1]))
    for _ in range(3):
        grid = np.linspace(low, high, 41)
        tried, middle = scaled(grid if one.even else np.exp(grid))
        at, step = int(np.argmin(tried)), grid[1] - grid[0]
        low, high = max(low, grid[at] - step), min(high, grid[at] + step)
    return Fit(law, float(np.exp(middle[at])), float(grid[at] if one.even else np.exp(grid[at])))


def misfit(predicted: np.ndarray, h: np.ndarray, e: np.ndarray) -> float:
    """Root mean square of log(predicted / e), every octave of h of equal weight: about the relative error."""
    weight = 1 / np.asarray(h, float)
    rest = np.log(np.maximum(predicted, 1e-9)) - np.log(np.maximum(e, 1e-9))
    return float(np.sqrt(weight @ np.square(rest) / weight.sum()))


def compare(errors: np.ndarray, span: tuple[int, int], seed: int, rounds: int = 200) -> dict[str, Any]:
    """All laws on ``errors`` (n, H) px over the horizons span[0] to span[1], both included (1: the first frame).

    Gives for each law its parameters, with their intervals of 95 % over starts drawn anew, and its misfit on the other
    half of the starts: the median, and its 2.5 and 97.5 % quantiles over ``rounds`` random halvings. ``halves`` is the
    misfit of the one half's curve itself: no law can be expected to do better. ``best`` fits best in at least 95 % of
    the halvings; None where no law does.
    """
    h = np.arange(span[0], span[1] + 1)
    curves = errors[:, h - 1]
    draw = np.random.default_rng(seed)
    scores: dict[str, list[float]] = {name: [] for name in LAWS}
    halves = []
    for _ in range(rounds):
        order = draw.permutation(len(curves))
        seen, other = (curves[part].mean(0) for part in np.array_split(order, 2))
        halves.append(misfit(seen, h, other))
        for name in LAWS:
            scores[name].append(misfit(fit(name, h, seen).at(h), h, other))
    drawn = [curves[draw.integers(0, len(curves), len(curves))].mean(0) for _ in range(rounds)]
    order = np.argsort([scores[name] for name in LAWS], 0)[0]
    out: dict[str, Any] = {"span": list(span), "n": len(curves), "halves": float(np.median(halves)), "laws": {}}
    for i, name in enumerate(LAWS):
        whole = fit(name, h, curves.mean(0))
        again = [fit(name, h, curve) for curve in drawn]
        row: dict[str, Any] = {
            "formula": LAWS[name].text,
            "misfit": [float(np.median(scores[name])), *_middle(scores[name])],
            "best_in": float((order == i).mean()),
            "scale": [whole.scale, *_middle([f.scale for f in again])],
        }
        if whole.inner is not None:
            row["inner"] = [whole.inner, *_middle([f.inner for f in again if f.inner is not None])]
        out["laws"][name] = row
    ranked = sorted(out["laws"], key=lambda name: -out["laws"][name]["best_in"])
    out["ranked"] = ranked
    out["best"] = ranked[0] if out["laws"][ranked[0]]["best_in"] >= 0.95 else None
    return out


def _middle(values: list[float]) -> list[float]:
    return [float(x) for x in np.quantile(values, [0.025, 0.975])]
