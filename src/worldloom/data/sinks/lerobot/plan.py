"""What of a dataset becomes what in LeRobot's layout: features, columns, and the tables' schemas."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data.episode import DataError
from worldloom.data.sinks.lerobot.files import CRF, GOP, PRESET, encoder, even
from worldloom.data.sources.lerobot.layout import BOOKKEEPING, DATA_PATH, OURS, STATISTICS, VERSION, VIDEO_PATH
from worldloom.data.store import Dataset


@dataclass
class Plan:
    """What of a dataset becomes what of LeRobot's, and what to tell the user."""

    fps: float
    """Frames a second."""
    cameras: dict[str, str] = field(default_factory=dict)
    """Key of the feature to the sensor's name."""
    vectors: dict[str, str] = field(default_factory=dict)
    """As ``cameras``."""
    action: Control | None = None
    """The action, where there is one that can be written."""
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``features`` of ``meta/info.json``."""
    columns: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Column of the data to its dtype and width, in their order."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user, one line each."""


def make_plan(dataset: Dataset) -> Plan:
    """The plan for ``dataset``. Raises :class:`DataError` where there is nothing to show, or two names become one."""
    spec = dataset.spec
    plan = Plan(spec.fps)
    plan.notes.append(
        f"LeRobot {VERSION}: {len(dataset)} episodes, {dataset.frames:,} frames at {spec.fps:g} a second."
    )
    if not spec.fps.is_integer():
        plan.notes.append(f"fps is {spec.fps:g}: LeRobot's own reader takes it, others may expect a whole number.")
    left: list[str] = []
    _plan_pictures(spec, plan, left)
    for name, sensor in spec.shown.items():
        if sensor.kind == "vector":
            key = _key("observation.", name, plan)
            plan.vectors[key] = name
            said = {f"{OURS}unit": sensor.unit} if sensor.unit else {}
            _add(plan, key, "float32", sensor.shape[0], None, said)
    if not plan.features:
        raise DataError(f"{dataset.path} shows neither images nor vectors; LeRobot's layout holds nothing else.")
    _plan_action(spec, plan)
    if dataset.has_reward:
        _add(plan, "next.reward", "float32", 1)
        plan.notes.append("Rewards: next.reward of row t belongs to arriving at frame t+1; 0 in an episode's last row.")
    if dataset.has_terminal:
        _add(plan, "next.done", "bool", 1)
        plan.notes.append("Ends: next.done is true in the last two rows of episodes that truly ended.")
    else:
        plan.notes.append("It is unknown how episodes ended: there is no next.done.")
    for key, dtype in BOOKKEEPING.items():
        _add(plan, key, dtype, 1)
    left += [f"the control {name}" for name in spec.given if name != "action" or plan.action is None]
    left += [f"the exact state {name}" for name in dataset.describe()["truth"]]
    left += ["the splits (all is 'train')", "remarks on episodes other than the task"]
    plan.notes.append(f"Left out, as the layout has no place for it: {', '.join(left)}.")
    return plan


def _plan_pictures(spec: Spec, plan: Plan, left: list[str]) -> None:
    for name, sensor in spec.shown.items():
        if sensor.kind == "range" or (sensor.kind == "image" and sensor.shape[0] not in (1, 3)):
            left.append(f"the sensor {name} ({sensor.kind} of {sensor.shape[0]} channels)")
        elif sensor.kind == "image":
            alone = name == "image" and len(spec.images) == 1
            key = _key("observation." if alone else "observation.images.", name, plan)
            plan.cameras[key] = name
            plan.features[key] = _video_feature(sensor, plan, name)
    if plan.cameras:
        plan.notes.append(
            f"Pictures: H.264 in yuv420p ({encoder()}, crf {CRF}), colours at half the resolution: close, not bitwise."
        )


def _video_feature(sensor: Sensor, plan: Plan, name: str) -> dict[str, Any]:
    high, wide = even(sensor.shape[1:])
    if (high, wide) != sensor.shape[1:]:
        plan.notes.append(
            f"Sensor {name}: {sensor.shape[2]}×{sensor.shape[1]} pixels became {wide}×{high}, the last row or column "
            "twice: H.264 needs even sizes."
        )
    if sensor.shape[0] == 1:
        plan.notes.append(f"Sensor {name}: grey pictures became colour ones, as LeRobot expects.")
    info = {
        "video.height": high,
        "video.width": wide,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.fps": _rate(plan.fps),
        "video.channels": 3,
        "has_audio": False,
        "video.g": GOP,
        "video.crf": CRF,
        "video.preset": PRESET,
        "is_depth_map": False,
    }
    return {"dtype": "video", "shape": [high, wide, 3], "names": ["height", "width", "channels"], "info": info}


