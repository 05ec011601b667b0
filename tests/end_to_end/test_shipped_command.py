"""`worldloom imagine balls` at once: the verbs with the name of a shipped model, in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from typed_command import command

from worldloom.files import read_json
from worldloom.imagination.video import read_video


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["balls", "duo"])
def test_imagine_dreams_beside_the_true_world(name: str, fresh: Path) -> None:
    """Beyond the stored frames the exact world goes on: no grey, and no word about data that nobody has."""
    code, out, err = command("imagine", name, "--frames", "20", "--out", "dream.mp4")
    assert code == 0, err
    assert out.splitlines() == ["dream.mp4: 4 true frames, then 20 dreamed ones; beside them: true world."]
    assert [f.name for f in fresh.iterdir()] == ["dream.mp4"]
    frames = read_video(fresh / "dream.mp4")[0]
    assert len(frames) == 24


def test_actions_at_rest_can_be_asked_for_and_null_ones_can_not() -> None:
    code, out, _ = command("imagine", "duo", "--frames", "12", "--actions", "rest", "--out", "rest.png")
    assert code == 0, out
    code, _, err = command("imagine", "duo", "--actions", "null")
    assert code == 2
    assert "rest" in err


def test_imagine_takes_another_of_the_starts_and_says_how_many_there_are() -> None:
    assert command("imagine", "balls", "--frames", "2", "--start", "7", "--out", "d.png")[0] == 0
    code, _, err = command("imagine", "balls", "--frames", "2", "--start", "8", "--out", "d.png")
    assert code == 2
    assert "holds 8 starts" in err


@pytest.mark.parametrize("verb", [("imagine",), ("evaluate",), ("evaluate", "duo")])
def test_an_unknown_name_is_one_sentence_with_the_names_there_are(verb: tuple[str, ...], fresh: Path) -> None:
    code, _, err = command(*verb, "bals")
    assert code == 2
    assert "bals does not exist, and no shipped model has that name. Did you mean 'balls'? Shipped: balls, duo." in err
    assert list(fresh.iterdir()) == []


def test_a_folder_of_that_name_is_what_is_meant(fresh: Path) -> None:
    (fresh / "balls").mkdir()
    code, _, err = command("imagine", "balls")
    assert code == 2
    assert "hides the shipped model 'balls'" in err


def test_training_begins_with_a_shipped_model(fresh: Path) -> None:
    """The model's settings are then those of the shipped one, and all of its tensors are taken."""
    size = ("--collect.episodes", "3", "--collect.length", "30", "--collect.num", "3", "--steps", "1")
    quick = ("--train.batch", "1", "--train.validate-every", "0", "--train.sample-every", "0")
    code, out, err = command("train", "duo", "--init", "duo", "--out", "run", *size, *quick)
    assert code == 0, err
    assert "The model's settings are those of duo" in out
    account = read_json(fresh / "run" / "init.json")
    assert (account["new"], account["unused"], account["partly"]) == ({}, [], {})
    assert read_json(fresh / "run" / "config.json", sealed=True)["init"] == "duo"
