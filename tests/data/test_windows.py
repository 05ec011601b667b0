"""Windows: which frames, of which episode, with which action; nothing crosses and nothing is lost."""

import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from data_toys import SPEC, episode, write
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import Control, Segment, Sensor, Spec
from worldloom.data import DataError, Dataset, DatasetWriter, Episode, Windows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Dataset(write(tmp_path_factory.mktemp("w") / "d", [20, 3, 9, 1, 30], shard_bytes=4000))


def equal(a: Segment, b: Segment) -> bool:
    pairs = [(a.obs[n], b.obs[n]) for n in a.obs] + [(a.control[n], b.control[n]) for n in a.control]
    pairs += [(a.first, b.first), (a.valid, b.valid), (a.reward, b.reward), (a.terminal, b.terminal)]
    return all(torch.equal(x, y) for x, y in pairs)


def check_row(segment: Segment, row: int, stride: int = 1, crossing: bool = False) -> None:
    """Every frame of a row against the rule that made its episode; ``where`` tells which it claims to be."""
    lengths = [20, 3, 9, 1, 30]
    previous = None
    for t in range(segment.length):
        if not segment.valid[row, t]:
            assert not segment.valid[row, t:].any()
            assert not segment.first[row, t]
            assert segment.action[row, t] == 4
            assert segment.reward[row, t] == 0
            assert not segment.terminal[row, t]
            assert not segment.obs["image"][row, t].any()
            continue
        e, i = (int(x) for x in segment.obs["where"][row, t])
        truth = episode(e, lengths[e])
        np.testing.assert_array_equal(segment.obs["image"][row, t], truth.obs["image"][i])
        assert segment.action[row, t] == truth.control["action"][i]
        assert segment.reward[row, t] == truth.reward[max(0, i - stride + 1) : i + 1].sum()
        assert segment.first[row, t] == (i == 0)
        assert segment.terminal[row, t] == (i == lengths[e] - 1 and e % 2 == 0)
        if previous is not None:
            follows = previous == (e, i - stride)
            crosses = crossing and previous == (e - 1, lengths[e - 1] - 1) and i == 0
            assert follows or crosses, f"frame {(e, i)} came after {previous}"
        previous = (e, i)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 1000), st.integers(0, 10**12))
def test_every_frame_is_the_one_it_claims_to_be(data, length, stride, seed, step):
    segment = Windows(data, "all", length, stride).batch(6, seed, step)
    assert segment.obs["image"].shape == (6, length, 3, 5, 7)
    assert segment.obs["image"].dtype == torch.uint8
    assert segment.action.dtype == torch.int64
    for row in range(6):
        check_row(segment, row, stride)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000))
def test_crossing_windows_mark_where_the_next_episode_begins(data, length, seed):
    segment = Windows(data, "all", length, allow_crossing=True).batch(8, seed, 0)
    assert segment.valid.all()  # 63 frames end to end: none is short
    for row in range(8):
        check_row(segment, row, crossing=True)


def test_crossing_really_crosses_and_otherwise_never(data):
    def mid(segment: Segment) -> bool:
        return bool(segment.first[:, 1:].any())

    assert mid(Windows(data, "all", 8, allow_crossing=True).batch(64, 0, 0))
    assert not any(mid(Windows(data, "all", 8).batch(64, 0, step)) for step in range(5))


def test_every_window_is_drawn_equally_often(data):
    windows = Windows(data, "all", 8)
    assert len(windows) == 13 + 1 + 2 + 1 + 23  # the two short episodes count once each
    segment = windows.batch(4000, 0, 0)
    where = segment.obs["where"][:, 0].to(torch.int64)
    counts = torch.bincount(where[:, 0] * 100 + where[:, 1])
    counts = counts[counts > 0]
    assert len(counts) == 40
    assert counts.min() > 55  # 100 of each are expected; these are 4.5 standard deviations
    assert counts.max() < 145


def test_no_window_is_out_of_reach_when_crossing(data):
    windows = Windows(data, "all", 8, allow_crossing=True)
    assert len(windows) == 63 - 7
    where = windows.batch(3000, 0, 0).obs["where"][:, 0].to(torch.int64)
    assert len(torch.unique(where, dim=0)) == 56


def test_short_episodes_are_padded_and_never_dropped(tmp_path):
    short = Dataset(write(tmp_path / "d", [2, 3, 1]))
    segment = Windows(short, "all", 5).batch(30, 0, 0)
    assert set(segment.valid.sum(1).tolist()) == {1, 2, 3}
    crossing = Windows(short, "all", 9, allow_crossing=True).batch(3, 0, 0)
    assert crossing.valid.sum(1).tolist() == [6, 6, 6]


def test_a_batch_is_a_pure_function_of_seed_and_step(data):
    windows = Windows(data, "all", 6)
    a = windows.batch(8, 3, 7)
    windows.batch(5, 0, 0)
    assert equal(a, windows.batch(8, 3, 7))
    assert equal(a, Windows(Dataset(data.path), "all", 6).batch(8, 3, 7))
    assert equal(a.rows(slice(0, 3)), windows.batch(3, 3, 7))
    assert not equal(a, windows.batch(8, 3, 8))
    assert not equal(a, windows.batch(8, 4, 7))
    a.obs["image"][...] = 0  # its memory is its own
    assert windows.batch(8, 3, 7).obs["image"].any()


