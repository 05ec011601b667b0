"""How long something lasts when not all of it was seen to end: Kaplan and Meier's estimate, on frames.

A dream that has not failed when it is last looked at is *censored*: it lasted at least that long. Leaving it out, or
taking the last look for its end, both make lives too short. (Kaplan & Meier 1958, *Nonparametric estimation from
incomplete observations*.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.contract import WorldloomError


@dataclass(frozen=True)
class Lives:
    """How long each of n things lasted. Frame 1 is the first at which one can fail."""

    frame: np.ndarray
    """(n,) int: the frame at which it failed, or else the last at which it was seen not to have failed (0: never)."""
    failed: np.ndarray
    """(n,) bool: whether it failed; False is censored."""

    def __post_init__(self) -> None:
        frame, failed = np.asarray(self.frame), np.asarray(self.failed)
        if frame.ndim != 1 or frame.shape != failed.shape or frame.dtype.kind not in "iu" or failed.dtype != bool:
            raise WorldloomError(
                f"Lives are whole frames (n,) and whether they ended (n,) bool, found {frame.dtype} {frame.shape} and "
                f"{failed.dtype} {failed.shape}."
            )
        if len(frame) and (frame < failed.astype(int)).any():
            raise WorldloomError("A life that ended lasted to frame 1 at least, and none is shorter than 0 frames.")

    def __len__(self) -> int:
        return len(self.frame)


def first_failure(bad: np.ndarray, judged: np.ndarray | None = None, patience: int = 1) -> Lives:
    """Lives from what was seen at each frame: bad, judged (n, T) bool.

    A life ends at the first frame of the first ``patience`` frames in a row that are bad; frames that could not be
    judged neither end a life nor interrupt such a row. One that never fails is censored at its last judged frame.
    """
    judged = np.ones_like(bad) if judged is None else judged
    frame, failed = np.zeros(len(bad), int), np.zeros(len(bad), bool)
    for i, (wrong, seen) in enumerate(zip(bad, judged, strict=True)):
        at = np.flatnonzero(seen)
        row = wrong[at].astype(int)
        runs = np.convolve(row, np.ones(patience, int), "valid") == patience if len(row) >= patience else np.zeros(0)
        failed[i] = bool(runs.any())
        frame[i] = at[int(np.argmax(runs))] + 1 if failed[i] else (at[-1] + 1 if len(at) else 0)
    return Lives(frame, failed)


def survival(lives: Lives, until: int, weights: np.ndarray | None = None) -> np.ndarray:
    """(R, until) share that has not failed by the end of frames 1 to ``until``: S(h) = Π (1 − failures / at risk).

    weights: (R, n) how often each life is counted; once unless given (R = 1). NaN from the frame on at which nobody is
    left to be looked at, unless all have failed by then.
    """
    counts = np.ones((1, len(lives))) if weights is None else np.asarray(weights, np.float64)
    frames = np.arange(1, until + 1)
    risk = counts @ (lives.frame[:, None] >= frames)
    ends = counts @ ((lives.frame[:, None] == frames) & lives.failed[:, None])
    share = np.cumprod(1 - np.divide(ends, risk, out=np.zeros_like(ends), where=risk > 0), 1)
    return np.where((risk > 0) | (share <= 1e-12), share, np.nan)


def median_life(share: np.ndarray) -> np.ndarray:
    """(R,) first frame at which a half or fewer are left, of shares (R, T) by :func:`survival`; inf where never."""
    low = np.nan_to_num(share, nan=1.0) <= 0.5 + 1e-12
    return np.where(low.any(1), low.argmax(1) + 1.0, np.inf)


def restricted_mean(share: np.ndarray) -> np.ndarray:
    """(R,) mean frames lasted within the T frames of ``share`` (R, T): the area under the curve, frame 0 included.

    Without censoring before T it is the mean of min(life, T). NaN where the curve ends earlier. (Irwin 1949; Royston &
    Parmar 2013, *Restricted mean survival time*.)
    """
    area: np.ndarray = 1.0 + share[:, :-1].sum(1)
    return area


@dataclass(frozen=True)
class Estimate:
    """What is known of n lives within T frames, with intervals of 95 %, NaN or inf where there is none."""

    share: np.ndarray
    """(T,) share not failed by the end of each frame."""
    low: np.ndarray
    """(T,)"""
    high: np.ndarray
    """(T,)"""
    median: float
    """Frames; inf where more than half outlast T."""
    median_interval: tuple[float, float]
    """inf where an end lies past T."""
    mean: float
    """Frames within T: :func:`restricted_mean`."""
    mean_interval: tuple[float, float]
    """Of it."""
    censored: float
    """Share that was not seen to fail."""


def estimate(
    lives: Lives, groups: np.ndarray, until: int, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> Estimate:
    """Estimate with intervals by drawing whole groups (n,), that is episodes, anew (Efron 1981, *Censored data and the
    bootstrap*). One group alone has no interval.

    Where none or all have failed, resampling would claim certainty: there the exact limit holds, as in
    :func:`~worldloom.evaluation.statistics.share_interval`, of the groups that were watched for as long, and a mean
    where none fails is at least that share of T.
    """
    if not len(lives):
        raise WorldloomError("There are no lives to estimate from.")
    share = survival(lives, until)
    tail = (1 - level) / 2
    labels = np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = int(labels.max()) + 1
    nothing = (float("nan"), float("nan"))
    low, high, median, mean = np.full(until, np.nan), np.full(until, np.nan), nothing, nothing
    if count > 1:
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
        draws = survival(lives, until, drawn[:, labels])
        whole = np.where(np.isnan(draws).any(0), np.nan, draws)  # no interval where some draw has nobody left
        low, high = np.quantile(whole, [tail, 1 - tail], axis=0)
        watched = np.array([len(np.unique(labels[lives.frame >= h])) for h in range(1, until + 1)])
        limit = tail ** (1 / np.maximum(watched, 1))
        low = np.where(share[0] >= 1, np.where(np.isnan(low), np.nan, limit), low)
        high = np.where(share[0] <= 1e-12, np.where(np.isnan(high), np.nan, 1 - tail ** (1 / count)), high)
        medians = median_life(draws)
        ends = np.quantile(medians, [tail, 1 - tail], method="nearest")
        median = (float(ends[0]), float(ends[1]))
        ends = np.quantile(restricted_mean(draws), [tail, 1 - tail])
        if lives.failed.any():
            mean = (float(ends[0]), float(ends[1]))
        elif watched[-1]:
            mean = (float(limit[-1]) * until, float(until))
    return Estimate(
        share[0],
        low,
        high,
        float(median_life(share)[0]),
        median,
        float(restricted_mean(share)[0]),
        mean,
        float((~lives.failed).mean()),
    )


__all__ = ["Estimate", "Lives", "estimate", "first_failure", "median_life", "restricted_mean", "survival"]
