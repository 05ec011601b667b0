"""What every reader of a foreign format has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from worldloom.configs import ConfigError, at_least
from worldloom.contract import Spec
from worldloom.data.episode import Episode


@dataclass(frozen=True)
class ImportConfig:
    """How somebody else's recordings become episodes."""

    size: tuple[int, int] | None = None
    """Height and width of the pictures in the dataset; by default their own up to 128 pixels, larger ones shrunk until
    the shorter side has 64, both rounded to a multiple of 8."""
    fit: Literal["strict", "crop", "pad", "stretch"] = "strict"
    """Where pictures differ in shape from ``size`` or from each other: ``strict`` is an error that says so, ``crop``
    cuts the middle out, ``pad`` adds black, ``stretch`` distorts."""
    fps: float | None = None
    """Frames a second in the dataset; by default those of the source. Of videos and LeRobot datasets frames are left
    out or repeated, not blended; where a source carries no times, this is the rate it has."""
    pairing: Literal["auto", "next", "same"] = "auto"
    """What row t of a table of actions means. ``next``: the action taken after seeing frame t, which led to frame t+1
    (what recorders of robots and games write). ``same``: the action that led to frame t. ``auto``: ``next``, unless a
    format says otherwise by itself."""
    actions: Literal["auto", "discrete", "continuous", "none"] = "auto"
    """Whether actions are choices or numbers; ``auto``: whole numbers of one column with at most 256 values are
    choices. ``none``: plain video, whatever tables there are."""
    columns: tuple[str, ...] = ()
    """Columns (or array names) that are the action; by default those named action, actions, or action_*, or all that
    are not known to be something else (time, frame numbers, reward, done)."""
    cameras: tuple[str, ...] = ()
    """Which picture streams to keep, where there are several; by default all."""
    length: int = 1000
    """Longest episode in frames: longer recordings are cut into pieces, so that memory stays flat."""

    @property
    def rule(self) -> Literal["next", "same"]:
        """The pairing, where the format says nothing by itself."""
        return "same" if self.pairing == "same" else "next"

    def __post_init__(self) -> None:
        at_least(self, 2, "length")
        if self.size is not None and not all(1 <= n <= 4096 for n in self.size):
            raise ConfigError(f"size must be two numbers from 1 to 4096, found {self.size}.")
        if self.fps is not None and not 0 < self.fps < 1e4:
            raise ConfigError(f"fps must be a positive number, found {self.fps}.")


@dataclass(frozen=True)
class Item:
    """One recording of a source."""

    name: str
    """Its path or number within the source: stable, and what messages call it."""
    frames: int | None = None
    """Its length in frames at the source's rate, where that is known without decoding it."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with data, and where."""

    where: str
    """File, episode or column."""
    what: str
    """One sentence: what was found, what was expected, what to do."""
    kind: str = "unreadable"
    """A short name of the kind of problem, for counting."""
    severity: Literal["error", "warning", "remark"] = "error"
    """``error``: what is trained on it will be wrong, or can't be read. ``warning``: most likely not what was meant.
    ``remark``: good to know."""


class Source(ABC):
    """Somebody's recordings, read as episodes; the files are never written to.

    Making one lists and probes (headers and tables, no pixels); it raises :class:`~worldloom.data.DataError` only where
    nothing can be used or the recordings do not fit together, and otherwise tells what is wrong in :attr:`problems`.
    """

    format: ClassVar[str]
    """Its name in :data:`worldloom.data.sources.FORMATS`."""

    path: Path
    """The folder or file."""
    config: ImportConfig
    """How it is to be read."""
    spec: Spec
    """What every episode shows and is given."""
    items: list[Item]
    """The recordings that can be used, in their order."""
    problems: list[Problem]
    """What can't be used, and why."""
    notes: list[str]
    """What was understood, one line each, for the user to check: rate, size, which action led to which frame."""

    def __init__(self, path: Path, config: ImportConfig):
        self.path, self.config = path, config
        self.items, self.problems, self.notes = [], [], []

    @classmethod
    @abstractmethod
    def sniff(cls, path: Path) -> bool:
        """Whether ``path`` looks like this format: cheap, never raises."""

    @abstractmethod
    def read(self, item: Item) -> Iterator[Episode]:
        """The recording as episodes of at most ``config.length`` frames, in order, the same every time.

        May be called from several threads at once, for different items. Raises :class:`DataError` that names the file
        where the recording turns out to be damaged; pieces before the damage may have been yielded.
        """
