from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError
from worldloom.imagination import filmstrip, read_video, side_by_side, video, write_image, write_video
from worldloom.imagination.video import VideoError, as_frames, contact_sheet


def clip(frames=12, height=24, width=32):
    """(T, 3, H, W): saturated squares on grey, moving, so that order, colour and layout can be told."""
    out = torch.full((frames, 3, height, width), 90, dtype=torch.uint8)
    for t in range(frames):
        for c, colour in enumerate([(230, 30, 40), (20, 200, 60), (40, 30, 240)]):
            x = (t + 9 * c) % (width - 6)
            out[t, :, 3 + 6 * c : 8 + 6 * c, x : x + 6] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return out


def enlarged(x, k):
    return x.permute(0, 2, 3, 1).numpy().repeat(k, 1).repeat(k, 2)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.mark.parametrize("fps", [15.0, 7.5, 29.97, 60.0])
def test_mp4_round_trip(tmp_path, fps):
    frames = clip()
    assert write_video(tmp_path / "a.mp4", frames, fps) == tmp_path / "a.mp4"
    back, rate = read_video(tmp_path / "a.mp4")
    assert back.shape == (12, 12 * 24, 12 * 32, 3), "the first even factor that gives the shorter side 256 pixels"
    assert rate == fps
    assert psnr(back, enlarged(frames, 12)) > 40
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_any_size_and_scale_can_be_written(tmp_path_factory, count, height, width, scale):
    frames = np.full((count, height, width, 3), (200, 60, 30), np.uint8)
    path = tmp_path_factory.mktemp("v") / "a.mp4"
    write_video(path, frames, scale=scale)
    back, _ = read_video(path)
    assert back.shape == (count, *[n * scale + n * scale % 2 for n in (height, width)], 3)
    assert psnr(back, (200, 60, 30)) > 30


def test_large_odd_frames_are_not_enlarged(tmp_path):
    frames = torch.zeros(2, 1, 257, 259, dtype=torch.uint8)
    write_video(tmp_path / "a.mp4", frames)
    assert read_video(tmp_path / "a.mp4")[0].shape == (2, 258, 260, 3)


def test_index_comes_first_so_that_browsers_can_begin(tmp_path):
    write_video(tmp_path / "a.mp4", clip())
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_gif_round_trip_keeps_colours_and_time(tmp_path):
    frames = clip(30)
    write_video(tmp_path / "a.gif", frames, 15, scale=2)
    back, rate = read_video(tmp_path / "a.gif")
    assert np.array_equal(back, enlarged(frames, 2))
    assert rate == pytest.approx(15)


def test_png_sheet(tmp_path):
    frames = clip(5)
    write_video(tmp_path / "a.png", frames, scale=1)
    sheet = as_image(tmp_path / "a.png")
    assert np.array_equal(sheet, contact_sheet(frames, scale=1))
    assert sheet.shape == (2 * 24 + 2, 3 * 32 + 2 * 2, 3)
    assert np.array_equal(sheet[26:, 34:66], frames[4].permute(1, 2, 0).numpy())


def as_image(path):
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_layouts_and_kinds_of_frames():
    chw = clip(2)
    rgb = chw.permute(0, 2, 3, 1).numpy()
    for frames in (chw, rgb, chw.float() / 255, rgb.astype(np.float64) / 255):
        assert np.array_equal(as_frames(frames), rgb)
    grey = chw[:, :1]
    for frames in (grey, grey[:, 0], grey.permute(0, 2, 3, 1)):
        assert np.array_equal(as_frames(frames), rgb[..., :1].repeat(3, -1))
    both = torch.arange(27, dtype=torch.uint8).view(1, 3, 3, 3)
    assert np.array_equal(as_frames(both), both.permute(0, 2, 3, 1))
    assert np.array_equal(as_frames(both.numpy()), both)


def test_filmstrip_shows_real_above_dreamed_with_numbers():
    real, dream = clip(10), 255 - clip(10)
    strip = filmstrip(real, dream[4:], prompt=4, scale=1)
    assert strip.shape == (16 + 24 + 8 + 24, 40 + 10 * 34, 3)
    for i in range(10):
        x = slice(40 + 34 * i, 40 + 34 * i + 32)
        assert np.array_equal(strip[16:40, x], real[i].permute(1, 2, 0))
        below = real if i < 4 else dream
        assert np.array_equal(strip[48:72, x], below[i].permute(1, 2, 0)), "the dream's prompt is the truth"
        darkest = strip[:16, x].min()
        assert darkest < 100 if i >= 4 else 100 < darkest < 255, "dreamed frames have dark numbers, given ones grey"
    assert (strip[40:48] == 255).all(), "the gap"
    # A dream that comes with its prompt is shown as it is.
    whole = torch.cat([real[:4], dream[4:]])
    assert np.array_equal(filmstrip(real, whole, prompt=4, scale=1), strip)


