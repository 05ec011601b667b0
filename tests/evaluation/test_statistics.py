import numpy as np
import pytest

from worldloom.evaluation.statistics import bootstrap, share_interval


def slow(values, groups, take, resamples, seed, level=0.95):
    """The cluster bootstrap, spelled out: draw groups with replacement, join their values, sum up."""
    names = np.unique(groups)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    draws = []
    for row in counts:
        drawn = np.concatenate([np.tile(values[groups == g], k) for g, k in zip(names, row, strict=True)])
        draws.append(take(drawn))
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("clusters", [False, True])
def test_it_is_the_slow_one(statistic, clusters):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(24, 2))
    groups = np.repeat([7, 3, 11, 5, 2, 9, 1, 8], 3) if clusters else np.arange(24)
    low, high = bootstrap(values, groups, statistic, seed=4, resamples=200)
    for k in range(2):
        expected = slow(values[:, k], groups, getattr(np, statistic), 200, 4)
        assert (low[k], high[k]) == pytest.approx(tuple(expected))


def test_dependent_values_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=10)
    copies, groups = np.repeat(values, 20), np.repeat(np.arange(10), 20)
    low, high = bootstrap(values, seed=0)
    assert np.allclose(bootstrap(copies, groups, seed=0), (low, high))
    narrow = np.subtract(*bootstrap(copies, seed=0)[::-1])
    assert narrow < 0.5 * (high - low)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_it_covers(statistic):
    rng = np.random.default_rng(2)
    low, high = bootstrap(rng.normal(3.0, 1.0, (40, 300)), None, statistic, seed=0, resamples=400)  # 300 experiments
    assert 0.88 <= ((low <= 3.0) & (high >= 3.0)).mean() <= 0.99


def test_one_group_has_no_interval():
    low, high = bootstrap(np.ones((5, 3)), np.zeros(5))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert low.shape == (3,)


def test_infinite_values_do_not_break_the_median():
    values = np.array([1.0, 2, 3, np.inf, 4, 5, 6, 7])
    low, high = bootstrap(values, None, "median", seed=0)
    assert 1 <= low <= high
    assert not np.isnan(high)


def test_all_right_is_not_certainty():
    low, high = share_interval(np.ones(64))
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / 64))  # 64 of 64: the Clopper-Pearson limit
    low, high = share_interval(np.zeros(64), np.arange(64) // 8)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 8))  # 8 episodes, not 64 values
    low, high = share_interval(np.array([1.0] * 63 + [0.5]))
    assert 0.9 < low < high <= 1
