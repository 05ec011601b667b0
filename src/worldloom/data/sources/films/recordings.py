"""What videos and folders of pictures have in common: sizes that fit, one rate, tables of actions, episodes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from worldloom.contract import Sensor, Spec, WorldloomError
from worldloom.data.episode import DataError
from worldloom.data.sources.base import ImportConfig, Item, Problem, Source
from worldloom.data.sources.cutting import Cutter
from worldloom.data.sources.films.actions import Rows
from worldloom.data.sources.films.labels import Found, Labels
from worldloom.data.sources.pictures import Fit, choose_size, fit
from worldloom.data.sources.timing import SAME_RATE
from worldloom.files import read_json

ABOUT = "about.json"
"""What ``worldloom data export --format video`` lays beside its videos: the spec, so that nothing must be guessed."""


class Recordings(Source):
    """A source whose episodes are pictures in order, with a table of actions for each, or for none.

    A recording longer than ``config.length`` is cut into pieces that share no frame; each is an episode of its own,
    whose first action is null and first reward 0, as nothing within it led there. Resampled, a frame's action is the
    last of those that led to it since the frame kept before, and its reward their sum; what came after the last frame
    kept counts for it. With actions no frame is ever repeated: none would have led to the second.
    """

    def __init__(self, path: Path, config: ImportConfig):
        super().__init__(path, config)
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        self._found: dict[str, Found] = {}
        self._fits: dict[tuple[int, int], Fit] = {}
        self._rows: dict[str, Rows] = {}
        self._about = _about(path)

    # ------------------------------------------------------------------------------------------------- listing

    def _settle(self, found: list[Found], every: list[str], what: str, many: str) -> None:
        """Decide on size, rate and control, from what was found; says so in the notes.

        every: names of all that lies there, what can't be used too. what, many: what one is called, and several.
        """
        good = self._shaped(found)
        good, rate = self._timed(good)
        labels = Labels(self.path, self.config, good, every, self._about.action if self._about else None)
        good, self._rows, control = labels.good, labels.rows, labels.control
        self.problems += labels.problems
        if not good:
            first = self.problems[0] if self.problems else Problem(str(self.path), f"holds no {many}.")
            raise DataError(f"{self.path} holds no {many} that can be used. {first.where}: {first.what}")
        size = next(iter(self._fits.values())).size
        sensor = next(iter(self._about.images), "camera") if self._about else "camera"
        given = {} if control is None else {"action": control}
        self.spec = Spec({sensor: Sensor("image", (3, *size))}, given, rate)
        self._found = {f.name: f for f in good}
        self.items = [Item(f.name, f.frames) for f in good]
        known = [f.frames for f in good if f.frames is not None]
        frames = f", {sum(known):,} frames" if len(known) == len(good) else ""
        self.notes.insert(0, f"{len(good)} {many if len(good) > 1 else what}{frames} at {rate:.6g} frames a second.")
        self.notes.insert(1, self._sizes_note(good, size))
        self.notes += labels.notes

    def _sizes_note(self, good: list[Found], size: tuple[int, int]) -> str:
        counts = Counter(s for f in good for s in f.sizes)
        listed = ", ".join(f"{w}×{h}" for (h, w), _ in counts.most_common(3)) + (", ..." if len(counts) > 3 else "")
        if set(counts) == {size}:
            return f"Pictures of {listed} pixels (width×height) are kept as they are."
        how = {"strict": "resized", "stretch": "stretched", "crop": "cut and resized", "pad": "resized and padded"}
        same = all(self._fits[s].plain for s in counts)
        verb = how["strict"] if same and self.config.fit != "stretch" else how[self.config.fit]
        return f"Pictures of {listed} pixels (width×height) are {verb} to {size[1]}×{size[0]} (--size HEIGHT WIDTH)."

    def _shaped(self, found: list[Found]) -> list[Found]:
        if not found:
            return []
        size = choose_size({s for f in found for s in f.sizes}, self.config)
        good = []
        for f in found:
            try:
                for source, where in f.sizes.items():
                    self._fits[source] = fit(source, size, self.config, where)
            except DataError as error:
                self._problem(f.name, error, "shape")
            else:
                good.append(f)
        return good

    def _timed(self, found: list[Found]) -> tuple[list[Found], float]:
        if self.config.fps is not None:
            return found, self.config.fps
        rates = Counter(round(f.rate, 3) for f in found if f.rate > 0)
        rate = max(rates, key=lambda r: (rates[r], r), default=1.0)
        good = []
        for f in found:
            if f.rate <= 0:
                self._problem(f.name, "does not say its frame rate; give --fps.", "rate")
            elif abs(f.rate / rate - 1) > SAME_RATE:
                self._problem(
                    f.name,
                    f"{f.rate:.4g} frames a second, where most have {rate:.4g}; give --fps N to bring all to one rate.",
                    "rate",
                )
            else:
                good.append(f)
        return good, rate

    def _problem(self, name: str, error: WorldloomError | str, kind: str) -> None:
        self.problems.append(Problem(name, str(error).removeprefix(f"{name}: "), kind))

    def _cutter(self, item: Item) -> Cutter:
        return Cutter(item.name, self.spec, self.config, self._rows.get(item.name))


def _about(path: Path) -> Spec | None:
    """The spec that our own export left beside its videos; None where there is none that can be read."""
    file = path / ABOUT
    if not path.is_dir() or not file.is_file():
        return None
    try:
        told = read_json(file)
        return Spec.from_json(told["spec"]) if told.get("format") == "worldloom-video" else None
    except (WorldloomError, KeyError, TypeError, AttributeError):
        return None
