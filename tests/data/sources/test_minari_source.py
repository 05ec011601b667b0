"""What Minari recorded is what is read; what would run code or lead elsewhere is refused."""

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

import gymnasium  # noqa: E402
from gymnasium import spaces  # noqa: E402
from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402
from minari.dataset.minari_storage import MinariStorage  # noqa: E402

from worldloom.data import DataError  # noqa: E402
from worldloom.data.sources import ImportConfig, detect, open_source  # noqa: E402
from worldloom.data.sources.minari.source import MinariSource  # noqa: E402

rng = np.random.default_rng(0)


def store(
    folder: Path, observations: list, actions: list, space: Any, action: Any, form: str = "hdf5", **more: Any
) -> Path:
    """A Minari dataset of the given episodes; rewards count up, the first episode ends truly, others are cut."""
    folder.mkdir(parents=True)
    storage = MinariStorage.new(folder / "data", space, action, data_format=form, jpeg_encoding=more.pop("jpeg", False))
    for number, (obs, act) in enumerate(zip(observations, actions, strict=True)):
        over = np.arange(len(act)) == len(act) - 1
        storage.update_episodes(
            [
                EpisodeBuffer(
                    observations=obs, actions=act, rewards=np.arange(1.0, len(act) + 1),
                    terminations=over & (number == 0), truncations=over & (number > 0),
                )
            ]
        )  # fmt: skip
    storage.update_metadata({"dataset_id": "toy-v0", "minari_version": minari.__version__, **more})
    return folder


def read(path: Path, **config: Any) -> tuple[MinariSource, list]:
    source = open_source(path, ImportConfig(**config), "minari")
    assert isinstance(source, MinariSource)
    return source, [e for item in source.items for e in source.read(item)]


def box(*shape: int, dtype: Any = np.float32, low: float = -1, high: float = 1) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Minari's DataCollector. It takes one function of jax, which stands in here where jax is missing."""
    try:
        import jax.tree_util  # noqa: F401
    except ImportError:
        module = types.ModuleType("jax.tree_util")

        def tree_map(function: Any, tree: Any, *rest: Any) -> Any:
            if isinstance(tree, dict):
                return {k: tree_map(function, v, *(r[k] for r in rest)) for k, v in tree.items()}
            return function(tree, *rest)

        module.tree_map = tree_map  # type: ignore[attr-defined]
        package = types.ModuleType("jax")
        package.tree_util = module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "jax", package)
        monkeypatch.setitem(sys.modules, "jax.tree_util", module)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    env = minari.DataCollector(gymnasium.make("CartPole-v1", max_episode_steps=30))
    temporary = [env._tmp_dir]  # Minari lets go of these without cleaning up, which Python warns of
    yield env
    for folder in (*temporary, env._tmp_dir):
        folder.cleanup()
    env.env.close()


@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning")
def test_what_the_data_collector_recorded(collector: Any, tmp_path: Path) -> None:
    """CartPole: observations, actions, rewards and ends are those that the environment gave."""
    told = []
    for seed, right in ((0, 1.0), (1, 0.5)):  # always right soon falls; by turns lasts until the limit
        obs, _ = collector.reset(seed=seed)
        seen, acts, rewards, over = [obs], [], [], False
        while not over:
            acts.append(int(right == 1.0 or len(acts) % 2))
            obs, reward, terminated, truncated, _ = collector.step(acts[-1])
            seen.append(obs)
            rewards.append(reward)
            over = terminated or truncated
        told.append((np.stack(seen), acts, rewards, terminated))
    collector.create_dataset("cartpole/toy-v0")
    for path in (tmp_path / "root" / "cartpole" / "toy-v0", tmp_path / "root", Path("cartpole/toy-v0")):
        source, episodes = read(path)
        assert [i.name for i in source.items] == ["episode 0", "episode 1"]
        assert source.spec.action is not None
        assert source.spec.action.n == 2
        for episode, (seen, acts, rewards, terminated) in zip(episodes, told, strict=True):
            episode.check(source.spec)
            np.testing.assert_array_equal(episode.obs["obs"], seen)
            np.testing.assert_array_equal(episode.control["action"], [2, *acts])
            np.testing.assert_array_equal(episode.reward, [0, *rewards])
            assert episode.terminal is terminated
    assert detect(tmp_path / "root") == "minari"
    assert {e.terminal for e in episodes} == {True, False}


