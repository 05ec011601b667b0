"""What is written is read again, bit by bit, whatever the world shows."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from data_toys import SPEC, episode, same, write
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import Sensor, Spec
from worldloom.data import DataError, Dataset, DatasetWriter, Episode
from worldloom.data import writer as writing

SIZE = st.integers(1, 5)
NAMES = st.text(min_size=1, max_size=6) | st.sampled_from(["a/b", "../../x", "obs/y", "reward", "image"])
SHAPES = {"image": 3, "range": 3, "vector": 1, "map": 3, "tokens": 1, "continuous": 1, "discrete": 0}
CHOICES = {"discrete": [1, 4, 255, 256, 65535, 65536, 2**40], "tokens": [9, 70_000], "continuous": [0], "map": [0]}


def _shape(kind: str) -> st.SearchStrategy[list[int]]:
    return st.lists(SIZE, min_size=SHAPES[kind], max_size=SHAPES[kind])


SENSORS = st.sampled_from(["image", "range", "vector"]).flatmap(
    lambda kind: st.fixed_dictionaries({"kind": st.just(kind), "shape": _shape(kind)})
)
CONTROLS = st.sampled_from(sorted(CHOICES)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "kind": st.just(kind),
            "shape": _shape(kind),
            "n": st.sampled_from(CHOICES[kind]),
            "per": st.sampled_from(["frame", "once"]),
        }
    )
)
SPECS = st.fixed_dictionaries(  # the JSON of a Spec
    {
        "shown": st.dictionaries(NAMES, SENSORS, min_size=1, max_size=3),
        "given": st.dictionaries(NAMES | st.just("action"), CONTROLS, max_size=3),
        "fps": st.floats(0.5, 240),
    }
)


def _random(spec: Spec, length: int, rng: np.random.Generator, reward: bool, terminal: bool | None) -> Episode:
    obs = {
        n: rng.integers(0, 256, (length, *s.shape), dtype=np.uint8)
        if s.kind == "image"
        else rng.standard_normal((length, *s.shape)).astype(np.float32)
        for n, s in spec.shown.items()
    }
    control = {}
    for name, c in spec.given.items():
        shape = (length, *c.shape) if c.per == "frame" else c.shape
        if c.kind in ("discrete", "tokens"):
            value = rng.integers(max(0, c.n - 3), c.n + 1, shape)  # near the top, the null value n among them
        else:
            value = rng.standard_normal(shape).astype(np.float32)
        value = np.asarray(value)
        if name == "action" and c.per == "frame":
            value[0] = c.n
        control[name] = value
    truth = {"big": rng.standard_normal((length, 2)), "flag": rng.random(length) < 0.5, "none": np.zeros((length, 0))}
    rewards = rng.standard_normal(length).astype(np.float32) if reward else None
    return Episode(obs, control, rewards, terminal, truth, {"µ": [1, None, "x"]})


@settings(max_examples=40, deadline=None)
@given(
    spec=SPECS,
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    reward=st.booleans(),
    known=st.booleans(),
    shard_bytes=st.sampled_from([1, 1000, 2**30]),
    cut=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_what_is_written_is_read_again(tmp_path_factory, spec, lengths, reward, known, shard_bytes, cut, seed):
    path, spec = tmp_path_factory.mktemp("d") / "set", Spec.from_json(spec)
    rng = np.random.default_rng(seed)
    episodes = [_random(spec, n, rng, reward, bool(rng.random() < 0.5) if known else None) for n in lengths]
    for part in (episodes[:cut], episodes[cut:]):  # two writers, one after the other
        with DatasetWriter(path, spec, {"a": 1}, shard_bytes=shard_bytes) as writer:
            for e in part:
                writer.add(e)
    data = Dataset(path)
    assert data.spec == spec
    assert data.info == {"a": 1}
    assert data.lengths.tolist() == lengths
    assert data.frames == sum(lengths)
    assert (data.has_reward, data.has_terminal) == (reward, known)
    for i, e in enumerate(episodes):
        same(data.episode(i, verify=True), e)
    assert data.verify() == len(lengths)
    first = int(rng.integers(lengths[-1]))
    part = data.episode(len(lengths) - 1, first, first + 1)
    for name, value in episodes[-1].obs.items():
        np.testing.assert_array_equal(part.obs[name], value[first : first + 1])


def test_indices_rest_small_and_return_as_int64(tmp_path):
    data = Dataset(write(tmp_path / "d", [50]))
    layout = {s.name: s for s in data.index.layouts[0]}
    assert layout["control/action"].dtype == "|u1"
    assert data.episode(0).control["action"].dtype == np.int64


def test_a_part_keeps_its_real_action_and_only_the_last_ends(tmp_path):
    data = Dataset(write(tmp_path / "d", [10]))
    part = data.episode(0, 3, 6)
    np.testing.assert_array_equal(part.control["action"], episode(0, 10).control["action"][3:6])
    np.testing.assert_array_equal(part.truth["exact"], episode(0, 10).truth["exact"][3:6])
    assert part.terminal is False
    assert data.episode(0, 3).terminal is True
    part.obs["image"][...] = 9  # memory of its own
    same(data.episode(0), episode(0, 10))


def test_appending_needs_the_same_spec(tmp_path):
    write(tmp_path / "d", [3])
    other = Spec({"image": Sensor("image", (3, 5, 8))}, SPEC.given)
    with pytest.raises(DataError, match="another spec"):
        DatasetWriter(tmp_path / "d", other)
    write(tmp_path / "d", [4])  # the failed one left no lock
    assert Dataset(tmp_path / "d").lengths.tolist() == [3, 4]


def test_two_writers_at_once_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "d", SPEC) as writer:
        with pytest.raises(DataError, match="another writer"):
            DatasetWriter(tmp_path / "d", SPEC)
        writer.add(episode(0, 3))
    with pytest.raises(DataError, match="closed"):
        writer.add(episode(1, 3))
    assert Dataset(write(tmp_path / "d", [4])).lengths.tolist() == [3, 4]


def test_a_reader_sees_committed_episodes_while_another_writes(tmp_path):
    with DatasetWriter(tmp_path / "d", SPEC, commit_seconds=1e9) as writer:
        writer.add(episode(0, 3))  # the first is committed at once
        writer.add(episode(1, 4))
        early = Dataset(tmp_path / "d")
        assert early.lengths.tolist() == [3]
        writer.flush()
        assert Dataset(tmp_path / "d").lengths.tolist() == [3, 4]
        same(early.episode(0), episode(0, 3))


def test_an_error_while_writing_keeps_the_whole_episodes(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "d", SPEC) as writer:  # noqa: PT012
        writer.add(episode(0, 3))
        writer.add(episode(1, 4))
        raise RuntimeError("the producer failed")
    assert Dataset(tmp_path / "d").verify() == 2


def _bad(**changes: object) -> Episode:
    e = episode(0, 5)
    for name, value in changes.items():
        setattr(e, name, value)
    return e


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (_bad(control={"action": np.array([0, 1, 2, 3, 0])}), r"must be null \(index 4\)"),
        (_bad(control={"action": np.array([4, 1, 2, 3, 5])}), "4 choices"),
        (_bad(control={"action": np.array([4, 1, 2, 3, -1])}), "4 choices"),
        (_bad(control={"action": np.array([4.0, 1, 2, 3, 1])}), "must be integers"),
        (_bad(control={"action": np.array([4, 1, 2, 3])}), "one length"),
        (_bad(control={}), "lacks the control"),
        (_bad(control={"action": np.array([4, 1, 1, 1, 1]), "x": np.zeros(5)}), "does not know"),
        (_bad(obs={"image": np.zeros((5, 3, 5, 7), np.uint8)}), "lacks the sensor"),
        (_bad(obs={"image": np.zeros((5, 3, 5, 7)), "where": np.zeros((5, 2), np.float32)}), "must be uint8"),
        (_bad(reward=np.array([0, 1, np.nan, 1, 1])), "finite"),
        (_bad(truth={"x": np.array(["a"] * 5)}), "Truth 'x'"),
        (_bad(truth={"x": np.zeros(4)}), "one length"),
        (_bad(info={"x": float("nan")}), "plain JSON"),
        (_bad(info={"x": object()}), "plain JSON"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, bad, says):
    with DatasetWriter(tmp_path / "d", SPEC) as writer:
        writer.add(episode(0, 3))
        with pytest.raises(DataError, match=says):
            writer.add(bad)
        writer.add(episode(1, 4))
    data = Dataset(tmp_path / "d")
    assert data.verify() == 2
    same(data.episode(1), episode(1, 4))


def test_rewards_are_known_of_all_or_of_none(tmp_path):
    with DatasetWriter(tmp_path / "d", SPEC) as writer:
        writer.add(episode(0, 3))
        with pytest.raises(DataError, match=r"have rewards and tell .* this one lack rewards"):
            writer.add(_bad(reward=None))
        with pytest.raises(DataError, match="do not tell"):
            writer.add(_bad(terminal=None))
    with DatasetWriter(tmp_path / "d", SPEC) as writer, pytest.raises(DataError, match="lack rewards"):
        writer.add(_bad(reward=None))


def test_plain_video_is_allowed_and_said_so(tmp_path):
    spec = Spec({"image": Sensor("image", (3, 2, 2))})
    with DatasetWriter(tmp_path / "d", spec) as writer:
        writer.add(Episode({"image": np.zeros((4, 3, 2, 2), np.uint8)}))
    says = Dataset(tmp_path / "d").describe()
    assert (says["action"], says["reward"], says["terminal"]) == ("missing: plain video", "missing", "unknown")


def test_a_full_disk_costs_only_the_episode_being_written(tmp_path, monkeypatch):
    real, full = os.write, [False]

    def scarce(descriptor: int, data: memoryview) -> int:
        if not full[0]:
            return real(descriptor, data)
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(writing.os, "write", scarce)
    with DatasetWriter(tmp_path / "d", SPEC, commit_seconds=0.0) as writer:
        writer.add(episode(0, 3))
        full[0] = True
        with pytest.raises(DataError, match=r"No space left.*1 episodes before"):
            writer.add(episode(1, 9))
        assert Dataset(tmp_path / "d").verify() == 1
        full[0] = False
        writer.add(episode(1, 4))
    data = Dataset(tmp_path / "d")
    assert data.verify() == 2
    same(data.episode(1), episode(1, 4))


def test_a_full_disk_at_the_index_loses_nothing(tmp_path, monkeypatch):
    with DatasetWriter(tmp_path / "d", SPEC, commit_seconds=1e9) as writer:
        writer.add(episode(0, 3))
        writer.add(episode(1, 4))
        real = writing._write_all

        def scarce(descriptor: int, data: bytes) -> None:
            real(descriptor, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(writing, "_write_all", scarce)
        with pytest.raises(DataError, match=r"No space left.*1 episodes wait"):
            writer.flush()
        assert Dataset(tmp_path / "d").verify() == 1
        assert (tmp_path / "d" / "index.jsonl").read_bytes().endswith(b"\n")
        monkeypatch.setattr(writing, "_write_all", real)
    assert Dataset(tmp_path / "d").verify() == 2


def test_an_episode_whose_commit_failed_can_be_added_again(tmp_path, monkeypatch):
    with DatasetWriter(tmp_path / "d", SPEC, commit_seconds=0.0) as writer:
        writer.add(episode(0, 3))
        real = os.open

        def scarce(path: object, *rest: int) -> int:
            if str(path).endswith("index.jsonl"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *rest)

        monkeypatch.setattr(writing.os, "open", scarce)
        with pytest.raises(DataError, match="No space left"):
            writer.add(episode(1, 9))
        monkeypatch.setattr(writing.os, "open", real)
        assert writer.add(episode(1, 4)) == 1
    data = Dataset(tmp_path / "d")
    assert data.verify() == 2
    same(data.episode(1), episode(1, 4))


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_fsync_is_never_tried_again(tmp_path, monkeypatch, failing):
    with DatasetWriter(tmp_path / "d", SPEC, commit_seconds=1e9) as writer:
        writer.add(episode(0, 3))
        writer.add(episode(1, 4))
        calls: list[int] = []

        def broken(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == failing:
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(DataError, match="1 episodes are lost"):
            writer.flush()
        with pytest.raises(DataError, match="after an error of the disk"):
            writer.add(episode(2, 4))
    assert len(calls) == failing
    assert Dataset(write(tmp_path / "d", [4])).verify() == 2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the names of open files from /proc")
def test_an_episode_is_durable_before_the_index_names_it(tmp_path, monkeypatch):
    writer = DatasetWriter(tmp_path / "d", SPEC, commit_seconds=0.0)
    writer.add(episode(0, 3))
    events: list[str] = []
    real = os.write

    def name(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def write_(descriptor: int, data: memoryview) -> int:
        events.append(f"write {name(descriptor)}")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write_)
    monkeypatch.setattr(os, "fsync", lambda d: events.append(f"fsync {name(d)}"))
    writer.add(episode(1, 3))
    assert events == ["write 000000.bin", "fsync 000000.bin", "write index.jsonl", "fsync index.jsonl"]
    writer.close()


def test_the_fingerprint_follows_the_content(tmp_path):
    a, b = Dataset(write(tmp_path / "a", [3, 4])), Dataset(write(tmp_path / "b", [3, 4]))
    assert a.fingerprint == b.fingerprint
    assert Dataset(write(tmp_path / "c", [3, 5])).fingerprint != a.fingerprint
    assert Dataset(write(tmp_path / "a", [5])).fingerprint != a.fingerprint
    with DatasetWriter(tmp_path / "e", SPEC) as writer:
        changed = episode(0, 3)
        changed.obs["image"][1, 0, 2, 2] += 1
        writer.add(changed)
        writer.add(episode(1, 4))
    assert Dataset(tmp_path / "e").fingerprint != b.fingerprint


def test_no_name_in_a_spec_becomes_a_path(tmp_path: Path):
    spec = Spec({"../../evil": Sensor("vector", (1,))})
    with DatasetWriter(tmp_path / "in" / "d", spec) as writer:
        writer.add(Episode({"../../evil": np.zeros((2, 1), np.float32)}))
    assert {p.name for p in tmp_path.rglob("*")} == {
        "in",
        "d",
        "dataset.json",
        "index.jsonl",
        "shards",
        "000000.bin",
        "writer.lock",
    }
