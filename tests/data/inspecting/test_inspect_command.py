"""The command: what it prints and writes, its exit code, and a source that is not imported yet."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys_to_inspect import SPEC, drifting, good, moved

from worldloom.cli.inspect import inspect
from worldloom.contract import Spec, WorldloomError
from worldloom.data import DatasetWriter, Episode


def write(path: Path, episodes: list[Episode], spec: Spec = SPEC, info: dict[str, object] | None = None) -> Path:
    with DatasetWriter(path, spec, info) as writer:
        for e in episodes:
            writer.add(replace(e, reward=None, terminal=None))
    return path


class Page(HTMLParser):
    """Addresses that a page asks for, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith("data:")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_that_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = good(14, 100)
    source = {"source": "<script>alert(1)</script>.mp4", "part": 0}
    data = write(tmp_path / "data", [replace(e, info=source) for e in episodes])
    html, sheet, found = tmp_path / "page.html", tmp_path / "sheet.png", tmp_path / "found.json"
    flags = ["--html", str(html), "--sheet", str(sheet), "--json", str(found)]
    assert inspect([str(data), *flags, "--no-align"]) == 0
    said = capsys.readouterr().out
    for words in (
        "14 episodes, 1,400 frames",
        "train 12, val 1, test 1",
        "all right",
        "left",
        "4 remarks",
        "no rewards",
    ):
        assert words in said
    page = Page()
    page.feed(html.read_text(encoding="utf-8"))
    assert page.asked == []
    assert "http" not in html.read_text(encoding="utf-8").replace("data:image/png", "")
    assert "<script>" not in html.read_text(encoding="utf-8")
    assert "<script>alert(1)</script>.mp4" in page.text
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 8 * 96
    assert pixels.shape[1] > 8 * 96
    first = episodes[0].obs["camera"][0].transpose(1, 2, 0)
    corner = pixels[14 + 17 :, 14:][: 32 * 4 : 4, : 32 * 4 : 4]  # the first frame, enlarged four times
    np.testing.assert_array_equal(corner, first)
    assert json.loads(found.read_text(encoding="utf-8"))["looked_at"]["frames"] == 1400


def test_misaligned_actions_say_both_explanations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, episodes = drifting(12, 100)
    shifted = moved(spec, episodes, -1)
    assert inspect([str(write(tmp_path / "imported", shifted, spec))]) == 1
    said = capsys.readouterr().out
    for words in (
        "error: misaligned actions",
        "1 row before",
        "answers that much late",
        "1 row early",
        "Look at episode",
    ):
        assert words in said
    # collected by the library itself: then it is the world
    assert inspect([str(write(tmp_path / "collected", shifted, spec, {"world": {"env": "mine"}}))]) == 0
    assert "remark: late world" in capsys.readouterr().out


def test_a_source_not_yet_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i, e in enumerate(good(4, 40)):
        frames = np.moveaxis(e.obs["camera"], 1, -1)
        np.savez(folder / f"{i}.npz", image=frames, action=e.control["action"][1:].astype(np.int64))
    (folder / "broken.npz").write_bytes(b"not an archive")
    assert inspect([str(folder), "--no-align"]) == 1
    said = capsys.readouterr().out
    assert "not yet imported: npz" in said
    assert "broken.npz" in said
    assert "160 frames" in said


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorldloomError, match="does not exist"):
        inspect([str(tmp_path / "nowhere")])
    with pytest.raises(WorldloomError, match="png"):
        inspect([str(write(tmp_path / "data", good(3, 20))), "--no-align", "--sheet", str(tmp_path / "sheet.jpg")])