@pytest.mark.parametrize("form", ["hdf5", "arrow", "parquet"])
def test_every_storage_and_kind_of_observation(tmp_path: Path, form: str) -> None:
    if form != "hdf5":
        pytest.importorskip("pyarrow")
    space = spaces.Dict(
        {
            "eye": spaces.Dict({"rgb": box(40, 48, 3, dtype=np.uint8, low=0, high=255)}),
            "goal": box(2, low=-np.inf, high=np.inf),
            "room": spaces.Discrete(3, start=5),
            "tiny": box(7, 7, 3, dtype=np.uint8, low=0, high=255),
        }
    )
    lengths = (4, 6)
    obs = [
        {
            "eye": {"rgb": rng.integers(0, 256, (n + 1, 40, 48, 3), dtype=np.uint8)},
            "goal": rng.normal(size=(n + 1, 2)).astype(np.float32),
            "room": np.arange(n + 1) % 3 + 5,
            "tiny": rng.integers(0, 11, (n + 1, 7, 7, 3), dtype=np.uint8),
        }
        for n in lengths
    ]
    acts = [rng.integers(-2, 2, n) for n in lengths]
    store(tmp_path / "d", obs, acts, space, spaces.Discrete(4, start=-2), form)
    source, parts = read(tmp_path / "d", length=4)
    assert {n: (s.kind, s.shape) for n, s in source.spec.shown.items()} == {
        "eye.rgb": ("image", (3, 40, 48)), "goal": ("vector", (2,)), "room": ("vector", (3,)),
        "tiny": ("vector", (147,)),
    }  # fmt: skip
    assert [i.frames for i in source.items] == [5, 7]
    assert [p.length for p in parts] == [2, 3, 3, 4]
    assert [p.terminal for p in parts] == [False, True, False, False]
    assert [p.control["action"][0] for p in parts] == [4] * 4
    np.testing.assert_array_equal(parts[1].control["action"][1:], acts[0][2:] + 2)
    np.testing.assert_array_equal(parts[3].reward, [3, 4, 5, 6])
    whole = {n: np.concatenate([parts[2].obs[n], parts[3].obs[n]]) for n in source.spec.shown}
    np.testing.assert_array_equal(whole["eye.rgb"], np.moveaxis(obs[1]["eye"]["rgb"], -1, 1))
    np.testing.assert_array_equal(whole["goal"], obs[1]["goal"])
    np.testing.assert_array_equal(whole["room"], np.eye(3)[obs[1]["room"] - 5])
    np.testing.assert_array_equal(whole["tiny"], obs[1]["tiny"].reshape(7, -1))
    assert any("room" in n and "single 1" in n for n in source.notes)
    assert any("15 frames a second is assumed" in n for n in source.notes)


def test_pictures_kept_as_jpeg(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (4, 64, 64, 3)).copy()
    space = box(64, 64, 3, dtype=np.uint8, low=0, high=255)
    store(tmp_path / "d", [smooth], [np.zeros(3, int)], space, spaces.Discrete(2), jpeg=True)
    _, (episode,) = read(tmp_path / "d")
    assert np.abs(episode.obs["obs"].astype(int) - np.moveaxis(smooth, -1, 1)).max() <= 4


def test_actions_of_each_kind(tmp_path: Path) -> None:
    def action(name: str, space: Any, values: np.ndarray, **config: Any) -> Any:
        if not (tmp_path / name).exists():
            store(tmp_path / name, [np.zeros((len(values) + 1, 2), np.float32)], [values], box(2), space)
        source, (episode,) = read(tmp_path / name, **config)
        return source.spec.action, episode.control

    numbers = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    kind, control = action("box", box(3), numbers)
    assert (kind.low, kind.high) == ((-1,) * 3, (1,) * 3)
    np.testing.assert_array_equal(control["action"], [[0, 0, 0], *numbers])
    kind, _ = action("free", box(3, low=-np.inf, high=np.inf), numbers)
    assert not kind.low
    kind, control = action("buttons", spaces.MultiBinary(4), np.eye(5, 4, dtype=np.int8))
    assert kind.high == (1,) * 4
    np.testing.assert_array_equal(control["action"][1:], np.eye(5, 4))
    several = spaces.MultiDiscrete([3, 2])
    with pytest.raises(DataError, match="--actions continuous"):
        action("several", several, np.ones((5, 2), int))
    kind, _ = action("several", several, np.ones((5, 2), int), actions="continuous")
    assert kind.shape == (2,)
    kind, control = action("several", several, np.ones((5, 2), int), actions="none")
    assert kind is None
    assert control == {}
    with pytest.raises(DataError, match="outside the bounds"):
        action("wild", box(3), numbers * 2)
    kind, control = action("wild", box(3), numbers * 2, actions="continuous")
    np.testing.assert_array_equal(control["action"][1:], numbers * 2)


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    space = spaces.Dict({"where": box(2), "mission": spaces.Text(20)})
    obs = {"where": np.zeros((4, 2), np.float32), "mission": ["go"] * 4}
    store(tmp_path / "d", [obs], [np.zeros(3, int)], space, spaces.Discrete(2))
    source, _ = read(tmp_path / "d")
    assert set(source.spec.shown) == {"where"}
    assert any("Left out: mission (Text)" in n for n in source.notes)
    store(tmp_path / "t", [["go"] * 4], [np.zeros(3, int)], spaces.Text(20), spaces.Discrete(2))
    with pytest.raises(DataError, match="can be shown"):
        read(tmp_path / "t")


