"""Datasets that Minari wrote (hdf5, arrow or parquet), read by Minari's own storage classes.

Two of Minari's paths are kept away from: without spaces in its metadata it would make the environment that the
metadata name, which imports whatever module they say; and an HDF5 file may point at other files. Both are refused.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from worldloom.contract import Spec, WorldloomError
from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.arrays.files import BROKEN, Leaf, check_size, need
from worldloom.data.sources.arrays.hdf5 import inside, refuse_outside
from worldloom.data.sources.arrays.reading import pieces
from worldloom.data.sources.arrays.source import FPS
from worldloom.data.sources.base import ImportConfig, Item, Problem, Source
from worldloom.data.sources.minari.spaces import ActionReading, Reading, read_action, read_sensors, read_space
from worldloom.data.sources.pairing import pair
from worldloom.data.sources.timing import SAME_RATE

METADATA, MAIN = "metadata.json", "main_data.hdf5"
_FORMATS = ("hdf5", "arrow", "parquet")
_LOOKED = 5_000  # folders that are looked into for datasets
_MOST = 10_000_000  # episodes of a dataset


def _metadata(folder: Path) -> dict[str, Any] | None:
    """What Minari says of the data in a folder; None where it says nothing."""
    try:
        path = folder / METADATA
        if not path.is_file() or path.stat().st_size > 2**26:
            return None
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    named = isinstance(data, dict) and "data_format" in data and {"observation_space", "env_spec"} & set(data)
    return data if named else None


def _folders(path: Path) -> Iterator[Path]:
    """The folders of data in ``path``: itself, its ``data``, or the ``data`` of datasets below it."""
    for folder in (path, path / "data"):
        if _metadata(folder) is not None:
            yield folder
            return
    for name, inner, _ in islice(os.walk(path), _LOOKED):
        inner[:] = sorted(d for d in inner if not d.startswith("."))
        if "data" in inner and _metadata(Path(name, "data")) is not None:
            inner.clear()
            yield Path(name, "data")


class MinariSource(Source):
    """A Minari dataset, or a folder of several with the same spaces; each episode is an item.

    Observations are one more than actions, so that every action has its frame. Memory is that of one episode, which
    Minari reads whole.
    """

    format = "minari"

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether Minari's metadata are at ``path``, in its ``data``, or that of a folder below."""
        return path.is_dir() and next(_folders(path), None) is not None

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        self._storage_class = need("minari", "Reading Minari's datasets").dataset.minari_storage.MinariStorage
        if not path.exists() and not path.is_absolute() and ".." not in path.parts:
            root = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
            self.path = Path(root) / path  # the id of a dataset that Minari keeps on this machine
        folders = list(_folders(self.path)) if self.path.is_dir() else []
        if not folders:
            raise DataError(f"{self.path} holds no Minari dataset: no data/{METADATA} with its format and spaces.")
        self._where: dict[str, tuple[Path, int]] = {}
        spaces = [self._spaces(folder) for folder in folders]
        if any(s != spaces[0] for s in spaces):
            raise DataError(
                f"{self.path} holds {len(folders)} datasets with different spaces: "
                f"{', '.join(self._called(f) for f in folders[:8])}. Import one at a time."
            )
        ours = self._ours(folders[0])
        observations, actions, self._jpeg = spaces[0]
        self._observation_space = read_space(observations, f"{folders[0] / METADATA}: observation_space")
        self._sensors: dict[str, Reading] = read_sensors(
            self._observation_space, config, ours, self.notes, str(self.path)
        )
        self._action: ActionReading | None = None
        if config.actions != "none":
            space = read_space(actions, f"{folders[0] / METADATA}: action_space")
            self._action = read_action(space, config, ours, self.notes, str(self.path))
        fps = config.fps or (ours.fps if ours else FPS)
        if ours and abs(fps / ours.fps - 1) > SAME_RATE:
            raise DataError(
                f"{self.path} has {ours.fps:g} frames a second, and no frames are left out of a Minari dataset. Leave "
                "out --fps."
            )
        given = {"action": self._action.control} if self._action else {}
        self.spec = Spec({name: r.sensor for name, r in self._sensors.items()}, given, fps)
        self._own = ours is not None
        for folder in folders:
            self._list(folder, "" if len(folders) == 1 else f"{self._called(folder)}: ")
        if not self.items:
            raise DataError(f"{self.path}: no episode can be used. The first: {self.problems[0].what}")
        self.notes.insert(0, f"{self.path}: {len(self.items)} episodes of {len(folders)} Minari datasets.")
        self.notes.append("Actions: Minari has one observation more than actions; action t led from frame t to t+1.")
        if ours is None and config.fps is None:
            self.notes.append(f"Minari keeps no rate: {FPS:g} frames a second is assumed (--fps).")

    def _called(self, folder: Path) -> str:
        return folder.relative_to(self.path).parent.as_posix() if folder != self.path else folder.name

    def _spaces(self, folder: Path) -> tuple[str, str, bool]:
        """The JSON of both spaces, and whether pictures rest as JPEG."""
        data = _metadata(folder) or {}
        observations, actions = data.get("observation_space"), data.get("action_space")
        if not isinstance(observations, str) or not isinstance(actions, str):
            raise DataError(
                f"{folder / METADATA} lacks a space. Minari would make the environment to learn it, which runs code "
                "that the metadata name, so it is not done. Write the dataset anew with a recent Minari."
            )
        if data["data_format"] not in _FORMATS:
            raise DataError(
                f"{folder / METADATA}: data_format must be one of {_FORMATS}, found {data['data_format']!r}."
            )
        return observations, actions, bool(data.get("jpeg_encoding", True))

    @staticmethod
    def _ours(folder: Path) -> Spec | None:
        """The spec, where this library exported the dataset."""
        said = (_metadata(folder) or {}).get("worldloom")
        try:
            return Spec.from_json(said["spec"]) if isinstance(said, dict) else None
        except (WorldloomError, KeyError):
            return None

    def _list(self, folder: Path, prefix: str) -> None:
        where = f"{prefix}{METADATA}"
        claimed = (_metadata(folder) or {}).get("total_episodes")
        if not isinstance(claimed, int) or not 0 < claimed <= _MOST:
            self.problems.append(Problem(where, f"total_episodes must be a number from 1, found {claimed!r}."))
            return
        try:
            storage = self._storage(folder)
            held = self._held(folder)
        except DataError as error:
            self.problems.append(Problem(where, str(error)))
            return
        if held < claimed:
            self.problems.append(
                Problem(where, f"claims {claimed} episodes, {held} are there. Copy the dataset again.")
            )
        elif held > claimed:
            self.notes.append(f"{where} lists {claimed} episodes, {held} are there: the others are left out.")
        for number in range(min(held, claimed)):
            name = f"{prefix}episode {number}"
            try:
                (said,) = storage.get_episode_metadata([number])
                steps = int(said["total_steps"])
            except BROKEN as error:
                self.problems.append(Problem(name, f"its metadata can't be read ({error}). Copy the dataset again."))
                continue
            self.items.append(Item(name, steps + 1))
            self._where[name] = (folder, number)

    def _storage(self, folder: Path) -> Any:
        """Minari's reader. With both spaces there it makes no environment."""
        try:
            return self._storage_class.read(folder.resolve())  # it joins a relative path to itself
        except (*BROKEN, AssertionError, ImportError) as error:
            raise DataError(f"{folder} can't be read by Minari ({error}).") from error

    @staticmethod
    def _held(folder: Path) -> int:
        if (folder / MAIN).is_file():
            h5py = need("h5py", "Reading Minari's HDF5")
            try:
                with h5py.File(folder / MAIN, "r") as file:
                    return len(file)
            except BROKEN as error:
                raise DataError(f"{folder / MAIN} is damaged or not HDF5 ({error}). Copy it again.") from error
        return sum(1 for p in folder.iterdir() if p.is_dir() and p.name.isdecimal())

    # ------------------------------------------------------------------------------------------------------ reading

    def read(self, item: Item) -> Iterator[Episode]:
        """The episode, in pieces of at most ``config.length`` frames."""
        folder, number = self._where[item.name]
        try:
            if (folder / MAIN).is_file():
                self._inspect(folder / MAIN, number, item.name)
            (found,) = self._storage(folder).get_episodes([number])
            whole = self._whole(found, item)
        except WorldloomError:
            raise
        except (*BROKEN, AssertionError) as error:
            raise DataError(
                f"{item.name} of {folder} can't be read, it is damaged or not what its metadata say "
                f"({type(error).__name__}: {str(error)[:200]}). Copy the dataset again."
            ) from error
        for start, stop in pieces(whole.length, self.config.length):
            control = {}
            if self._action is not None:
                rows = whole.control["action"][start + 1 : stop]
                control["action"] = pair(rows, stop - start, self._action.control, "next", item.name)
            yield Episode(
                {name: value[start:stop] for name, value in whole.obs.items()},
                control,
                None if whole.reward is None else whole.reward[start:stop],
                bool(whole.terminal) and stop == whole.length,
                {name: value[start:stop] for name, value in whole.truth.items()},
                {"rows": [start, stop]},
            )

    def _whole(self, found: dict[str, Any], item: Item) -> Episode:
        """The episode uncut, from what Minari read."""
        where, frames = item.name, item.frames or 0
        flags = {k: np.asarray(found[k]).reshape(-1) for k in ("rewards", "terminations", "truncations")}
        if any(len(x) != frames - 1 for x in flags.values()):
            lengths = {k: len(x) for k, x in flags.items()}
            raise DataError(f"{where}: {frames - 1} steps were expected, found {lengths}.")
        obs = {name: reading.take(found["observations"], frames, where) for name, reading in self._sensors.items()}
        reward = np.zeros(frames, np.float32)
        with np.errstate(over="ignore"):
            reward[1:] = flags["rewards"]
        if not np.isfinite(reward).all():
            raise DataError(f"{where}: rewards hold NaN or infinite values.")
        control = {}
        if self._action is not None:
            rows = self._action.take(found["actions"], frames - 1, where)
            control["action"] = pair(rows, frames, self._action.control, "next", where)
        ended = bool(flags["terminations"][-1]) if frames > 1 else False
        return Episode(obs, control, reward, ended, self._truth(found.get("infos"), frames) if self._own else {})

    @staticmethod
    def _truth(infos: Any, frames: int) -> dict[str, np.ndarray]:
        """The exact state that this library's export keeps in ``infos``."""
        found: dict[str, np.ndarray] = {}

        def walk(value: Any, name: str) -> None:
            if isinstance(value, dict):
                for key, inner in value.items():
                    walk(inner, f"{name}/{key}" if name else str(key))
            elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and len(value) == frames:
                found[name] = value

        walk((infos or {}).get("truth"), "")
        return found

    def _inspect(self, path: Path, number: int, where: str) -> None:
        """Refuse an episode whose HDF5 leads to other files, or claims sizes that nothing backs."""
        h5py = need("h5py", "Reading Minari's HDF5")
        with h5py.File(path, "r") as file:
            group = refuse_outside(h5py, file, f"episode_{number}", where)
            if not isinstance(group, h5py.Group):
                raise DataError(f"{where}: episode_{number} is not a group of {path}.")

            def visit(name: str, found: Any) -> None:
                if found is None:
                    raise DataError(f"{where}: {name} is a soft link, which is not followed. Save the data themselves.")
                if found.shape and found.dtype.kind in "biuf":
                    leaf = Leaf(tuple(found.shape), found.dtype)
                    check_size(where, name, leaf, found.id.get_storage_size())
                if self._jpeg and name.startswith("observations") and found.shape:
                    self._picture(name, found, where)

            inside(h5py, group, where, visit)

    def _picture(self, name: str, found: Any, where: str) -> None:
        """Refuse a JPEG of another size than its space: Minari makes room for all from the size of the first."""
        from minari.dataset.minari_storage import is_image_space
        from PIL import Image

        space = self._observation_space
        for key in name.split("/")[1:]:
            space = space.spaces[key]
        if is_image_space(space):
            wide, high = Image.open(io.BytesIO(found[0].tobytes())).size
            if (high, wide) != space.shape[:2]:
                raise DataError(f"{where}: {name} holds pictures of {wide}×{high}, its space is {space.shape}.")
