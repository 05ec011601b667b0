"""Models that come with the package: whole, small, found by name everywhere, and never written to."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

import worldloom
from worldloom import shipped
from worldloom.configs import from_json
from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, load_tensors, read_json, write_json
from worldloom.imagination.starts import load_starts_and_truth
from worldloom.imagination.trust import load_trust
from worldloom.models.saved import load_model, read_model
from worldloom.shipped import FOLDER, MANIFEST, home, manifest, resolve
from worldloom.training.init import take_over
from worldloom.worlds.balls import Balls, BallsConfig

NAMES = ("balls", "duo")


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, and its hash."""
    files = (f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def copy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped models in a folder of their own, which may be harmed."""
    folder = tmp_path_factory.mktemp("package") / "shipped"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


# ------------------------------------------------------------------------------------------- what is shipped


def test_the_manifest_has_every_file_and_its_hash() -> None:
    assert tuple(manifest()) == NAMES
    listed = {f"{name}/{file}": sha for name, files in manifest().items() for file, sha in files.items()}
    assert listed == {f: sha for f, sha in contents(FOLDER).items() if "/" in f}
    assert {"model.safetensors", "config.json", "starts.safetensors", "trust.json"} <= manifest()["balls"].keys()


def test_all_of_it_is_at_most_12_megabytes() -> None:
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) <= 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_in_two_bytes_and_loaded_as_float32(name: str) -> None:
    stored, _ = load_tensors(FOLDER / name / "model.safetensors")
    assert {x.element_size() for x in stored.values() if x.is_floating_point()} == {2}
    _, read, _ = read_model(name)  # what --init reads
    loaded = worldloom.load(name).state_dict()
    for tensors in (read, loaded):
        assert {x.dtype for x in tensors.values() if x.is_floating_point()} == {torch.float32}
    assert all(torch.equal(loaded[key], x.to(loaded[key].dtype)) for key, x in stored.items())


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_those_of_the_world_and_their_truth_goes_on(name: str) -> None:
    """The exact world, placed where the file says, shows the file's frames."""
    segment, truth = load_starts_and_truth(name)
    assert segment.length >= 16
    described = read_json(FOLDER / name / "config.json", sealed=True)["data"]["world"]
    world = Balls(from_json(BallsConfig, described["config"], "world"), segment.batch)
    now = world.place(truth["position"][:, 0], truth["velocity"][:, 0], truth["radius"][:, 0])
    for t in range(segment.length):
        assert (now.obs["camera"] == segment.obs["camera"][:, t].numpy()).all()
        action = segment.action
        if t + 1 < segment.length:
            now = world.step(torch.zeros(segment.batch, 0).numpy() if action is None else action[:, t + 1].numpy())


def test_duo_is_two_balls_that_are_pushed() -> None:
    config = read_json(FOLDER / "duo" / "config.json", sealed=True)["data"]["world"]["config"]
    assert (config["balls"], config["radius"], config["speed"], config["gravity"]) == (2, 5.0, 2.0, [0.0, 0.1])
    action = worldloom.load("duo").spec.action
    assert action is not None
    assert action.names == ("stay", "left", "right", "up", "down")


@pytest.mark.parametrize("name", NAMES)
def test_trust_is_that_of_the_stored_weights(name: str) -> None:
    load_trust(name).check(load_model(name))


# ------------------------------------------------------------------------------------------------ what a name means


@pytest.mark.parametrize("given", ["balls", Path("balls")])
def test_a_name_is_a_shipped_model(given: str | Path, fresh: Path) -> None:
    assert resolve(given) == FOLDER / "balls"


def test_a_path_that_exists_wins_over_a_name(fresh: Path) -> None:
    (fresh / "balls").mkdir()
    assert resolve("balls") == Path("balls")
    with pytest.raises(WorldloomError, match=r"no model\.safetensors.* hides the shipped model 'balls'"):
        worldloom.load("balls")
    with pytest.raises(WorldloomError, match="hides the shipped model 'balls'"):
        worldloom.load_starts("balls")


@pytest.mark.parametrize(("given", "says"), [("bals", "Did you mean 'balls'"), ("zebra", "Shipped: balls, duo")])
@pytest.mark.parametrize("read", [worldloom.load, worldloom.load_starts, load_trust, worldloom.DreamEnv])
def test_an_unknown_name_is_told_with_those_there_are(read: object, given: str, says: str, fresh: Path) -> None:
    with pytest.raises(WorldloomError, match="does not exist, and no shipped model has that name") as error:
        read(given)  # type: ignore[operator]
    assert says in str(error.value)
    assert "balls, duo" in str(error.value)


def test_a_path_of_several_parts_is_no_name(fresh: Path) -> None:
    assert resolve("runs/balls") == Path("runs/balls")
    assert resolve(fresh / "balls") == fresh / "balls"


def test_every_function_that_takes_a_run_takes_a_name(fresh: Path) -> None:
    before = contents(FOLDER)
    model = worldloom.load("balls")
    dream = worldloom.imagine(model, worldloom.load_starts("balls").rows(slice(0, 1)).time(slice(0, 4)), frames=2)
    assert dream.obs["camera"].shape == (1, 2, 3, 64, 64)
    env = worldloom.DreamEnv("balls", max_steps=2)
    assert env.reset(seed=0)[0].shape == (64, 64, 3)
    other = worldloom.build("diffusion", model.spec, model.config)
    account = take_over(other, "balls")
    assert account.share == 1
    for name, x in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], x)
    assert contents(FOLDER) == before
    assert list(fresh.iterdir()) == []


