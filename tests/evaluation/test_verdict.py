"""The headline believes no dream whose objects fade, or that standing still would match."""

from __future__ import annotations

import numpy as np
import pytest

from worldloom.evaluation.schema import Curve, Figure
from worldloom.evaluation.verdict import judge


def _figure(curve: np.ndarray, **baselines: np.ndarray) -> Figure:
    def plain(x: np.ndarray) -> tuple[float, ...]:
        return tuple(float(v) for v in x)

    frames = range(1, len(curve) + 1)
    whole = Curve(
        tuple(frames), plain(curve), plain(curve), plain(curve), None, {n: plain(b) for n, b in baselines.items()}
    )
    value = {str(h): float(curve[h - 1]) for h in (1, 5, 10, 20)}
    at = {n: {str(h): float(b[h - 1]) for h in (1, 5, 10, 20)} for n, b in baselines.items()}
    return Figure(value, None, 8, "starts", 0, "title", "px", "median", "lower", "meaning", baselines=at, curve=whole)


def _headline(error: np.ndarray, lost: np.ndarray, still: np.ndarray) -> str:
    zeros = np.zeros(20)
    count = _figure(1 - lost)
    figures = {
        "psnr_gain_db": _figure(zeros + 1),
        "position_error_px": _figure(error, copy_last=still),
        "position_lost": _figure(lost),
        "object_count_ok": Figure(
            1 - float(lost.mean()), (0.5, 1.0), 8, "dreams", 0, "t", "", "share", "higher", "m", curve=count.curve
        ),
    }
    return judge(figures, 4.0).headline


T = np.arange(1, 21)


@pytest.mark.parametrize(
    ("error", "lost", "still", "said"),
    [
        (T * 0.1, T * 0.0, T * 2.0, "Believable for all 20 frames measured"),
        (T * 0.5, T * 0.0, T * 2.0, "Believable for about 8 frames: the median position error stays under one radius"),
        (T * 0.1, (T > 6) * 0.4, T * 2.0, "Believable for about 6 frames: then more than 10 % of the objects are lost"),
        (T * 0.15, T * 0.0, T * 0.15, "Not believable for a single frame: standing still comes as close"),
        (T * 0.0 + 9, T * 0.0, T * 2.0, "Not believable for a single frame: objects are off by more than one radius"),
    ],
)
def test_the_headline_says_what_ends_belief_first(
    error: np.ndarray, lost: np.ndarray, still: np.ndarray, said: str
) -> None:
    assert _headline(error, lost, still).startswith(said)
