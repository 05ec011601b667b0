"""Videos are read frame by frame as they were recorded, upright and in time; and what is wrong with one is said."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_toys import cut, movie, sound, stamped

from worldloom.data import DataError, Episode
from worldloom.data.sources import ImportConfig, detect
from worldloom.data.sources.films.images import SUFFIXES as PICTURES
from worldloom.data.sources.films.video import SUFFIXES, VideoSource


def opened(path: Path, *, fps: float | None = None, **options: Any) -> VideoSource:
    options["fps"] = None if fps is None else float(fps)
    return VideoSource(path, ImportConfig(**options))


def read(source: VideoSource, number: int = 0) -> list[Episode]:
    return list(source.read(source.items[number]))


def seen(episodes: list[Episode]) -> list[int]:
    return [t for e in episodes for t in stamped(e.obs["camera"])]


def refused(path: Path, **options: Any) -> str:
    """What is said where the only video of a folder can't be used, before or while it is read."""
    with pytest.raises(DataError) as found:
        read(opened(path, **options))
    assert str(found.value).count("\n") == 0
    return str(found.value)


def test_every_name_is_found_once_in_natural_order(tmp_path: Path) -> None:
    names = ["ep2.mp4", "ep10.MP4", "a b/ç é.mp4", "new\nline.mp4", "deep/er/x.mkv"]
    for i, name in enumerate(names):
        movie(tmp_path / name, 5 + i)
    for name in (".hidden.mp4", "._ep2.mp4", "__MACOSX/ep2.mp4", ".git/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no video")
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["a b/ç é.mp4", "deep/er/x.mkv", "ep2.mp4", "ep10.MP4", r"new\nline.mp4"]
    assert source.problems == []
    lengths = [7, 9, 5, 6, 8]
    assert [seen(read(source, i)) for i in range(5)] == [list(range(n)) for n in lengths]
    assert "5 videos" in source.notes[0]
    assert "20 frames a second" in source.notes[0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov", "webm", "gif", "m4v"])
def test_every_container_gives_the_same_frames_and_rate(tmp_path: Path, suffix: str) -> None:
    source = opened(movie(tmp_path / f"x.{suffix}", 30))
    assert seen(read(source)) == list(range(30))
    assert source.spec.fps == 20
    assert source.spec.shown["camera"].shape == (3, 48, 64)


def test_frames_that_are_decoded_out_of_order_come_in_order(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv"):
        source = opened(movie(tmp_path / f"x.{suffix}", 40, options={"bf": "3", "b-pyramid": "normal", "b-adapt": "0"}))
        assert seen(read(source)) == list(range(40))


def test_a_long_video_is_cut_into_pieces_that_share_nothing(tmp_path: Path) -> None:
    movie(tmp_path / "x.mp4", 20)
    rows = "\n".join(f"{t % 3},{t},{int(t == 18)}" for t in range(19))
    (tmp_path / "x.csv").write_text(f"action,reward,done\n{rows}\n", encoding="utf-8")
    pieces = read(opened(tmp_path, length=7))
    assert [e.length for e in pieces] == [7, 7, 6]
    assert seen(pieces) == list(range(20))
    for e, start in zip(pieces, (0, 7, 14), strict=True):
        expected = [3] + [(start + t - 1) % 3 for t in range(1, e.length)]  # frame t was led to by row t - 1
        assert e.control["action"].tolist() == expected
        assert e.reward is not None
        assert e.reward.tolist() == [0, *range(start, start + e.length - 1)]
    assert [e.terminal for e in pieces] == [False, False, True]


def corners(t: int, height: int, width: int) -> np.ndarray:
    x = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    x[:h, :w], x[:h, w:], x[h:, :w], x[h:, w:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
    return x


def names_of(picture: np.ndarray) -> str:
    """Colours of the four corners' middles, row by row."""
    known = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "Y": (255, 255, 0)}
    _, h, w = picture.shape
    out = ""
    for y in (h // 3, 2 * h // 3):
        for x in (w // 3, 2 * w // 3):
            far = {n: np.abs(np.array(c) - picture[:, y, x]).max() for n, c in known.items()}
            name = min(far, key=lambda n: far[n])
            assert far[name] < 12, picture[:, y, x]
            out += name
    return out


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("turned", [0, 90, -90, 180])
def test_colours_and_the_way_up(tmp_path: Path, turned: int, fit: str) -> None:
    path = movie(tmp_path / "x.mp4", 3, size=(120, 160), picture=corners, turned=turned)
    whole, fitted = opened(path), opened(path, size=(40, 48), fit=fit)
    assert whole.spec.shown["camera"].shape == ((3, 88, 64) if turned in (90, -90) else (3, 64, 88))
    expected = {0: "RGBY", 90: "GYRB", -90: "BRYG", 180: "YBGR"}[turned]
    for source in (whole, fitted):
        assert names_of(read(source)[0].obs["camera"][1]) == expected
    edge = read(fitted)[0].obs["camera"][0]
    assert edge.shape == (3, 40, 48)
    black = bool((edge[:, 0].max() < 12) | (edge[:, :, 0].max() < 12))
    assert black == (fit == "pad")


def test_a_resize_while_decoding_is_a_resize_of_the_decoded_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = (
        rng.integers(0, 256, (8, 12, 16, 1), np.uint8).repeat(10, 1).repeat(10, 2).repeat(3, 3)
    )  # grey: 4:2:0 keeps it
    path = movie(tmp_path / "x.mp4", 8, size=(120, 160), picture=lambda t, h, w: noise[t])
    whole, small = read(opened(path, size=(120, 160)))[0], opened(path, size=(60, 80))
    fit = next(iter(small._fits.values()))
    expected = fit.pictures(whole.obs["camera"].transpose(0, 2, 3, 1)).astype(float)
    difference = read(small)[0].obs["camera"] - expected
    assert abs(difference.mean()) < 0.3  # swscale left alone is two levels too dark
    assert np.abs(difference).mean() < 2


def test_several_threads_read_what_one_reads(tmp_path: Path) -> None:
    for i in range(4):
        movie(tmp_path / f"{i}.mp4", 20 + i)
    source = opened(tmp_path, length=8)
    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: seen(read(source, i))})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: list(range(20 + i)) for i in range(4)}


# ------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_dropped_frames_are_named_and_can_be_filled(tmp_path: Path, suffix: str) -> None:
    times = [t + 3 * (t > 10) for t in range(30)]
    path = movie(tmp_path / f"x.{suffix}", 30, times=times)
    said = refused(path)
    assert "frames are missing" in said
    assert "50 ms apart, but 200 ms after frame 10 (3 dropped)" in said
    assert "--fps 20" in said
    at = [max(i for i, t in enumerate(times) if t <= u or i == 0) for u in range(33)]  # nearest, of a tie the earlier
    at[12], at[13] = 11, 11
    at[11:14] = [10, 10, 11]
    assert seen(read(opened(path, fps=20))) == at


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_rate_that_varies_is_refused_unless_resampled(tmp_path: Path, suffix: str) -> None:
    times = [4 * t + (0, 1, 2, 1)[t % 4] for t in range(40)]  # gaps of 5, 5, 3, 3 at 100 a second
    path = movie(tmp_path / f"x.{suffix}", 40, fps=100, times=times)
    said = refused(path)
    assert "the frame rate varies" in said
    assert "--fps" in said
    episodes = read(opened(path, fps=10))
    nearest = [int(np.argmin(np.abs(np.array(times) - u))) for u in range(0, times[-1] + 1, 10)]
    assert seen(episodes) == nearest


@pytest.mark.parametrize(("suffix", "fps"), [("gif", 15), ("gif", 30), ("mkv", 60), ("mkv", 400)])
def test_rounded_times_are_no_varying_rate(tmp_path: Path, suffix: str, fps: int) -> None:
    source = opened(movie(tmp_path / f"x.{suffix}", 31, fps=fps))  # hundredths in a gif: 3, 3, 4, ...; else thousandths
    assert source.spec.fps == fps
    assert seen(read(source)) == list(range(31))


def test_resampling_keeps_the_last_action_and_the_sum_of_rewards(tmp_path: Path) -> None:
    movie(tmp_path / "x.mp4", 20, fps=30)
    rows = "\n".join(f"{t},{2 ** (t % 7)},{int(t == 18)}" for t in range(20))
    (tmp_path / "x.csv").write_text(f"action,reward,done\n{rows}\n", encoding="utf-8")
    source = opened(tmp_path, fps=10, length=4)
    pieces = read(source)
    assert source.spec.fps == 10
    assert seen(pieces) == [0, 3, 6, 9, 12, 15, 18]
    assert [e.control["action"].tolist() for e in pieces] == [[20, 2, 5, 8], [20, 14, 17]]
    reward = [2 ** (t % 7) for t in range(19)]
    assert pieces[0].reward is not None
    assert pieces[0].reward.tolist() == [0, sum(reward[0:3]), sum(reward[3:6]), sum(reward[6:9])]
    assert pieces[1].reward is not None
    assert pieces[1].reward.tolist() == [0, sum(reward[12:15]), sum(reward[15:19])]  # with what came after the last
    assert [e.terminal for e in pieces] == [False, True]


def test_frames_are_repeated_only_where_there_are_no_actions(tmp_path: Path) -> None:
    movie(tmp_path / "x.mp4", 6)
    assert seen(read(opened(tmp_path, fps=40))) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    (tmp_path / "x.csv").write_text("action\n" + "1\n2\n" * 3, encoding="utf-8")
    assert "frame 0 would come twice" in refused(tmp_path, fps=40)


def test_a_rate_a_little_off_is_the_rate_itself(tmp_path: Path) -> None:
    path = movie(
        tmp_path / "x.mp4", 600, fps=30, size=(16, 16), picture=lambda t, h, w: np.full((h, w, 3), 9, np.uint8)
    )
    source = opened(path, fps=30.1)
    assert sum(e.length for e in read(source)) == 600


def test_rates_that_differ_are_named(tmp_path: Path) -> None:
    for name, fps in (("a", 20), ("b", 20), ("c", 25)):
        movie(tmp_path / f"{name}.mp4", 10, fps=fps)
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["a.mp4", "b.mp4"]
    assert source.problems[0].where == "c.mp4"
    assert "25 frames a second, where most have 20" in source.problems[0].what
    assert [i.name for i in opened(tmp_path, fps=20).items] == ["a.mp4", "b.mp4", "c.mp4"]


# -------------------------------------------------------------------------------------------------------- bad input


def test_bad_files_are_named_and_the_good_ones_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    movie(tmp_path / "good.mp4", 10)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.avi").write_text("not a video", encoding="utf-8")
    sound(tmp_path / "song.mp4")
    movie(tmp_path / "none.mkv", 0)
    movie(tmp_path / "none.avi", 0)
    cut(movie(tmp_path / "half.mov", 40), 0.4)  # the index stands at the end
    (tmp_path / "huge.gif").write_bytes(b"GIF89a\x10\x27\x10\x27" + bytes(60))
    source = opened(tmp_path)
    assert [i.name for i in source.items] == ["good.mp4"]
    said = {p.where: p.what for p in source.problems}
    assert "empty (0 bytes)" in said["empty.mp4"]
    assert "can't be read as a video" in said["noise.mp4"]
    assert "can't be read as a video" in said["text.avi"]
    assert "only sound" in said["song.mp4"]
    assert "End of file" in said["none.mkv"]
    assert "no frames" in said["none.avi"]
    assert "is it whole?" in said["half.mov"]
    assert "10000×10000 pixels" in said["huge.gif"]
    assert len(said) == 8
    assert len(read(source)) == 1
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_no_usable_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nowhere.mp4")
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"no videos that can be used\. a\.mp4: is empty"):
        opened(tmp_path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "gif", "avi"])
