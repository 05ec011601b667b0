"""`worldloom imagine` from prompts, as typed: every way to ask for a video, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed_command import command

from worldloom.imagination import read_video, write_video
from worldloom.recipes.prompted import side_by_side

SMALL = ("--world.height", "32", "--world.width", "32", "--world.counts", "1", "2", "--world.radii", "2", "3", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that sees both ways in time and reads texts, and prompts beside it."""
    folder = tmp_path_factory.mktemp("prompts")
    wide = ("--model.ahead", "2", "--model.drop", "text", "0.2", "--train.precision", "float32")
    code, _, err = command("train", "sora", "--debug", *SMALL, *wide, "--out", str(folder / "run"))
    assert code == 0, err
    code, _, err = imagine(folder, "--text", "two small red balls, strong gravity", "--out", "start.mp4")
    assert code == 0, err
    Image.fromarray(frames(folder / "start.mp4")[0]).save(folder / "first.png")
    Image.fromarray(frames(folder / "start.mp4")[-1]).save(folder / "end.png")
    write_video(folder / "few.mp4", read_video(folder / "start.mp4")[0][:3], scale=1)
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(folder / "wide.png")
    (folder / "torn.png").write_bytes((folder / "first.png").read_bytes()[:60])
    return folder


def imagine(folder: Path, *args: str) -> tuple[int, str, str]:
    """The command in the folder: words that name a file there, or the one to write, are its paths."""
    paths = {"--out", "--image", "--clip", "--last"}
    full = [str(folder / b) if a in paths else b for a, b in zip(("", *args), args, strict=False)]
    return command("imagine", str(folder / "run"), *full)


def frames(path: Path) -> np.ndarray:
    """(T, 32, W, 3): as the model made them, the enlargement undone."""
    x = read_video(path)[0]
    factor = x.shape[1] // 32
    blocks = x.reshape(len(x), 32, factor, x.shape[2] // factor, factor, 3)
    return blocks.mean((2, 4)).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("args", "length", "known"),
    [
        (("--image", "first.png"), 16, {0: "first.png"}),
        (("--last", "end.png"), 16, {-1: "end.png"}),
        (("--image", "first.png", "--last", "end.png", "--frames", "12"), 12, {0: "first.png", -1: "end.png"}),
        (("--clip", "few.mp4", "--text", "one ball"), 16, {0: "first.png"}),
        (("--clip", "start.mp4"), 32, {0: "first.png", 15: "end.png"}),
        (("--last", "start.mp4", "--frames", "20"), 20, {4: "first.png", -1: "end.png"}),
        (("--clip", "few.mp4", "--last", "end.png", "--table", "keyframes", "--steps", "2"), 16, {0: "first.png"}),
        (("--image", "first.png", "--table", "autoregressive", "--steps", "1", "--frames", "24"), 24, {0: "first.png"}),
        (("--text", "red balls", "--table", "pyramid", "--steps", "2", "--guidance", "text=2"), 16, {}),
    ],
)
def test_every_way_to_ask_for_a_video(
    folder: Path, tmp_path: Path, args: tuple[str, ...], length: int, known: dict[int, str]
) -> None:
    code, out, err = imagine(folder, *args, "--out", str(tmp_path / "out.mp4"))
    assert code == 0, err
    assert f"{length} frames of 32x32" in out
    made = frames(tmp_path / "out.mp4")
    assert made.shape == (length, 32, 32, 3)
    for at, name in known.items():
        with Image.open(folder / name) as picture:
            away = np.abs(made[at].astype(int) - np.asarray(picture).astype(int))
        assert np.median(away) <= 4, f"frame {at} is not {name}"  # twice through a video file


