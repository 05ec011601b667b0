"""Exports that Minari's own reader loads, and that come back bit for bit."""

import errno
from pathlib import Path

import numpy as np
import pytest
from data_toys import SPEC, episode, same, write

pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

from worldloom.contract import Control, Sensor, Spec  # noqa: E402
from worldloom.data import DataError, Dataset, DatasetWriter, Episode  # noqa: E402
from worldloom.data.importing import import_data  # noqa: E402
from worldloom.data.sinks import export_data  # noqa: E402
from worldloom.data.sources import ImportConfig, detect, open_source  # noqa: E402


def export(dataset: Dataset, out: Path) -> tuple[list[str], "minari.MinariDataset"]:
    notes = export_data(dataset, out, "minari")
    return notes, minari.MinariDataset(out / "data")


def test_minari_reads_what_was_exported(tmp_path: Path) -> None:
    dataset = Dataset(write(tmp_path / "d", [4, 1, 7, 2]))
    done: list[int] = []
    notes = export_data(dataset, tmp_path / "toy-v3", "minari", done.append)
    theirs = minari.MinariDataset(tmp_path / "toy-v3" / "data")
    assert done == [1, 2, 3, 4]
    assert theirs.id == "toy-v3"
    assert theirs.total_episodes == 3
    assert theirs.total_steps == 3 + 6 + 1
    assert theirs.action_space.n == 4
    for number, found in zip((0, 2, 3), theirs.iterate_episodes(), strict=True):
        ours = dataset.episode(number)
        steps = ours.length - 1
        assert found.observations["image"].shape == (steps + 1, 5, 7, 3)
        assert theirs.observation_space["image"].contains(found.observations["image"][0])
        np.testing.assert_array_equal(np.moveaxis(found.observations["image"], -1, 1), ours.obs["image"])
        np.testing.assert_array_equal(found.observations["where"], ours.obs["where"])
        np.testing.assert_array_equal(found.actions, ours.control["action"][1:])
        np.testing.assert_array_equal(found.rewards, ours.reward[1:])
        np.testing.assert_array_equal(found.terminations, [*[False] * (steps - 1), number % 2 == 0])
        np.testing.assert_array_equal(found.truncations, [*[False] * (steps - 1), number % 2 == 1])
        np.testing.assert_array_equal(found.infos["truth"]["exact"], ours.truth["exact"])
    text = "\n".join(notes)
    assert "1 episodes of a single frame" in text
    assert "rewards of the first frames of 2 episodes" in text  # the toy's are 100 times the episode
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_there_and_back(tmp_path: Path) -> None:
    """Bit for bit: pictures of odd sizes, names and bounds of controls, kinds of sensors, truth, rate."""
    spec = Spec(
        {
            "eye": Sensor("image", (1, 40, 56)),
            "depth": Sensor("range", (1, 3, 4), "m"),
            "speed": Sensor("vector", (2,), "m/s"),
        },
        {"action": Control("continuous", (2,), names=("steer", "gas"), low=(-1.0, 0.0), high=(1.0, 2.5))},
        20.0,
    )
    rng = np.random.default_rng(0)
    kept = []
    with DatasetWriter(tmp_path / "d", spec) as writer:
        for number, length in enumerate((5, 9)):
            action = rng.uniform(0, 1, (length, 2)).astype(np.float32)
            action[0] = 0
            kept.append(
                Episode(
                    {
                        "eye": rng.integers(0, 256, (length, 1, 40, 56), dtype=np.uint8),
                        "depth": rng.normal(size=(length, 1, 3, 4)).astype(np.float32),
                        "speed": rng.normal(size=(length, 2)).astype(np.float32),
                    },
                    {"action": action},
                    np.concatenate([[0], rng.normal(size=length - 1)]).astype(np.float32),
                    number == 1,
                    {"pose": rng.normal(size=(length, 3)), "deep/hit": np.arange(length) % 2 == 0},
                )
            )
            writer.add(kept[-1])
    export_data(Dataset(tmp_path / "d"), tmp_path / "out", "minari")
    assert detect(tmp_path / "out") == "minari"
    with pytest.raises(DataError, match=r"20 frames a second.*Leave out --fps"):  # it would only be called 10
        import_data(tmp_path / "out", tmp_path / "again", ImportConfig(fps=10.0), say=lambda _: None)
    back = import_data(tmp_path / "out", tmp_path / "again", ImportConfig(length=100), say=lambda _: None)
    assert back.spec == spec
    for number, original in enumerate(kept):
        found = back.episode(number)
        found.info = original.info
        same(found, original)


@pytest.mark.parametrize("out", [Path("plain"), Path("deep") / "er" / "x y"])
def test_one_picture_and_unknown_rewards(tmp_path: Path, out: Path) -> None:
    spec = Spec({"pixels": Sensor("image", (3, 40, 48))}, {"action": Control("continuous", (1,))})
    image = np.random.default_rng(0).integers(0, 256, (4, 3, 40, 48), dtype=np.uint8)
    with DatasetWriter(tmp_path / "d", spec) as writer:
        writer.add(Episode({"pixels": image}, {"action": np.zeros((4, 1), np.float32)}))
    (tmp_path / out).mkdir(parents=True)  # an empty folder may be there
    notes, theirs = export(Dataset(tmp_path / "d"), tmp_path / out)
    (found,) = theirs.iterate_episodes()
    np.testing.assert_array_equal(np.moveaxis(found.observations, -1, 1), image)  # large enough that JPEG would be used
    assert not found.rewards.any()
    assert found.truncations[-1]
    assert any("zeros" in n for n in notes)
    assert any("all are written as truncated" in n for n in notes)
    source = open_source(tmp_path / out)
    (again,) = [e for i in source.items for e in source.read(i)]
    np.testing.assert_array_equal(again.obs["pixels"], image)


def test_plain_video_is_refused(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", Spec(SPEC.shown)) as writer:
        first = episode(0, 3)
        first.control = {}
        writer.add(first)
    with pytest.raises(DataError, match="need an action"):
        export_data(Dataset(tmp_path / "d"), tmp_path / "out", "minari")
    assert not (tmp_path / "out").exists()


def test_a_missing_action_is_named(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", SPEC) as writer:
        broken = episode(0, 5)
        broken.control["action"][3] = 4
        writer.add(broken)
    with pytest.raises(DataError, match=r"Episode 0 .* no action at frame 3"):
        export_data(Dataset(tmp_path / "d"), tmp_path / "out", "minari")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minari.dataset._storages.hdf5_storage import HDF5Storage

    def refuse(self: object, episodes: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HDF5Storage, "update_episodes", refuse)
    with pytest.raises(DataError, match="No space left"):
        export_data(Dataset(write(tmp_path / "d", [4])), tmp_path / "out", "minari")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]