def test_threads_read_the_same(data):
    windows = Windows(data, "all", 6)
    expected = [windows.batch(4, 0, step) for step in range(20)]
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(step for step in range(20) if not equal(windows.batch(4, 0, step), expected[step]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_the_split_is_used_by_default(data):
    assert Windows(data).episodes.tolist() == data.splits["train"].tolist()
    for name, part in data.splits.items():
        segment = Windows(data, name, 2).batch(400, 0, 0)
        assert set(segment.obs["where"][..., 0][segment.valid].int().tolist()) == set(part.tolist())


def test_sequences_are_where_they_are_asked_for(data):
    windows = Windows(data, "val", 4)
    segment = windows.sequence(4, 5, 10)
    check_row(segment, 0)
    assert segment.batch == 1
    assert segment.obs["where"][0, 0].tolist() == [4, 5]
    assert windows.sequence(4).first[0, 0]
    assert windows.sequence(4, 28, 5).valid[0].tolist() == [True, True, False, False, False]
    both = windows.segment([(0, 2), (2, 3)], 5)
    assert equal(both.rows([1]), windows.sequence(2, 3, 5))
    for bad in ((5, 0), (-1, 0), (0, 20), (0, -1)):
        with pytest.raises(DataError):
            windows.sequence(*bad)


def test_starts_are_spread_distinct_and_repeatable(data):
    windows = Windows(data, "all")
    starts = windows.starts(6, 4, 5, seed=1)  # three episodes have 9 frames or more
    assert starts == windows.starts(6, 4, 5, seed=1)
    assert starts == windows.starts(20, 4, 5, seed=1)[:6]
    assert starts != windows.starts(6, 4, 5, seed=2)
    assert {e for e, _ in starts[:3]} == {0, 2, 4}
    assert all(start + 9 <= data.lengths[e] for e, start in starts)
    every = windows.starts(10**6, 4, 5)
    assert len(set(every)) == len(every) == 12 + 1 + 22
    with pytest.raises(DataError, match="longest of these 5 has 30"):
        windows.starts(1, 4, 27)


def test_mistakes_are_said(data, tmp_path):
    with pytest.raises(DataError, match="no split 'training'"):
        Windows(data, "training")
    two = Dataset(write(tmp_path / "two", [3, 3]))
    with pytest.raises(DataError, match="three or more"):
        Windows(two, "test" if len(two.splits["test"]) == 0 else "val")
    with pytest.raises(DataError, match="0 to 4"):
        Windows(data, [7])
    with pytest.raises(DataError, match="at least 1"):
        Windows(data, "all", 0)
    with pytest.raises(DataError, match="at least one row"):
        Windows(data).batch(0, 0, 0)
    with pytest.raises(DataError, match="stride 1"):
        Windows(data, stride=2, allow_crossing=True)


def test_what_is_missing_is_missing(tmp_path):
    spec = Spec({"image": Sensor("image", (1, 2, 2))})
    with DatasetWriter(tmp_path / "d", spec) as writer:
        writer.add(Episode({"image": np.arange(20, dtype=np.uint8).reshape(5, 1, 2, 2)}))
    segment = Windows(Dataset(tmp_path / "d"), length=3).batch(4, 0, 0)
    assert segment.action is None
    assert segment.reward is None
    assert segment.terminal is None


def test_controls_given_once_come_once(tmp_path):
    spec = Spec(
        {"x": Sensor("vector", (1,))},
        {"action": Control("continuous", (2,)), "text": Control("tokens", (3,), 300, per="once")},
    )
    with DatasetWriter(tmp_path / "d", spec) as writer:
        for e in range(3):
            t = np.arange(5, dtype=np.float32)
            writer.add(
                Episode({"x": t[:, None] + 10 * e}, {"action": np.stack([t, t], 1), "text": np.full(3, 100 * e)})
            )
    data = Dataset(tmp_path / "d")
    segment = Windows(data, "all", 7).batch(9, 0, 0)
    assert segment.control["text"].dtype == torch.int64
    torch.testing.assert_close(segment.control["text"][:, 0], 10 * segment.obs["x"][:, 0, 0].long())
    assert (segment.action[:, 5:] == 0).all()
    short = Windows(data, "all", 3).batch(4, 0, 0)  # as many frames as tokens
    assert torch.equal(short.time(slice(0, 1)).control["text"], short.control["text"])
    with pytest.raises(DataError, match="given once"):
        Windows(data, "all", allow_crossing=True)


def _anonymous() -> int:
    """Bytes of memory that this process owns."""
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def _touch_all(path, episodes: int, length: int, steps: int) -> tuple[int, int]:
    spec = Spec({"image": Sensor("image", (3, 64, 64))}, {"action": Control("discrete", n=4)})
    action = np.arange(length) % 4
    action[0] = 4
    image = np.random.default_rng(0).integers(0, 256, (length, 3, 64, 64), dtype=np.uint8)
    with DatasetWriter(path, spec) as writer:
        for _ in range(episodes):
            writer.add(Episode({"image": image}, {"action": action}))
    windows = Windows(Dataset(path), length=16)
    for step in range(3):
        windows.batch(32, 0, step)
    before, peak = _anonymous(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for step in range(steps):
        windows.batch(32, 0, step)
    return _anonymous() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat(tmp_path):
    grown, peak = _touch_all(tmp_path / "d", 20, 500, 40)  # 123 MB of frames, 250 MB read
    assert grown < 2**25
    assert peak < 2**25


@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_a_million_frames(tmp_path):
    grown, peak = _touch_all(tmp_path / "d", 1000, 1000, 3000)  # 12 GB of frames, 19 GB read
    assert grown < 2**26
    assert peak < 2**26


def test_spec_of_the_toys_is_what_the_windows_give(data):
    segment = Windows(data, "all", 4).batch(2, 0, 0)
    SPEC.check_obs(segment.obs, 2, 4)
    assert set(SPEC.controls(dict(segment.control), 2, 4)) == {"action"}
