"""Several datasets by the command: what is asked, what is trained, and what the run is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typed_command import command

import worldloom
from worldloom.data import Dataset

SETTLED = ("--mix", "3", "1", "--size", "first", "--fit", "stretch", "--sensors", "camera", "--actions", "union")
SETTLED += ("--fps-mix", "ignore")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Balls of 64×64 pushed in five directions, and CartPole of 32×48 with two actions and four numbers beside."""
    folder = tmp_path_factory.mktemp("mixed")
    common = ("--episodes", "6", "--length", "30", "--num", "2", "--out")
    for env, name, more in (
        ("balls", "balls", ("--world.action", "discrete")),
        ("CartPole-v1", "cart", ("--world.size", "32", "48")),
    ):
        code, _, err = command("data", "collect", "--env", env, *more, *common, str(folder / name))
        assert code == 0, err
    return str(folder / "balls"), str(folder / "cart")


@pytest.fixture(scope="module")
def run(data: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    code, said, err = command("train", "--data", *data, *SETTLED, "--out", str(out), "--debug")
    assert code == 0, err
    assert "75.0% of balls (180 frames)" in said
    assert "camera 32×48 read as 64×64; left out vector" in said
    assert "Rewards are known of cart alone" in said
    return out


def test_what_differs_is_listed_with_what_settles_it(data: tuple[str, str], tmp_path: Path) -> None:
    code, _, err = command("train", "--data", *data, "--out", str(tmp_path / "run"), "--debug")
    assert code == 2
    for says in ("'vector' in cart alone", "3×64×64, cart 3×32×48", "balls 5 choices (stay,", "balls 15, cart 50"):
        assert says in err
    for flag in ("--sensors camera", "--size first", "--actions union", "--fps-mix ignore"):
        assert flag in err
    assert not (tmp_path / "run" / "config.json").exists()


def test_one_model_has_the_actions_of_both(run: Path) -> None:
    spec = worldloom.load(run).spec
    assert spec.action is not None
    assert spec.action.names == ("stay", "left", "right", "up", "down", "cart 0", "cart 1")
    assert spec.shown.keys() == {"camera"}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = next(r for r in reversed(log) if r["kind"] == "validate")
    assert {"val_loss", "val_loss/balls", "val_loss/cart"} <= last.keys()


def test_the_same_command_goes_on_and_other_weights_are_refused(run: Path, data: tuple[str, str]) -> None:
    code, out, err = command("train", "--data", *data, *SETTLED, "--out", str(run), "--debug")
    assert code == 0, err
    assert "Nothing to do" in out
    other = ("--mix", "1", "1", *SETTLED[3:])
    code, _, err = command("train", "--data", *data, *other, "--out", str(run), "--debug")
    assert code == 2
    assert "data.0.share: 0.75 -> 0.5" in err


def test_the_run_is_measured_on_its_first_data_or_on_any(run: Path, data: tuple[str, str], tmp_path: Path) -> None:
    few = ("--starts", "2", "--prompt", "2", "--horizon", "4", "--count-horizon", "4", "--probes", "none")
    code, out, err = command("evaluate", str(run), *few)
    assert code == 0, err
    assert "Trained on 75.0% balls, 25.0% cart; on balls here" in out
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert any("its 5 choices" in note for note in report["notes"])
    assert report["position_error_px"]  # true positions are passed on, for the pictures are their own size
    before = (run / "report.json").read_bytes()
    code, _, err = command("evaluate", str(run), *few, "--data", data[1])
    assert code == 2
    assert "--out FOLDER" in err
    code, out, err = command("evaluate", str(run), *few, "--data", data[1], "--out", str(tmp_path))
    assert code == 0, err
    assert "read as cart 0, cart 1" in out
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["data"]["name"] == "cart"
    assert (run / "report.json").read_bytes() == before


def test_the_run_dreams_of_each(run: Path, data: tuple[str, str], tmp_path: Path) -> None:
    for more in ((), ("--data", data[1])):
        out = tmp_path / f"dream{len(more)}.gif"
        code, said, err = command("imagine", str(run), "--frames", "40", "--out", str(out), *more)
        assert code == 0, err
        assert "true world" not in said  # the simulator does not know the common actions
        assert out.exists()


def test_a_repeated_flag_is_the_same_mixture(run: Path, data: tuple[str, str]) -> None:
    a, b = data
    code, out, err = command("train", "--data", a, f"--data={b}", *SETTLED, "--out", str(run), "--debug")
    assert code == 0, err
    assert "Nothing to do" in out


def test_choices_beside_numbers_and_a_size_for_all(data: tuple[str, str], tmp_path: Path) -> None:
    pushed = tmp_path / "pushed"
    flags = ("--world.action", "continuous", "--episodes", "4", "--length", "20", "--num", "2")
    code, _, err = command("data", "collect", "--env", "balls", *flags, "--out", str(pushed))
    assert code == 0, err
    run = tmp_path / "run"
    sized = ("--size", "32", "32", "--actions", "union", "--steps", "3")
    code, _, err = command("train", "--data", data[0], str(pushed), *sized, "--out", str(run), "--debug")
    assert code == 0, err
    model = worldloom.load(run)
    assert model.spec.shown["camera"].shape == (3, 32, 32)
    assert model.spec.action is not None
    assert model.spec.action.kind == "continuous"
    starts = worldloom.load_starts(run)
    dream = worldloom.imagine(model, starts.time(slice(0, 3)), starts.action[:, 3:5], 2)
    assert dream.obs["camera"].shape[-2:] == (32, 32)


def test_one_dataset_can_be_read_smaller(data: tuple[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = command(
        "train", "--data", data[0], "--size", "32", "32", "--steps", "3", "--out", str(run), "--debug"
    )
    assert code == 0, err
    assert worldloom.load(run).spec.shown["camera"].shape == (3, 32, 32)
    code, out, err = command("imagine", str(run), "--frames", "3", "--out", str(tmp_path / "d.png"))
    assert code == 0, err
    assert "camera 64×64 read as 32×32" in out
    assert "Trained on" not in out


def test_recordings_are_imported_each_to_its_own_place(data: tuple[str, str], tmp_path: Path) -> None:
    for name, tone in (("day", 250), ("night", 60)):
        (tmp_path / name).mkdir()
        frames = np.zeros((24, 3, 64, 64), np.uint8)
        frames[np.arange(24), :, :, np.arange(24)] = tone
        worldloom.write_video(tmp_path / name / "film.mp4", frames, 15.0, scale=1)
    run = tmp_path / "run"
    several = ("--data", str(tmp_path / "day"), data[0], str(tmp_path / "night"), "--actions", "union")
    args = ("train", *several, "--out", str(run), "--debug", "--steps", "2")
    code, out, err = command(*args)
    assert code == 0, err
    assert out.count("no actions known, so null ones") == 2
    assert {d.name for d in (run / "data").iterdir()} == {"day", "night"}
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["data"]["path"] == ["data/day", str(Path(data[0]).resolve()), "data/night"]
    code, out, err = command(*args)
    assert code == 0, err
    assert "Nothing to do" in out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--mix", "3"), "2 datasets need 2 weights"),
        (("--mix", "3", "0"), "weight of cart must be a positive number"),
        (("--size", "64"), "--size takes HEIGHT WIDTH"),
        (("--size", "big"), "--size takes HEIGHT WIDTH"),
        (("--size", "64", "-1"), "-1"),
        (("--actions", "onion"), "--actions takes same, union, drop"),
        (("--actions", "map.json"), "map.json does not exist"),
        (("--actions", "tree:0=1"), "no dataset 'tree' to map; there are cart"),
    ],
)
def test_a_mistake_is_one_sentence(flags: tuple[str, ...], says: str, data: tuple[str, str], tmp_path: Path) -> None:
    code, out, err = command("train", "--data", *data, *flags, "--out", str(tmp_path / "run"), "--debug")
    assert code == 2
    assert says in out + err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_help_lists_the_flags_of_a_mixture(data: tuple[str, str]) -> None:
    code, out, _ = command("train", "--data", *data, "--help")
    assert code == 0
    for flag in ("--mix", "--size", "--fit", "--sensors", "--actions", "--fps-mix"):
        assert flag in out


def test_pictures_of_the_mixture_are_those_of_the_datasets(data: tuple[str, str]) -> None:
    """By Python, as the docs say it."""
    a, b = (Dataset(d) for d in data)
    mixture = worldloom.Mixture(
        [a, b], [3, 1], size="first", fit="stretch", sensors=["camera"], actions="union", fps="ignore"
    )
    batch = mixture.windows("train", 4).batch(64, seed=0, step=0)
    assert batch.action is not None
    real = batch.action[:, 1:]
    cart = (real >= 5).all(1)
    assert (cart | (real < 5).all(1)).all()  # a row is of one dataset
    assert 0.1 < float(cart.float().mean()) < 0.45
    bright = batch.obs["camera"].float().mean((1, 2, 3, 4))
    assert np.ptp(bright[cart].numpy()) < 10
    assert float(bright[cart].min()) > float(bright[~cart].max())  # white around the cart, dark around the balls
