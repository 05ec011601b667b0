"""Which dataset a run is measured on, and how it is read: as it was in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from worldloom.configs import at_least, from_json
from worldloom.contract import Spec, WorldloomError
from worldloom.data.collect import collect
from worldloom.data.mixing.adapt import Reading
from worldloom.data.mixing.mixture import describe_reading, read
from worldloom.data.store import Dataset
from worldloom.files import read_json
from worldloom.shipped import home
from worldloom.worlds import make_world

CHANGED = "The dataset is not as it was in training: episodes were added, or it is another one."


def find_data(run: Path, config: Mapping[str, Any], data: str | Path | None) -> Path:
    """The dataset's folder: ``data``, or the one in the run's config.json, which is absolute or inside the run.

    Of a run that was trained on several it is the first.
    """
    if data is not None:
        return Path(data)
    section = config.get("data") if isinstance(config, Mapping) else None
    named = section.get("path") if isinstance(section, Mapping) else None
    if isinstance(named, list) and named:
        named = named[0]
    if not isinstance(named, str) or not named:
        raise WorldloomError(
            f"{run} does not say which dataset it was trained on (no config.json with data.path). Give one by --data."
        )
    folder = run / named  # absolute, or inside the run
    if (folder / "dataset.json").exists():
        return folder
    raise WorldloomError(
        f"The dataset {named!r} of {run} is not there any more (looked for {folder}). Give its folder by --data."
    )


@dataclass(frozen=True)
class Collected:
    """How a dataset was collected from a world of ours, by a policy of ours: it can be had again, frame by frame."""

    episodes: int
    """How many are collected again: the first ones of the dataset."""
    length: int
    """Longest episode in frames."""
    num: int
    """Worlds side by side."""
    seed: int
    """Of worlds and policy."""
    policy: str = "random"
    """``random`` or ``sticky``."""

    def __post_init__(self) -> None:
        at_least(self, 1, "episodes", "length", "num")


def collect_again(run: Path, config: Mapping[str, Any], say: Callable[[str], None] = print) -> None:
    """Collect the data of a shipped model, whose config.json tells how (``data.world``, ``data.collect``), into its
    folder, unless they lie there. Of any other run nothing is done."""
    section = config.get("data")
    if not isinstance(section, Mapping) or not {"world", "collect", "path"} <= section.keys():
        return
    described, how, folder = section["world"], from_json(Collected, section["collect"], "data"), run / section["path"]
    say(f"Data: the first {how.episodes} episodes of those trained on, collected again into {folder}")
    world = make_world(described["env"], how.num, seed=how.seed, **described["config"])
    try:
        collect(world, folder, how.episodes, how.length, how.seed, how.policy, info={"world": described})
    finally:
        world.close()


def at_home(run: str | Path, say: Callable[[str], None] = print) -> Path:
    """The folder of a run with its data. A shipped model is copied into a folder of its name here, and its data are
    collected there (:func:`~worldloom.shipped.home`, :func:`collect_again`)."""
    path = home(run)
    if (path / "config.json").exists():
        collect_again(path, read_json(path / "config.json", sealed=True), say)
    return path


class Opened(NamedTuple):
    """A dataset to measure a run on."""

    dataset: Dataset
    """As the run's model reads it."""
    own: bool
    """Whether it is the one that the run's own report is about: what it was trained on, of several the first."""
    notes: list[str]
    """Remarks for the report."""


def open_data(run: Path, config: Mapping[str, Any], data: str | Path | None) -> Opened:
    """The dataset to measure a run on: ``data``, or None for the run's own, the first of several.

    One of those that a run was trained on together, or another of the same spec, is read as that one was: its pictures
    resized, its actions sent to the common ones.
    """
    dataset = Dataset(find_data(run, config, data))
    section = config.get("data")
    section = section if isinstance(section, Mapping) else {}
    parts = section.get("parts")
    if not parts:
        trained = section.get("fingerprint")
        same = trained in (None, dataset.fingerprint)
        return Opened(dataset, same, [] if same else [CHANGED])
    try:
        part = _same(dataset, run, parts)
        if part is None:
            notes = [f"Trained on {_listed(parts)}; measured on {dataset.path.name}, which is none of them."]
            return Opened(dataset, False, notes)
        spec = Spec.from_json(section["spec"])
        view = read(dataset, spec, from_json(Reading, part["reading"], "config.json: reading"))
        same = part["fingerprint"] == dataset.fingerprint
        name = part["name"]
        notes = [] if same else [CHANGED]
        if len(parts) > 1:
            notes.append(f"Trained on {_listed(parts)}; on {name} here; on another by --data.")
    except (KeyError, TypeError, AttributeError) as error:
        raise WorldloomError(f"{run / 'config.json'} does not say how its data were read ({error!r}).") from error
    how = describe_reading(dataset, view)
    if how:
        notes.append(f"{name} is read as in training: {how}.")
    return Opened(view, same and part is parts[0], notes)


def _same(dataset: Dataset, run: Path, parts: list[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The part that ``dataset`` is; else the one in whose place it lies; else the first of its spec."""
    here = dataset.path.resolve()
    alike = [part for part in parts if Spec.from_json(part["spec"]) == dataset.spec]
    for part in alike:
        if part["fingerprint"] == dataset.fingerprint:
            return part
    for part in alike:
        if (run / part["path"]).resolve() == here:
            return part
    return alike[0] if alike else None


def _listed(parts: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{part['share']:.1%} {part['name']}" for part in parts)


__all__ = ["Collected", "Opened", "at_home", "collect_again", "find_data", "open_data"]
