"""Datasets as a folder of mp4 with a table of actions beside each, which anything reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Control
from worldloom.data.episode import DataError
from worldloom.data.sinks.folder import whole_folder
from worldloom.data.sinks.lerobot.files import encoder
from worldloom.data.sources.films.recordings import ABOUT
from worldloom.data.sources.names import file_part
from worldloom.data.store import Dataset
from worldloom.files import write_json

CRF = 4
"""Of H.264 with colours at full resolution: in small pictures single pixels keep their colours, which the usual
4:2:0 would smear over four."""
_PART = 256  # frames of an episode that are in memory at once
_ROWS = (
    "Row t of a table belongs to frame t: action is what was done after frame t and led to frame t+1, reward and "
    "terminal are those of arriving at frame t+1; the last row has none (worldloom data import --pairing next, the "
    "default). An action that is a choice is its number; spec.given.action.names are their names."
)


def export_video(dataset: Dataset, out: Path, progress: Callable[[int], None]) -> list[str]:
    """Write ``dataset`` to ``out`` as ``episode_000000.mp4`` ..., one file an episode; returns remarks.

    Where there are several cameras, ``episode_000000.front.mp4`` and so on. Beside each lies ``episode_000000.csv``
    with the columns frame, action (or action_0, action_1, ..., or action.NAME), reward and terminal, as far as they are
    known: one row a frame, row t telling what was done after frame t and what came of it. ``about.json`` says so too
    and holds the spec, from which an import takes names, bounds and number of choices. So the default import gives the
    same actions and rewards exactly, but for a reward at an episode's first frame, to which nothing led.

    Videos are H.264, near-lossless, colours at full resolution (4:4:4); where PyAV has no x264 colours rest at half of
    it, and odd sizes get their last row or column twice. ``out`` appears whole or not at all. Raises
    :class:`DataError` where the dataset has no images, an action is null amid an episode, or the disk refuses.
    """
    from av.error import FFmpegError

    cameras = dataset.spec.images
    if not cameras:
        raise DataError(
            f"{dataset.path} shows no images, only {', '.join(dataset.spec.shown)}: nothing to make video of."
        )
    names = {camera: file_part(camera) for camera in cameras}
    if len(set(names.values())) != len(names):
        raise DataError(f"The cameras {', '.join(cameras)} have names that are one in a file's name; rename one.")
    lost = 0
    with whole_folder(out, FFmpegError) as folder:
        for number in range(len(dataset)):
            stem = f"episode_{number:06d}"
            files = {c: folder / (f"{stem}.{names[c]}.mp4" if len(cameras) > 1 else f"{stem}.mp4") for c in cameras}
            text, first = _write_episode(dataset, number, files)
            if text:
                (folder / f"{stem}.csv").write_text(text, encoding="utf-8", newline="")
            lost += first != 0
            progress(number + 1)
        about = {
            "format": "worldloom-video",
            "version": 1,
            "tables": _ROWS,
            "pairing": "next",
            "spec": dataset.spec.to_json(),
            "episodes": len(dataset),
            "frames": dataset.frames,
            "from": dataset.info,
        }
        write_json(folder / ABOUT, about)
    return _remarks(dataset, lost)


def _remarks(dataset: Dataset, lost: int) -> list[str]:
    spec, notes = dataset.spec, []
    if encoder() == "libx264":
        notes.append(
            "Videos are H.264 4:4:4, near-lossless: ffmpeg, PyAV, OpenCV, VLC and Chrome show them; QuickTime and "
            "Safari do not."
        )
    else:
        notes.append("Videos are H.264 4:2:0, with colours at half resolution: this PyAV has no x264.")
        odd = [f"{w}×{h}" for _, h, w in (s.shape for s in spec.images.values()) if h % 2 or w % 2]
        if odd:
            notes.append(f"Sizes must be even: pictures of {', '.join(odd)} have their last row or column twice.")
    if any(s.shape[0] == 1 for s in spec.images.values()):
        notes.append("Grey pictures are written as RGB.")
    if any(s.shape[0] not in (1, 3) for s in spec.images.values()):
        notes.append("Of images with other than one or three channels the first three are written.")
    left = [f"sensor {n}" for n in spec.shown if n not in spec.images]
    left += [f"control {n}" for n in spec.given if n != "action"]
    left += [f"truth {n}" for n in dataset.describe()["truth"]]
    if left:
        notes.append(f"Left out, as a folder of video has no place for them: {', '.join(left)}.")
    if lost:
        notes.append(f"{lost} episodes have a reward at their first frame, to which nothing led: left out.")
    notes.append(f"Tables: {_ROWS}" if spec.action is not None else "There are no actions: plain video.")
    return notes


def _write_episode(dataset: Dataset, number: int, files: dict[str, Path]) -> tuple[str, float]:
    """Encode an episode's pictures; returns its table as csv ("" where nothing is known) and its first reward."""
    length = int(dataset.lengths[number])
    action: list[np.ndarray] = []
    reward: list[np.ndarray] = []
    terminal = None
    writers = {c: _Writer(file, dataset.spec.fps, dataset.spec.images[c].shape) for c, file in files.items()}
    try:
        for start in range(0, length, _PART):
            part = dataset.episode(number, start, min(start + _PART, length))
            for camera, writer in writers.items():
                for frame in part.obs[camera]:
                    writer.add(frame)
            if "action" in part.control and dataset.spec.action is not None and "action" not in dataset.spec.once:
                action.append(part.control["action"])
            if part.reward is not None:
                reward.append(part.reward)
            terminal = part.terminal
    finally:
        for writer in writers.values():
            writer.close()
    columns: dict[str, list[str]] = {"frame": [str(t) for t in range(length)]}
    if action and dataset.spec.action is not None:
        columns |= _action_columns(np.concatenate(action), dataset.spec.action, number)
    earned = np.concatenate(reward) if reward else np.zeros(1)
    if reward:
        columns["reward"] = [*map(str, earned[1:]), ""]
    if terminal is not None:
        ends = ["0"] * (length - 1) + [""]
        ends[max(0, length - 2)] = str(int(terminal))
        columns["terminal"] = ends
    if len(columns) == 1:
        return "", 0.0
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    return text.getvalue(), float(earned[0])


