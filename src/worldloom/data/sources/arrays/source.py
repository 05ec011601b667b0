"""HDF5 and npz files of the common shapes, read as episodes. Which shapes: :mod:`.shapes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from worldloom.contract import Control, Sensor, Spec
from worldloom.data.episode import DataError, Episode
from worldloom.data.sources.arrays.episodes import Segment, Track, find_tracks
from worldloom.data.sources.arrays.files import ArrayFile, NpzFile
from worldloom.data.sources.arrays.hdf5 import Hdf5File
from worldloom.data.sources.arrays.pictures import Look, look_at
from worldloom.data.sources.arrays.reading import actions_of, frames_of, led, one_hot, pieces, rewards_of, vectors
from worldloom.data.sources.arrays.shapes import channels, size_of
from worldloom.data.sources.base import ImportConfig, Item, Problem, Source
from worldloom.data.sources.films.images import SUFFIXES as PICTURES
from worldloom.data.sources.films.video import SUFFIXES as VIDEOS
from worldloom.data.sources.names import files_under
from worldloom.data.sources.pairing import infer_control, pair, pairing_note
from worldloom.data.sources.pictures import choose_size, fit

FPS = 15.0
"""Frames a second of a dataset whose files do not say."""
SAMPLED = 16
"""Recordings in which actions that rest frame by frame are looked at beforehand."""
_SEEN = 4  # recordings, and frames of each, from which it is settled what pictures are
_BLOCK = 2**26  # bytes of pictures that are turned into the dataset's at once
_LOOKED = 20_000  # entries of a folder that sniffing looks at


def files_in(path: Path, suffixes: Collection[str], most: int | None = None) -> Iterator[Path]:
    """The files with one of ``suffixes`` in a folder, at any depth, in order; hidden ones are left out."""
    seen = 0
    for folder, names in files_under(path):
        for name in names:
            seen += 1
            if most is not None and seen > most:
                return
            if Path(name).suffix.lower() in suffixes:
                yield folder / name


@dataclass(frozen=True)
class _Work:
    """What an item stands for."""

    track: Track
    segments: tuple[Segment, ...]


class ArraysSource(Source):
    """What :class:`Hdf5Source` and :class:`NpzSource` share: everything but how a file is opened."""

    suffixes: ClassVar[set[str]]
    """Endings of its files."""
    whole: ClassVar[bool]
    """Whether all episodes of a file are one item, since it is read from front to back."""

    @classmethod
    def open(cls, path: Path, where: str) -> ArrayFile:
        """Open a file."""
        raise NotImplementedError

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        self._work: dict[str, _Work] = {}
        found = self._find()
        reference = self._reference(found)
        kept = [t for t in found if self._fits(t, reference)]
        self._sensors = tuple(reference.sensors)
        self._rewarded, self._ended = reference.reward is not None, reference.knows_ends
        self._choices: int | None = None
        self._asked(reference)
        control = self._control(kept) if reference.action else None
        self._look = self._pictures(kept, reference)
        shown = {
            name: Sensor("image", (self._look[name].channels, *self._look[name].size))
            if name in reference.pictures
            else Sensor("vector", (max(1, int(np.prod(reference.frames[name].shape))),))
            for name in self._sensors
        }
        self.spec = Spec(shown, {} if control is None else {"action": control}, config.fps or FPS)
        self._list(kept)
        self._tell(kept)

    # ------------------------------------------------------------------------------------------------ what is there

    def _find(self) -> list[Track]:
        paths = [self.path] if self.path.is_file() else list(files_in(self.path, self.suffixes))
        found: list[Track] = []
        if not paths:
            raise DataError(f"{self.path} holds no file that ends in {' or '.join(sorted(self.suffixes))}.")
        for path in paths:
            where = path.name if path == self.path else path.relative_to(self.path).as_posix()
            try:
                with self.open(path, where) as file, file.trouble():
                    tracks, wrong = find_tracks(file, self.config)
            except DataError as error:
                self.problems.append(Problem(where, str(error)))
                continue
            found += tracks
            self.problems += [Problem(where, str(error)) for error in wrong]
        if not found:
            first = f" The first: {self.problems[0].what}" if self.problems else ""
            raise DataError(f"{self.path}: none of its {len(paths)} files can be used.{first}")
        known = {name for t in found for name in t.pictures}
        if set(self.config.cameras) - known:
            missing = sorted(set(self.config.cameras) - known)
            raise DataError(f"{self.path} has no pictures named {missing}; it has {sorted(known)}.")
        return found

    def _asked(self, reference: Track) -> None:
        """Refuse to go on without the actions that were asked for by name or kind."""
        asked = self.config.columns or self.config.actions in ("discrete", "continuous")
        if asked and not reference.action and self.config.actions != "none":
            listed = ", ".join([*reference.sensors.values(), *reference.left][:12])
            wanted = ", ".join(self.config.columns) or "action or actions"
            raise DataError(f"{reference.label}: no arrays named {wanted} for the action; it has {listed}.")
        if not reference.action:
            self.notes.append("Actions: none; this is plain video.")

    @staticmethod
    def _signature(track: Track) -> tuple[object, ...]:
        shapes = []
        for name, leaf in sorted(track.frames.items()):
            found = channels(leaf.shape) if name in track.pictures else None
            shapes.append((name, leaf.shape if found is None else found[0] == 1))
        return (*shapes, bool(track.action), track.reward is not None, track.knows_ends)

    def _reference(self, tracks: list[Track]) -> Track:
        """One of the largest group of recordings that are alike."""
        alike = Counter(self._signature(t) for t in tracks)
        best = max(alike.values())
        return next(t for t in tracks if alike[self._signature(t)] == best)

    def _fits(self, track: Track, reference: Track) -> bool:
        """Whether a recording has all that the reference has; notes the problem where it has not."""
        *mine, acts, rewards, ends = self._signature(track)
        *its, its_acts, its_rewards, its_ends = self._signature(reference)
        lacks = [str(name) for name in its if name not in mine]
        lacks += ["actions"] * bool(its_acts and not acts) + ["rewards"] * bool(its_rewards and not rewards)
        lacks += ["known ends"] * bool(its_ends and not ends)
        if lacks:
            self.problems.append(
                Problem(
                    track.label,
                    f"differs from most recordings ({reference.label}) in {', '.join(lacks)}. Import it by itself.",
                    "differs",
                )
            )
        return not lacks

    def _control(self, tracks: list[Track]) -> Control | None:
        """The action, from the tables of all recordings (of some, where a table rests frame by frame)."""
        scattered = [t for t in tracks if t.action[0].startswith("frame_i_")]
        looked = [t for t in tracks if t not in scattered] + scattered[:: max(1, len(scattered) // SAMPLED)][:SAMPLED]
        parts, hot = [], True
        for track in list(looked):
            try:
                with self.open(self._place(track.file), track.label) as file, file.trouble():
                    rows = np.concatenate([actions_of(file, track, s, *led(track, s)) for s in track.segments])
                infer_control([rows], (), "continuous", track.label)
            except DataError as error:
                self._drop(tracks, track, error, "actions")
                continue
            parts.append(rows)
            hot = hot and one_hot(rows)
        if hot and self.config.actions != "continuous":
            self._choices = parts[0].shape[1]
            self.notes.append(f"Actions: rows with a single 1 among {self._choices} are read as choices.")
            return Control("discrete", n=self._choices)
        names = tuple(n.rsplit("/", 1)[-1] for n in tracks[0].action)
        kind = "auto" if self.config.actions == "none" else self.config.actions
        return infer_control(parts, names, kind, str(self.path))

    def _place(self, file: str) -> Path:
        return self.path if self.path.is_file() else self.path / file

    def _pictures(self, tracks: list[Track], reference: Track) -> dict[str, Look]:
        """How the pictures of each sensor become the dataset's; a few frames of a few recordings settle it."""
        sizes = {size_of(t.frames[n].shape) for t in tracks for n in reference.pictures}
        if not sizes:
            return {}
        size = choose_size(sizes, self.config)
        for track in list(tracks):
            try:
                for name in reference.pictures:
                    fit(size_of(track.frames[name].shape), size, self.config, track.label)
            except DataError as error:
                self._drop(tracks, track, error, "size")
        samples: dict[str, list[np.ndarray]] = {name: [] for name in sorted(reference.pictures)}
        step, seen = max(1, len(tracks) // _SEEN), 0
        for track in [*tracks[::step], *(t for k, t in enumerate(tracks) if k % step)]:
            try:
                with self.open(self._place(track.file), track.label) as file, file.trouble():
                    segment = track.segments[0]
                    stop = min(_SEEN, track.length(segment))
                    taken = {name: frames_of(file, track, name, segment, 0, stop) for name in samples}
                for name, value in taken.items():
                    look_at([value], size, self.config, f"{track.label}, {name}")
            except DataError as error:
                self._drop(tracks, track, error, "pictures")
                continue
            for name, value in taken.items():
                samples[name].append(value)
            seen += 1
            if seen == _SEEN:
                break
        looks = {name: look_at(values, size, self.config, name) for name, values in samples.items()}
        self.notes += [look.note for look in looks.values()]
        return looks

    def _drop(self, tracks: list[Track], track: Track, error: DataError, kind: str) -> None:
        """Take a recording that can't be used out of the list; :class:`DataError` once none is left."""
        self.problems.append(Problem(track.label, str(error), kind))
        tracks[:] = [t for t in tracks if t is not track]
        if not tracks:
            raise DataError(f"{self.path}: no recording can be used. The first: {self.problems[0].what}")

    def _list(self, tracks: list[Track]) -> None:
        for track in tracks:
            if self.whole:
                groups = [(track.label, track.segments)]
            else:
                many = len(track.segments) > 1
                groups = [
                    (f"{track.label}: episode {k}" if many else track.label, (s,)) for k, s in enumerate(track.segments)
                ]
            for name, segments in groups:
                self.items.append(Item(name, sum(track.length(s) for s in segments)))
                self._work[name] = _Work(track, segments)

    def _tell(self, tracks: list[Track]) -> None:
        episodes = sum(len(t.segments) for t in tracks)
        frames = sum(t.length(s) for t in tracks for s in t.segments)
        self.notes.insert(0, f"{self.path}: {episodes} episodes of {frames:,} frames in {len(tracks)} recordings.")
        if self.spec.action is not None:
            for pairing in dict.fromkeys(t.pairing for t in tracks):
                self.notes.append(pairing_note(pairing))
        if any(t.more for t in tracks):
            self.notes.append("There is one frame more than actions: action t led from frame t to frame t+1.")
        if any(t.following for t in tracks):
            self.notes.append("The last frame of an episode is taken from the next observations.")
        self.notes += dict.fromkeys(note for t in tracks for note in t.notes)
        left = list(dict.fromkeys(name for t in tracks for name in t.left))
        if left:
            more = f" and {len(left) - 12} more" if len(left) > 12 else ""
            self.notes.append(f"Left out: {', '.join(left[:12])}{more}.")
        if self.config.fps is None:
            self.notes.append(f"The files name no rate: {FPS:g} frames a second is assumed (--fps).")

    # ------------------------------------------------------------------------------------------------------ reading

    def read(self, item: Item) -> Iterator[Episode]:
        """The recording as episodes of at most ``config.length`` frames, in order."""
        work = self._work[item.name]
        with self.open(self._place(work.track.file), item.name) as file:
            for segment in work.segments:
                frames = work.track.length(segment)
                for start, stop in pieces(frames, self.config.length):
                    with file.trouble():
                        episode = self._episode(file, work.track, segment, start, stop)
                    if self._ended:
                        episode.terminal = bool(segment.ended) and stop == frames
                    yield episode

    def _episode(self, file: ArrayFile, track: Track, segment: Segment, start: int, stop: int) -> Episode:
        where = f"{file.where}, rows {segment.start + start} to {segment.start + stop}"
        obs = {}
        for name in self._sensors:
            step = max(1, _BLOCK // max(1, track.frames[name].bytes))  # large pictures are shrunk a few at a time
            parts = []
            for begin in range(start, stop, step):
                value = frames_of(file, track, name, segment, begin, min(begin + step, stop))
                pictures = name in self._look
                parts.append(self._look[name].convert(value, where) if pictures else vectors(value, name, where))
            obs[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        control = {}
        if self.spec.action is not None:
            begin, end = segment.start + start, min(segment.start + stop, segment.stop)
            taken = actions_of(file, track, segment, begin, end)
            control["action"] = self._paired(taken, stop - start, track, self.spec.action, where)
        reward = None
        if self._rewarded and track.reward is not None:
            reward = rewards_of(file, track, track.reward, segment, start, stop, where)
        return Episode(obs, control, reward, info={"rows": [segment.start + start, segment.start + stop]})

    def _paired(self, taken: np.ndarray, frames: int, track: Track, control: Control, where: str) -> np.ndarray:
        used = taken[: frames - 1] if track.pairing == "next" else taken[1:]
        if not np.isfinite(used.astype(np.float64)).all():
            row = int(np.flatnonzero(~np.isfinite(used.astype(np.float64)).all(1))[0])
            raise DataError(f"{where}: actions hold NaN or infinite values, first {row} rows in.")
        if control.kind == "discrete":
            if self._choices is not None:
                if len(used) and not one_hot(used):
                    raise DataError(f"{where}: a row of actions is not a single 1. Give --actions continuous.")
                used = used.argmax(1)
            used = used.reshape(len(used))
            if len(used) and not (used.min() >= 0 and used.max() < control.n):
                raise DataError(f"{where}: choices must lie in 0..{control.n - 1}, found {used.min()} to {used.max()}.")
        if track.pairing == "same":  # what stands in the first row led to nothing
            used = np.concatenate([np.zeros((1, *used.shape[1:]), used.dtype), used])
        return pair(used, frames, control, track.pairing, where)


class NpzSource(ArraysSource):
    """npz files, or one npy file. A file is read once from front to back, so that a large compressed one stays flat in
    memory; all its episodes are one item."""

    format = "npz"
    suffixes: ClassVar[set[str]] = {".npz"}
    whole = True

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """An npz or npy file, or a folder of npz files without pictures or videos, whose actions they then are."""
        try:
            if path.is_file():
                return path.suffix.lower() in {".npz", ".npy"}
            if not path.is_dir() or next(files_in(path, cls.suffixes, _LOOKED), None) is None:
                return False
            return next(files_in(path, VIDEOS | PICTURES, _LOOKED), None) is None
        except OSError:
            return False

    @classmethod
    def open(cls, path: Path, where: str) -> ArrayFile:
        """Open a file."""
        return NpzFile(path, where)


class Hdf5Source(ArraysSource):
    """HDF5 files. Each episode is an item, read by slices."""

    format = "hdf5"
    suffixes: ClassVar[set[str]] = {".h5", ".hdf5", ".hdf"}
    whole = False

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """A file with such an ending, or a folder with one at any depth."""
        try:
            if path.is_file():
                return path.suffix.lower() in cls.suffixes
            return path.is_dir() and next(files_in(path, cls.suffixes, _LOOKED), None) is not None
        except OSError:
            return False

    @classmethod
    def open(cls, path: Path, where: str) -> ArrayFile:
        """Open a file."""
        return Hdf5File(path, where)


__all__ = ["Hdf5Source", "NpzSource"]
