"""Gymnasium spaces, as Minari writes them, read as sensors and as the action."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data.episode import DataError
from worldloom.data.sources.arrays.pictures import Look
from worldloom.data.sources.arrays.shapes import WIDEST, channels, kind_of, size_of
from worldloom.data.sources.base import ImportConfig
from worldloom.data.sources.pictures import choose_size, fit

LARGEST_SPACE, DEEPEST = 2**26, 8
"""Numbers in one observation, and dictionaries within dictionaries, at most."""
ONE_HOT = 256
"""Choices of a discrete observation that are told apart by a vector of zeros and a single 1."""
_DTYPES = {"bool"} | {f"{k}{n}" for k in ("int", "uint") for n in (8, 16, 32, 64)} | {f"float{n}" for n in (16, 32, 64)}
_KINDS = {"Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple", "Text"}


def read_space(text: Any, where: str) -> Any:
    """The Gymnasium space that ``text`` (JSON) describes, made by Minari's own reader once it is sure to be harmless.

    Raises :class:`DataError` for anything but the kinds Minari writes, and for absurd sizes.
    """
    from minari.serialization import deserialize_space

    try:
        data = json.loads(text)
        _check(data, 0)
        return deserialize_space(data)
    except (ValueError, TypeError, KeyError, AssertionError, OverflowError, RecursionError, AttributeError) as error:
        raise DataError(f"{where} does not describe a space ({type(error).__name__}: {error}).") from error


def _check(data: Any, depth: int) -> None:
    kind = data["type"]
    if kind not in _KINDS or depth > DEEPEST:
        raise ValueError(f"type {kind!r}" if depth <= DEEPEST else "too many levels")
    if data.get("dtype", "int64") not in _DTYPES:
        raise ValueError(f"dtype {data['dtype']!r}")
    sizes = data["shape"] if kind == "Box" else data["n"] if kind == "MultiBinary" else []
    sizes = sizes if isinstance(sizes, list) else [sizes]
    if not all(isinstance(n, int) and n >= 0 for n in sizes) or prod(sizes) > LARGEST_SPACE:
        raise ValueError(f"shape {sizes}")
    inner = data.get("subspaces", []) if kind in ("Dict", "Tuple") else []
    for each in inner.values() if isinstance(inner, dict) else inner:
        _check(each, depth + 1)


@dataclass(frozen=True)
class Reading:
    """How a sensor is read from Minari's observations."""

    path: tuple[str, ...]
    """Keys of dictionaries, outermost first."""
    sensor: Sensor
    """What it becomes."""
    look: Look | None = None
    """How pictures are turned into the dataset's."""
    start: int | None = None
    """First choice, where a discrete observation becomes a vector with a single 1."""

    def take(self, observations: Any, frames: int, where: str) -> np.ndarray:
        """(frames, *sensor.shape) from the observations of an episode."""
        value = observations
        for key in self.path:
            value = value[key]
        value = np.asarray(value)
        where = f"{where}, {'.'.join(self.path) or 'observations'}"
        if len(value) != frames or value.dtype.kind not in "biuf":
            raise DataError(f"{where}: expected {frames} numeric observations, found {len(value)} of {value.dtype}.")
        if self.look is not None:
            return self.look.convert(value, where)
        if self.start is not None:
            index = value.reshape(frames).astype(np.int64) - self.start
            if index.min() < 0 or index.max() >= self.sensor.shape[0]:
                raise DataError(f"{where}: observations lie outside their space of {self.sensor.shape[0]} choices.")
            out = np.zeros((frames, *self.sensor.shape), np.float32)
            out[np.arange(frames), index] = 1
            return out
        with np.errstate(over="ignore"):
            out = value.reshape(frames, *self.sensor.shape).astype(np.float32)
        if not np.isfinite(out).all():
            raise DataError(f"{where}: observations hold NaN or infinite values.")
        return out


def read_sensors(
    space: Any, config: ImportConfig, ours: Spec | None, notes: list[str], where: str
) -> dict[str, Reading]:
    """Sensors by name. ``ours`` is the spec of a dataset that this library exported; it settles what is a picture.

    Raises :class:`DataError` where nothing of the space can be shown.
    """
    found: dict[str, Reading] = {}
    left: list[str] = []
    pictures: dict[str, tuple[tuple[str, ...], Any]] = {}
    for path, box in _leaves(space):
        name = ".".join(path) or next(iter(ours.shown), "obs") if ours else ".".join(path) or "obs"
        known = ours.shown.get(name) if ours else None
        kind, shape = type(box).__name__, tuple(box.shape or ())
        image = known.kind == "image" if known else kind == "Box" and kind_of("", shape, box.dtype) == "image"
        if image and config.cameras and name not in config.cameras:
            left.append(f"{name} (not among --cameras)")
        elif image:
            pictures[name] = (path, box)
            found[name] = Reading(path, Sensor("vector", (1,)))  # its place in the order; settled below
        elif known is not None and known.kind == "range":
            found[name] = Reading(path, known)
        elif kind == "Discrete" and box.n <= ONE_HOT:
            found[name] = Reading(path, Sensor("vector", (int(box.n),)), start=int(box.start))
            notes.append(f"{name}: {box.n} choices become a vector with a single 1.")
        elif kind in ("Box", "Discrete", "MultiDiscrete", "MultiBinary") and 1 <= prod(shape) <= WIDEST:
            found[name] = Reading(path, replace(known, unit=known.unit) if known else Sensor("vector", (prod(shape),)))
            if len(shape) > 1:
                notes.append(
                    f"{name}: {shape} is too small or has too many channels for pictures, it becomes a vector."
                )
        else:
            left.append(f"{name} ({kind} {shape or ''})".replace(" )", ")"))
    if left:
        notes.append(f"Left out: {', '.join(left)}.")
    if set(config.cameras) - set(pictures):
        raise DataError(f"{where} has no pictures named {sorted(set(config.cameras) - set(pictures))}.")
    if not found:
        raise DataError(f"{where}: nothing in its observations can be shown; left out: {', '.join(left)}.")
    if pictures:
        size = choose_size({size_of(tuple(box.shape)) for _, box in pictures.values()}, config)
        for name, (path, box) in pictures.items():
            found[name] = _picture(name, path, box, size, config, notes, where)
    return found