def test_a_video_that_is_cut_off_never_ends_as_if_it_were_whole(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    noise = lambda t, h, w: rng.integers(0, 256, (h, w, 3), np.uint8)  # noqa: E731 (many bytes a frame)
    path = movie(tmp_path / f"x.{suffix}", 40, picture=noise)
    cut(path, 0.6)
    pieces: list[Episode] = []

    def whole() -> None:
        source = opened(path, length=8)
        pieces.extend(source.read(source.items[0]))

    with pytest.raises(DataError, match=r"x\.\w+.*(damaged or cut off after \d+|can't be read)"):
        whole()
    assert all(e.length == 8 for e in pieces)
    assert sum(e.length for e in pieces) < 30
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_a_file_that_ends_between_two_frames_is_cut_off_all_the_same(tmp_path: Path) -> None:
    path = movie(tmp_path / "x.mp4", 40)
    with av.open(str(path)) as container:
        begins = sorted(entry.pos for entry in container.streams.video[0].index_entries)
    path.write_bytes(path.read_bytes()[: begins[25]])
    assert "cut off after" in refused(path)


def test_bytes_that_the_decoder_can_tell_are_wrong_are_an_error(tmp_path: Path) -> None:
    path = movie(tmp_path / "x.mp4", 60, size=(96, 128))
    data = bytearray(path.read_bytes())
    later = len(data) * 3 // 4
    data[later : later + 200] = bytes(200)
    path.write_bytes(data)
    assert "damaged or cut off after" in refused(path)


def test_a_playlist_called_mp4_opens_nothing_else(tmp_path: Path) -> None:
    other = movie(tmp_path / "secret.mp4", 10)
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n", encoding="utf-8")
    assert "can't be read as a video" in refused(path)
    path.write_text(f"ffconcat version 1.0\nfile '{other}'\n", encoding="utf-8")
    assert "can't be read as a video" in refused(path)


def test_sizes_that_differ_need_a_choice(tmp_path: Path) -> None:
    movie(tmp_path / "a.mp4", 5, size=(48, 64))
    movie(tmp_path / "b.mp4", 5, size=(96, 64))
    source = opened(tmp_path)
    assert source.problems[0].where == "b.mp4"
    assert "--fit crop" in source.problems[0].what
    both = opened(tmp_path, fit="crop")
    assert both.problems == []
    assert [read(both, i)[0].obs["camera"].shape for i in range(2)] == [(5, 3, 48, 64)] * 2
    assert "cut and resized" in both.notes[1]


def test_what_counts_as_video(tmp_path: Path) -> None:
    assert not VideoSource.sniff(tmp_path)
    (tmp_path / ".x.mp4").write_bytes(b"")
    (tmp_path / "x.txt").write_bytes(b"")
    assert not VideoSource.sniff(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.WebM").write_bytes(b"")
    assert VideoSource.sniff(tmp_path)
    assert VideoSource.sniff(tmp_path / "deep" / "x.WebM")
    (tmp_path / "x.png").write_bytes(b"")
    (tmp_path / "deep" / "x.npz").write_bytes(b"")
    assert detect(tmp_path) == "video"
    for kind in SUFFIXES | PICTURES:  # what lies beside either is its table of actions
        folder = tmp_path / kind[1:]
        folder.mkdir()
        (folder / f"x{kind}").write_bytes(b"")
        (folder / "x.npz").write_bytes(b"")
        assert detect(folder) == ("video" if kind in SUFFIXES else "images")
