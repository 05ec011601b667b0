"""What report.json holds, schema version 2: typed here, explained in docs/report.md, checked by :func:`parse`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worldloom.configs import ConfigError, from_json
from worldloom.files import DamagedFileError, read_json

SCHEMA = "2"

FLAT = ("value", "interval", "floor", "ceiling", "n", "seed")
"""Fields of a figure that stand at the top of report.json: ``NAME`` for the value, ``NAME_interval`` and so on."""

TIMED = ("cost", "frames_per_second", "train_seconds")
"""Probes and figures that are timings: no two evaluations find the same."""

ByHorizon = dict[str, float | None]


@dataclass(frozen=True)
class Curve:
    """A figure at each frame of the dream; nulls where nothing could be measured."""

    horizon: tuple[int, ...]
    """Frames since the prompt: 1 is the first dreamed frame."""
    value: tuple[float | None, ...]
    """The figure."""
    low: tuple[float | None, ...]
    """Lower end of its interval."""
    high: tuple[float | None, ...]
    """Upper end."""
    floor: tuple[float | None, ...] | None = None
    """The same figure measured on the true frames."""
    baselines: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    """The same figure for predictions that take no model."""
    ceiling: tuple[float | None, ...] | None = None
    """The best that can be had, where that is known: by the exact world, started from what the prompt shows."""


@dataclass(frozen=True)
class Figure:
    """One measured quantity with all that is needed to judge it."""

    value: float | ByHorizon | None
    """A number, or numbers by horizon in frames; null where it could not be measured (see ``notes``)."""
    interval: tuple[float, float] | dict[str, tuple[float, float] | None] | None
    """Its interval of 95 %; null where there are too few episodes for one."""
    n: int
    """How many values it sums up."""
    n_of: str
    """What is counted in ``n``."""
    seed: int
    """Seed of the starts, the dreams and the bootstrap."""
    title: str
    """A few words for tables."""
    unit: str
    """Unit of the value; empty for shares."""
    statistic: Literal["mean", "median", "share", "total"]
    """How the values were summed up."""
    better: Literal["lower", "higher", "neither"]
    """Which way is better; ``neither`` where one value is right and both sides of it are wrong (its meaning tells), or
    where it says nothing of the model. By such a figure no run is called the better one."""
    meaning: str
    """One or two sentences."""
    blind_to: str = ""
    """What this figure can't see."""
    floor: float | ByHorizon | None = None
    """The same figure measured on the true frames: no model can be seen to do better."""
    ceiling: float | ByHorizon | None = None
    """The best that can be had, where that is known: by the exact world, started from what the prompt shows."""
    baselines: dict[str, float | ByHorizon | None] = field(default_factory=dict)
    """The same figure for predictions that take no model."""
    curve: Curve | None = None
    """The figure at every frame."""
    hashes: dict[str, str] = field(default_factory=dict)
    """Of what it rests on: ``data``, ``checkpoint``, and, where it uses one, ``extractor``."""


@dataclass(frozen=True)
class RunInfo:
    """The model that was measured."""

    name: str
    """Name of the run's folder."""
    family: str
    """Family of the model."""
    model_sha256: str
    """Hash of its weights and description."""
    parameters: int
    """Number of its parameters."""
    controls: tuple[str, ...] = ()
    """Names of what it is given, such as ``action``; empty for a model of plain video."""


@dataclass(frozen=True)
class DataInfo:
    """The data it was measured on."""

    name: str
    """Name of the dataset's folder."""
    fingerprint: str
    """Fingerprint of the dataset; empty where unknown."""
    split: str
    """Always ``test``: episodes that training never saw."""
    episodes: int
    """Episodes in that split."""
    episodes_used: int
    """Different episodes among the starts."""
    stored: str = ""
    """Fingerprint of what lies on disk; that above also names how it is read (without its actions, resized)."""
    frames: str = ""
    """Hash of the true frames, prompts and what followed, that the dreams were held against: two runs with the same
    were measured on the same starts, however each reads its data."""


