"""Other people's formats, read from hostile files.

Nothing in them carries a hash, so it can't be proved that no wrong frame is read. What is asked: an error of ours or
episodes that are whole by their own spec; no other exception, no crash of a C library, no endless loop, no memory that
a header claims and a file does not hold.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.data.sources import ImportConfig, open_source

SOURCES = Path(__file__).parents[1] / "data" / "sources"
LONGEST = 400  # frames; a file may claim more, or repeat itself, for longer than a test can wait


def read(format: str) -> Any:
    """A function that reads all of a folder's ``in``, or as much as a test waits for."""

    def load(folder: Path) -> Any:
        source = open_source(folder / "in", ImportConfig(length=16), format)
        frames = 0
        for item in source.items:
            for episode in source.read(item):
                episode.check(source.spec)
                frames += episode.length
                if frames > LONGEST:
                    return frames
        return frames

    return load


def frames_of(count: int, side: int = 16) -> np.ndarray:
    t = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(t * 10, (count, side, side, 3)).copy()


def make_movie(suffix: str) -> Any:
    def make(folder: Path) -> None:
        sys.path.append(str(SOURCES))
        from video_toys import movie

        movie(folder / "in" / f"a{suffix}", 8, size=(16, 16))
        rows = "\n".join(f"{t},{t % 3},0.{t}" for t in range(8))
        (folder / "in" / "a.csv").write_text(f"frame,action,reward\n{rows}\n", encoding="utf-8")

    return make


def make_images(folder: Path) -> None:
    from PIL import Image

    for episode in ("one", "two"):
        (folder / "in" / episode).mkdir(parents=True)
        for t, frame in enumerate(frames_of(4)):
            Image.fromarray(frame).save(folder / "in" / episode / f"{t:03d}.{'png' if episode == 'one' else 'jpg'}")


def make_npz(folder: Path) -> None:
    (folder / "in").mkdir(parents=True)
    arrays = {"image": frames_of(6), "action": np.arange(6) % 3, "reward": np.arange(6.0)}
    np.savez(folder / "in" / "a.npz", **arrays)
    np.savez_compressed(folder / "in" / "b.npz", **arrays)


def make_hdf5(folder: Path) -> None:
    import h5py

    (folder / "in").mkdir(parents=True)
    with h5py.File(folder / "in" / "a.hdf5", "w") as file:
        for n in range(2):
            demo = file.create_group(f"data/demo_{n}")
            demo["obs/image"] = frames_of(5)
            demo.create_dataset("actions", data=np.zeros((5, 2), np.float32), chunks=(2, 2), compression="gzip")
            demo["rewards"] = np.arange(5.0)


def make_minari(folder: Path) -> None:
    """By h5py alone: minari's own writer wants an environment."""
    import h5py

    data = folder / "in" / "data"
    data.mkdir(parents=True)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for n in range(2):
            episode = file.create_group(f"episode_{n}")
            episode.attrs["id"] = n
            episode["observations"] = np.zeros((5, 2), np.float32)
            episode["actions"] = np.zeros(4, np.int64)
            episode["rewards"] = np.arange(4.0)
            episode["terminations"] = np.arange(4) == 3
            episode["truncations"] = np.zeros(4, bool)
            episode.attrs["total_steps"] = 4
    space = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}
    meta = {
        "dataset_id": "toy-v0", "minari_version": "0.5.3", "total_episodes": 2, "total_steps": 8, "data_format": "hdf5",
        "observation_space": json.dumps(space),
        "action_space": json.dumps({"type": "Discrete", "dtype": "int64", "start": 0, "n": 2}),
    }  # fmt: skip
    (data / "metadata.json").write_text(json.dumps(meta), encoding="utf-8")


def make_lerobot(folder: Path) -> None:
    sys.path.append(str(SOURCES))
    import lerobot_toys

    folder.mkdir(parents=True)
    lerobot_toys.build(folder / "in")


_CAMERA = "in/videos/observation.images.top/chunk-000/file-000.mp4"
FORMATS: dict[str, tuple[Any, Any, dict[str, str], float]] = {
    "mp4": (make_movie(".mp4"), read("video"), {"in/a.mp4": "bytes", "in/a.csv": "bytes"}, 0.4),
    "mkv": (make_movie(".mkv"), read("video"), {"in/a.mkv": "bytes"}, 0.2),
    "webm": (make_movie(".webm"), read("video"), {"in/a.webm": "bytes"}, 0.2),
    "avi": (make_movie(".avi"), read("video"), {"in/a.avi": "bytes"}, 0.2),
    "gif": (make_movie(".gif"), read("video"), {"in/a.gif": "bytes"}, 0.2),
    "images": (make_images, read("images"), {"in/one/001.png": "bytes", "in/two/002.jpg": "bytes"}, 0.5),
    "npz": (make_npz, read("npz"), {"in/a.npz": "bytes", "in/b.npz": "bytes"}, 0.7),
    "hdf5": (make_hdf5, read("hdf5"), {"in/a.hdf5": "bytes"}, 0.5),
    "minari": (make_minari, read("minari"), {"in/data/main_data.hdf5": "bytes", "in/data/metadata.json": "plain"}, 0.5),
    "lerobot": (
        make_lerobot,
        read("lerobot"),
        {
            "in/meta/info.json": "plain",
            "in/meta/tasks.parquet": "bytes",
            "in/meta/episodes/chunk-000/file-000.parquet": "bytes",
            "in/data/chunk-000/file-000.parquet": "bytes",
            _CAMERA: "bytes",
        },
        0.5,
    ),
}
"""Name to (make, load, files that are changed, share of the cases)."""