def _plan_action(spec: Spec, plan: Plan) -> None:
    action = spec.action
    if action is None or action.kind not in ("discrete", "continuous") or action.per == "once":
        plan.notes.append("There are no actions that LeRobot could hold: plain video.")
        return
    plan.action = action
    said: dict[str, Any] = {f"{OURS}kind": action.kind}
    if action.kind == "discrete":
        said |= {f"{OURS}choices": action.n, f"{OURS}names": list(action.names)}
        _add(plan, "action", "int64", 1, ["action"], said)
        last = "choice 0"
    else:
        for side, bound in (("low", action.low), ("high", action.high)):
            if bound and np.isfinite(bound).all():
                said[f"{OURS}{side}"] = list(bound)
        _add(plan, "action", "float32", action.shape[0], list(action.names) or None, said)
        last = "zeros"
    plan.notes.append(
        f"Actions: row t holds the one taken at frame t, which led to frame t+1; an episode's last row, which led to "
        f"nothing, holds {last}."
    )


def _key(prefix: str, name: str, plan: Plan) -> str:
    clean = re.sub(r"[^\w-]", "_", name)
    if clean != name:
        plan.notes.append(f"Sensor {name}: called {clean}, as keys have no other signs than letters, digits, - and _.")
    key = f"{prefix}{clean}"
    if key in plan.features or not clean:
        raise DataError(f"The sensor {name!r} would be called {key!r}, as another is. Rename one of them.")
    return key


def _add(plan: Plan, key: str, dtype: str, width: int, names: list[str] | None = None, info: Any = None) -> None:
    plan.features[key] = {"dtype": dtype, "shape": [width], "names": names} | ({"info": info} if info else {})
    plan.columns[key] = (dtype, width)


def _rate(fps: float) -> int | float:
    return int(fps) if fps.is_integer() else fps


def info_json(dataset: Dataset, plan: Plan, limits: dict[str, int], tasks: int) -> dict[str, Any]:
    """``meta/info.json``."""
    return {
        "codebase_version": VERSION,
        "fps": _rate(plan.fps),
        "features": plan.features,
        "total_episodes": len(dataset),
        "total_frames": dataset.frames,
        "total_tasks": tasks,
        **limits,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if plan.cameras else None,
        "robot_type": None,
        "splits": {"train": f"0:{len(dataset)}"},
    }


def data_schema(plan: Plan) -> Any:
    """Of the files of data: plain columns for features of shape (1,), lists of a fixed length for longer ones."""
    import pyarrow as pa

    kinds = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
    return pa.schema([(k, kinds[d] if n == 1 else pa.list_(kinds[d], n)) for k, (d, n) in plan.columns.items()])


def data_table(columns: dict[str, np.ndarray], plan: Plan) -> Any:
    """Rows (T, width) of each column as a table of :func:`data_schema`."""
    import pyarrow as pa

    schema = data_schema(plan)
    arrays = []
    for key, (dtype, width) in plan.columns.items():
        flat = pa.array(np.ascontiguousarray(columns[key], dtype=dtype).reshape(-1))
        arrays.append(flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
    return pa.Table.from_arrays(arrays, schema=schema)


def episodes_schema(plan: Plan) -> Any:
    """Of the list of episodes."""
    import pyarrow as pa

    whole, number = pa.int64(), pa.float64()
    fields = [("episode_index", whole), ("tasks", pa.list_(pa.string())), ("length", whole)]
    fields += [(n, whole) for n in ("data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index")]
    for key in plan.cameras:
        fields += [(f"videos/{key}/{n}", whole) for n in ("chunk_index", "file_index")]
        fields += [(f"videos/{key}/{n}", number) for n in ("from_timestamp", "to_timestamp")]
    for key in plan.features:
        shape = pa.list_(pa.list_(pa.list_(number))) if key in plan.cameras else pa.list_(number)
        fields += [(f"stats/{key}/{n}", pa.list_(whole) if n == "count" else shape) for n in STATISTICS]
    return pa.schema([*fields, ("meta/episodes/chunk_index", whole), ("meta/episodes/file_index", whole)])


def tasks_table(tasks: list[str]) -> Any:
    """``meta/tasks.parquet``: the texts are the index of a table of pandas, which the schema has to say."""
    import pyarrow as pa

    def column(name: str, kind: str, numpy: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}

    unnamed = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [unnamed | {"metadata": {"encoding": "UTF-8"}}],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    schema = pa.schema([("task_index", pa.int64()), ("task", pa.string())], metadata={"pandas": json.dumps(pandas)})
    return pa.table({"task_index": list(range(len(tasks))), "task": tasks}, schema=schema)
