"""Figures of the remedies that can be wrong without being noticed, on planted dreams; and what the page says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks import remedies, remedies_page
from worldloom.contract import Control, Sensor, Spec
from worldloom.evaluation.tracking import LOST, SEEN, Tracks
from worldloom.imagination.remedies import Remedy
from worldloom.models.diffusion import Diffusion, DiffusionConfig

FRAMES = 60


def flight(speed=1.0, lost=()):
    """One object that flies to the right through 60 frames, lost in some."""
    position = np.stack([speed * np.arange(FRAMES) + 1.0, np.full(FRAMES, 8.0)], -1)[:, None]
    reason = np.full((FRAMES, 1), SEEN, np.int8)
    reason[list(lost)] = LOST
    position[list(lost)] = np.nan
    ones = np.ones((FRAMES, 1))
    count = (reason[:, 0] == SEEN).astype(int)
    return Tracks(position, ones, np.ones((FRAMES, 1, 3)), np.ones((FRAMES, 1, 2)), reason, count, count * 0, ones > 1)


def known(speed=1.0):
    return flight(speed).position[None]


def test_an_error_is_a_distance_and_a_lost_object_lies_at_the_diagonal():
    found = remedies.errors([flight(lost=[4])], known() + np.array([3.0, 4.0]), 90.0)
    assert found.shape == (1, FRAMES, 1)
    assert found[0, 4, 0] == 90.0
    assert np.delete(found[0, :, 0], 4) == pytest.approx(5.0)


def test_speed_kept_is_that_of_the_steps_seen_against_the_true_ones():
    span = slice(10, 60)
    assert remedies.speed_kept([flight(0.5, lost=[20, 30])], known(2.0), span) == pytest.approx([0.25])
    assert np.isnan(remedies.speed_kept([flight(lost=range(FRAMES))], known(), span)[0])


def test_the_background_counts_what_no_object_covers_and_nothing_else():
    ground = np.full((3, 16, 80), 20, np.float32)
    frames = np.broadcast_to(ground, (1, FRAMES, 3, 16, 80)).astype(np.uint8).copy()
    for t in range(FRAMES):
        frames[0, t, :, 6:10, t : t + 3] = 255  # the object itself
    reach = np.array([4.0])
    assert remedies.background_psnr(frames, ground, [flight()], reach) == pytest.approx([60.0])
    frames[0, :, :, 0, 79] = 255  # something left behind in a corner
    low = remedies.background_psnr(frames, ground, [flight()], reach)
    assert 20 < low[0] < 40
    gone = remedies.background_psnr(frames, ground, [flight(lost=range(FRAMES))], reach)
    assert gone[0] < low[0]  # an object that is not one is dirt


def test_a_way_is_nearer_start_by_start():
    """Two starts of very different errors, of which each is a pixel nearer: no interval hides that."""
    plain, row = ({"at": {"50": {"span_px": values}}} for values in ([30.0, 2.0], [29.0, 1.0]))
    assert remedies.nearer(row, plain, 0)["50"] == pytest.approx([1.0, 1.0, 1.0])


def test_each_point_of_the_picture_stands_for_the_frames_since_the_one_before():
    error = np.tile(np.arange(10.0), 100)[None, :, None]  # a saw tooth of ten frames, as re-anchoring makes
    points = remedies.by_frame(error)
    assert list(points)[-1] == "1000"
    late = [v for h, v in points.items() if int(h) > 100]
    assert max(late) - min(late) < 3


SPEC = Spec({"camera": Sensor("image", (3, 16, 16))}, {"action": Control("discrete", n=3)})


def test_what_a_model_was_not_trained_for_is_not_tried():
    debug = DiffusionConfig.debug()
    bare = Diffusion(SPEC, dataclasses.replace(debug, joint=0.0))
    names = [way.name for way in remedies.ways(bare)]
    assert names[0] == "plain"
    assert not any("keyframes" in n or "noise" in n or "memory" in n for n in names)
    full = Diffusion(SPEC, dataclasses.replace(debug, ahead=2, retrieve=2, archive=16, context_noise=0.2))
    found = {way.name: way.remedy for way in remedies.ways(full)}
    assert found["plain"].settings == {"retrieve": 0}
    assert found["explicit memory"].settings == {}
    assert found["context noise 0.1"].settings == {"retrieve": 0, "told_noise": 0.1}
    assert sum(way.remedy.keyframes > 0 for way in remedies.ways(full)) == 2
    off, on = (remedies.carried(full, found[n])[0] for n in ("plain", "explicit memory"))
    assert on > off  # the archive
    chunk = full.window
    assert remedies.carried(full, Remedy(keyframes=4)) == (chunk // 4 * 3 * 16 * 16, chunk)


def row(gains, times=1.0, shows_truth=False, keyframes=0):
    cost = {"times_plain": times, "ms_a_frame": 8.0, "bytes": 2048, "frames_at_once": 1}
    return {"nearer_px": gains, "cost": cost, "shows_truth": shows_truth, "keyframes": keyframes}


def test_a_verdict_turns_with_the_intervals():
    said = remedies_page.verdict(
        "it", row({"50": [3.0, 1.0, 5.0], "200": [3.0, -1.0, 5.0], "1000": [-2.0, -3.0, -1.0]})
    )
    assert "surely nearer to the truth at 50 (3 px)" in said
    assert "not told apart from plain at 200" in said
    assert "surely farther at 1000 (2 px)" in said
    assert "shown the truth" not in said
    assert "shown the truth" in remedies_page.verdict("it", row({"50": [3.0, 1.0, 5.0]}, shows_truth=True))
    assert "actions beforehand" in remedies_page.verdict("it", row({"50": [3.0, 1.0, 5.0]}, keyframes=4))
    unknown = remedies_page.verdict("it", row({"50": [3.0, None, None]}))
    assert "not told apart" in unknown


def test_intervals_are_of_whole_starts():
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 32)[:, None], 50, 1)  # 50 frames of a start, all alike
    value, low, high = remedies.summed(values, 0)
    assert value == pytest.approx(values.mean())
    assert high - low > 0.5  # not that of 1,600 independent values
    assert remedies.summed(np.full((4, 2), np.nan), 0) == [None, None, None]