def _action_columns(action: np.ndarray, control: Control, number: int) -> dict[str, list[str]]:
    """(T, *shape) actions by column, one frame earlier, as the shortest digits that give them back exactly."""
    taken = action[1:]
    if control.kind in ("discrete", "tokens"):
        null = np.flatnonzero((taken == control.n).reshape(len(taken), int(np.prod(control.shape))).any(1))
        if len(null):
            raise DataError(
                f"Episode {number} has no action at frame {null[0] + 1}, amid the episode; a table of actions can't "
                "hold that. Export to lerobot, or cut the episode there."
            )
    flat = taken.reshape(len(taken), int(np.prod(control.shape)))
    if not control.shape:
        names = ["action"]
    elif len(set(control.names)) == flat.shape[1]:
        names = [f"action.{name}" for name in control.names]
    else:
        names = [f"action_{i}" for i in range(flat.shape[1])]
    return {name: [*map(str, flat[:, i]), ""] for i, name in enumerate(names)}


class _Writer:
    """One mp4 that is being written."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]):
        from av.video.reformatter import ColorRange

        self.count = 0
        name = encoder()
        self.pixels, even = ("yuv444p", 1) if name == "libx264" else ("yuv420p", 2)
        self.height, self.width = (n + -n % even for n in shape[1:])
        self.rate = Fraction(fps).limit_denominator(10_000)
        options = {"crf": str(CRF), "preset": "medium"} if name == "libx264" else {}
        self.container, self.stream = _opened(path, name, self.rate, options)
        if name != "libx264":
            self.stream.bit_rate = 8 * self.height * self.width * max(1, int(self.rate))
        self.stream.height, self.stream.width, self.stream.pix_fmt = self.height, self.width, self.pixels
        # BT.601 (6 in H.273's tables), said in the file: what decoders assume that do not read what it says.
        context = self.stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 6
        context.color_range = ColorRange.MPEG

    def add(self, frame: np.ndarray) -> None:
        """Append a frame (C, H, W) uint8."""
        import av
        from av.video.reformatter import Colorspace, Interpolation

        rgb = np.repeat(frame, 3, 0) if len(frame) == 1 else frame[[0, 1, min(2, len(frame) - 1)]]
        pad = ((0, 0), (0, self.height - frame.shape[1]), (0, self.width - frame.shape[2]))
        picture = np.ascontiguousarray(np.pad(rgb, pad, mode="edge").transpose(1, 2, 0))
        yuv = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format=self.pixels, dst_colorspace=Colorspace.ITU601, interpolation=int(Interpolation.BICUBIC) | 0x46000
        )
        yuv.pts, yuv.time_base = self.count, 1 / self.rate
        self.container.mux(self.stream.encode(yuv))
        self.count += 1

    def close(self) -> None:
        """Flush the encoder and write the index."""
        container, self.container = self.container, None
        try:
            if self.count:
                container.mux(self.stream.encode())
        finally:
            container.close()


def _opened(path: Path, name: str, rate: Fraction, options: dict[str, str]) -> tuple[Any, Any]:
    """A new mp4 and its video stream."""
    import av

    container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
    return container, container.add_stream(name, rate=rate, options=options)