def toy(folder: Path, obs: Any = None) -> Path:
    obs = rng.normal(size=(4, 2)).astype(np.float32) if obs is None else obs
    return store(folder, [obs], [np.zeros(3, int)], box(2, low=-np.inf, high=np.inf), spaces.Discrete(2))


def change(folder: Path, **values: Any) -> None:
    path = folder / "data" / "metadata.json"
    data = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}), encoding="utf-8")


def test_no_code_that_the_metadata_name_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spaces Minari makes the environment, importing the module its entry point names."""
    toy(tmp_path / "d")
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nEnv = None", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = {"id": "X-v0", "entry_point": "hostile:Env", "additional_wrappers": [], "kwargs": {}}
    change(tmp_path / "d", observation_space=None, env_spec=json.dumps(entry))
    with pytest.raises(DataError, match="lacks a space"):
        read(tmp_path / "d")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "space",
    ["{}", "[]", "not json", '{"type": "Evil"}',
     '{"type": "Box", "dtype": "object", "shape": [1], "low": [0], "high": [1]}',
     '{"type": "Box", "dtype": "float32", "shape": [1000000000], "low": 0, "high": 1}',
     '{"type":"Dict","subspaces":' * 50],
)  # fmt: skip
def test_spaces_that_are_none(tmp_path: Path, space: str) -> None:
    toy(tmp_path / "d")
    change(tmp_path / "d", observation_space=space)
    with pytest.raises(DataError, match="does not describe a space"):
        read(tmp_path / "d")


def test_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.zeros((4, 2), np.float32)
    for name, link in {
        "external": lambda f: h5py.ExternalLink(str(tmp_path / "secret.h5"), "x"),
        "soft": lambda f: h5py.SoftLink("/episode_0/rewards"),
    }.items():
        toy(tmp_path / name)
        with h5py.File(tmp_path / name / "data" / "main_data.hdf5", "a") as file:
            del file["episode_0/observations"]
            file["episode_0/observations"] = link(file)
        source = open_source(tmp_path / name)
        with pytest.raises(DataError, match="link"):
            list(source.read(source.items[0]))


def test_damage_is_named_and_the_rest_kept(tmp_path: Path) -> None:
    nan = np.zeros((4, 2), np.float32)
    nan[2, 1] = np.nan
    toy(tmp_path / "nan", nan)
    source = open_source(tmp_path / "nan")
    with pytest.raises(DataError, match="episode 0, observations: observations hold NaN"):
        list(source.read(source.items[0]))
    toy(tmp_path / "few")
    change(tmp_path / "few", total_episodes=3)
    source = open_source(tmp_path / "few")
    assert len(source.items) == 1
    assert "claims 3 episodes, 1 are there" in source.problems[0].what
    with h5py.File(toy(tmp_path / "short") / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = np.zeros(2)
    source = open_source(tmp_path / "short")
    with pytest.raises(DataError, match="3 steps were expected"):
        list(source.read(source.items[0]))
    path = toy(tmp_path / "cut") / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="no episode can be used"):
        open_source(tmp_path / "cut")


def test_several_datasets_of_one_kind(tmp_path: Path) -> None:
    toy(tmp_path / "pen" / "human-v0")
    toy(tmp_path / "pen" / "expert-v0")
    source, episodes = read(tmp_path / "pen")
    assert [i.name for i in source.items] == ["expert-v0: episode 0", "human-v0: episode 0"]
    assert len(episodes) == 2
    store(tmp_path / "pen" / "other-v0", [np.zeros((4, 3), np.float32)], [np.zeros(3, int)], box(3), spaces.Discrete(2))
    with pytest.raises(DataError, match="different spaces"):
        read(tmp_path / "pen")