@dataclass(frozen=True)
class Setting:
    """How it was measured."""

    starts: int
    """Dreams."""
    prompt: int
    """True frames shown before each dream."""
    horizon: int
    """Dreamed frames compared with the truth."""
    count_horizon: int
    """Dreamed frames whose objects are counted; 0 where the world has no objects."""
    seed: int
    """Seed of starts, dreams and bootstrap."""
    device: str
    """Where the model ran."""
    threads: int
    """CPU threads."""
    resamples: int = 2000
    """Draws of the bootstrap over episodes."""
    level: float = 0.95
    """Coverage of the intervals."""
    full: bool = False
    """Whether it was the long run (``--full``)."""


@dataclass(frozen=True)
class Verdict:
    """The figures in plain words."""

    headline: str
    """One sentence."""
    points: tuple[str, ...]
    """What it rests on."""


@dataclass(frozen=True)
class Report:
    """A whole report."""

    run: RunInfo
    """The model."""
    data: DataInfo
    """The data."""
    setting: Setting
    """The procedure."""
    verdict: Verdict
    """In plain words."""
    figures: dict[str, Figure]
    """By name. In report.json their :data:`FLAT` fields stand at the top, the rest in ``details``."""
    versions: dict[str, str]
    """Versions of what made it."""
    created: str
    """UTC, ISO 8601."""
    notes: tuple[str, ...] = ()
    """What deviates from the usual procedure, or could not be measured, and why."""
    probes: tuple[str, ...] = ()
    """Names of the probes that measured; the figures of each are named ``PROBE/FIGURE``."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """Name of a probe that could not measure here, and why."""


def to_json(report: Report) -> dict[str, Any]:
    """The plain JSON of report.json."""
    out: dict[str, Any] = {"schema": SCHEMA}
    details: dict[str, Any] = {}
    for name, figure in report.figures.items():
        values = dataclasses.asdict(figure)
        for key in FLAT:
            out[name if key == "value" else f"{name}_{key}"] = values.pop(key)
        details[name] = values
    rest = dataclasses.asdict(report)
    del rest["figures"]
    return out | rest | {"details": details}


def timeless(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report's JSON without what changes from one evaluation to the next: the figures of :data:`TIMED`, the sentence
    of the verdict that tells one, ``created`` and the seal ``check``. Two evaluations of one run with one seed are then
    equal to the byte."""
    details = report["details"]
    timed = {name for name in details if name.split("/")[0] in TIMED}
    gone = {name if key == "value" else f"{name}_{key}" for name in timed for key in FLAT}
    out = {name: value for name, value in report.items() if name not in gone | {"created", "check"}}
    points = [point for point in report["verdict"]["points"] if "frames a second" not in point]
    return out | {
        "details": {name: detail for name, detail in details.items() if name not in timed},
        "verdict": {**report["verdict"], "points": points},
    }


def parse(data: Any, where: str = "report") -> Report:
    """Check the JSON of a report against the schema and return it typed; :class:`ConfigError` names what is wrong."""
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA or not isinstance(data.get("details"), Mapping):
        raise ConfigError(f"{where} is not a report of schema {SCHEMA!r}. Write it anew with `worldloom evaluate`.")
    rest = {k: v for k, v in data.items() if k not in ("schema", "details", "check")}
    figures: dict[str, Any] = {}
    for name, detail in data["details"].items():
        if not isinstance(detail, Mapping):
            raise ConfigError(f"{where} has details of {name!r} that are no object.")
        figures[name] = dict(detail)
        for key in FLAT:
            flat = name if key == "value" else f"{name}_{key}"
            if flat not in rest:
                raise ConfigError(f"{where} lacks {flat!r}.")
            figures[name][key] = rest.pop(flat)
    return from_json(Report, {**rest, "figures": figures}, where)


def load_report(path: Path) -> Report:
    """Read and check a report.json, or the one in a run's folder."""
    file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    try:
        return parse(read_json(file, sealed=True), str(file))
    except ConfigError as error:
        raise DamagedFileError(str(error)) from error
