"""A law of nature as a figure: how far each event breaks it, in its own unit, and what that is worth as a score."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import Statistic

SHOWN = 10
"""Events of the true frames from which on a law counts of which the dreams show none: its score is 0. A dream that
stands still, or loses what it should show, breaks no law, and is not therefore lawful."""
FLOORS = 3.0
"""The tolerance of a score is this many times the instrument's floor, unless the physical tolerance is larger."""


@dataclass(frozen=True)
class Invariant:
    """What should be zero, event by event: on the dreamed frames (``values``) and on the true ones (``floor``)."""

    name: str
    """Of the figure."""
    title: str
    """Of the figure."""
    meaning: str
    """A sentence or two."""
    values: np.ndarray
    """(m,) of each event of the dreams."""
    rows: np.ndarray
    """(m,) start of each event."""
    floor: np.ndarray
    """(m',) of each event of the true frames."""
    n_of: str
    """What the events are."""
    unit: str = ""
    statistic: Statistic = "median"
    """How events are summed up."""
    tolerance: float = 0.0
    """Error at which a score has fallen to 1/e, if the floor asks for no more; 0: it enters no score."""
    share: bool = False
    """The values are 0 or 1."""
    blind_to: str = ""
    """See :class:`~worldloom.evaluation.schema.Figure`."""
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    """See :meth:`Dreams.figure`."""

    def figure(self, dreams: Dreams) -> Figure:
        """Of the errors themselves."""
        return dreams.figure(
            self.values,
            rows=np.asarray(self.rows, int),
            floor=self.floor,
            title=self.title,
            meaning=self.meaning,
            unit=self.unit,
            statistic=self.statistic,
            share=self.share,
            n_of=self.n_of,
            better="lower",
            blind_to=self.blind_to,
            baselines=self.baselines,
        )

    @property
    def usable(self) -> bool:
        """Whether a score can be made of it."""
        return self.tolerance > 0 and len(self.floor) > 0 and (len(self.values) > 0 or len(self.floor) >= SHOWN)

    @property
    def worth(self) -> float:
        """Its score; 0 where the dreams show no such event and the true frames do (see :data:`SHOWN`)."""
        return self.score(summed(self.values, self.statistic)) if len(self.values) else 0.0

    @property
    def allowed(self) -> float:
        """The tolerance that holds: :data:`FLOORS` floors, or the physical one where that is larger."""
        return max(self.tolerance, FLOORS * summed(self.floor, self.statistic))

    def score(self, error: float) -> float:
        """exp(-(error - floor)₊ / tolerance): 1 at the floor, never a reciprocal, which would reward a zero by chance
        and punish a small error without bound."""
        return math.exp(-max(error - summed(self.floor, self.statistic), 0.0) / self.allowed)

    def scored(self, dreams: Dreams) -> Figure:
        """Its score as a figure; the interval is that of the error, mapped."""
        raw = self.figure(dreams)
        interval = None
        if isinstance(raw.interval, tuple):
            interval = self.score(raw.interval[1]), self.score(raw.interval[0])
        return dataclasses.replace(
            raw,
            value=self.worth,
            interval=interval,
            floor=1.0,
            statistic="median" if self.statistic == "median" else "mean",  # of errors, a share or not
            unit="",
            better="higher",
            title=f"Score: {self.title[:1].lower()}{self.title[1:]}",
            meaning=f"exp(-(error - floor)/tolerance) of “{self.title}”, with a tolerance of "
            f"{self.allowed:.3g}{' ' + self.unit if self.unit else ''}."
            + ("" if len(self.values) else f" 0: the dreams show none of these, the true frames {len(self.floor)}."),
            baselines={},
        )


def summed(values: np.ndarray, statistic: Statistic) -> float:
    """Mean or median of (m,) values."""
    return float(np.median(values) if statistic == "median" else np.mean(values))


def weighted(values: np.ndarray, weights: np.ndarray, statistic: Statistic) -> np.ndarray:
    """(R,) means or medians of (m,) values, value i counted ``weights[r, i]`` times; NaN where none counts."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        if statistic == "mean":
            return np.asarray(weights @ values / total)
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weights[:, order], 1)
        low = np.argmax(reached >= total[:, None] / 2, 1)
        high = np.argmax(reached > total[:, None] / 2, 1)
        return np.where(total > 0, (values[order][low] + values[order][high]) / 2, np.nan)


def overall(
    parts: Sequence[Invariant], dreams: Dreams, resamples: int = 1000
) -> tuple[float, tuple[float, float] | None]:
    """Median of the scores of the parts, and its interval of 95 %: episodes are drawn anew, the same for every part."""
    value = float(np.median([p.worth for p in parts]))
    labels = np.unique(dreams.episodes, return_inverse=True)[1].reshape(-1)
    count = int(labels.max()) + 1
    if count < 2:
        return value, None
    drawn = np.random.default_rng(dreams.seed).multinomial(count, np.full(count, 1 / count), resamples)
    scores = []
    for part in parts:
        if not len(part.values):
            scores.append(np.zeros(resamples))
            continue
        weights = drawn[:, labels[np.asarray(part.rows, int)]].astype(np.float64)
        errors = weighted(part.values, weights, part.statistic)
        floor = summed(part.floor, part.statistic)
        scores.append(np.exp(-np.maximum(errors - floor, 0) / part.allowed))
    middle = np.nanmedian(np.stack(scores), 0)
    low, high = np.quantile(middle, [0.025, 0.975])
    return value, (float(low), float(high))


__all__ = ["FLOORS", "Invariant", "overall", "summed", "weighted"]