def test_a_seed_a_text_and_guidance_each_make_another_video(folder: Path, tmp_path: Path) -> None:
    ways = [(), ("--seed", "1"), ("--text", "two red balls"), ("--text", "two red balls", "--guidance", "text=4")]
    made = []
    for i, way in enumerate(ways):
        code, _, err = imagine(folder, "--batch", "2", "--steps", "2", *way, "--out", str(tmp_path / f"{i}.gif"))
        assert code == 0, err
        made.append((tmp_path / f"{i}.gif").read_bytes())
    assert len(set(made)) == len(ways)


def test_several_videos_on_a_sheet_at_another_size(folder: Path, tmp_path: Path) -> None:
    args = ("--text", "blue", "--size", "24x40", "--batch", "3", "--frames", "8")
    code, out, err = imagine(folder, *args, "--out", str(tmp_path / "sheet.png"))
    assert code == 0, err
    assert "3 videos of 8 frames of 24x40, from the text 'blue'" in out
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (8 * (4 * 40 + 2) - 2, 3 * (4 * 24 + 2) - 2)
    code, _, err = imagine(folder, "--batch", "4", "--frames", "8", "--out", str(tmp_path / "grid.mp4"))
    assert code == 0, err
    video = read_video(tmp_path / "grid.mp4")[0]
    assert video.shape == (8, 2 * 160 + 2, 2 * 160 + 2, 3)


def test_videos_stand_side_by_side_in_time() -> None:
    videos = np.arange(2 * 5, dtype=np.uint8).reshape(2, 5, 1, 1, 1) * np.ones((1, 1, 3, 8, 8), np.uint8)
    both = side_by_side(videos)
    assert (both[:, :100, :100, 0] == np.arange(5)[:, None, None]).all()
    assert (both[:, :100, -100:, 0] == np.arange(5, 10)[:, None, None]).all()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--text", "two ballz"), "Did you mean 'ball' or 'balls'"),
        (("--image", "wide.png"), "wide.png is 32x48 (height x width), and"),
        (("--image", "wide.png"), "--size 32x48"),
        (("--image", "missing.png"), "missing.png is not a file"),
        (("--image", "torn.png"), "torn.png can't be read as a picture"),
        (("--image", "start.mp4"), "for a video give --clip"),
        (("--image", "first.png", "--clip", "few.mp4"), "not both"),
        (("--clip", "start.mp4", "--frames", "16"), "The prompt is longer than the video: 16 frames to begin with"),
        (("--text", "red", "--start", "3"), "--start goes on from held-out frames, --text makes a video from prompts"),
        (("--text", "red", "--size", "64"), "--size is height x width in pixels, such as 64x96; found '64'"),
        (("--text", "red", "--size", "30x30"), "must be multiples of 8"),
        (("--text", "red", "--guidance", "text"), "--guidance is name=weight, such as text=2; found 'text'"),
        (("--text", "red", "--guidance", "action=2"), "There is no control 'action' to guide by"),
        (("--text", "red", "--batch", "0"), "at least 1"),
        (("--text", "red", "--steps", "0"), "steps of a sampling table must be a whole number of at least 1"),
    ],
)
def test_a_mistaken_prompt_is_one_sentence(folder: Path, tmp_path: Path, args: tuple[str, ...], says: str) -> None:
    code, _, err = imagine(folder, *args, "--out", str(tmp_path / "out.mp4"))
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("worldloom: ")
    assert not (tmp_path / "out.mp4").exists()


def test_a_model_without_texts_or_clips_says_so(home: Path, tmp_path: Path) -> None:
    run, out = str(home / "runs" / "demo"), ("--out", str(tmp_path / "out.mp4"))
    code, _, err = command("imagine", run, "--text", "red", *out)
    assert code == 2
    assert "This model is given no text" in err
    assert len(err.strip().splitlines()) == 1


def test_help_names_both_kinds_of_dream() -> None:
    code, out, _ = command("imagine", "--help")
    assert code == 0
    for word in ("held-out", "--text", "--image", "--clip", "--last", "--guidance", "joint"):
        assert word in out