def _leaves(space: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if type(space).__name__ != "Dict":
        return [(path, space)]
    return [leaf for key, inner in space.spaces.items() for leaf in _leaves(inner, (*path, key))]


def _picture(
    name: str,
    path: tuple[str, ...],
    box: Any,
    size: tuple[int, int],
    config: ImportConfig,
    notes: list[str],
    where: str,
) -> Reading:
    found = channels(tuple(box.shape))
    count = 1 if found is not None and found[0] == 1 else 3
    high = float(np.max(box.high))
    look = Look(count, size, unit=high <= 1, deep=high > 255, config=config)
    fit(size_of(tuple(box.shape)), size, config, f"{where}, {name}")
    notes.append(
        f"{name}: pictures {tuple(box.shape)} of {box.dtype} become {'grey' if count == 1 else 'colour'} "
        f"{size[1]}×{size[0]}, channels first."
    )
    return Reading(path, Sensor("image", (count, *size)), look)


@dataclass(frozen=True)
class ActionReading:
    """How the action is read from Minari's."""

    control: Control
    """What it becomes."""
    start: int = 0
    """First choice of a discrete action."""

    def take(self, actions: Any, rows: int, where: str) -> np.ndarray:
        """(rows, *control.shape) from the actions of an episode."""
        value = np.asarray(actions)
        if len(value) != rows or value.dtype.kind not in "biuf":
            raise DataError(f"{where}: expected {rows} numeric actions, found {len(value)} of {value.dtype}.")
        if self.control.kind == "discrete":
            index = value.reshape(rows).astype(np.int64) - self.start
            if rows and (index.min() < 0 or index.max() >= self.control.n):
                raise DataError(f"{where}: actions lie outside their space of {self.control.n} choices.")
            return index
        out = value.reshape(rows, *self.control.shape).astype(np.float32)
        if not np.isfinite(out).all():
            raise DataError(f"{where}: actions hold NaN or infinite values.")
        low, high = (np.array(x, np.float32) if x else None for x in (self.control.low, self.control.high))
        if low is not None and high is not None:
            slack = 1e-4 * (1 + np.maximum(abs(low), abs(high)))
            if ((out < low - slack) | (out > high + slack)).any():
                raise DataError(
                    f"{where}: actions lie outside the bounds of their space, up to {out.max():.4g}, down to "
                    f"{out.min():.4g}. Give --actions continuous to read them without bounds."
                )
        return out


def read_action(space: Any, config: ImportConfig, ours: Spec | None, notes: list[str], where: str) -> ActionReading:
    """The action of a space: a choice, or numbers with bounds where all are finite."""
    kind: str = type(space).__name__
    wanted: Literal["auto", "discrete", "continuous", "none"] = config.actions
    if ours is not None and ours.action is not None and wanted in ("auto", ours.action.kind):
        return ActionReading(ours.action)
    if kind == "Discrete" and wanted != "continuous":
        return ActionReading(Control("discrete", n=int(space.n)), int(space.start))
    shape = tuple(space.shape or ())
    if wanted == "discrete" or kind not in ("Box", "MultiBinary", "MultiDiscrete", "Discrete"):
        sort = "choices" if wanted == "discrete" else "an action"
        raise DataError(
            f"{where}: actions of {str(space)[:80]} can't be read as {sort}; one Discrete, or "
            "numbers (Box, MultiBinary) can be read. Give --actions none to leave them out."
        )
    if kind == "MultiDiscrete" and wanted != "continuous":
        raise DataError(
            f"{where}: an action is one choice or numbers, not {space}. Give --actions continuous to read the choices "
            "as numbers, or none to leave them out."
        )
    width = max(1, prod(shape))
    if len(shape) > 1:
        notes.append(f"Actions of shape {shape} are read as {width} numbers.")
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    if kind == "Box" and wanted != "continuous" and np.isfinite([space.low, space.high]).all():
        low = tuple(float(x) for x in np.ravel(space.low))
        high = tuple(float(x) for x in np.ravel(space.high))
    elif kind == "MultiBinary":
        low, high = (0.0,) * width, (1.0,) * width
    return ActionReading(Control("continuous", (width,), low=low, high=high))
