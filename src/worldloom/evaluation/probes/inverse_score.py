"""Macro-F1 or R² of what an inverse-dynamics model reads, with an interval over episodes, by bins of the horizon."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.schema import Curve, Figure

ENDS = (1, 2, 5, 10, 20, 50, 100)
"""Ends of the bins of the horizon, in frames."""
RESAMPLES = 2000


class Score:
    """Actions that were given against those that were read, of n starts and T' frames."""

    def __init__(self, dreams: Dreams, given: np.ndarray, classes: np.ndarray, first: int) -> None:
        """given: (n, T', ...). classes: (K,) the discrete actions that are told apart; empty for continuous ones, whose
        R² is taken. first: the horizon of the first of the T' frames."""
        self.dreams, self.given, self.classes, self.first = dreams, given, classes, first
        self.discrete = len(classes) > 0
        self.name = "macro-F1" if self.discrete else "R²"
        self.luck = 1 / len(classes) if self.discrete else 0.0
        """Score of a guess: of one action as of any other, or of the mean."""
        episode = np.unique(dreams.episodes, return_inverse=True)[1].reshape(-1)
        self._episodes = int(episode.max()) + 1
        self._onto = np.eye(self._episodes)[episode].T  # (episodes, n)
        drawn = np.random.default_rng(dreams.seed).multinomial(
            self._episodes, np.full(self._episodes, 1 / self._episodes), RESAMPLES
        )
        self._weights = np.concatenate([np.ones((1, self._episodes)), drawn])
        last = given.shape[1] + first - 1
        self.whole = [last]
        """The ends of but one bin: all frames."""
        self.bins = [*(h for h in ENDS if first <= h < last), last]
        """The ends of several."""

    def draws(self, read: np.ndarray, frames: slice = slice(None)) -> np.ndarray:
        """(1 + RESAMPLES,) scores of what was read (n, T', ...): of the sample, then of episodes drawn anew."""
        given, said = self.given[:, frames], read[:, frames]
        if not self.discrete:
            given, said = (x.reshape(*x.shape[:2], -1).astype(np.float64) for x in (given, said))
            sums = [np.square(said - given), given, np.square(given), np.ones_like(given)]
            off, one, two, n = (self._weights @ (self._onto @ x.sum(1)) for x in sums)
            r2: np.ndarray = (1 - off / np.maximum(two - one**2 / n, 1e-12)).mean(-1)
            return r2
        scores = []
        for k in self.classes:
            counts = [(given == k) & (said == k), given == k, said == k]
            both, true, claimed = (self._weights @ (self._onto @ x.sum(1)) for x in counts)
            # an action that these frames never hold is not asked for; one that is never read scores 0
            scores.append(np.where(true > 0, 2 * both / np.maximum(true + claimed, 1), np.nan))
        table = np.stack(scores)
        asked = np.isfinite(table)
        f1: np.ndarray = np.where(asked, table, 0).sum(0) / np.maximum(asked.sum(0), 1)
        return f1

    def interval(self, draws: np.ndarray) -> tuple[float, float] | None:
        """Of 95 %; None where there is but one episode."""
        low, high = np.quantile(draws[1:], [0.025, 0.975])
        return (float(low), float(high)) if self._episodes > 1 else None

    def figure(self, read: np.ndarray, real: np.ndarray, ends: list[int], *, over: bool, **words: Any) -> Figure:
        """Of the actions read from the dream by bins of the horizon that end at ``ends``, or one number for one bin.

        real: those read from the true frames of the same starts. over: divide by their score; else it is the ceiling.
        """
        draws, luck, top = [], [], []
        begin = self.first
        for end in ends:
            frames = slice(begin - self.first, end - self.first + 1)
            true, mine = self.draws(real, frames), self.draws(read, frames)
            scale = np.maximum(true, 1e-3) if over else np.ones_like(true)
            draws.append(mine / scale)
            luck.append(float(self.luck / scale[0]))
            top.append(1.0 if over else float(true[0]))
            begin = end + 1
        values, pairs = [float(x[0]) for x in draws], [self.interval(x) for x in draws]
        plain = dataclasses.replace(
            self.dreams.figure(np.zeros(len(self.dreams)), better="higher", n_of="dreamed frames", **words),
            n=int(np.prod(self.given.shape[:2])),
        )
        if len(ends) == 1:
            only: dict[str, Any] = {"value": values[0], "interval": pairs[0], "ceiling": top[0]}
            return dataclasses.replace(plain, **only, baselines={"chance": luck[0]})
        keys = [str(h) for h in ends]
        low, high = (tuple(None if p is None else p[i] for p in pairs) for i in (0, 1))
        return dataclasses.replace(
            plain,
            value=dict(zip(keys, values, strict=True)),
            interval=dict(zip(keys, pairs, strict=True)),
            ceiling=dict(zip(keys, top, strict=True)),
            baselines={"chance": dict(zip(keys, luck, strict=True))},
            curve=Curve(tuple(ends), tuple(values), low, high, None, {"chance": tuple(luck)}, tuple(top)),
        )


__all__ = ["ENDS", "Score"]