def test_filmstrip_of_every_kth_horizon():
    real = clip(14)
    strip = filmstrip(real, real, prompt=4, every=5, scale=1)
    shown = [strip[16:40, 40 + 34 * i : 72 + 34 * i] for i in range(3)]
    assert strip.shape[1] == 40 + 3 * 34
    for picture, t in zip(shown, (3, 8, 13), strict=True):  # horizons 0, 5 and 10
        assert np.array_equal(picture, real[t].permute(1, 2, 0))


def test_side_by_side():
    real, dream = clip(6), 255 - clip(6)
    out = side_by_side(real, dream[2:], prompt=2, scale=2)
    assert out.shape == (6, 16 + 48, 64 + 8 + 64, 3)
    assert np.array_equal(out[:, 16:, :64], enlarged(real, 2))
    assert np.array_equal(out[2:, 16:, 72:], enlarged(dream[2:], 2))
    assert np.array_equal(out[:2, 16:, 72:], enlarged(real[:2], 2))
    assert out[0, :16].min() < 100
    assert not np.array_equal(out[1, :16], out[2, :16]), "given frames say so"


def test_mpeg4_where_there_is_no_h264(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video, "ENCODERS", ("not-an-encoder", "mpeg4"))
    with caplog.at_level(logging.WARNING):
        write_video(tmp_path / "a.mp4", clip(), 12)
    assert "without H.264" in caplog.text
    back, rate = read_video(tmp_path / "a.mp4")
    assert (len(back), rate) == (12, 12)
    assert psnr(back, enlarged(clip(), 12)) > 30
    monkeypatch.setattr(video, "ENCODERS", ("not-an-encoder",))
    with pytest.raises(VideoError, match="none of the encoders"):
        write_video(tmp_path / "b.mp4", clip())


@pytest.mark.parametrize(
    ("name", "frames", "change", "message"),
    [
        ("a.avi", clip(2), {}, r"\.avi is not one of"),
        ("a", clip(2), {}, "no suffix"),
        ("a.mp4", clip(2)[0, 0], {}, "Frames must be"),
        ("a.mp4", clip(2)[:0], {}, "Frames must be"),
        ("a.mp4", torch.zeros(2, 4, 8, 8, dtype=torch.uint8), {}, "C of 1 or 3"),
        ("a.mp4", clip(2).float(), {}, r"\[0, 1\]"),
        ("a.mp4", clip(2) * float("nan"), {}, r"\[0, 1\]"),
        ("a.mp4", clip(2).int(), {}, "int32"),
        ("a.mp4", clip(2), {"fps": 0.0}, "fps"),
        ("a.gif", clip(2), {"fps": float("inf")}, "fps"),
        ("a.gif", clip(2), {"scale": 0}, "scale"),
    ],
)
def test_bad_input(tmp_path, name, frames, change, message):
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / name, frames, **change)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_and_unreadable(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(WorldloomError, match="Can't write"):
        write_video(tmp_path / "file" / "a.gif", clip(2))
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(WorldloomError, match=r"Can't write .*a\.mp4"):
        write_video(tmp_path / "a.mp4", clip(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "file"], "nothing half-written stays"
    with pytest.raises(VideoError, match="not a file"):
        read_video(tmp_path / "none.mp4")
    (tmp_path / "b.mp4").write_bytes(os.urandom(2000))
    with pytest.raises(DamagedFileError, match=r"b\.mp4"):
        read_video(tmp_path / "b.mp4")


def test_write_image(tmp_path):
    picture = clip(1)[0].permute(1, 2, 0).numpy()
    write_image(tmp_path / "a.png", picture)
    assert np.array_equal(as_image(tmp_path / "a.png"), picture)
    with pytest.raises(VideoError, match="png"):
        write_image(tmp_path / "a.jpg", picture)


def test_pairs_must_match():
    with pytest.raises(VideoError, match="must match"):
        filmstrip(clip(6), clip(5), prompt=4)
    with pytest.raises(VideoError, match="prompt has 9"):
        side_by_side(clip(6), clip(6), prompt=9)
    with pytest.raises(VideoError, match="every"):
        filmstrip(clip(3), clip(3), prompt=0, every=5)
