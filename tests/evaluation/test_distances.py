"""Distances between distributions: against closed forms and slow versions, unbiased, and honest about chance."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.evaluation.battery import dreamer, make_dreams
from worldloom.evaluation.distances import (
    DistanceError,
    coverage,
    extrapolated,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
)
from worldloom.evaluation.distances import clips as clips_module
from worldloom.evaluation.distances.clips import clips
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.metrics import psnr, ssim, weighted_psnr, weighted_ssim
from worldloom.evaluation.probes import Dreams, NotMeasurableError, find_probes
from worldloom.evaluation.schema import Figure
from worldloom.worlds.balls import BallsConfig

WORLD = ExactWorld(BallsConfig(height=32, width=32, balls=2, radius=3.0, speed=2.0))


def normal(seed: int, n: int, d: int, spread: float = 1.0, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, (n, d))


def measure(name: str, dreams: Dreams) -> dict[str, Figure]:
    (probe,) = find_probes(name)
    return probe.measure(dreams)


def few(monkeypatch, count: int) -> None:
    monkeypatch.setattr(clips_module, "CLIPS", count)
    monkeypatch.setattr(clips_module, "LEARNT", 24)
    monkeypatch.setattr(clips_module, "FRAMES", 8)


@dataclasses.dataclass
class Mean:
    name: str = "random3d"
    hash: str = "0"
    width: int = 6

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        return clips[:, :, 0].float().mean(-1).flatten(1)[:, : self.width]


# Fréchet


def test_the_closed_form_is_the_commuting_one_and_scipy_agrees_where_axes_are_turned():
    from scipy.linalg import sqrtm

    a, b = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    mean = np.array([1.0, 0.0, -2.0])
    want = 5 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert gaussian_distance(mean, np.diag(a), 0 * mean, np.diag(b)) == pytest.approx(want, rel=1e-12)
    turn = np.linalg.qr(normal(0, 3, 3))[0]
    one, two = np.diag(a), turn @ np.diag(b) @ turn.T
    slow = np.trace(one + two - 2 * np.real(sqrtm(one @ two)))
    assert gaussian_distance(mean, one, mean, two) == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("n", [12, 60])  # the nuclear norm, and the eigenvalues
def test_both_ways_of_the_trace_are_the_same_distance(n):
    x, y = normal(1, n, 24, 2.0), normal(2, n + 3, 24, 1.0, 0.3)
    want = gaussian_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(want, rel=1e-5)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_a_set_is_at_no_distance_from_itself_even_with_fewer_rows_than_features():
    x = normal(0, 40, 300) * 10
    assert abs(frechet_distance(x, x)) < 1e-8 * x.var(0).sum()


def test_moving_by_a_vector_costs_its_square():
    x = normal(0, 80, 6)
    assert frechet_distance(x, x + 3.0) == pytest.approx(54, rel=1e-6)


def test_the_extrapolated_distance_is_unbiased_where_the_raw_one_is_not_and_its_interval_covers_the_truth():
    d, n, samples = 20, 120, 24
    spread = 1 / np.sqrt(np.arange(1, d + 1))
    truth = gaussian_distance(np.zeros(d), np.diag(spread**2), 0.2 * spread, np.diag(1.44 * spread**2))
    found = []
    for seed in range(samples):
        x, y = normal(seed, n, d) * spread, normal(1000 + seed, n, d) * spread * 1.2 + 0.2 * spread
        found.append(extrapolated(x, y, seed=seed))
    values = np.array([f.value for f in found])
    error = values.std(ddof=1) / np.sqrt(samples)
    assert abs(values.mean() - truth) < 3 * error
    assert np.mean([f.raw for f in found]) - truth > 6 * error
    assert sum(f.low <= truth <= f.high for f in found) >= samples - 3
    halves = np.array([(f.high - f.low) / 2 for f in found])
    assert halves.mean() < 8 * values.std(ddof=1)  # and is no excuse


def test_equal_distributions_are_at_about_zero_also_below_it():
    found = [extrapolated(normal(s, 64, 8), normal(99 + s, 64, 8), seed=s) for s in range(12)]
    assert min(f.value for f in found) < 0 < max(f.value for f in found)
    assert min(f.raw for f in found) > 0.1


def test_clips_of_one_episode_that_are_alike_widen_the_interval_and_are_not_parted():
    centres = normal(3, 32, 4)
    groups = np.arange(32).repeat(4)
    x = centres[groups] + 0.01 * normal(4, 128, 4)
    y = normal(5, 32, 4)[groups] + 0.01 * normal(6, 128, 4)
    blind = extrapolated(x, y)
    told = extrapolated(x, y, groups, groups)
    assert told.high - told.low > 1.3 * (blind.high - blind.low)
    assert told.low < 0 < told.high


def test_what_can_not_be_compared_is_told():
    with pytest.raises(DistanceError, match=r"\(4, 3\) and \(4, 2\)"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(DistanceError, match="at least 2 clips"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(DistanceError, match="NaN or infinite values in 1 clips"):
        frechet_distance(np.zeros((4, 3)), np.array([[0.0, 0, 0], [0, np.nan, 0], [1, 1, 1]]))
    with pytest.raises(DistanceError, match="at least 100 clips on each side, found 99 and 200"):
        extrapolated(normal(0, 99, 50), normal(1, 200, 50))
    with pytest.raises(DistanceError, match="at least 16 episodes on each side, found 8"):
        extrapolated(normal(0, 64, 2), normal(1, 64, 2), np.arange(64) // 8, np.arange(64))


# kernel


def slow_kernel(x: np.ndarray, y: np.ndarray) -> float:
    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_the_kernel_distance_is_the_u_statistic_whatever_the_block(n, m, d, block, seed):
    x, y = normal(seed, n, d), normal(seed + 1, m, d, 2.0, 0.5)
    found = kernel_distance(x, y, resamples=5, permutations=5, block=block)
    assert found.value == pytest.approx(slow_kernel(x, y), rel=1e-9, abs=1e-9)


def test_it_is_unbiased_and_chance_is_told_from_difference():
    same = [kernel_distance(normal(s, 32, 6), normal(500 + s, 32, 6), resamples=100, permutations=99, seed=s)
            for s in range(60)]  # fmt: skip
    values = np.array([f.value for f in same])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(60)
    assert values.min() < 0
    p = np.array([f.p for f in same])
    assert (p <= 0.05).sum() <= 9  # of 60: 3 expected
    assert (p > 0.5).sum() >= 15  # 30 expected
    assert sum(f.low <= 0 <= f.high for f in same) >= 54
    other = kernel_distance(normal(0, 64, 6), normal(1, 64, 6, 1.5), resamples=100, permutations=99)
    assert other.p == 0.01
    assert other.low > 0


def test_the_interval_covers_a_true_difference():
    d, mean = 4, 0.5
    truth = np.mean(
        [kernel_distance(normal(s, 200, d), normal(700 + s, 200, d, 1.0, mean), resamples=2, permutations=1).value
         for s in range(40)]
    )  # fmt: skip
    found = [kernel_distance(normal(s, 40, d), normal(300 + s, 40, d, 1.0, mean), resamples=200, permutations=1, seed=s)
             for s in range(40)]  # fmt: skip
    assert sum(f.low <= truth <= f.high for f in found) >= 35


def test_pairs_of_one_episode_are_left_out_and_episodes_are_dealt_whole():
    groups = np.arange(12).repeat(4)
    p, values = [], []
    for seed in range(30):
        x, y = (normal(seed + k, 12, 3)[groups] for k in (0, 1000))  # four copies of each of twelve clips
        found = kernel_distance(x, y, groups, groups, resamples=20, permutations=99, seed=seed)
        p.append(found.p)
        values.append(found.value)
    assert sum(x <= 0.05 for x in p) <= 6
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(30)
    naive = [kernel_distance(normal(s, 12, 3)[groups], normal(s + 1000, 12, 3)[groups], resamples=20, permutations=99).p
             for s in range(30)]  # fmt: skip
    assert sum(x <= 0.05 for x in naive) > 20
    with pytest.raises(DistanceError, match="at least 2 episodes on each side, found 1 and 2"):
        kernel_distance(normal(0, 4, 2), normal(1, 4, 2), np.zeros(4, int), np.array([0, 0, 1, 1]))


# coverage


def test_coverage_tells_what_is_missing_and_density_what_is_false():
    real = np.concatenate([normal(0, 60, 3), normal(1, 60, 3) + 20])
    fresh = np.concatenate([normal(2, 60, 3), normal(3, 60, 3) + 20])
    whole = coverage(real, fresh)
    assert whole.coverage.mean() > 0.9
    assert 0.8 < whole.density.mean() < 1.2
    half = coverage(real, np.concatenate([normal(2, 60, 3), normal(3, 60, 3)]))  # one of two modes: lifelike, not all
    assert half.precision.mean() > 0.9
    assert half.coverage.mean() < 0.55
    assert half.recall.mean() < 0.6
    off = coverage(real, fresh + np.array([9.0, 0, 0]))
    assert off.density.mean() < 0.05
    outlier = np.concatenate([real, [[1e3, 0, 0]]])
    far = coverage(outlier, fresh * 3 + 5)
    assert far.density.mean() < far.precision.mean()  # one outlier's ball holds all: precision believes it
    with pytest.raises(DistanceError, match="more than 5 clips"):
        coverage(real[:5], fresh)


# the probes


def test_a_perfect_world_has_the_floor_as_its_distance_and_a_bad_one_is_found(monkeypatch):
    few(monkeypatch, 40)
    perfect = measure("kernel", make_dreams(WORLD, dreamer("truth", WORLD), 4, 3, 16, 0))
    assert {"state", "embedded", "random3d"} <= {n.partition("/")[2] for n in perfect}
    for name in ("state", "embedded", "random3d"):
        one, p = perfect[f"kernel/{name}"], perfect[f"kernel/{name}_p"]
        assert one.value == one.floor  # it dreams what truly followed
        assert p.value is not None
        assert p.value > 0.01
        assert (one.n, one.n_of) == (40, "clips on each side")
        assert len(one.hashes["extractor"]) == 64
    frozen = measure("kernel", make_dreams(WORLD, dreamer("copy_last", WORLD), 4, 3, 16, 0))
    for name in ("state", "embedded", "random3d"):
        found = frozen[f"kernel/{name}"]
        assert frozen[f"kernel/{name}_p"].value == 0.001
        assert isinstance(found.interval, tuple)
        assert found.interval[0] > 0
        assert found.floor == perfect[f"kernel/{name}"].floor
        assert found.hashes == perfect[f"kernel/{name}"].hashes


def test_the_same_seed_gives_the_same_figures_to_the_last_digit(monkeypatch):
    few(monkeypatch, 32)
    one, two = (measure("kernel", make_dreams(WORLD, dreamer("speed", WORLD), 4, 3, 12, 5)) for _ in range(2))
    assert one == two


def test_the_long_probes_measure_the_same_clips(monkeypatch):
    few(monkeypatch, 128)
    monkeypatch.setattr(clips_module, "Random3D", lambda: Mean())  # of fewer features
    monkeypatch.setattr(clips_module, "Embedded", lambda: Mean("embedded"))
    dreams = make_dreams(WORLD, dreamer("speed", WORLD), 4, 3, 12, 0)
    found = measure("frechet", dreams) | measure("coverage", dreams)
    assert found["frechet/state"].interval[0] > found["frechet/state"].floor
    assert "it is" in found["frechet/state"].meaning
    assert found["coverage/state_density"].value < found["coverage/state_density"].floor
    assert found["coverage/embedded_coverage"].floor > 0.8
    monkeypatch.setattr(clips_module, "Embedded", lambda: Mean("embedded", width=65))
    wide = measure("frechet", dataclasses.replace(dreams, cache={}))
    assert wide["frechet/embedded"].value is None
    assert "at least 130 clips on each side, found 128" in wide["frechet/embedded"].meaning
    assert wide["frechet/state"] == found["frechet/state"]


def test_too_few_clips_are_told_with_what_is_needed(monkeypatch):
    few(monkeypatch, 20)
    dreams = make_dreams(WORLD, dreamer("truth", WORLD), 4, 3, 12, 0)
    with pytest.raises(NotMeasurableError, match=r"at least 32 held-out clips of 4 different episodes.*found 20 of 20"):
        measure("kernel", dreams)
    with pytest.raises(NotMeasurableError, match=r"at least 128 held-out clips of 16 different.*found 20 of 20"):
        measure("frechet", dreams)
    with pytest.raises(NotMeasurableError, match="Found neither"):
        measure("kernel", dataclasses.replace(dreams, world=None, cache={}))


def test_one_held_out_episode_has_no_other_side(tmp_path):
    import toy_discs

    from worldloom.data import Dataset

    data = Dataset(toy_discs.write_discs(tmp_path / "data", episodes=12, length=16))
    assert len(data.splits["test"]) == 1
    dreams = make_dreams(WORLD, dreamer("truth", WORLD), 4, 3, 12, 0)
    alone = dataclasses.replace(dreams, world=None, dataset=data, cache={})
    with pytest.raises(NotMeasurableError, match="all starts come from one episode"):
        measure("kernel", alone)


def test_dreams_and_the_real_clips_come_from_different_episodes_of_the_test_split(monkeypatch, tmp_path):
    import toy_discs

    from worldloom.data import Dataset

    monkeypatch.setattr(clips_module, "CLIPS", 16)
    data = Dataset(toy_discs.write_discs(tmp_path / "data", episodes=80, length=16))
    dreams = make_dreams(WORLD, dreamer("truth", WORLD), 4, 3, 12, 0)
    asked = []

    class Toy:
        spec = toy_discs.make_spec(32, actions=True)

        def dream(self, held, control, frames, **rest):
            asked.append(held.episodes)
            return {"image": held.segment.obs["image"][:, 3 : 3 + frames]}

    toy = dataclasses.replace(dreams, world=None, dataset=data, dreamer=Toy(), spec=Toy.spec, cache={})
    found = clips(toy)
    assert found.frames == 13  # an episode has no more
    assert not set(found.episodes) & set(found.others)
    assert set(found.episodes) | set(found.others) <= set(data.splits["test"])
    np.testing.assert_array_equal(asked[0], found.episodes)
    np.testing.assert_array_equal(found.dreamed, found.followed)
    short = Dataset(toy_discs.write_discs(tmp_path / "short", episodes=80, length=9))
    with pytest.raises(NotMeasurableError, match="of 8 at least; found episodes that leave 6"):
        clips(dataclasses.replace(toy, dataset=short, cache={}))


# the foreground


def test_erasing_the_balls_pays_in_plain_psnr_and_not_in_the_foreground(monkeypatch):
    world = ExactWorld(BallsConfig(balls=1, radius=3.0, speed=3.0))
    dreams = make_dreams(world, dreamer("truth", world), 12, 3, 5, 0)
    true = dreams.real["camera"]
    erased = np.broadcast_to(true.min((0, 1), keepdims=True), true.shape)  # nothing but background
    wrong = np.roll(true, 16, -1)  # a ball, elsewhere

    def scores(frames: np.ndarray) -> dict[str, float]:
        found = measure("foreground", dataclasses.replace(dreams, dreamed={"camera": frames}, cache={}))
        return {name: figure.curve.value[4] for name, figure in found.items()}

    near = scores(np.roll(true, 1, -1))
    plain = [float(psnr(torch.tensor(true), torch.tensor(x.copy())).mean()) for x in (erased, wrong, true // 2)]
    assert plain[0] > plain[1]  # plain PSNR would rather see no ball than a misplaced one
    gone, elsewhere, perfect = scores(erased), scores(wrong), scores(true)
    assert abs(gone["foreground/psnr_db"] - elsewhere["foreground/psnr_db"]) < 0.5  # the ball is missed as much
    assert near["foreground/psnr_db"] > gone["foreground/psnr_db"] + 2
    assert perfect["foreground/psnr_db"] == 60
    assert perfect["foreground/ssim"] == pytest.approx(1, abs=1e-4)
    assert perfect["foreground/overlap"] == 1
    assert gone["foreground/overlap"] == 0
    assert gone["foreground/ssim"] < 0.3
    added = np.maximum(true, wrong)
    assert scores(added)["foreground/overlap"] < 0.7  # what is added counts too
    still = np.broadcast_to(true[:1, :1], true.shape)
    shown = {"camera": np.broadcast_to(true[:1, :1], (len(dreams), 3, *true.shape[2:]))}
    nothing = dataclasses.replace(dreams, real={"camera": still}, shown=shown, cache={})
    with pytest.raises(NotMeasurableError, match="no foreground"):
        measure("foreground", nothing)


def test_weighted_measures_are_the_plain_ones_under_equal_weights_and_the_slow_ones_under_others():
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 256, (2, 3, 3, 20, 24), generator=random, dtype=torch.uint8) for _ in range(2))
    even = torch.full((2, 3, 20, 24), 0.3)
    torch.testing.assert_close(weighted_psnr(a, b, even), psnr(a, b), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weighted_ssim(a, b, even), ssim(a, b), rtol=1e-4, atol=1e-5)
    weight = torch.rand(2, 3, 20, 24, generator=random)
    error = ((a.double() - b.double()) / 255).square().mean(2)
    slow = -10 * torch.log10((error * weight).sum((-1, -2)) / weight.sum((-1, -2)))
    torch.testing.assert_close(weighted_psnr(a, b, weight).double(), slow, rtol=1e-5, atol=1e-4)
    corner = torch.zeros(2, 3, 20, 24)
    corner[..., :5, :5] = 1
    c = a.clone()
    c[..., 16:, 16:] = 0  # no window that sees the corner sees this
    assert torch.allclose(weighted_ssim(a, c, corner), torch.ones(2, 3), atol=1e-5)
    assert float(ssim(a, c).max()) < 0.998
