"""Every kind of problem is found where it was put, and the good data have none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys_to_inspect import SPEC, good, spoiled

from worldloom.contract import Control, Sensor, Spec
from worldloom.data import DatasetWriter, Episode
from worldloom.data.importing import import_data
from worldloom.data.inspecting import InspectConfig, Inspection, Problem, inspect_data, inspect_episodes
from worldloom.data.inspecting.reading import open_path
from worldloom.data.sources import ImportConfig

FAST = InspectConfig(align=False)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return good()


def problems(episodes: list[Episode], spec: Spec = SPEC) -> list[Problem]:
    return inspect_episodes(spec, episodes, FAST).problems


def only(found: list[Problem], kind: str) -> Problem:
    assert {p.kind for p in found} == {kind}, found
    return found[0]


def test_good_data_have_none(episodes: list[Episode]) -> None:
    found = inspect_episodes(SPEC, episodes, FAST)
    assert found.problems == []
    assert found.exit_code == 0
    assert found.actions[0].labels == list(SPEC.given["action"].names)
    assert sum(found.actions[0].counts) == 24 * 89
    assert found.lengths is not None
    assert (found.lengths.low, found.lengths.middle, found.lengths.high) == (90, 90, 90)


def test_unequal_lengths(episodes: list[Episode]) -> None:
    bad = spoiled(episodes, 3, action=episodes[3].control["action"][:-1])
    p = only(problems(bad), "does not fit")
    assert p.where == "episode 3"
    assert p.severity == "error"
    assert "89" in p.what
    assert "90" in p.what


@pytest.mark.parametrize("what", ["place", "reward"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(episodes: list[Episode], what: str, value: float) -> None:
    x = (episodes[5].reward if what == "reward" else episodes[5].obs[what]).copy()
    x[20:23] = value
    p = only(problems(spoiled(episodes, 5, **{what: x})), "not finite")
    assert p.where == "episode 5, frames 20 to 22"
    assert p.severity == "error"


def continuous(episodes: list[Episode], change: Callable[[np.ndarray], None]) -> tuple[Spec, list[Episode]]:
    """The same with pushes of two entries."""
    spec = Spec(SPEC.shown, {"action": Control("continuous", (2,), names=("gas", "wheel"))}, SPEC.fps)
    rng = np.random.default_rng(0)
    out = []
    for e in episodes:
        action = rng.uniform(-1, 1, (e.length, 2)).astype(np.float32)
        change(action)
        action[0] = 0
        out.append(replace(e, control={"action": action}))
    return spec, out


def test_continuous_actions(episodes: list[Episode]) -> None:
    def scale(a: np.ndarray) -> None:
        a[:, 1] *= 5000

    def still(a: np.ndarray) -> None:
        a[:, 0] = 0.5

    def constant(a: np.ndarray) -> None:
        a[:] = 0.25

    def broken(a: np.ndarray) -> None:
        a[7] = np.nan

    assert problems(*continuous(episodes, lambda a: None)[::-1]) == []
    assert "wheel" in only(problems(*continuous(episodes, scale)[::-1]), "out of proportion").where
    assert "gas" in only(problems(*continuous(episodes, still)[::-1]), "constant action entry").where
    only(problems(*continuous(episodes, constant)[::-1]), "constant actions")
    assert "frame 7" in only(problems(*continuous(episodes, broken)[::-1]), "not finite").where


def test_choices(episodes: list[Episode]) -> None:
    def with_actions(draw: Callable[[int], np.ndarray]) -> list[Problem]:
        out = []
        for e in episodes:
            action = draw(e.length)
            action[0] = 5
            out.append(replace(e, control={"action": action}))
        return problems(out)

    rng = np.random.default_rng(0)
    only(with_actions(lambda n: np.full(n, 2)), "constant actions")
    p = only(with_actions(lambda n: np.where(rng.random(n) < 0.98, 1, rng.integers(0, 5, n))), "unbalanced actions")
    assert "'left'" in p.what
    p = only(with_actions(lambda n: rng.integers(0, 4, n)), "unused actions")
    assert "'down'" in p.what
    assert p.severity == "remark"


def test_frozen_and_blank(episodes: list[Episode]) -> None:
    whole = {n: np.repeat(x[:1], len(x), 0) for n, x in episodes[2].obs.items()}
    p = only(problems(spoiled(episodes, 2, **whole)), "frozen frames")
    assert (p.where, p.severity) == ("episode 2, frames 0 to 89", "error")
    part = {n: x.copy() for n, x in episodes[2].obs.items()}
    for x in part.values():
        x[10:60] = x[10]
    p = next(p for p in problems(spoiled(episodes, 2, **part)) if p.kind == "frozen frames")
    assert (p.where, p.severity) == ("episode 2, frames 10 to 59", "warning")
    black = episodes[4].obs["camera"].copy()
    black[30:33] = 0
    p = next(p for p in problems(spoiled(episodes, 4, camera=black)) if p.kind == "blank frames")
    assert p.where == "episode 4, frames 30 to 32"
    assert "black" in p.what


def test_standing_still_without_acting_is_no_problem(episodes: list[Episode]) -> None:
    part = {n: x.copy() for n, x in episodes[2].obs.items()}
    for x in part.values():
        x[10:60] = x[10]
    action = episodes[2].control["action"].copy()
    action[11:60] = 0
    kinds = {p.kind for p in problems(spoiled(episodes, 2, action=action, **part))}
    assert "frozen frames" not in kinds


@pytest.mark.parametrize(("k", "twice"), [(2, True), (4, True), (3, False)])
def test_repeated_frames(episodes: list[Episode], k: int, twice: bool) -> None:
    """Every k-th frame shown twice, or each frame shown k times."""
    t = np.arange(90)
    source = t - t // k if twice else t // k
    bad = [replace(e, obs={n: x[source] for n, x in e.obs.items()}) for e in episodes]
    found = [p for p in problems(bad) if p.kind == "repeated frames"]
    assert len(found) == 1
    assert "23 further episodes" in found[0].where


def test_dropped_frames() -> None:
    """A slow disc in a straight line, with frames missing in one episode."""
    spec = Spec({"camera": Sensor("image", (1, 32, 64))})
    y, x = np.mgrid[:32, :64]
    out = []
    for start in range(4, 10):
        centres = start + np.arange(45) * 0.8 + (16 * (np.arange(45) >= 22) if start == 7 else 0)
        discs = (x[None] - centres[:, None, None]) ** 2 + (y[None] - 2 * start) ** 2 < 12
        out.append(Episode({"camera": (discs[:, None] * 200).astype(np.uint8)}))
    found = [p for p in problems(out, spec) if p.kind == "jumps"]
    assert [p.where for p in found] == ["episode 3, frames 21 to 22"]


def test_cut(episodes: list[Episode]) -> None:
    camera = episodes[6].obs["camera"].copy()
    camera[50:] = 255 - camera[50:]
    assert only(problems(spoiled(episodes, 6, camera=camera)), "jumps").where == "episode 6, frames 49 to 50"


def test_wrong_dtype_and_channel_order(episodes: list[Episode]) -> None:
    cast = [replace(e, obs=e.obs | {"camera": (e.obs["camera"] > 100).astype(np.uint8)}) for e in episodes]
    assert "wrong dtype" in {p.kind for p in problems(cast)}
    reshaped = [
        replace(e, obs=e.obs | {"camera": np.moveaxis(_coloured(e), 1, -1).reshape(_coloured(e).shape)})
        for e in episodes
    ]
    assert "channel order" in {p.kind for p in problems(reshaped)}
    right = [replace(e, obs=e.obs | {"camera": _coloured(e)}) for e in episodes]
    assert "channel order" not in {p.kind for p in problems(right)}
    last = Spec({"camera": Sensor("image", (32, 32, 3))})
    bad = [Episode({"camera": np.moveaxis(e.obs["camera"], 1, -1).copy()}) for e in episodes]
    p = next(p for p in problems(bad, last) if p.kind == "channel order")
    assert "channels stand last" in p.what


def _coloured(e: Episode) -> np.ndarray:
    """The frames over a smooth background of strong colour."""
    ramp = np.linspace(0, 60, 32)
    ground = np.stack([200 - ramp, 20 + ramp, 90 + ramp / 2])[None, :, None, :]
    out: np.ndarray = np.where(e.obs["camera"] > 60, e.obs["camera"], ground).astype(np.uint8)
    return out


def test_lengths_and_amounts(episodes: list[Episode]) -> None:
    def cut(e: Episode, n: int) -> Episode:
        obs = {name: x[:n] for name, x in e.obs.items()}
        assert e.reward is not None
        return replace(e, obs=obs, control={"action": e.control["action"][:n]}, reward=e.reward[:n])

    assert only(problems([*episodes, cut(good(1, 90, 9)[0], 1)]), "too short").where == "episode 24"
    assert only(problems([*episodes, cut(good(1, 90, 9)[0], 5)]), "much shorter").where == "episode 24"
    assert {p.kind for p in problems(episodes[:2])} == {"too few episodes", "too few frames"}


def test_rewards_and_ends(episodes: list[Episode]) -> None:
    none = [replace(e, reward=None, terminal=None) for e in episodes]
    found = problems(none)
    assert {p.kind for p in found} == {"no rewards", "unknown ends"}
    assert {p.severity for p in found} == {"remark"}
    only(problems([replace(e, reward=np.zeros(90, np.float32)) for e in episodes]), "zero rewards")


def test_duplicates(episodes: list[Episode]) -> None:
    p = only(problems([*episodes, replace(episodes[7], info={"source": "again.mp4"})]), "duplicates")
    assert p.where == "episode 7 and episode 24"
    rng = np.random.default_rng(0)
    near = episodes[8].obs["camera"].astype(int) + rng.integers(-1, 2, episodes[8].obs["camera"].shape)
    coded = replace(episodes[8], obs=episodes[8].obs | {"camera": np.clip(near, 0, 255).astype(np.uint8)})
    p = only(problems([*episodes, coded]), "duplicates")
    assert p.where in ("episode 8 and episode 24", "episode 24 and episode 8")
    assert "nearly" in p.what


def written(path: Path, episodes: list[Episode]) -> Path:
    with DatasetWriter(path, SPEC) as writer:
        for e in episodes:
            writer.add(e)
    return path


def inspected(path: Path) -> Inspection:
    return inspect_data(path, FAST)


def test_dataset_and_leaks(tmp_path: Path, episodes: list[Episode]) -> None:
    found = inspected(written(tmp_path / "good", episodes))
    assert found.problems == []
    assert found.verified is True
    assert found.splits == {"train": 22, "val": 1, "test": 1}
    assert found.to_json()["frames"] == 24 * 90
    # episodes 1 and 2 validate and test, the others of the first block train
    p = only(
        inspected(written(tmp_path / "leak", [*episodes[:5], episodes[2], *episodes[6:]])).problems,
        "leak between splits",
    )
    assert p.severity == "error"
    assert "episode 2 and episode 5" in p.where
    parts = [replace(e, info={"source": f"{i // 3}.mp4", "part": i % 3}) for i, e in enumerate(episodes)]
    p = only(inspected(written(tmp_path / "parts", parts)).problems, "one recording in several splits")
    assert p.severity == "remark"


def test_damage_is_said_and_the_rest_is_inspected(tmp_path: Path, episodes: list[Episode]) -> None:
    path = written(tmp_path / "data", episodes)
    shard = next((path / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[5000] ^= 255
    shard.write_bytes(data)
    found = inspected(path)
    assert found.verified is False
    assert found.exit_code == 1
    assert found.problems[0].kind == "damaged"
    assert found.looked_at["episodes"] == 24


def test_the_sample_is_bounded_and_seeded(tmp_path: Path, episodes: list[Episode]) -> None:
    path = written(tmp_path / "data", episodes)
    few = InspectConfig(sample=6, align=False)
    a, b = inspect_data(path, few), inspect_data(path, few)
    assert a.looked_at == {"episodes": 6, "frames": 540, "seed": 0}
    assert [s.title for s in a.strips] == [s.title for s in b.strips]
    other = inspect_data(path, replace(few, seed=1))
    assert [s.title for s in a.strips] != [s.title for s in other.strips]


def test_many_of_a_kind_are_counted(episodes: list[Episode]) -> None:
    bad = episodes
    for number in range(12):
        place = episodes[number].obs["place"].copy()
        place[3] = np.nan
        bad = spoiled(bad, number, place=place)
    found = problems(bad)
    assert len(found) == 6
    assert found[-1].where == "7 more"


def test_a_source_is_judged_by_the_split_that_an_import_would_make(tmp_path: Path, episodes: list[Episode]) -> None:
    def kinds(recordings: int) -> set[str]:
        folder = tmp_path / f"{recordings}"
        folder.mkdir()
        for n, e in enumerate(episodes[:recordings]):
            np.savez(folder / f"e{n}.npz", obs=e.obs["camera"][:20], action=e.control["action"][1:20])
        return {p.kind for p in inspect_data(folder, FAST, ImportConfig(length=10)).problems}

    assert "one recording in several splits" in kinds(5)
    assert "one recording in several splits" not in kinds(12)  # from ten on whole recordings are held out


def test_no_pairing_is_advised_where_the_files_decide_it(tmp_path: Path) -> None:
    first = np.arange(20) == 0
    np.savez(tmp_path / "e.npz", state=np.zeros((20, 2)), action=np.arange(20) % 3, is_first=first)
    assert open_path(tmp_path).pairing == ""  # already read as DreamerV2's: 'same' would change nothing
    assert open_path(tmp_path, ImportConfig(pairing="next")).pairing == "next"
    import_data(tmp_path, tmp_path / "out", say=lambda _: None)
    assert open_path(tmp_path / "out").pairing == ""
