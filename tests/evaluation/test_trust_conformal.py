"""The arithmetic of the bound: what it promises is kept, by simulation, and breaks where a step is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldloom.evaluation.trust.conformal import conformal_quantile, fit_scale, group_weights, least_groups, scores
from worldloom.imagination.trust import View, strangeness


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 9))
def test_one_dream_an_episode_is_split_conformal_prediction(n, level, seed):
    values = np.random.default_rng(seed).permutation(n).astype(float)
    rank = math.ceil((n + 1) * level - 1e-9)
    expected = float(rank - 1) if rank <= n else math.inf
    assert conformal_quantile(values, np.arange(n), level) == expected
    assert math.isfinite(expected) == (n >= least_groups(level))


def walks(rng, n, horizon=20):
    """Errors that grow at a pace of their own, which a signal half tells."""
    pace = rng.normal(size=n)
    told = pace + 0.5 * rng.normal(size=n)
    steps = rng.exponential(size=(n, horizon)) * np.exp(pace)[:, None]
    return np.cumsum(steps, 1), told[:, None]


def trial(rng, fitted, quantile, tested):
    """Coverage of one calibration."""
    scale = fit_scale(*walks(rng, fitted), 0.9, 0.01)
    error, told = walks(rng, quantile)
    q = conformal_quantile(scores(error, scale(told)), np.arange(quantile), 0.9)
    error, told = walks(rng, tested)
    return float((error <= q * scale(told)).all(1).mean()), scale


def test_a_new_dream_stays_under_its_bound_at_all_frames_with_the_chance_asked_for():
    rng = np.random.default_rng(0)
    found = np.array([trial(rng, 30, 12, 40)[0] for _ in range(600)])
    assert found.mean() == pytest.approx(12 / 13, abs=0.012)  # ⌈13 · 0.9⌉ / 13: without the + 1 it would be 11 / 13
    larger = np.array([trial(rng, 60, 499, 400)[0] for _ in range(60)])
    assert larger.mean() == pytest.approx(0.9, abs=0.01)


def test_the_scale_follows_signals_and_never_falls():
    rng = np.random.default_rng(1)
    error, told = walks(rng, 400)
    scale = fit_scale(error, told, 0.9, 0.01)
    assert 0.5 < scale.coefficients[0] < 1.1  # of what is told, 1 / (1 + 0.25) is true
    assert (np.diff(scale.curve) >= 0).all()
    assert (scale.curve > 0).all()
    blind = fit_scale(error, 0 * told, 0.9, 0.01)
    later, seen = walks(rng, 2000)
    groups = np.arange(2000)
    sharp, flat = scale(seen), blind(0 * seen)
    width = [np.median(conformal_quantile(scores(later, s), groups, 0.9) * s) for s in (sharp, flat)]
    assert width[0] < 0.7 * width[1]


def test_episodes_and_not_dreams_are_what_is_alike():
    rng = np.random.default_rng(2)
    held, naive = [], []
    for _ in range(400):
        level = rng.normal(size=15)
        values = (level[:, None] + 0.1 * rng.normal(size=(15, 8))).ravel()
        new = rng.normal() + 0.1 * rng.normal()
        held.append(new <= conformal_quantile(values, np.repeat(np.arange(15), 8), 0.9))
        naive.append(new <= conformal_quantile(values, np.arange(120), 0.9))
    assert np.mean(held) > 0.9
    assert np.mean(naive) < np.mean(held) - 0.02


def test_episodes_weigh_alike_however_many_dreams_they_have():
    weights, count = group_weights(np.array([4, 4, 4, 9]))
    assert count == 2
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1 / 3, 1])


def view_of(known):
    strange = np.sort(strangeness(known))
    m = known.shape[1]
    return View(
        tuple(map(str, range(m))), (0.0,) * m, (1.0,) * m, tuple(strange.tolist()), (1.0,) * len(known), {}
    )  # fmt: skip


def test_familiar_starts_are_called_strange_no_more_often_than_promised():
    rng = np.random.default_rng(3)
    alarms = []
    for _ in range(300):
        view = view_of(rng.normal(size=(29, 3)))
        alarms.append((view.p_value(rng.normal(size=(50, 3))) <= 0.1).mean())
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.01)
    far = view.p_value(np.full((1, 3), 9.0))
    assert far[0] == pytest.approx(1 / 30)  # never 0: the start itself counts
    assert view.p_value(np.full((1, 3), -9.0))[0] == 1.0  # more familiar than all is not strange
