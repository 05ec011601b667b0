"""The headline believes no dream whose objects fade, or that standing still would match."""

from __future__ import annotations

import numpy as np
import pytest

from worldloom.evaluation.schema import Curve, Figure, Verdict
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


def _verdict(error: np.ndarray, lost: np.ndarray, still: np.ndarray) -> Verdict:
    zeros = np.zeros(20)
    count = _figure(1 - lost)
    figures = {
        "psnr_gain_db": _figure(zeros + 1),
        "ssim": _figure(zeros + 0.9, copy_last=zeros + 0.8),
        "position_error_px": _figure(error, copy_last=still),
        "position_lost": _figure(lost),
        "object_count_ok": Figure(
            1 - float(lost.mean()), (0.5, 1.0), 8, "dreams", 0, "t", "", "share", "higher", "m", curve=count.curve
        ),
    }
    return judge(figures, 4.0)


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
    assert _verdict(error, lost, still).headline.startswith(said)


@pytest.mark.parametrize(
    ("gain", "ssim", "said"),
    [
        (T * 0.0 + 1, T * 0.0 + 0.9, "Better than repeating the last frame for all 20 frames measured."),
        (3.0 - T, T * 0.0 + 0.9, "Better than repeating the last frame for 2 frames."),
        (T * 0.0 + 1, 0.9 - 0.02 * T, "Better than repeating the last frame for 5 frames: then its structure"),
        (T * 0.0, T * 0.0 + 0.9, "Not better than repeating the last frame, which comes as close"),
        (T * 0.0 - 17, T * 0.0 + 0.1, "Worse than repeating the last frame: by 17 dB one frame ahead."),
    ],
)
def test_without_objects_a_blur_is_no_better_than_standing_still(gain: np.ndarray, ssim: np.ndarray, said: str) -> None:
    still = T * 0.0 + 0.8
    figures = {
        "psnr_gain_db": _figure(gain),
        "psnr_db": _figure(gain + 20, copy_last=T * 0.0 + 20),
        "ssim": _figure(ssim, copy_last=still),
    }
    assert judge(figures, None).headline.startswith(said)


def test_what_psnr_alone_says_of_lost_objects_is_not_held_against_the_headline() -> None:
    lost = T * 0.0 + 1.0
    points = _verdict(T * 0.0 + 90, lost, T * 2.0).points
    assert any(p.startswith("PSNR alone would call it better") for p in points)
    assert any(p.endswith("100 % of the objects are lost there and count as the frame's diagonal.") for p in points)
    points = _verdict(T * 0.1, T * 0.0, T * 2.0).points
    assert any(p.startswith("By PSNR it is surely better") for p in points)
    assert not any("lost there" in p for p in points)
