"""Histograms of lengths, actions and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldloom.contract import Spec

_BINS = 12


@dataclass(frozen=True)
class Tally:
    """A histogram, and the numbers beside it."""

    name: str
    labels: list[str]
    """One a bar: a choice's name, or a range."""
    counts: list[int]
    low: float
    middle: float
    """Median."""
    high: float
    mean: float
    unit: str = ""


def _tally(name: str, values: np.ndarray, unit: str = "", whole: bool = False) -> Tally:
    low, high = float(values.min()), float(values.max())
    distinct = np.unique(values)
    if len(distinct) <= _BINS:
        labels = [f"{v:g}" for v in distinct]
        counts = [int((values == v).sum()) for v in distinct]
    else:
        edges = np.linspace(low, high, _BINS + 1)
        if whole:
            edges = np.unique(np.concatenate([np.floor(edges[:-1]), [high + 1]]))
        counts = np.histogram(values, edges)[0].tolist()
        last = edges[1:] - 1 if whole else edges[1:]
        labels = [_span(a, b) for a, b in zip(edges[:-1], last, strict=True)]
    return Tally(name, labels, counts, low, float(np.median(values)), high, float(values.mean()), unit)


def _span(a: float, b: float) -> str:
    return f"{a:.3g}" if a == b else f"{a:.3g} to {b:.3g}"


def tally_lengths(lengths: Sequence[int]) -> Tally | None:
    """Of episodes' lengths in frames."""
    return _tally("length", np.array(lengths), "frames", whole=True) if len(lengths) else None


def tally_actions(spec: Spec, actions: list[np.ndarray]) -> list[Tally]:
    """Of choices by name, or of each entry."""
    control = spec.action
    if control is None or control.kind not in ("discrete", "continuous") or not sum(map(len, actions)):
        return []
    every = np.concatenate(actions)
    if control.kind == "continuous":
        names = control.names or tuple(f"action {i}" for i in range(control.shape[0]))
        out = []
        for i, name in enumerate(names):
            known = every[np.isfinite(every[:, i]), i]
            if len(known):
                out.append(_tally(name, known))
        return out
    counts = np.bincount(every[(every >= 0) & (every < control.n)], minlength=control.n)
    names = control.names or tuple(map(str, range(control.n)))
    middle, mean = float(np.median(every)), float(every.mean())
    return [Tally("action", list(names), counts.tolist(), 0.0, middle, float(control.n - 1), mean)]


def tally_rewards(rewards: list[np.ndarray]) -> Tally | None:
    """Of rewards frame by frame."""
    if not rewards:
        return None
    every = np.concatenate(rewards)
    every = every[np.isfinite(every)]
    return _tally("reward", every) if len(every) else None
