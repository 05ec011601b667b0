"""LeRobot datasets made by hand, without the library, whose pictures say which episode and frame they are."""

import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FPS = 10
LENGTHS = (7, 5, 9)
TASKS = ("push", "push", "pull it")
TOP, WRIST = "observation.images.top", "observation.images.wrist"
SIZES = {TOP: (32, 48), WRIST: (24, 40)}
GOPS = {TOP: 250, WRIST: 3}
FILES = {TOP: ((0, 1), (2,)), WRIST: ((0,), (1, 2))}
"""Which episodes each file of a camera holds: both have one that begins mid-file."""


def level(key: str, episode: int, t: int) -> int:
    """The grey of a whole picture: no two of a camera are less than five apart."""
    return 20 + 5 * (sum(LENGTHS[:episode]) + t) + (60 if key == WRIST else 0)


def action(episode: int, t: int) -> tuple[float, float]:
    return (episode + t / 8, -t / 4)


def reward(episode: int, t: int) -> float:
    return 10.0 * episode + t + 0.5


def write_video(path: Path, levels: list[int], size: tuple[int, int], fps: int = FPS, gop: int = 250) -> None:
    """With B-frames and, unless told, one keyframe only: the hardest to seek in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "1", "g": str(gop), "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for t, value in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), value, np.uint8), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def features(**more: dict[str, Any]) -> dict[str, Any]:
    def one(dtype: str, n: int = 1, names: Any = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [n], "names": names}

    cameras = {
        key: {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"], "info": {}}
        for key, size in SIZES.items()
    }
    numbers = {
        "observation.state": one("float32", 3, ["a", "b", "c"]),
        "action": one("float32", 2, {"motors": ["x", "y"]}),
        "next.reward": one("float32"),
        "next.done": one("bool"),
        "timestamp": one("float32"),
        **{name: one("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    return {**cameras, **more, **numbers}


def rows(episode: int) -> dict[str, Any]:
    """The data of an episode, column by column."""
    n, begin = LENGTHS[episode], sum(LENGTHS[:episode])
    return {
        "observation.state": [[episode, t, 0.25] for t in range(n)],
        "action": [list(action(episode, t)) for t in range(n)],
        "next.reward": [reward(episode, t) for t in range(n)],
        "next.done": [t == n - 1 and episode != 1 for t in range(n)],
        "timestamp": [t / FPS for t in range(n)],
        "frame_index": list(range(n)),
        "episode_index": [episode] * n,
        "index": [begin + t for t in range(n)],
        "task_index": [int(episode == 2)] * n,
    }


TYPES: dict[str, pa.DataType] = {
    "observation.state": pa.list_(pa.float32(), 3),
    "action": pa.list_(pa.float32(), 2),
    "next.reward": pa.float32(),
    "next.done": pa.bool_(),
    "timestamp": pa.float32(),
    **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), pa.int64()),
}


def table(episodes: tuple[int, ...], types: dict[str, pa.DataType] = TYPES) -> pa.Table:
    parts = [rows(e) for e in episodes]
    return pa.table({name: pa.array([x for p in parts for x in p[name]], kind) for name, kind in types.items()})


def build(root: Path) -> Path:
    """A dataset of version 3.0: three episodes, two cameras with two files each, data in two files."""
    save(root / "data/chunk-000/file-000.parquet", table((0, 1)))
    save(root / "data/chunk-000/file-001.parquet", table((2,)))
    listed: list[dict[str, Any]] = []
    for e, n in enumerate(LENGTHS):
        begin = sum(LENGTHS[:e])
        row: dict[str, Any] = {"episode_index": e, "tasks": [TASKS[e]], "length": n}
        row |= {"data/chunk_index": 0, "data/file_index": int(e == 2)}
        row |= {"dataset_from_index": begin, "dataset_to_index": begin + n}
        for key, files in FILES.items():
            file = next(i for i, inside in enumerate(files) if e in inside)
            start = sum(LENGTHS[x] for x in files[file] if x < e) / FPS
            row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": file}
            row |= {f"videos/{key}/from_timestamp": start, f"videos/{key}/to_timestamp": start + n / FPS}
        listed.append(row)
    save(root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(listed))
    save(root / "meta/tasks.parquet", pa.table({"task_index": [0, 1], "task": ["push", "pull it"]}))
    for key, files in FILES.items():
        for file, inside in enumerate(files):
            levels = [level(key, e, t) for e in inside for t in range(LENGTHS[e])]
            write_video(root / f"videos/{key}/chunk-000/file-{file:03d}.mp4", levels, SIZES[key], gop=GOPS[key])
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features(),
    }
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
    return root


def build_v21(root: Path) -> Path:
    """The same in version 2.1, with chunks of two episodes: one table and one video an episode."""
    (root / "meta").mkdir(parents=True)
    lines = [json.dumps({"episode_index": e, "tasks": [TASKS[e]], "length": n}) for e, n in enumerate(LENGTHS)]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for e, n in enumerate(LENGTHS):
        save(root / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet", table((e,)))
        for key, size in SIZES.items():
            path = root / f"videos/chunk-{e // 2:03d}/{key}/episode_{e:06d}.mp4"
            write_video(path, [level(key, e, t) for t in range(n)], size)
    info = {
        "codebase_version": "v2.1",
        "chunks_size": 2,
        "fps": FPS,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features(),
    }
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")
    return root


def save(path: Path, value: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(value, path)


def edit_info(root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = root / "meta/info.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    change(info)
    path.write_text(json.dumps(info), encoding="utf-8")
    return path


def edit_table(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """Change the rows of a parquet file as dictionaries."""
    old = pq.read_table(path)
    records = old.to_pylist()
    change(records)
    save(path, pa.Table.from_pylist(records, schema=old.schema))
    return path


def png(value: int, size: tuple[int, int] = (16, 24), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    shape = (*size, 3) if mode == "RGB" else size
    Image.fromarray(np.full(shape, value, np.uint8)).save(out, "PNG")
    return out.getvalue()
