"""The verbs of data as a user types them: relative paths, folders that are not there yet, mistakes in one sentence."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from worldloom.cli import main
from worldloom.data import Dataset
from worldloom.imagination.video import write_video


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def films(folder: Path, count: int = 12, length: int = 60, late: bool = False, seed: int = 0) -> None:
    """A square that actions push left and right; ``late``: a row holds the action that led to its frame."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for n in range(count):
        x, pushes = 28, rng.integers(0, 3, length)
        frames = np.zeros((length, 64, 64, 3), np.uint8)
        for t in range(length):
            frames[t, 28:36, x : x + 8] = 255
            x = int(np.clip(x + 2 * (pushes[t] - 1), 0, 56))
        write_video(folder / f"film {n} é.mp4", frames, 10.0, scale=1)
        with (folder / f"film {n} é.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["action"], *[[a] for a in (np.roll(pushes, 1) if late else pushes)]])


def test_there_and_back_through_every_format(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films(here / "films", count=3, length=20)
    assert main(["data", "import", "films", "--out", "new/mine", "--size", "32", "32"]) == 0
    assert "row t of a table was taken after frame t" in capsys.readouterr().out
    mine = Dataset("new/mine")
    assert mine.spec.images["camera"].shape == (3, 32, 32)
    for format in ("lerobot", "minari", "video"):
        assert main(["data", "export", "new/mine", "--format", format, "--out", f"out/to/{format}"]) == 0
        assert main(["data", "import", f"out/to/{format}", "--out", f"back/{format}"]) == 0
        back = Dataset(f"back/{format}")
        assert back.lengths.tolist() == mine.lengths.tolist()
        assert back.spec.fps == (mine.spec.fps if format != "minari" else back.spec.fps)
        for n in range(3):
            a, b = mine.episode(n), back.episode(n)
            assert a.control["action"].tolist() == b.control["action"].tolist()
            (pictures,) = b.obs.values()
            assert np.abs(a.obs["camera"].astype(int) - pictures).mean() < 3
        assert main(["data", "export", "new/mine", "--format", format, "--out", f"out/to/{format}"]) == 2
        assert "is not an empty folder" in capsys.readouterr().err


def test_actions_that_are_a_row_late_are_found_and_not_trained_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films(here / "late", late=True)
    assert main(["data", "import", "late", "--out", "data"]) == 1
    said = capsys.readouterr()
    assert "Import with --pairing same" in said.out
    assert "Next" not in said.out
    assert main(["train", "--debug", "--steps", "2", "--data", "data", "--out", "refused"]) == 2
    assert main(["data", "import", "late", "--out", "data", "--pairing", "same"]) == 2
    assert "Delete data" in capsys.readouterr().err
    assert main(["data", "inspect", "data", "--html", "page.html", "--sheet", "sheet.png"]) == 1
    assert "misaligned actions" in Path("page.html").read_text(encoding="utf-8")
    assert Path("sheet.png").stat().st_size > 1000
    train = ["train", "--debug", "--steps", "2", "--data", "late"]
    assert main([*train, "--out", "refused"]) == 2
    assert "late has the errors above" in capsys.readouterr().err
    assert not Path("refused/config.json").exists()
    assert main([*train, "--out", "refused", "--force"]) == 0
    assert main([*train, "--out", "right", "--import.pairing", "same"]) == 0
    capsys.readouterr()
    assert main([*train, "--out", "right"]) == 2  # taken up again, but to be read otherwise
    assert "--pairing same -> auto" in capsys.readouterr().err
    assert main(["data", "inspect", "right/data"]) == 0


def test_folders_of_any_names_are_read_in_order_and_pictures_beside_videos_are_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "films").mkdir()
    for seed, folder in enumerate(("run", "run2", "run10", "a", "a1")):
        films(here / "films" / folder, count=1, length=12, seed=seed)
    write_video(here / "films" / "still.png", np.zeros((1, 32, 32, 3), np.uint8))
    assert main(["data", "import", "films", "--out", "d"]) == 0
    said = capsys.readouterr().out
    assert "Left out: 1 pictures (still.png" in said
    assert "Whether actions stand beside the frames they led to can't be told" in said
    sources = [str(Dataset("d").info_of(n)["source"]).split("/")[0] for n in range(5)]
    assert sources == ["a", "a1", "run", "run2", "run10"]


def test_mistakes_are_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "films").mkdir()
    (here / "films" / "empty.mp4").touch()
    (here / "nothing").mkdir()
    for args, said in (
        (["data", "import", "gone", "--out", "d"], "gone does not exist"),
        (["data", "import", "nothing", "--out", "d"], "nothing is an empty folder"),
        (["data", "import", "films", "--out", "d"], r"empty.mp4: is empty"),
        (["data", "import", "films", "--out", "d", "--size", "0", "4"], "size must be two numbers"),
        (["data", "inspect", "gone"], "gone does not exist"),
        (["data", "export", "gone", "--format", "video", "--out", "d"], "gone does not exist"),
        (["data", "imprt", "films"], "Did you mean 'import'"),
    ):
        assert main(args) == 2, args
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
        assert not (here / "d").exists()
