"""The signal ``motion``: what accelerates otherwise than training starts did is told from its pictures alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldloom.imagination.trust import pack, unpack
from worldloom.imagination.trust_motion import Motion, centres, least_acceleration
from worldloom.imagination.trust_signals import Familiar, Looks

SIZE = 56


def drawn(x, y, channels=3, colour=(240, 160, 90), background=(20, 20, 30)):
    """A spot with soft edges at x, y: (..., C, H, W) uint8."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    x, y = np.asarray(x, float)[..., None, None], np.asarray(y, float)[..., None, None]
    covered = np.exp(-(np.square(columns - x) + np.square(rows - y)) / 8)[..., None, :, :]
    shade, behind = (np.array(c[:channels], float)[:, None, None] for c in (colour, background))
    return np.rint(behind + covered * (shade - behind)).astype(np.uint8)


def moving(count, frames=4, gravity=(0.0, 0.0), seed=0, **look):
    """Prompts of spots thrown at random: (count, frames, C, H, W)."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)
    start, velocity = rng.uniform(14, 42, (2, count, 1)), rng.uniform(-2, 2, (2, count, 1))
    x, y = (start[i] + velocity[i] * t + gravity[i] * t * (t - 1) / 2 for i in (0, 1))
    return drawn(x, y, **look)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_little_gravity_is_told_and_where_it_was_learnt_it_is_familiar(channels):
    free, pulled = (moving(200, gravity=(0.0, g), channels=channels) for g in (0.0, 0.15))
    others = {g: moving(40, gravity=(0.0, g), seed=1, channels=channels) for g in (0.0, 0.15)}
    aside = moving(40, gravity=(-0.15, 0.0), seed=1, channels=channels)
    for learnt, own, other in ((free, 0.0, 0.15), (pulled, 0.15, 0.0)):
        motion = Motion.fit(learnt)
        assert motion is not None
        assert np.all(motion.background == np.array((20, 20, 30)[:channels])[:, None, None])
        near, far = motion.distance(others[own]), motion.distance(others[other])
        assert near.max() < 0.01  # px/frame²: all pixels of a spot together tell more than one
        np.testing.assert_allclose(far, 0.15, atol=0.03)
        assert motion.distance(aside).min() > 0.12
    np.testing.assert_allclose(least_acceleration(others[0.15], drawn(-99, -99, channels)), [[0, 0.15]] * 40, atol=0.02)


def test_a_bounce_between_two_frames_leaves_a_triplet_that_is_familiar():
    motion = Motion.fit(moving(200))
    assert motion is not None
    y = np.full(4, 20.0)
    first, last = drawn([12, 10, 12, 14], y), drawn([14, 12, 10, 12], y)
    middle = drawn([12, 10, 11, 13], y)  # each three frames bend
    bounce = motion.distance(np.stack([first, last, middle]))
    assert (bounce[:2] < 0.01).all()
    assert bounce[2] > 0.5


def test_two_frames_tell_no_acceleration():
    short = moving(20, frames=2)
    assert Motion.fit(short) is None
    familiar = Familiar.fit(None, short)
    assert "motion" not in pack(familiar)
    assert "motion" not in familiar.signals(Looks(shown=short))
    three = Familiar.fit(None, moving(20, frames=3))
    assert "motion" in three.signals(Looks(shown=moving(2, frames=3)))
    assert "motion" not in three.signals(Looks())  # from a state alone


def test_what_shows_nothing_is_as_familiar_as_training_starts_that_show_nothing():
    seen = moving(60)
    blank = np.broadcast_to(drawn(-99.0, -99.0), (10, 4, 3, SIZE, SIZE))
    one = Motion.fit(seen)
    assert one is not None
    assert np.isnan(least_acceleration(blank, one.background)).all()
    np.testing.assert_allclose(one.distance(blank), np.hypot(SIZE, SIZE))
    both = Motion.fit(np.concatenate([seen, blank]))
    assert both is not None
    np.testing.assert_array_equal(both.distance(blank), 0.0)
    assert both.distance(moving(5, seed=1)).max() < 0.01
    late = seen[:1].copy()
    late[:, 0] = blank[:1, 0]  # the last three frames still tell
    assert one.distance(late)[0] < 0.01
    still = Motion.fit(blank)  # a video in which nothing ever moves
    assert still is not None
    np.testing.assert_array_equal(still.distance(blank), 0.0)


def test_faint_noise_on_the_background_moves_nothing():
    shown = moving(1)[0]
    background = drawn(-99.0, -99.0)
    noisy = shown.copy()
    noisy[:, 0, :, :6] += np.random.default_rng(0).integers(0, 4, (4, SIZE, 6)).astype(np.uint8)
    np.testing.assert_allclose(centres(noisy, background), centres(shown, background), atol=1e-9)


@given(st.floats(10.0, 30.0), st.floats(10.0, 30.0), st.sampled_from([1, 3]))
def test_a_spot_is_found_where_it_is_whether_darker_or_brighter(x, y, channels):
    bright, dark, blue = (240, 160, 90), (20, 20, 30), (20, 20, 230)
    for colour, behind in ((bright, dark), (dark, bright), (blue if channels == 3 else bright, dark)):
        frame = drawn(x, y, channels, colour=colour, background=behind)[None]
        empty = drawn(-99.0, -99.0, channels, colour=colour, background=behind)
        np.testing.assert_allclose(centres(frame, empty), [[x, y]], atol=0.02)


def test_a_file_tells_the_same_motion():
    familiar = Familiar.fit(None, np.concatenate([moving(30), np.full((6, 4, 3, SIZE, SIZE), 20, np.uint8)]))
    stored = unpack({name: torch.from_numpy(x) for name, x in pack(familiar).items()})
    looks = Looks(shown=moving(5, gravity=(0.1, 0.0), seed=2))
    one, other = (f.signals(looks)["motion"] for f in (familiar, stored))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    assert stored.motion is not None
    assert stored.motion.background.dtype == np.uint8
