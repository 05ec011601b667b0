"""Datasets in the layout of LeRobot 3.0, written with pyarrow and PyAV alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.data.episode import Episode
from worldloom.data.sinks.folder import whole_folder
from worldloom.data.sinks.lerobot.files import PictureStats, Tables, TotalStats, Videos, even, number_stats
from worldloom.data.sinks.lerobot.plan import (
    Plan,
    data_schema,
    data_table,
    episodes_schema,
    info_json,
    make_plan,
    tasks_table,
)
from worldloom.data.sources.lerobot.layout import (
    CHUNK_FILES,
    DATA_MB,
    DATA_PATH,
    EPISODES_PATH,
    INFO,
    STATISTICS,
    STATS,
    TASKS,
    VIDEO_MB,
    arrow,
)
from worldloom.data.store import Dataset

_PART = 256  # frames of an episode that are in memory at once
_BATCH = 100  # rows of the list of episodes that are written at once


def export_lerobot(
    dataset: Dataset,
    out: Path,
    progress: Callable[[int], None],
    *,
    data_mb: int = DATA_MB,
    video_mb: int = VIDEO_MB,
    chunk_files: int = CHUNK_FILES,
) -> list[str]:
    """Write ``dataset`` to ``out`` in LeRobot's layout 3.0 (see ``sources.lerobot.layout``); returns remarks.

    Images become videos below ``observation.images``, vectors ``observation.{name}``, the action ``action``, rewards
    ``next.reward``, true ends ``next.done``. A row holds frame t, the action taken then, and what came of it: the
    reward and end of arriving at frame t+1. To the last row of an episode belongs no action any more: it holds zeros
    (choice 0). What LeRobot does not read but this library wants back (number and names of choices, bounds, units)
    stands in the features' ``info``. Files roll over at ``data_mb`` and ``video_mb``, folders at ``chunk_files`` files.

    ``out`` appears whole or not at all. Raises :class:`DataError` where the dataset has neither images nor vectors, two
    names become one, or the disk refuses.
    """
    pq = arrow()
    import pyarrow as pa
    from av.error import FFmpegError

    plan = make_plan(dataset)
    with whole_folder(out, FFmpegError, pa.ArrowException) as folder:
        limits = {"chunks_size": chunk_files, "data_files_size_in_mb": data_mb, "video_files_size_in_mb": video_mb}
        tasks, stats = _write_episodes(dataset, folder, plan, limits, progress)
        pq.write_table(tasks_table(tasks), folder / TASKS, write_page_checksum=True)
        said = {key: {name: x.tolist() for name, x in one.result().items()} for key, one in stats.items()}
        for name, value in ((STATS, said), (INFO, info_json(dataset, plan, limits, len(tasks)))):
            (folder / name).write_text(json.dumps(value, indent=4, allow_nan=False) + "\n", encoding="utf-8")
    return plan.notes


def _write_episodes(
    dataset: Dataset, folder: Path, plan: Plan, limits: dict[str, int], progress: Callable[[int], None]
) -> tuple[list[str], dict[str, TotalStats]]:
    """All episodes' data, videos and rows of the list; returns the texts of tasks and the statistics."""
    files = limits["chunks_size"]
    data_limit, video_limit = (limits[f"{kind}_files_size_in_mb"] * 2**20 for kind in ("data", "video"))
    tasks: dict[str, int] = {}
    stats = {key: TotalStats() for key in plan.features}
    listed: list[dict[str, Any]] = []
    begin = nulls = 0
    with ExitStack() as stack:
        data = Tables(folder, DATA_PATH, data_limit, files, data_schema(plan))
        index = Tables(folder, EPISODES_PATH, data_limit, files, episodes_schema(plan))
        videos = {
            key: Videos(folder, key, plan.fps, even(dataset.spec.shown[name].shape[1:]), video_limit, files)
            for key, name in plan.cameras.items()
        }
        for close in (data.close, index.close, *(video.close for video in videos.values())):
            stack.callback(close)
        for number in range(len(dataset)):
            columns, found, row = _write_pictures(dataset, number, videos, plan)
            task = dataset.episode(number, 0, 1).info.get("task")
            text = task if isinstance(task, str) else ""
            length, code = int(dataset.lengths[number]), tasks.setdefault(text, len(tasks))
            columns |= _bookkeeping(length, plan.fps, number, begin, code)
            if plan.action is not None and plan.action.kind == "discrete":
                nulls += int((columns["action"] == plan.action.n).sum())
            chunk, file = data.place(length)
            data.write(data_table(columns, plan))
            row |= {"episode_index": number, "tasks": [text], "length": length}
            row |= {"data/chunk_index": chunk, "data/file_index": file}
            row |= {"dataset_from_index": begin, "dataset_to_index": begin + length}
            found |= {key: number_stats(columns[key]) for key in plan.columns}
            for key, values in found.items():
                stats[key].add(values)
                row |= {f"stats/{key}/{name}": values[name].tolist() for name in STATISTICS}
            listed.append(row)
            begin += length
            if len(listed) == _BATCH or number == len(dataset) - 1:
                _write_rows(index, listed, episodes_schema(plan))
                listed = []
            progress(number + 1)
    if nulls:
        plan.notes.append(f"{nulls} rows hold the null action, as the number after the last choice.")
    return list(tasks), stats


