"""HDF5 files of the shapes that people hold: what is read is what was recorded, and nothing leads out of the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from worldloom.contract import WorldloomError  # noqa: E402
from worldloom.data import DataError, Episode  # noqa: E402
from worldloom.data.importing import import_data  # noqa: E402
from worldloom.data.sources import ImportConfig, detect, open_source  # noqa: E402
from worldloom.data.sources.arrays.source import Hdf5Source  # noqa: E402

rng = np.random.default_rng(0)


def pictures(*lead: int, side: int = 16) -> np.ndarray:
    return rng.integers(0, 256, (*lead, side, side, 3), dtype=np.uint8)


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)
    return path


def read(path: Path, **config: Any) -> tuple[Hdf5Source, list[Episode]]:
    source = open_source(path, ImportConfig(**config))
    assert isinstance(source, Hdf5Source)
    episodes = [e for item in source.items for e in source.read(item)]
    for episode in episodes:
        episode.check(source.spec)
    return source, episodes


def test_d4rl(tmp_path: Path) -> None:
    """Flat rows; an episode ends after a terminal or a timeout; the frame after the last action was not kept."""
    rows = 12
    obs, action = rng.normal(size=(rows, 5)), rng.uniform(-1, 1, (rows, 2))
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[3], timeouts[8] = True, True
    path = write(
        tmp_path / "d.hdf5", observations=obs, actions=action, rewards=np.arange(12.0), terminals=terminals,
        timeouts=timeouts, **{"infos/qpos": obs, "metadata/algorithm": "SAC"},
    )  # fmt: skip
    assert detect(path) == "hdf5"
    source, episodes = read(path)
    assert [i.name for i in source.items] == [f"d.hdf5: episode {k}" for k in range(3)]
    for episode, (a, b) in zip(episodes, ((0, 4), (4, 9), (9, 12)), strict=True):
        np.testing.assert_array_equal(episode.obs["observations"], obs[a:b].astype(np.float32))
        np.testing.assert_array_equal(episode.control["action"][1:], action[a : b - 1].astype(np.float32))
        np.testing.assert_array_equal(episode.reward, [0, *np.arange(a, b - 1)])
        assert episode.terminal is None
    assert any("neither its reward nor whether it ended is known" in n for n in source.notes)
    assert any("infos/qpos" in n for n in source.notes)


def test_d4rl_with_next_observations(tmp_path: Path) -> None:
    """Then nothing is lost: the last frame, its reward, its end."""
    obs, after = np.arange(14.0).reshape(7, 2), np.arange(14.0).reshape(7, 2) + 2
    after[3] = 99
    path = write(
        tmp_path / "d.h5", observations=obs, next_observations=after, actions=np.arange(7) % 3,
        rewards=np.arange(1.0, 8), terminals=np.arange(7) == 3, timeouts=np.zeros(7),
    )  # fmt: skip
    _, (a, b) = read(path)
    np.testing.assert_array_equal(a.obs["observations"], [*obs[:4], [99, 99]])
    np.testing.assert_array_equal(a.control["action"], [3, 0, 1, 2, 0])
    np.testing.assert_array_equal(a.reward, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(b.reward, [0, 5, 6, 7])
    assert a.terminal is True
    assert b.terminal is False
    _, parts = read(path, length=2)
    np.testing.assert_array_equal(np.concatenate([p.obs["observations"] for p in parts[:3]]), [*obs[:4], [99, 99]])
    assert [p.terminal for p in parts] == [False, False, True, False, False]


def test_robomimic(tmp_path: Path) -> None:
    demos = {}
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file.create_group("mask")["train"] = np.array([b"demo_0", b"demo_2"])
        for number, length in ((0, 4), (2, 5), (10, 3)):
            group = file.create_group(f"data/demo_{number}")
            group["obs/agentview_image"] = demos[number] = pictures(length)
            group["obs/eef"] = np.full((length, 3), number)
            group["actions"] = np.full((length, 7), number / 10)
            group["rewards"], group["dones"] = np.zeros(length), np.arange(length) == length - 1
            group["states"] = np.zeros((length, 30))
    source, episodes = read(tmp_path / "demo.hdf5")
    assert [i.name for i in source.items] == [f"demo.hdf5: data/demo_{k}" for k in (0, 2, 10)]
    assert set(source.spec.shown) == {"agentview_image", "eef"}
    for (number, image), episode in zip(demos.items(), episodes, strict=True):
        np.testing.assert_array_equal(episode.obs["agentview_image"], np.moveaxis(image, -1, 1))
        assert (episode.obs["eef"] == number).all()
        assert (episode.control["action"][1:] == np.float32(number / 10)).all()
    only, _ = read(tmp_path / "demo.hdf5", cameras=("agentview_image",))
    assert set(only.spec.shown) == {"agentview_image", "eef"}
    with pytest.raises(DataError, match=r"no pictures named \['wrist'\]"):
        read(tmp_path / "demo.hdf5", cameras=("wrist",))


def test_a_frame_an_array(tmp_path: Path) -> None:
    """Counter-Strike: frame_i_x, frame_i_y in every file, also where 10 sorts before 2."""
    files = []
    for number in range(2):
        image, action = pictures(12), (rng.random((12, 9)) < 0.3).astype(np.float32)
        frames = {f"frame_{t}_x": image[t] for t in range(12)} | {f"frame_{t}_y": action[t] for t in range(12)}
        write(tmp_path / f"f{number}.hdf5", **frames, **{f"frame_{t}_xaux": np.zeros(3) for t in range(12)})
        files.append((image, action))
    source, episodes = read(tmp_path)
    assert any("frame_i_xaux" in n for n in source.notes)
    for episode, (image, action) in zip(episodes, files, strict=True):
        np.testing.assert_array_equal(episode.obs["image"], np.moveaxis(image, -1, 1))
        np.testing.assert_array_equal(episode.control["action"][1:], action[:-1])
    with h5py.File(tmp_path / "f1.hdf5", "a") as file:
        del file["frame_5_x"]
    assert "frame_5_x is missing" in open_source(tmp_path).problems[0].what


def test_stable_worldmodel(tmp_path: Path) -> None:
    image = pictures(9)
    path = write(
        tmp_path / "w.h5", pixels=np.moveaxis(image, -1, 1), action=rng.normal(size=(9, 2)),
        proprio=rng.normal(size=(9, 4)), terminated=np.zeros(9),
        ep_len=[4, 5], ep_offset=[0, 4], ep_idx=[0] * 4 + [1] * 5, step_idx=np.arange(9),
    )  # fmt: skip
    source, (a, b) = read(path)
    np.testing.assert_array_equal(np.concatenate([a.obs["pixels"], b.obs["pixels"]]), np.moveaxis(image, -1, 1))
    assert a.length == 4
    assert set(source.spec.shown) == {"pixels", "proprio"}


def test_a_group_an_episode_with_cameras(tmp_path: Path) -> None:
    """As ALOHA keeps it: several cameras in a group of observations, one file or group an episode."""
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            for camera in ("high", "low"):
                group[f"observations/images/{camera}"] = pictures(5)
            group["observations/qpos"] = np.zeros((5, 14))
            group["action"] = rng.normal(size=(5, 14))
    source, episodes = read(tmp_path / "a.hdf5", cameras=("low",))
    assert len(episodes) == 2
    assert set(source.spec.shown) == {"low", "qpos"}
    assert any("observations/images/high (not among --cameras)" in n for n in source.notes)


def test_stacked_episodes_of_grey_pictures(tmp_path: Path) -> None:
    """(episodes, time, height, width) is told from (time, channels, ...) by the actions beside it."""
    video = rng.integers(0, 256, (3, 6, 20, 24), dtype=np.uint8)
    action = rng.integers(0, 4, (3, 6))
    source, episodes = read(write(tmp_path / "s.h5", observations=video, actions=action), size=(20, 24))
    assert source.spec.shown["observations"].shape == (1, 20, 24)
    for episode, v, a in zip(episodes, video, action, strict=True):
        np.testing.assert_array_equal(episode.obs["observations"][:, 0], v)
        np.testing.assert_array_equal(episode.control["action"][1:], a[:-1])


def test_pieces_of_a_long_recording(tmp_path: Path) -> None:
    image, action = pictures(25), rng.normal(size=(25, 2)).astype(np.float32)
    path = write(tmp_path / "l.h5", image=image, action=action, reward=np.arange(25.0))
    for pairing in ("next", "same"):
        _source, parts = read(path, length=10, pairing=pairing)
        assert [p.length for p in parts] == [8, 8, 9]
        np.testing.assert_array_equal(np.concatenate([p.obs["image"] for p in parts]), np.moveaxis(image, -1, 1))
        led = action if pairing == "same" else np.concatenate([action[:1], action[:-1]])
        paid = np.arange(25.0) if pairing == "same" else np.maximum(np.arange(25.0) - 1, 0)
        np.testing.assert_array_equal(np.concatenate([p.reward for p in parts]), paid)
        at = 0
        for part in parts:
            assert not part.control["action"][0].any()
            np.testing.assert_array_equal(part.control["action"][1:], led[at + 1 : at + part.length])
            assert part.info["rows"] == [at, at + part.length]
            at += part.length


def test_imports_in_several_threads(tmp_path: Path) -> None:
    image = pictures(40)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "x.h5", image=image, action=np.arange(40) % 3, episode=np.arange(40) // 8)
    dataset = import_data(tmp_path / "in", tmp_path / "out", workers=4, say=lambda _: None)
    assert len(dataset) == 5
    for number in range(5):
        np.testing.assert_array_equal(
            dataset.episode(number).obs["image"], np.moveaxis(image[8 * number : 8 * number + 8], -1, 1)
        )


def external_link(path: Path, other: Path) -> None:
    write(path, action=np.zeros(4))
    with h5py.File(path, "a") as file:
        file["image"] = h5py.ExternalLink(str(other), "image")


def external_storage(path: Path, other: Path) -> None:
    write(path, action=np.zeros(4))
    with h5py.File(path, "a") as file:
        file.create_dataset("image", (4, 16, 16, 3), np.uint8, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(path: Path, other: Path) -> None:
    write(path, action=np.zeros(4))
    layout = h5py.VirtualLayout((4, 16, 16, 3), np.uint8)
    layout[:] = h5py.VirtualSource(str(other), "image", (4, 16, 16, 3))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("image", layout)


@pytest.mark.parametrize("how", [external_link, external_storage, virtual])
def test_what_leads_out_of_the_file_is_refused(tmp_path: Path, how: Callable[[Path, Path], None]) -> None:
    other = write(tmp_path / "other.bin", image=pictures(4))
    how(tmp_path / "e.h5", other)
    with pytest.raises(DataError, match=r"other file|another file"):
        open_source(tmp_path / "e.h5")


def test_soft_links_and_circles_are_not_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "e.h5", image=pictures(4), action=np.arange(4))
    with h5py.File(path, "a") as file:
        file["again"] = h5py.SoftLink("/image")
        file["loop"] = file["/"]
        file.create_group("deep")["loop"] = file["/"]
    _, (episode,) = read(path)
    assert set(episode.obs) == {"image"}


def test_bad_files(tmp_path: Path) -> None:
    def says(match: str, path: Path, **config: Any) -> None:
        with pytest.raises(DataError, match=match) as caught:
            read(path, **config)
        assert path.name in str(caught.value)

    good = pictures(6)
    says("lengths", write(tmp_path / "lengths.h5", image=good, action=np.zeros(4)))
    says("not in order", write(tmp_path / "order.h5", image=good, episode_ends=[4, 2]))
    says("ends at row 9", write(tmp_path / "ends.h5", image=good, episode_ends=[4, 9]))
    says("NaN", write(tmp_path / "nan.h5", image=good, action=[0, 1, np.nan, 0, 0, 1]))
    says("NaN", write(tmp_path / "reward.h5", image=good, reward=[0, 1, np.nan, 0, 0, 1]))
    says("lie in", write(tmp_path / "minus.h5", image=good.astype(np.float32) - 1))
    says("no episode of at least two frames", write(tmp_path / "ones.h5", image=good, done=np.ones(6)))
    says("no episode of at least two", write(tmp_path / "empty.h5", image=good[:0], action=np.zeros(0)))
    says("there are no|none of numbers", write(tmp_path / "words.h5", image=np.array([b"a", b"b"])))
    says("--fit", write(tmp_path / "tall.h5", image=good), size=(16, 32))
    (tmp_path / "four.hdf").write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    says("damaged", tmp_path / "four.hdf")
    path = write(tmp_path / "cut.h5", image=good)
    path.write_bytes(path.read_bytes()[:-500])
    says("damaged", path)


def test_damage_inside_is_found_while_reading(tmp_path: Path) -> None:
    """Compressed chunks, one of them overwritten; the episodes before it were read."""
    path = tmp_path / "e.h5"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("image", data=pictures(8), chunks=(2, 16, 16, 3), compression="gzip")
        place = image.id.get_chunk_info(2).byte_offset
    data = bytearray(path.read_bytes())
    data[place : place + 64] = bytes(64)
    path.write_bytes(data)
    source = open_source(path, ImportConfig(length=2))
    parts = source.read(source.items[0])
    next(parts)
    with pytest.raises(DataError, match=r"e\.h5.*damaged"):
        list(parts)


def test_a_claim_without_bytes_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("image", (10**6, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3))
    with pytest.raises(DataError, match="made to fill the disk"):
        open_source(tmp_path / "e.h5")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "e.h5", image=pictures(4))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert Hdf5Source.sniff(tmp_path)
    with pytest.raises(WorldloomError, match=r"pip install 'worldloom\[data\]'"):
        open_source(path)