# -------------------------------------------------------------------------------------------------- damage and copies


@pytest.mark.parametrize("harm", ["flip", "delete"])
@pytest.mark.parametrize("file", ["config.json", "starts.safetensors"])
def test_a_file_that_is_not_as_shipped_is_found_whatever_is_read(harm: str, file: str, copy: Path, fresh: Path) -> None:
    where = copy / "balls" / file
    if harm == "delete":
        where.unlink()
    else:
        data = bytearray(where.read_bytes())
        data[len(data) // 2] ^= 1
        where.write_bytes(data)
    with pytest.raises(DamagedFileError, match=f"{file}.*Install worldloom anew"):
        worldloom.load("balls")
    assert worldloom.load("duo") is not None


def test_a_changed_manifest_is_found(copy: Path, fresh: Path) -> None:
    text = (copy / MANIFEST).read_text(encoding="utf-8")
    (copy / MANIFEST).write_text(text.replace("balls", "balks"), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"manifest\.json is damaged"):
        worldloom.load("duo")


def test_who_writes_into_a_run_gets_a_copy(fresh: Path) -> None:
    before = contents(FOLDER)
    for given in ("balls", FOLDER / "balls", "balls"):  # by then the copy stands at that path
        assert home(given).resolve() == fresh / "balls"
    assert contents(fresh / "balls") == contents(FOLDER / "balls")
    write_json(fresh / "balls" / "trust.json", {})
    home(FOLDER / "balls")
    assert read_json(fresh / "balls" / "trust.json") == {}  # what was measured there stays
    assert home("duo", fresh / "other") == fresh / "other"
    assert contents(FOLDER) == before


def test_a_copy_never_takes_the_place_of_another_run(fresh: Path) -> None:
    (fresh / "mine").mkdir()
    write_json(fresh / "mine" / "config.json", {})
    with pytest.raises(WorldloomError, match=r"holds another run \(config\.json\)"):
        home("balls", fresh / "mine")
    assert [f.name for f in (fresh / "mine").iterdir()] == ["config.json"]


def test_an_interrupted_copy_is_finished(fresh: Path) -> None:
    (fresh / "out").mkdir()
    shutil.copyfile(FOLDER / "balls" / "config.json", fresh / "out" / "config.json")
    assert contents(home("balls", fresh / "out")) == contents(FOLDER / "balls")


def test_a_run_of_ones_own_is_its_own_home(fresh: Path) -> None:
    (fresh / "run").mkdir()
    assert home("run") == Path("run")
