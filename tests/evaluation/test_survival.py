"""Kaplan and Meier's estimate against a textbook's example and the obvious loop, and what counts as a failure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import WorldloomError
from worldloom.evaluation.survival import Lives, estimate, first_failure, median_life, restricted_mean, survival

# Remission of 21 patients under 6-mercaptopurine, weeks (Freireich et al. 1963).
WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [w in (7, 13, 16, 22, 23) or i in (0, 1, 2, 7) for i, w in enumerate(WEEKS)]


def test_a_textbook_example():
    remission = Lives(np.array(WEEKS), np.array(RELAPSED))
    share = survival(remission, 35)[0]
    by_hand = {5: 1.0}
    by_hand[6] = 1 - 3 / 21  # 21 at risk, 3 relapse; the one censored in week 6 was at risk, too
    by_hand[7] = by_hand[6] * (1 - 1 / 17)
    by_hand[10] = by_hand[7] * (1 - 1 / 15)
    by_hand[13] = by_hand[10] * (1 - 1 / 12)
    by_hand[16] = by_hand[13] * (1 - 1 / 11)
    by_hand[22] = by_hand[16] * (1 - 1 / 7)
    by_hand[23] = by_hand[22] * (1 - 1 / 6)
    by_hand[35] = by_hand[23]
    for week, value in by_hand.items():
        assert share[week - 1] == pytest.approx(value)
    assert by_hand[23] == pytest.approx(0.448, abs=5e-4)  # as printed
    assert median_life(survival(remission, 35))[0] == 23
    assert median_life(survival(remission, 22))[0] == np.inf
    # leaving the censored out, or taking their last week for their end, makes remission shorter
    assert np.median(np.array(WEEKS)[RELAPSED]) < 23
    assert np.median(WEEKS) < 23


def slow(frame, failed, until):
    share, out = 1.0, []
    for h in range(1, until + 1):
        watched = [i for i in range(len(frame)) if frame[i] >= h]
        ended = [i for i in watched if frame[i] == h and failed[i]]
        if not watched:
            out.append(0.0 if share == 0 else np.nan)
            continue
        share *= 1 - len(ended) / len(watched)
        out.append(share)
    return out


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.integers(0, 3)), min_size=1, max_size=15))
@settings(max_examples=60, deadline=None)
def test_it_is_the_slow_one(rows):
    frame, failed, counts = (np.array(x) for x in zip(*rows, strict=True))
    one = Lives(frame, failed)
    np.testing.assert_allclose(survival(one, 14)[0], slow(frame, failed, 14), atol=1e-12)
    if counts.sum():
        many = np.repeat(frame, counts), np.repeat(failed, counts)
        np.testing.assert_allclose(survival(one, 14, counts[None])[0], slow(*many, 14), atol=1e-12)
    known = Lives(frame, np.ones(len(frame), bool))
    assert restricted_mean(survival(known, 9))[0] == pytest.approx(np.minimum(frame, 9).mean())


def test_the_interval_is_that_of_the_loop_over_episodes():
    rng = np.random.default_rng(0)
    frame, failed, groups = rng.integers(1, 30, 24), rng.random(24) < 0.7, np.repeat(np.arange(8), 3)
    found = estimate(Lives(frame, failed), groups, 20, seed=3, resamples=300)
    draws = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 300)
    curves = []
    for row in draws:
        index = np.concatenate([np.tile(np.flatnonzero(groups == g), k) for g, k in enumerate(row)])
        curves.append(slow(frame[index], failed[index], 20))
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-9)
    assert found.mean_interval[0] < found.mean < found.mean_interval[1]
    alone = estimate(Lives(frame, failed), np.arange(24), 20, seed=3)
    copies = estimate(Lives(frame.repeat(9), failed.repeat(9)), np.arange(24).repeat(9), 20, seed=3)
    assert copies.mean_interval == pytest.approx(alone.mean_interval)  # more starts of the same episodes say no more


def test_none_failed_is_not_certainty():
    found = estimate(Lives(np.full(20, 50), np.zeros(20, bool)), np.arange(20), 50)
    assert (found.share == 1).all()
    assert found.low[0] == pytest.approx(0.025 ** (1 / 20))  # the Clopper-Pearson limit of 20 of 20
    assert (found.median, found.mean, found.censored) == (np.inf, 50, 1)
    assert 0 < found.mean_interval[0] < 50
    one = estimate(Lives(np.full(20, 50), np.zeros(20, bool)), np.zeros(20), 50)
    assert np.isnan(one.low).all()
    # who was looked at for less says nothing of the rest
    few = estimate(Lives(np.repeat([10, 50], 10), np.zeros(20, bool)), np.arange(20), 50)
    np.testing.assert_allclose(few.low[[0, 49]], [0.025 ** (1 / 20), 0.025 ** (1 / 10)])
    assert few.mean_interval == pytest.approx((50 * 0.025 ** (1 / 10), 50))
    none = estimate(Lives(np.full(20, 10), np.zeros(20, bool)), np.arange(20), 50)
    assert np.isnan([none.mean, *none.mean_interval]).all()


def test_failures_are_seen_where_they_can_be():
    bad = np.array([list("..x.xxx..x"), list("..x.x.x..x"), list(".........."), list("xxxxxxxxxx")]) == "x"
    found = first_failure(bad, None, 3)
    assert found.frame.tolist() == [5, 10, 10, 1]
    assert found.failed.tolist() == [True, False, False, True]
    # a frame that can't be judged ends no life and interrupts no failure; the last judged one censors
    judged = np.array([list("......,..."), list("......,,,,"), list(",,,,,,,,,,"), list(",,,.,..,,,")]) == "."
    found = first_failure(bad | ~judged, judged, 3)
    assert found.frame.tolist() == [10, 6, 0, 4]
    assert found.failed.tolist() == [False, False, False, True]
    assert first_failure(bad, None).frame.tolist() == [3, 3, 10, 1]


def test_what_are_no_lives_is_said():
    with pytest.raises(WorldloomError, match="whole frames"):
        Lives(np.array([1.5]), np.array([True]))
    with pytest.raises(WorldloomError, match="frame 1 at least"):
        Lives(np.array([0]), np.array([True]))
    with pytest.raises(WorldloomError, match="no lives"):
        estimate(Lives(np.zeros(0, int), np.zeros(0, bool)), np.zeros(0), 5)
