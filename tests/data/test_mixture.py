"""Several datasets as one: which rows come from where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_toys import write
from mixing_toys import DISCRETE, make

from worldloom.contract import Segment
from worldloom.data import DataError, Dataset, Mixture, Windows
from worldloom.data.mixing.mixture import part_names


def tensors(segment: Segment) -> dict[str, torch.Tensor]:
    named = {**segment.obs, **segment.control, "first": segment.first, "valid": segment.valid}
    named |= {n: x for n, x in (("reward", segment.reward), ("terminal", segment.terminal)) if x is not None}
    return named


def equal(a: Segment, b: Segment) -> bool:
    x, y = tensors(a), tensors(b)
    return x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x) and a.once == b.once


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Three datasets of one spec; the second is short, and its episodes too."""
    folder = tmp_path_factory.mktemp("parts")
    lengths = {"ant": [20, 9, 30, 5], "bee": [3, 4, 6], "cow": [12] * 6}
    return [make(folder / name, 50 * i, lengths[name]) for i, name in enumerate(lengths)]


def whose(segment: Segment) -> np.ndarray:
    """Which of the three datasets each row's first frame is of: its first pixel tells."""
    return (segment.obs["camera"][:, 0, 0, 0, 0] // 50).numpy()


def test_a_mixture_of_one_is_that_dataset_bit_by_bit(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", [20, 3, 9, 1, 30]))
    windows, mixed = Windows(data, "train", 6), Mixture([data]).windows("train", 6)
    for seed, step in ((0, 0), (3, 17), (-5, 2)):
        assert equal(windows.batch(7, seed, step), mixed.batch(7, seed, step))
    starts = windows.starts(5, 2, 3)
    assert mixed.starts(5, 2, 3) == starts
    assert equal(windows.segment(starts), mixed.segment(starts))
    assert (mixed.count, len(mixed), mixed.longest) == (windows.count, windows.count, windows.longest)
    assert mixed.episodes.tolist() == windows.episodes.tolist()


def test_a_row_depends_on_seed_step_and_place_alone(parts: list[Dataset]) -> None:
    windows = Mixture(parts, [3, 1, 2]).windows("all", 5)
    large = windows.batch(40, seed=4, step=9)
    assert len(set(whose(large).tolist())) == 3
    for size in (1, 2, 7, 39):
        assert equal(windows.batch(size, seed=4, step=9), large.rows(slice(0, size)))
    again = Mixture([Dataset(p.path) for p in parts], [3, 1, 2]).windows("all", 5)
    assert equal(again.batch(40, seed=4, step=9), large)
    for seed, step in ((5, 9), (4, 10)):
        other = windows.batch(40, seed, step)
        assert not equal(other, large)
        assert whose(other).tolist() != whose(large).tolist()


def test_every_row_is_a_window_of_the_dataset_it_comes_from(parts: list[Dataset]) -> None:
    segment = Mixture(parts).windows("all", 8).batch(60, 0, 0)
    seen = set()
    for row in range(60):
        part = parts[whose(segment)[row]]
        frames = segment.obs["camera"][row]
        episode, start = int(frames[0, 1, 0, 0]), int(frames[0, 2, 0, 0])
        assert equal(segment.rows([row]), Windows(part, "all", 8).sequence(episode, start))
        seen.add((bool(segment.first[row, 0]), bool(segment.valid[row].all())))
    assert len(seen) == 3  # from the beginning or the middle of an episode; shorter ones padded


@pytest.mark.parametrize("weights", [[3, 1, 2], [1, 1, 8]])
def test_shares_follow_the_weights(parts: list[Dataset], weights: list[float]) -> None:
    mixture = Mixture(parts, weights)
    n = 3000
    found = np.bincount(whose(mixture.windows("all", 1).batch(n, 1, 0)), minlength=3)
    expected = n * np.array(weights) / sum(weights)
    assert ((found - expected) ** 2 / expected).sum() < 13.8  # chi square, 2 degrees of freedom: 1 in 1000


def test_which_dataset_and_which_window_are_independent(parts: list[Dataset]) -> None:
    """Windows of the first must be as often drawn as if they were alone."""
    windows = Mixture(parts, [1, 1, 2]).windows("all", 1)
    segment = windows.batch(4000, 0, 0)
    frames = segment.obs["camera"][torch.from_numpy(whose(segment) == 0), 0, :, 0, 0].numpy()
    number = frames[:, 2] + np.array([0, 20, 29, 59])[frames[:, 1]]
    found = np.bincount(number, minlength=64)
    expected = len(frames) / 64
    assert len(found) == 64
    assert ((found - expected) ** 2 / expected).sum() < 106  # 63 degrees of freedom, 1 in 2000


def test_by_default_every_frame_counts_the_same(parts: list[Dataset]) -> None:
    frames = np.array([p.frames for p in parts])
    np.testing.assert_allclose(Mixture(parts).shares, frames / frames.sum())
    assert Mixture(parts).frames == frames.sum()
    np.testing.assert_allclose(Mixture(parts, [2, 2, 4]).shares, [0.25, 0.25, 0.5])


def test_the_fingerprint_tells_parts_weights_and_reading(parts: list[Dataset], tmp_path: Path) -> None:
    a, b, c = parts
    small = make(tmp_path / "small", 7, [6, 6, 6], size=(5, 6), control=DISCRETE)
    prints = [
        Mixture([a, b], [1, 1]).fingerprint,
        Mixture([a, b], [1, 2]).fingerprint,
        Mixture([a, c], [1, 1]).fingerprint,
        Mixture([a, b, c]).fingerprint,
        Mixture([a, small], [1, 1], size="first").fingerprint,
        Mixture([a, small], [1, 1], size=(20, 24)).fingerprint,
        Mixture([a, small], [1, 1], size="first", actions="union").fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert Mixture([a, b], [1, 2]).fingerprint == Mixture([a, Dataset(b.path)], [3, 6]).fingerprint


def test_starts_are_taken_from_the_parts_in_turn(parts: list[Dataset]) -> None:
    windows = Mixture(parts).windows("all", 5)
    starts = windows.starts(9, 2, 3)
    segment = windows.segment(starts, 5)
    assert whose(segment).tolist()[:4] == [0, 1, 2, 0]
    assert segment.valid.all()
    assert len(set(starts)) == len(starts) == 9
    assert windows.starts(4, 2, 3) == starts[:4]
    long = windows.starts(5, 4, 6)  # the second has no episode so long
    assert set(whose(windows.segment(long, 10)).tolist()) == {0, 2}
    with pytest.raises(DataError, match="long enough"):
        windows.starts(1, 40, 1)
    assert windows.longest == 6
    assert equal(windows.sequence(4 + 2, 1), parts[1].windows("all", 5).sequence(2, 1))
    with pytest.raises(DataError, match="no episode 13"):
        windows.segment([(13, 0)])
    with pytest.raises(DataError, match="at least one"):
        windows.segment([])


def test_a_part_without_a_split_is_left_out(parts: list[Dataset], tmp_path: Path) -> None:
    lone = make(tmp_path / "lone", 150, [20])
    mixture = Mixture([parts[0], lone], [1, 3])
    windows = mixture.windows("val", 4)
    assert windows.left_out == ("lone",)
    assert mixture.windows("train", 4).left_out == ()
    assert [(name, share) for name, share, _ in windows.parts] == [("ant", 1.0)]
    assert set(whose(windows.batch(20, 0, 0)).tolist()) == {0}
    with pytest.raises(DataError, match="val"):
        Mixture([lone]).windows("val", 4)
    for split in ("train", "val"):
        part = parts[0].windows(split, 4)
        assert set(Mixture([parts[0]]).windows(split, 4).episodes.tolist()) == set(part.episodes.tolist())


def test_rewards_and_ends_are_known_where_all_know_them(parts: list[Dataset], tmp_path: Path) -> None:
    silent = make(tmp_path / "silent", 150, [9, 9, 9], reward=False)
    unsure = make(tmp_path / "unsure", 200, [9, 9, 9], terminal=None)
    segment = Mixture([parts[0], parts[1]]).windows("all", 4).batch(12, 0, 0)
    assert segment.reward is not None
    assert segment.terminal is not None
    for other, kept, lost in ((silent, "terminal", "reward"), (unsure, "reward", "terminal")):
        mixture = Mixture([parts[0], other])
        segment = mixture.windows("all", 4).batch(12, 0, 0)
        assert set(whose(segment).tolist()) == {0, whose(Windows(other).batch(1, 0, 0))[0]}
        assert getattr(segment, lost) is None
        assert getattr(segment, kept) is not None
        assert any(f"known of {mixture.names[0]} alone" in note for note in mixture.notes())
        assert getattr(mixture.parts[0].episode(0), lost) is None
        assert not getattr(mixture.parts[0], f"has_{lost}")


def test_names_are_the_shortest_that_tell_parts_apart(tmp_path: Path) -> None:
    folders = [Path("/x/a/data"), Path("/x/b/data"), Path("/x/b/more")]
    assert part_names(folders) == ["a/data", "b/data", "b/more"]
    assert part_names(folders[1:]) == ["data", "more"]
    with pytest.raises(DataError, match="given twice"):
        part_names([Path("/x/a"), Path("/x/./b"), Path("/x/a")])


def test_mistakes_are_said(parts: list[Dataset], tmp_path: Path) -> None:
    a, b, _ = parts
    with pytest.raises(DataError, match="at least one dataset"):
        Mixture([])
    with pytest.raises(DataError, match="2 datasets need 2 weights, found 3"):
        Mixture([a, b], [1, 2, 3])
    for weight in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="weight of bee must be a positive number"):
            Mixture([a, b], [1, weight])
    with pytest.raises(DataError, match="given twice"):
        Mixture([a, a.path])
    with pytest.raises(DataError, match="ant and copy hold the same episodes"):
        Mixture([a, make(tmp_path / "copy", 0, [20, 9, 30, 5])])
    with pytest.raises(DataError, match="does not exist"):
        Mixture([a, tmp_path / "nowhere"])
    with pytest.raises(DataError, match="at least one row"):
        Mixture([a, b]).windows().batch(0, 0, 0)
    with pytest.raises(DataError, match="no split 'training'"):
        Mixture([a, b]).windows("training")


def test_what_a_run_remembers_finds_moved_data(parts: list[Dataset], tmp_path: Path) -> None:
    inside = make(tmp_path / "run" / "data" / "mine", 150, [9, 9])
    says = Mixture([inside, parts[0]], [1, 3]).remembered(tmp_path / "run")
    assert says["path"] == ["data/mine", str(parts[0].path.resolve())]
    assert [(p["name"], p["share"]) for p in says["parts"]] == [("mine", 0.25), ("ant", 0.75)]
    assert inside.remembered(tmp_path / "run") == {"path": "data/mine", "fingerprint": inside.fingerprint}
