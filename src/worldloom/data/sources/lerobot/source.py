"""LeRobot's datasets (versions 2.0 to 3.0) as episodes, read with pyarrow and PyAV alone."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from worldloom.contract import Sensor, Spec
from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.base import ImportConfig, Item, Problem, Source
from worldloom.data.sources.lerobot.features import choose_actions, choose_cameras, choose_vectors, control_of
from worldloom.data.sources.lerobot.index import Recording, recordings
from worldloom.data.sources.lerobot.layout import INFO, OURS, VERSION, arrow, matrix, read_columns, read_info
from worldloom.data.sources.lerobot.pictures import column_cells, column_frames, picture_of, span_frames, video_size
from worldloom.data.sources.pairing import pair, pairing_note
from worldloom.data.sources.pictures import choose_size, fit
from worldloom.data.sources.timing import SAME_RATE

_REWARD, _DONE, _CUT = "next.reward", "next.done", "next.truncated"
_FILES_KEPT = 2


class LeRobotSource(Source):
    """A folder with ``meta/info.json``, such as LeRobot records or its Hub holds; see :mod:`.layout`.

    Cameras (features of dtype video or image) and vectors (floats below ``observation.``) become sensors named by the
    last part of their key, or by all of it where that is taken. A row holds what was seen at frame t and the action
    taken then, so ``config.pairing`` is rightly ``next``.

    ``next.reward`` of row t belongs to arriving at frame t+1. ``next.done`` says that the episode ended there, not why:
    it counts as a true end unless there is a column ``next.truncated`` that says otherwise. What the last row says of
    reward and end belongs to a frame that nobody recorded, and is put on the last one that is there. Without
    ``next.done`` it is unknown how episodes ended. The texts of an episode's tasks stand in ``info["task"]``.
    """

    format = "lerobot"

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        arrow()
        self.info = read_info(path)
        self._cameras = choose_cameras(self.info, config)
        self._vectors = choose_vectors(self.info, self._cameras)
        self._actions = choose_actions(self.info, config)
        columns = [f.key for f in (*self._vectors.values(), *self._actions)]
        columns += [name for name in (_REWARD, _DONE, _CUT) if name in self.info.features]
        self._columns = list(dict.fromkeys(columns))
        videos = [f.key for f in self._cameras.values() if f.dtype == "video"]
        self._tables: OrderedDict[Path, dict[str, np.ndarray]] = OrderedDict()
        self._lock = Lock()
        found = self._probe_tables(recordings(self.info, videos, self.problems))
        found, shown = self._probe_pictures(found)
        self._recordings = {one.name: one for one in found}
        if not found:
            said = "; ".join(p.what for p in self.problems[:3])
            raise DataError(f"{path} has no episode that can be used. {said}".rstrip())
        for name, feature in self._vectors.items():
            unit = feature.info.get(f"{OURS}unit")
            shown[name] = Sensor("vector", feature.shape, unit if isinstance(unit, str) else "")
        given = {} if self._action is None else {"action": self._action}
        self._rate = config.fps or self.info.fps
        if self._action is not None and self._rate > self.info.fps * (1 + SAME_RATE):
            raise DataError(
                f"{path} has {self.info.fps:g} frames a second: at {self._rate:g} some would come twice, and no action "
                f"led to the second. Give --fps {self.info.fps:g} or less."
            )
        self.spec = Spec(shown, given, self._rate)
        self.items = [Item(one.name, len(_kept(one.length, self.info.fps, self._rate))) for one in found]
        self._explain()

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether there is a ``meta/info.json`` with a version in it, or one that is no longer JSON."""
        try:
            raw = json.loads((path / INFO).read_text(encoding="utf-8"))
        except OSError:
            return False
        except (ValueError, RecursionError):
            return True
        return isinstance(raw, dict) and "codebase_version" in raw

    def _explain(self) -> None:
        used = {f.key for f in (*self._cameras.values(), *self._vectors.values(), *self._actions)}
        used |= {*self._columns, "timestamp", "frame_index", "episode_index", "index", "task_index"}
        version = ".".join(map(str, self.info.version))
        frames = sum(item.frames or 0 for item in self.items)
        self.notes.append(
            f"LeRobot dataset of version {version}: {len(self.items)} episodes, {frames:,} frames at {self._rate:g} a "
            "second" + (f" (recorded at {self.info.fps:g})." if self._rate != self.info.fps else ".")
        )
        for name, feature in self._cameras.items():
            high, wide = self.spec.shown[name].shape[1:]
            self.notes.append(f"Sensor {name}: {feature.key}, pictures of {wide}×{high}.")
        for name, feature in self._vectors.items():
            self.notes.append(f"Sensor {name}: {feature.key}, {feature.shape[0]} numbers.")
        if self._action is None:
            self.notes.append("No actions: plain video.")
        else:
            self.notes.append(f"Action: {', '.join(f.key for f in self._actions)}, {self._action.kind}.")
            self.notes.append(pairing_note(self.config.rule))
        if _REWARD in self._columns:
            self.notes.append(f"Reward: {_REWARD} of row t belongs to frame t+1; the last row's, to the last frame.")
        if _DONE in self._columns:
            self.notes.append(f"True ends: {_DONE} at the end of an episode; it may mark time limits too.")
        left = [key for key in self.info.features if key not in used]
        if left:
            self.notes.append(f"Left out: {', '.join(left)}.")
        if self.info.version > (3, 0):
            self.notes.append(f"Version {version} is newer than {VERSION}; what it added is not read.")

    # ------------------------------------------------------------------------------- probing

    def _probe_tables(self, found: list[Recording]) -> list[Recording]:
        """Where each episode begins in its file; those whose numbers can't be used become problems."""
        files: dict[Path, list[Recording]] = {}
        for one in found:
            files.setdefault(one.data, []).append(one)
        parts: list[np.ndarray] = []
        good: list[Recording] = []
        for path, inside in files.items():
            try:
                columns = self._table(path)
            except DataError as error:
                self.problems += [Problem(one.name, str(error)) for one in inside]
                continue
            for one in inside:
                try:
                    self._check(one, columns)
                    good.append(one)
                    if self._actions:
                        action = self._raw_action(columns, slice(one.first, one.first + one.length))
                        parts.append(np.unique(action) if action.shape[1] == 1 else action[:1])
                except DataError as error:
                    self.problems.append(Problem(one.name, str(error)))
        self._action = control_of(self.info, self._actions, parts, self.config) if parts else None
        return sorted(good, key=lambda one: one.number)

    def _table(self, path: Path) -> dict[str, np.ndarray]:
        """The columns of a file that are used, as arrays of numbers; the last files are kept, as they hold many
        episodes."""
        with self._lock:
            if path not in self._tables:
                self._tables[path] = self._load(path)
                if len(self._tables) > _FILES_KEPT:
                    self._tables.popitem(last=False)
            self._tables.move_to_end(path)
            return self._tables[path]

    def _load(self, path: Path) -> dict[str, np.ndarray]:
        table = read_columns(path, ["episode_index", "timestamp", *self._columns])
        columns = {n: matrix(table.column(n), path, n) for n in ("episode_index", "timestamp")}
        for name in self._columns:
            feature = self.info.features[name]
            if not feature.numbers:
                raise DataError(f"{self.info.path}: {name} must be numbers, found {feature.dtype} {feature.shape}.")
            columns[name] = matrix(table.column(name), path, name, feature.shape[0])
        return columns

    def _check(self, one: Recording, columns: dict[str, np.ndarray]) -> None:
        rows = np.flatnonzero(columns["episode_index"] == one.number)
        if len(rows) != one.length:
            raise DataError(
                f"{one.data} has {len(rows)} rows of {one.name}; the list of episodes says {one.length}. Copy the "
                "dataset again."
            )
        one.first = int(rows[0])
        if rows[-1] - rows[0] + 1 != one.length:
            raise DataError(f"{one.data}: the rows of {one.name} do not follow one another. Sort them.")
        part = slice(one.first, one.first + one.length)
        for name in ("timestamp", *self._columns):
            values = columns[name][part].reshape(one.length, -1).astype(np.float64)
            bad = np.flatnonzero(~np.isfinite(values).all(1))
            if len(bad):
                raise DataError(
                    f"{one.data}: {name} holds NaN or infinite values in {len(bad)} rows of {one.name}, first in row "
                    f"{bad[0]} of the episode. Leave the episode out."
                )
        times = columns["timestamp"][part].astype(np.float64)
        if times[0] < 0 or (np.diff(times) <= 0).any():
            raise DataError(f"{one.data}: the timestamps of {one.name} do not rise from row to row.")

    def _raw_action(self, columns: dict[str, np.ndarray], part: slice) -> np.ndarray:
        return np.concatenate([columns[f.key][part] for f in self._actions], 1)

    def _probe_pictures(self, found: list[Recording]) -> tuple[list[Recording], dict[str, Sensor]]:
        """Sizes of all pictures; episodes whose files can't be used become problems."""
        sizes: dict[tuple[str, Path], tuple[int, int] | DataError] = {}
        for one in found:
            for key, path in self._files(one):
                if (key, path) not in sizes:
                    try:
                        sizes[key, path] = self._size(one, key, path)
                    except DataError as error:
                        sizes[key, path] = error
        shown: dict[str, Sensor] = {}
        self._sizes: dict[tuple[str, Path], tuple[int, int]] = {}
        for name, feature in self._cameras.items():
            known = {s for (key, _), s in sizes.items() if key == feature.key and isinstance(s, tuple)}
            if known:
                shown[name] = Sensor("image", (3, *choose_size(known, self.config)))
        good: list[Recording] = []
        for one in found:
            try:
                for key, path in self._files(one):
                    size = sizes[key, path]
                    if isinstance(size, DataError):
                        raise size
                    name = next(n for n, f in self._cameras.items() if f.key == key)
                    target: Any = shown[name].shape[1:]
                    fit(size, target, self.config, f"{one.name}, {path}")
                    self._sizes[key, path] = size
                good.append(one)
            except DataError as error:
                self.problems.append(Problem(one.name, str(error)))
        if good and not shown and not self._vectors:
            raise DataError(f"{self.path} shows nothing: no camera and no observation of numbers. Nothing to import.")
        return good, shown

    def _files(self, one: Recording) -> list[tuple[str, Path]]:
        return [(f.key, one.spans[f.key].path if f.key in one.spans else one.data) for f in self._cameras.values()]

    def _size(self, one: Recording, key: str, path: Path) -> tuple[int, int]:
        if key in one.spans:
            return video_size(path)
        _, cell = next(column_cells(path, key, one.first, one.first + 1))
        picture = picture_of(cell, self.path, f"{one.name}, {key} in {path}")
        return picture.shape[0], picture.shape[1]

    # ------------------------------------------------------------------------------- reading

    def read(self, item: Item) -> Iterator[Episode]:
        """The episode in pieces of at most ``config.length`` frames; a later piece begins with a null action."""
        one = self._recordings[item.name]
        columns = self._table(one.data)
        self._check(one, columns)
        part = slice(one.first, one.first + one.length)
        values = {name: x[part] for name, x in columns.items()}
        kept = _kept(one.length, self.info.fps, self._rate)
        action = self._paired(columns, part, kept, one)
        reward, terminal = self._outcome(values, kept)
        with ExitStack() as stack:
            pictures = {n: stack.enter_context(closing(self._pictures(one, n, values, kept))) for n in self._cameras}
            for start in range(0, len(kept), self.config.length):
                stop = min(start + self.config.length, len(kept))
                obs = {n: np.stack(list(islice(frames, stop - start))) for n, frames in pictures.items()}
                for name, feature in self._vectors.items():
                    obs[name] = values[feature.key][kept[start:stop]].astype(np.float32)
                control = {}
                if action is not None and self._action is not None:
                    control["action"] = action[start:stop].copy()
                    control["action"][0] = self._action.null().numpy()
                earned = None if reward is None else reward[start:stop].copy()
                if earned is not None:
                    earned[0] = 0  # nothing led to a first frame
                last = stop == len(kept)
                episode = Episode(
                    obs,
                    control,
                    earned,
                    None if terminal is None else terminal and last,
                    info={"task": " / ".join(one.tasks)} if any(one.tasks) else {},
                )
                episode.check(self.spec)
                yield episode

    def _pictures(
        self, one: Recording, name: str, values: dict[str, np.ndarray], kept: np.ndarray
    ) -> Generator[np.ndarray, None, None]:
        feature = self._cameras[name]
        size: Any = self.spec.shown[name].shape[1:]
        if feature.key not in one.spans:
            return column_frames(one.data, feature.key, one.first + kept, size, self.config, self.path, one.name)
        span = one.spans[feature.key]
        how = fit(self._sizes[feature.key, span.path], size, self.config, f"{one.name}, {span.path}")
        times = values["timestamp"][kept].astype(np.float64)
        return span_frames(span, times, self.info.fps, how, one.name)

    def _paired(
        self, columns: dict[str, np.ndarray], part: slice, kept: np.ndarray, one: Recording
    ) -> np.ndarray | None:
        if self._action is None:
            return None
        raw = self._raw_action(columns, part)
        if self._action.kind == "discrete":
            raw = raw[:, 0]
        paired = pair(raw, one.length, self._action, self.config.rule, f"{one.data}, {one.name}")
        return paired[kept]  # where frames are left out, the last action that led to the one that is kept

    def _outcome(self, values: dict[str, np.ndarray], kept: np.ndarray) -> tuple[np.ndarray | None, bool | None]:
        reward: np.ndarray | None = None
        if _REWARD in values:
            said = values[_REWARD][:, 0].astype(np.float32)
            reward = np.concatenate([np.zeros(1, np.float32), said[:-1]])
            reward[-1] += said[-1]
            if len(kept) != len(reward) or (kept != np.arange(len(reward))).any():  # the rewards between add up
                total = np.concatenate([[0.0], np.cumsum(reward, dtype=np.float64)])
                bounds = np.concatenate([[0], kept + 1])
                bounds[-1] = len(reward)
                reward = np.diff(total[bounds]).astype(np.float32)
        if _DONE not in values:
            return reward, None
        cut = bool(_CUT in values and values[_CUT][-2:].any())
        return reward, bool(values[_DONE][-2:].any()) and not cut


def _kept(length: int, fps: float, rate: float) -> np.ndarray:
    """Which frames of an episode are shown at another rate: the nearest in time, left out or repeated."""
    if abs(fps / rate - 1) <= SAME_RATE:
        return np.arange(length)
    count = math.floor((length - 1) * rate / fps + 1e-6) + 1
    return np.ceil(np.arange(count) * fps / rate - 0.5 - 1e-6).astype(np.int64).clip(0, length - 1)
