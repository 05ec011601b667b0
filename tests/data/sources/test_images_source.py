"""Folders of pictures become recordings in natural order, whatever kind of picture they hold."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video_toys import cut, movie, stamp, stamped

from worldloom.data import DataError, Episode
from worldloom.data.sources import ImportConfig, detect
from worldloom.data.sources.films.images import ImagesSource


def folder(path: Path, count: int, *, suffix: str = "png", size: tuple[int, int] = (48, 64)) -> Path:
    """Pictures 0 to ``count``, numbered without leading zeros."""
    path.mkdir(parents=True, exist_ok=True)
    for t in range(count):
        Image.fromarray(stamp(t, *size)).save(path / f"f{t}.{suffix}")
    return path


def opened(path: Path, **options: Any) -> ImagesSource:
    return ImagesSource(path, ImportConfig(**options))


def read(source: ImagesSource, number: int = 0) -> list[Episode]:
    return list(source.read(source.items[number]))


def seen(episodes: list[Episode]) -> list[int]:
    return [t for e in episodes for t in stamped(e.obs["camera"])]


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "bmp", "webp"])
def test_pictures_come_in_natural_order(tmp_path: Path, suffix: str) -> None:
    source = opened(folder(tmp_path / "walk é", 12, suffix=suffix), length=5)
    assert [i.name for i in source.items] == ["walk é"]
    assert [i.frames for i in source.items] == [12]
    pieces = read(source)
    assert [e.length for e in pieces] == [5, 5, 2]
    assert seen(pieces) == list(range(12))
    assert source.spec.fps == 10
    assert any("10 a second assumed" in note for note in source.notes)
    quick = opened(tmp_path / "walk é", fps=4.0)
    assert quick.spec.fps == 4
    assert not any("assumed" in note for note in quick.notes)
    assert seen(read(quick)) == list(range(12))  # pictures carry no times: the rate is theirs, nothing is left out


def test_numbers_that_skip_are_told(tmp_path: Path) -> None:
    folder(tmp_path / "whole", 6)
    folder(tmp_path / "lost", 9)
    (tmp_path / "lost" / "f4.png").unlink()
    folder(tmp_path / "thin", 9)
    for t in (1, 3, 5, 7):  # every second frame was kept
        (tmp_path / "thin" / f"f{t}.png").unlink()
    assert opened(tmp_path).notes[0].startswith("3 folders of pictures, ")
    (note,) = [n for n in opened(tmp_path).notes if "missing" in n]
    assert note == "Are frames missing? Numbers skip in lost (3 to 5)."


def test_every_folder_with_pictures_is_a_recording(tmp_path: Path) -> None:
    for name, count in (("ep10", 3), ("ep2", 2), ("deep/er", 4), (".hidden", 5)):
        folder(tmp_path / name, count)
    (tmp_path / "ep2" / ".f0.png").write_bytes(b"hidden")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["deep/er", "ep2", "ep10"]
    assert [seen(read(source, i)) for i in range(3)] == [[0, 1, 2, 3], [0, 1], [0, 1, 2]]
    folder(tmp_path, 6)
    alone = opened(tmp_path)
    assert [i.frames for i in alone.items] == [6]
    assert any("3 folders in it are left out" in note for note in alone.notes)


@pytest.mark.parametrize("place", ["a/actions.csv", "a/a.csv", "a.csv", "actions.csv"])
def test_tables_of_folders(tmp_path: Path, place: str) -> None:
    for i, name in enumerate("ab"):
        folder(tmp_path / name, 3)
        values = "\n".join(str(10 * i + t) for t in range(3))
        mine = {"a/actions.csv": f"{name}/actions.csv", "a/a.csv": f"{name}/{name}.csv", "a.csv": f"{name}.csv"}
        if place in mine:
            (tmp_path / mine[place]).write_text(f"action\n{values}\n", encoding="utf-8")
    if place == "actions.csv":
        both = "".join(f"{name},{10 * i + t}\n" for i, name in enumerate("ab") for t in range(3))
        (tmp_path / place).write_text(f"episode,action\n{both}", encoding="utf-8")
    source = opened(tmp_path)
    assert [read(source, i)[0].control["action"].tolist()[1:] for i in range(2)] == [[0, 1], [10, 11]]


def test_one_folder_and_its_table(tmp_path: Path) -> None:
    folder(tmp_path / "run", 4)
    (tmp_path / "run" / "actions.csv").write_text("key\nup\ndown\nup\ndown\n", encoding="utf-8")
    source = opened(tmp_path / "run")
    assert read(source)[0].control["action"].tolist() == [2, 1, 0, 1]
    (tmp_path / "run" / "actions.csv").write_text("key\nup\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"run: actions\.csv: 1 rows of actions for 4 frames"):
        opened(tmp_path / "run")


def one(tmp_path: Path, picture: Image.Image, name: str = "x.png", **saving: Any) -> np.ndarray:
    """What a folder with this picture alone shows, (3, h, w)."""
    (tmp_path / "one").mkdir(exist_ok=True)
    picture.save(tmp_path / "one" / name, **saving)
    found: np.ndarray = read(opened(tmp_path / "one"))[0].obs["camera"][0]
    (tmp_path / "one" / name).unlink()
    return found


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (16, 24, 3), np.uint8)
    grey = rgb[..., 0]
    expected, expected_grey = rgb.transpose(2, 0, 1), np.repeat(grey[None], 3, 0)
    assert (one(tmp_path, Image.fromarray(rgb)) == expected).all()
    assert (one(tmp_path, Image.fromarray(grey)) == expected_grey).all()
    assert (one(tmp_path, Image.fromarray(grey.astype(np.uint16) * 256 + 77)) == expected_grey).all()  # 16 bits
    alpha = np.concatenate([rgb, rng.integers(0, 256, (16, 24, 1), np.uint8)], -1)
    assert (one(tmp_path, Image.fromarray(alpha)) == expected).all()
    few = Image.fromarray(rgb).quantize(16)
    assert (one(tmp_path, few) == np.asarray(few.convert("RGB")).transpose(2, 0, 1)).all()
    assert (one(tmp_path, few, transparency=b"\x00\x80") == np.asarray(few.convert("RGB")).transpose(2, 0, 1)).all()
    black = Image.fromarray(grey > 127)
    assert (one(tmp_path, black) == np.repeat((grey > 127)[None] * np.uint8(255), 3, 0)).all()


@pytest.mark.parametrize(("turned", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_photos_are_set_upright(tmp_path: Path, turned: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:24, :32] = 255
    found = one(tmp_path, Image.fromarray(rgb), "x.jpg", exif=exif, quality=95)
    expected = np.rot90(rgb, turns).transpose(2, 0, 1)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4


def test_large_pictures_shrink_as_they_do_elsewhere(tmp_path: Path) -> None:
    source = opened(folder(tmp_path, 3, size=(240, 320)))
    assert source.spec.shown["camera"].shape == (3, 64, 88)
    assert seen(read(source)) == [0, 1, 2]
    cropped = opened(tmp_path, size=(32, 32), fit="crop")
    assert read(cropped)[0].obs["camera"].shape == (3, 3, 32, 32)


def bomb(side: int) -> bytes:
    """A PNG whose header claims side × side pixels, and hardly a byte of them."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_bad_pictures_are_named_with_their_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "good", 3)
    bad = {
        "empty": b"",
        "noise": b"no picture at all",
        "large": bomb(9_600),  # over our bound, of which Pillow only warns
        "huge": bomb(60_000),  # Pillow's own error
        "other": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # a format that is called png and is none
    }
    for name, data in bad.items():
        folder(tmp_path / name, 2)
        (tmp_path / name / "f1.png").write_bytes(data)
    folder(tmp_path / "sizes", 2)
    Image.fromarray(stamp(0, 96, 64)).save(tmp_path / "sizes" / "f1.png")
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["good"]
    said = {p.where: p.what for p in source.problems}
    assert "empty/f1.png: is empty" in said["empty"]
    assert "noise/f1.png: can't be read as a picture" in said["noise"]
    assert "claims 9600×9600 pixels" in said["large"] or "claims so many pixels" in said["large"]
    assert "claims so many pixels" in said["huge"]
    assert "other/f1.png: can't be read" in said["other"]
    assert "sizes/f1.png: pictures of 64×96" in said["sizes"]
    assert "--fit" in said["sizes"]
    assert len(said) == 6
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_a_picture_that_is_cut_off_is_named_and_its_piece_not_given(tmp_path: Path) -> None:
    folder(tmp_path / "a", 9)
    cut(tmp_path / "a" / "f7.png", 0.6)
    source = opened(tmp_path / "a", length=3)
    pieces: list[Episode] = []

    def whole() -> None:
        for piece in source.read(source.items[0]):
            pieces.append(piece)  # so that those before the error are kept

    with pytest.raises(DataError, match=r"a/f7\.png: is damaged or cut off"):
        whole()
    assert seen(pieces) == [0, 1, 2, 3, 4, 5]


def test_what_counts_as_pictures(tmp_path: Path) -> None:
    assert not ImagesSource.sniff(tmp_path)
    folder(tmp_path / "a", 1)
    assert ImagesSource.sniff(tmp_path)
    assert not ImagesSource.sniff(tmp_path / "a" / "f0.png")
    assert detect(tmp_path) == "images"
    movie(tmp_path / "b" / "x.mp4", 2)
    assert not ImagesSource.sniff(tmp_path)
    assert detect(tmp_path) == "video"
    buffer = io.BytesIO()
    Image.fromarray(stamp(0)).save(buffer, "PNG")
    (tmp_path / "a" / "f0.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="holds no folders of pictures"):
        opened(tmp_path / "b")