def _write_pictures(
    dataset: Dataset, number: int, videos: dict[str, Videos], plan: Plan
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Encode an episode's pictures; returns its other columns (T, width), the pictures' statistics, and their row."""
    length = int(dataset.lengths[number])
    seen = {key: PictureStats(length) for key in plan.cameras}
    rest: list[Episode] = []
    for video in videos.values():
        video.begin(length)
    for start in range(0, length, _PART):
        part = dataset.episode(number, start, min(start + _PART, length))
        for key, name in plan.cameras.items():
            for t, frame in enumerate(part.obs.pop(name), start):
                seen[key].add(t, frame)
                videos[key].add(frame)
        rest.append(part)
    row: dict[str, Any] = {}
    for key, video in videos.items():
        names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        row |= {f"videos/{key}/{name}": value for name, value in zip(names, video.end(), strict=True)}
    return _columns(rest, length, plan), {key: one.result() for key, one in seen.items()}, row


def _columns(parts: list[Episode], length: int, plan: Plan) -> dict[str, np.ndarray]:
    """The columns that say what was seen, done and earned, (T, width) each, in LeRobot's order of things."""

    def taken(values: Iterator[Any]) -> np.ndarray:
        """What led to frame t+1 in row t, and nothing (zeros) in the last."""
        whole = np.concatenate(list(values))
        return np.concatenate([whole[1:], np.zeros_like(whole[:1])]).reshape(len(whole), -1)

    out = {key: np.concatenate([p.obs[name] for p in parts]) for key, name in plan.vectors.items()}
    if plan.action is not None:
        out["action"] = taken(p.control["action"] for p in parts)
    if "next.reward" in plan.columns:
        out["next.reward"] = taken(p.reward for p in parts)
    if "next.done" in plan.columns:
        done = np.zeros((length, 1), bool)
        done[-2:] = bool(parts[-1].terminal)
        out["next.done"] = done
    return out


def _bookkeeping(length: int, fps: float, number: int, begin: int, task: int) -> dict[str, np.ndarray]:
    t = np.arange(length)[:, None]
    return {
        "timestamp": t / fps,
        "frame_index": t,
        "episode_index": np.full_like(t, number),
        "index": begin + t,
        "task_index": np.full_like(t, task),
    }


def _write_rows(index: Tables, rows: list[dict[str, Any]], schema: Any) -> None:
    import pyarrow as pa

    chunk, file = index.place(len(rows))
    where = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
    index.write(pa.Table.from_pylist([row | where for row in rows], schema=schema))
