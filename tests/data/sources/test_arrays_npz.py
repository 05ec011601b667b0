"""npz files of the shapes that people hold: what is read is what was recorded."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from worldloom.data import DataError, Dataset
from worldloom.data.importing import import_data
from worldloom.data.sources import ImportConfig, detect, open_source
from worldloom.data.sources.arrays.reading import pieces
from worldloom.data.sources.arrays.source import NpzSource

rng = np.random.default_rng(0)


def pictures(frames: int, side: int = 16) -> np.ndarray:
    return rng.integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def read(path: Path, **config: object) -> tuple[NpzSource, list]:
    source = open_source(path, ImportConfig(**config))
    assert isinstance(source, NpzSource)
    return source, [e for item in source.items for e in source.read(item)]


def chw(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, -1, 1)


def test_ha_and_schmidhuber(tmp_path: Path) -> None:
    files = []
    for k, frames in enumerate((7, 5)):
        obs, action = pictures(frames), rng.normal(size=(frames, 3)).astype(np.float16)
        reward, done = rng.normal(size=frames), np.arange(frames) == frames - 1
        np.savez_compressed(tmp_path / f"{k}.npz", obs=obs, action=action, reward=reward, done=done)
        files.append((obs, action, reward))
    assert detect(tmp_path) == "npz"
    source, episodes = read(tmp_path)
    assert [i.name for i in source.items] == ["0.npz", "1.npz"]
    assert [i.frames for i in source.items] == [7, 5]
    for episode, (obs, action, reward) in zip(episodes, files, strict=True):
        np.testing.assert_array_equal(episode.obs["obs"], chw(obs))
        assert not episode.control["action"][0].any()
        np.testing.assert_array_equal(episode.control["action"][1:], action[:-1].astype(np.float32))
        assert episode.reward is not None
        assert episode.reward[0] == 0
        np.testing.assert_array_equal(episode.reward[1:], reward[:-1].astype(np.float32))
        assert episode.terminal is None  # the frame that the last action led to is not there
        episode.check(source.spec)
    assert any("one frame more" in n for n in source.notes)
    assert any("row t of a table was taken after" in n for n in source.notes)


def test_one_frame_more_than_actions_is_exact_and_cut_into_pieces(tmp_path: Path) -> None:
    obs, action, reward = pictures(11), np.arange(10) % 3, np.arange(10.0)
    terminal = np.arange(10) == 9
    np.savez(tmp_path / "e.npz", observations=obs, actions=action, rewards=reward, terminated=terminal)
    source, parts = read(tmp_path / "e.npz", length=4, pairing="same")
    assert source.spec.action is not None
    assert source.spec.action.n == 3
    assert [p.length for p in parts] == [3, 4, 4]
    assert [p.terminal for p in parts] == [False, False, True]
    np.testing.assert_array_equal(np.concatenate([p.obs["observations"] for p in parts]), chw(obs))
    for part, start in zip(parts, (0, 3, 7), strict=True):
        np.testing.assert_array_equal(part.control["action"][1:], action[start : start + part.length - 1])
        assert part.control["action"][0] == 3
    np.testing.assert_array_equal(np.concatenate([p.reward for p in parts])[1:], reward)


def test_pieces_are_even_and_cover_all() -> None:
    for frames in range(1, 40):
        for length in (2, 3, 7):
            cut = pieces(frames, length)
            assert cut[0][0] == 0
            assert cut[-1][1] == frames
            assert all(b[0] == a[1] for a, b in itertools.pairwise(cut))
            assert all(0 < b - a <= length for a, b in cut)


@pytest.mark.parametrize("version", [2, 3])
def test_dreamer(tmp_path: Path, version: int) -> None:
    """Two episodes in a file. DreamerV2: zeros at is_first, the action led to the frame; V3: zeros at is_last."""
    image, choice = pictures(9), rng.integers(0, 4, 9)
    first, final = np.zeros(9, bool), np.zeros(9, bool)
    first[[0, 5]], final[[4, 8]] = True, True
    action = np.eye(4, dtype=np.float32)[choice]
    action[first if version == 2 else final] = 0
    reward = np.arange(9, dtype=np.float32)
    np.savez(
        tmp_path / "e.npz", image=image, action=action, reward=reward, is_first=first, is_last=final,
        is_terminal=final & (np.arange(9) < 5), discount=np.ones(9),
    )  # fmt: skip
    source, (a, b) = read(tmp_path)
    assert source.spec.action is not None
    assert source.spec.action.kind == "discrete"
    assert source.spec.action.n == 4
    assert (a.length, b.length) == (5, 4)
    shift = 0 if version == 2 else 1
    np.testing.assert_array_equal(a.control["action"], [4, *choice[1 - shift : 5 - shift]])
    np.testing.assert_array_equal(b.control["action"], [4, *choice[6 - shift : 9 - shift]])
    assert any(f"DreamerV{version}" in n for n in source.notes)
    if version == 2:
        np.testing.assert_array_equal(np.concatenate([a.reward, b.reward]), reward)
        assert a.terminal is True
        assert b.terminal is False


def test_is_first_alone_begins_episodes(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", image=pictures(7), action=np.arange(7) % 2, is_first=np.arange(7) == 3)
    _, (a, b) = read(tmp_path)
    assert (a.length, b.length) == (3, 4)
    np.testing.assert_array_equal(b.control["action"], [2, 0, 1, 0])


def test_rows_of_many_episodes_with_ends(tmp_path: Path) -> None:
    """As the diffusion policy keeps them: data/* and meta/episode_ends."""
    img, state = pictures(9), rng.normal(size=(9, 2))
    np.savez(tmp_path / "d.npz", **{"data/img": img, "data/state": state, "data/action": rng.normal(size=(9, 2)),
             "data/n_contacts": np.ones((9, 1)), "meta/episode_ends": np.array([4, 9])})  # fmt: skip
    source, (a, b) = read(tmp_path)
    assert set(source.spec.shown) == {"img", "state"}
    assert any("n_contacts" in n for n in source.notes)
    np.testing.assert_array_equal(a.obs["img"], chw(img[:4]))
    np.testing.assert_array_equal(b.obs["state"], state[4:].astype(np.float32))


def test_stacked(tmp_path: Path) -> None:
    """(episodes, time, ...), with one frame more than actions; compressed, so that it is streamed."""
    obs, action = rng.integers(0, 256, (3, 6, 16, 16, 3), dtype=np.uint8), rng.integers(0, 2, (3, 5))
    np.savez_compressed(tmp_path / "s.npz", obs=obs, action=action, reward=np.zeros((3, 5)))
    _, episodes = read(tmp_path / "s.npz")
    assert len(episodes) == 3
    for episode, o, a in zip(episodes, obs, action, strict=True):
        np.testing.assert_array_equal(episode.obs["obs"], chw(o))
        np.testing.assert_array_equal(episode.control["action"], [2, *a])


def test_kinds_of_pictures(tmp_path: Path) -> None:
    """Channels first, grey, floats, 16 bits, wide integers: all the same pictures; a dark start changes nothing."""
    grey = rng.integers(0, 256, (6, 16, 16), dtype=np.uint8)
    grey[:2] = 1  # as floats, a slice that looks like one in [0, 1]
    forms = {
        "first": grey[:, None], "last": grey[..., None], "plain": grey, "unit": grey / 255,
        "floats": grey.astype(np.float32),
        "sixteen": grey.astype(np.uint16) << 8, "wide": grey.astype(np.int64), "swapped": grey.astype(">f8"),
        "columns": np.asfortranarray(grey),
    }  # fmt: skip
    for name, value in forms.items():
        np.savez(tmp_path / f"{name}.npz", images=value)
        source, parts = read(tmp_path / f"{name}.npz", length=2)
        assert source.spec.shown["images"].shape == (1, 16, 16), name
        assert source.spec.action is None
        np.testing.assert_array_equal(np.concatenate([p.obs["images"] for p in parts])[:, 0], grey, err_msg=name)
        assert (name in ("last", "plain", "columns")) == any(
            n == "images: grey pictures of 16×16." for n in source.notes
        )


def test_large_pictures_are_shrunk_and_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", rgb=pictures(4, 192))
    source, (episode,) = read(tmp_path / "e.npz")
    assert episode.obs["rgb"].shape == (4, 3, 64, 64)
    assert any("192×192 pixels made 64×64" in n for n in source.notes)


def test_a_bare_npy_file_and_an_array_without_a_name(tmp_path: Path) -> None:
    video = pictures(5)
    np.save(tmp_path / "v.npy", video)
    np.savez(tmp_path / "v.npz", video)
    for name in ("v.npy", "v.npz"):
        _, (episode,) = read(tmp_path / name)
        np.testing.assert_array_equal(episode.obs["arr_0"], chw(video))


def test_moving_mnist_asks_instead_of_guessing(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((20, 50, 64, 64), np.uint8))
    with pytest.raises(DataError, match="50 episodes of 20, or 20 pictures of 50 channels"):
        open_source(tmp_path / "m.npy")


def test_actions_by_name_and_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", image=pictures(5), steer=np.arange(5) / 9, gas=np.ones(5), action=np.zeros(5))
    source, (episode,) = read(tmp_path, columns=("steer", "gas"), pairing="same")
    assert source.spec.action is not None
    assert source.spec.action.names == ("steer", "gas")
    np.testing.assert_allclose(episode.control["action"][1:, 0], np.arange(1, 5) / 9, rtol=1e-6)
    source, _ = read(tmp_path, actions="none")
    assert source.spec.action is None
    assert "Actions: none; this is plain video." in source.notes
    with pytest.raises(DataError, match=r"no arrays named brake .* it has image, .*gas"):
        read(tmp_path, columns=("brake",))


def test_bad_files_are_named_and_the_good_ones_kept(tmp_path: Path) -> None:
    def save(name: str, **arrays: np.ndarray) -> Path:
        values = {"image": pictures(6), "action": np.arange(6) % 2, "reward": np.zeros(6)} | arrays
        np.savez_compressed(tmp_path / f"{name}.npz", **{k: v for k, v in values.items() if v is not None})
        return tmp_path / f"{name}.npz"

    for name in ("good0", "good1"):
        save(name)
    save("short", action=np.arange(3))
    save("nan", action=np.array([0, 1, np.nan, 0, 0, 0]))
    save("objects", action=np.array([None] * 6))
    save("quiet", reward=None)
    save("blind", image=None)
    save("wide", image=rng.integers(0, 256, (6, 16, 40, 3), dtype=np.uint8))
    data = save("cut").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.npz").write_text("hello", encoding="utf-8")
    (tmp_path / ".hidden.npz").write_text("hello", encoding="utf-8")
    source = open_source(tmp_path)
    assert [i.name for i in source.items] == ["good0.npz", "good1.npz"]
    said = {p.where: p.what for p in source.problems}
    assert said.keys() == {f"{n}.npz" for n in ("short", "nan", "objects", "quiet", "blind", "wide", "cut", "text")}
    for name, word in {
        "short": "different lengths", "nan": "NaN", "objects": "Python objects, which are never unpickled",
        "quiet": "rewards", "blind": "no pictures or observations", "wide": "--fit", "cut": "damaged",
        "text": "damaged",
    }.items():  # fmt: skip
        assert word in said[f"{name}.npz"], (name, said[f"{name}.npz"])
    with pytest.raises(DataError, match="skip-bad"):
        import_data(tmp_path, tmp_path.parent / "out", say=lambda _: None)
    assert len(import_data(tmp_path, tmp_path.parent / "out", skip_bad=True, say=lambda _: None)) == 2
    assert Dataset(tmp_path.parent / "out").verify() == 2


def test_damage_that_only_reading_shows_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    state = rng.normal(size=(6, 3))
    state[4, 1] = np.nan
    np.savez(path, image=pictures(6), state=state)
    source = open_source(path)
    with pytest.raises(DataError, match=r"e\.npz.*state holds NaN"):
        list(source.read(source.items[0]))
    np.savez(path, image=pictures(600))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    source = open_source(path)
    with pytest.raises(DataError, match=r"e\.npz.*damaged"):
        list(source.read(source.items[0]))


def test_sizes_that_nothing_backs_are_refused(tmp_path: Path) -> None:
    """A header that claims more than is there, and a bomb: 128 MiB of zeros in 128 KiB."""
    path = tmp_path / "e.npz"
    np.savez_compressed(path, image=np.zeros((2048, 256, 256), np.uint8))
    with pytest.raises(DataError, match="made to fill the disk"):
        open_source(path)
    head = np.lib.format.magic(1, 0)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000, 64, 64, 3)}\n"
    (tmp_path / "c.npy").write_bytes(head + len(text).to_bytes(2, "little") + text + bytes(100))
    with pytest.raises(DataError, match="claims the shape"):
        open_source(tmp_path / "c.npy")


def test_actions_beside_pictures_are_not_a_source_of_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", action=np.arange(5))
    (tmp_path / "e.mp4").write_bytes(b"")
    assert not NpzSource.sniff(tmp_path)
    assert NpzSource.sniff(tmp_path / "e.npz")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple:
            return (marker.touch, ())

    np.savez(tmp_path / "e.npz", image=pictures(4), info=np.array([Hostile()], dtype=object))
    source = open_source(tmp_path / "e.npz")
    list(source.read(source.items[0]))
    np.savez(tmp_path / "e.npz", image=np.array([Hostile()], dtype=object))
    with pytest.raises(DataError, match="never unpickled"):
        open_source(tmp_path / "e.npz")
    assert not marker.exists()


def test_a_folder_without_its_files_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no file that ends in \.npz"):
        open_source(tmp_path, format="npz")
