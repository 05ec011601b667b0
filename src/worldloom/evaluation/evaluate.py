"""Measure a run on held-out episodes, and write report.json and report.html."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import WorldloomError, WorldModel, check_covers
from worldloom.evaluation.datasets import collect_again, open_data
from worldloom.evaluation.dreamers import ModelDreamer
from worldloom.evaluation.exact import find_exact
from worldloom.evaluation.figures import Tracked, action_figure, object_figures, picture_figures, track
from worldloom.evaluation.heldout import HeldOut, draw
from worldloom.evaluation.pages import Evidence, as_given, render
from worldloom.evaluation.probes import SETS, Dreams, Probe, ProbeError, ProbeFunction, find_probes, gather, measure_all
from worldloom.evaluation.schema import DataInfo, Report, RunInfo, Setting, to_json
from worldloom.evaluation.statistics import LEAST_EPISODES
from worldloom.evaluation.timing import speed, train_seconds
from worldloom.evaluation.verdict import judge
from worldloom.files import read_json, sweep, tensors_hash, write_atomic, write_json
from worldloom.models.saved import describe_model, load_model, model_hash
from worldloom.shipped import home, resolve, shipped_name
from worldloom.training.devices import pick_device
from worldloom.training.run import versions

ACTION_STARTS, ACTION_FRAMES = 32, 20
ASSUMED = 16
"""Frames of a training window where the run does not tell."""
COMPARING = ("kernel", "frechet", "coverage")
"""Probes that use feature extractors."""
TRACKED = 0.9
"""The headline rests on objects where the tracker counts those of at least this share of true frames rightly."""


@dataclass(frozen=True)
class Measured:
    """What was found of one run, before it is written."""

    report: Report
    """The figures."""
    evidence: Evidence
    """What the page shows beside them."""
    abouts: dict[str, str]
    """What each probe asks, by its name."""
    failed: dict[str, str]
    """Probes that were asked for by name, and the user's extractor, where they gave no figures, and why."""


def evaluate(
    run: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    starts: int = 64,
    prompt: int = 4,
    horizon: int | None = None,
    count_horizon: int = 100,
    other_actions: bool = True,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], None] | None = print,
    kind: type[WorldModel] | None = None,
    probes: str | Sequence[str | Probe | ProbeFunction] = "default",
    full: bool = False,
    extractor: str | None = None,
) -> dict[str, Any]:
    """Measure a run on the test split of its dataset; returns the contents of report.json (see docs/report.md).

    run: a run's folder, or the name of a shipped model, which is then copied into ``out``, by default a folder of its
    name here, and measured there. data: a dataset's folder, by default the one the run was trained on. out: folder for
    report.json and report.html, by default the run. starts: how many dreams. prompt: true frames before each. horizon:
    dreamed frames compared with the truth (default 50, or what the episodes allow). count_horizon: dreamed frames in
    which objects are counted, where the data hold true positions. other_actions: whether to dream a second time with
    other actions, for the figure that says if they matter. seed: of starts, dreams and bootstrap. progress: is told
    what is being done; None for silence. kind: the class of a model that is not of a registered family. probes: what is
    asked beyond pictures, objects and speed: names of ours, ``module:function``, functions of
    :class:`~worldloom.evaluation.probes.Dreams`; ``default`` is all of ours that can measure here, ``none`` nothing.
    full: the long run, with more clips and the probes that take long. extractor: ``module:callable``, a feature
    extractor of the user's own for the distances between distributions.

    Raises :class:`WorldloomError` where ``run`` is no run, the dataset is missing or too small, the model dreams no
    picture, or a probe that was asked for by name lacks what it needs. A probe that fails takes no other figure with
    it: the report is written, and the failure is raised then.
    """
    say = progress or (lambda _: None)
    found = measure(
        run,
        data=data,
        out=out,
        starts=starts,
        prompt=prompt,
        horizon=horizon,
        count_horizon=count_horizon,
        other_actions=other_actions,
        seed=seed,
        device=device,
        progress=progress,
        kind=kind,
        probes=probes,
        full=full,
        extractor=extractor,
    )
    folder = Path(out) if out is not None else home(run)
    result = write(found, folder)
    say(f"{found.report.verdict.headline}\nSee {folder / 'report.html'}")
    if found.failed:
        raise ProbeError(f"{' '.join(found.failed.values())} All other figures are in {folder / 'report.json'}.")
    return result


def write(found: Measured, folder: Path) -> dict[str, Any]:
    """Write report.json and report.html into ``folder``; returns what the first holds."""
    result = to_json(found.report)
    page = render(found.report, found.evidence, found.abouts)
    for name in ("report.json", "report.html"):
        sweep(folder, name)
    write_json(folder / "report.json", result, sealed=True)
    write_atomic(folder / "report.html", page.encode("utf-8"))
    return result


def measure(
    run: str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    starts: int = 64,
    prompt: int = 4,
    horizon: int | None = None,
    count_horizon: int = 100,
    other_actions: bool = True,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], None] | None = print,
    kind: type[WorldModel] | None = None,
    probes: str | Sequence[str | Probe | ProbeFunction] = "default",
    full: bool = False,
    extractor: str | None = None,
) -> Measured:
    """Measure without writing the report; arguments and errors as :func:`evaluate`. (``out``: where it will be.)"""
    say = progress or (lambda _: None)
    for name, value in (("starts", starts), ("prompt", prompt), ("horizon", horizon), ("count_horizon", count_horizon)):
        if value is not None and value < 1:
            raise WorldloomError(f"{name} must be at least 1, found {value}.")
    run = resolve(run)
    if not run.is_dir():
        raise WorldloomError(f"{run} is not a folder. Give the folder of a run, as written by `worldloom train`.")
    further, asked = find_probes(probes, full), _asked(probes)
    own_features = None if extractor is None else _extractor_name(extractor)
    if extractor is not None and not any(p.name in COMPARING for p in further):
        raise WorldloomError(
            f"Nothing would use the extractor {extractor}: it takes one of the probes {', '.join(COMPARING)}."
        )
    _check_folder(Path(out) if out is not None else run if shipped_name(run) is None else Path())
    run = home(run, out)
    model = load_model(run, pick_device(device), kind=kind)
    model.require("decode")
    if not model.spec.images:
        raise WorldloomError(f"The model in {run} dreams {sorted(model.spec.shown)} and no picture to measure.")
    config = read_json(run / "config.json", sealed=True) if (run / "config.json").exists() else {}
    if data is None:
        collect_again(run, config, say)
    dataset, own, remarks = open_data(run, config, data)
    for remark in remarks:
        say(remark)

    check_covers(dataset.spec, model.spec, f"the dataset {dataset.path}")
    if data is not None and out is None and not own:
        raise WorldloomError(
            f"{data} is not the dataset that {run} was trained on (of several: the first); its report would take the "
            "place of the run's own. Say where to write it: --out FOLDER."
        )
    sensor = next(iter(model.spec.images))
    if sensor not in dataset.spec.images:
        raise WorldloomError(
            f"{dataset.path} has no image sensor {sensor!r}, which the model in {run} dreams; it has "
            f"{sorted(dataset.spec.shown)}. Give a dataset of the same world by --data."
        )
    held = draw(dataset, starts, prompt, horizon, count_horizon, seed)
    dreamer = ModelDreamer(model)
    context: dict[str, Any] = {"model": model, "dataset": dataset, "world": find_exact(dataset.info), "full": full}
    folder = Path(out) if out is not None else run
    context |= {"extractor": extractor, "trained_frames": _trained_frames(config) or ASSUMED, "folder": folder}
    early = dataclasses.replace(gather(dreamer, held, {}, seed), **context)
    for probe in further:
        if probe.name in asked and (lacks := probe.lacks(early)):
            raise ProbeError(f"The probe {probe.name!r} needs {lacks}. Leave it out, or give another run or dataset.")
    notes = [*held.notes, *remarks]
    if further and _trained_frames(config) is None:
        notes.append(
            f"The run does not say how many frames its training windows had; {ASSUMED} are assumed, and the long "
            "dreams have ten times as many."
        )
    position = _positions(held)
    length = max(held.horizon, count_horizon) if position is not None else held.horizon
    count, groups = len(held.episodes), held.episodes

    say(f"Measuring {run}: dreams {count}, frames each {length}, held-out episodes {len(np.unique(groups))}")
    sensors = list(model.spec.shown) if further else [sensor]
    dreamed = dreamer.dream(held, held.control, length, seed=seed, sensors=sensors, say=say)
    dream = dreamed[sensor]
    shown, true = (held.segment.obs[sensor][:, part] for part in (slice(0, prompt), slice(prompt, None)))
    say("Comparing pictures")
    figures = picture_figures(true, dream[:, : held.horizon], shown[:, -1], groups, seed)
    tracked = None
    if position is not None:
        say("Tracking objects")
        tracked = track(shown.numpy(), true.numpy(), dream[:, :length].numpy(), position)
        figures = object_figures(tracked, groups, seed) | figures
        notes += _tracker_notes(tracked)
    other = _shuffled(model, held, notes) if other_actions else None
    if other is not None:
        say("Dreaming with other actions")
        few, frames = min(count, ACTION_STARTS), min(held.horizon, ACTION_FRAMES)
        start = held.rows(slice(0, few))
        given = {name: x[:few] for name, x in other.items()}
        mixed = dreamer.dream(start, given, frames, seed=seed, sensors=[sensor])[sensor]
        figures |= action_figure(true[:few], dream[:few], mixed, groups[:few], seed)
    say("Timing")
    figures["frames_per_second"] = speed(model, held, seed)
    figures["train_seconds"] = train_seconds(run, config, seed, notes)
    notes += _few_notes(len(np.unique(groups)))
    trusted = tracked is not None and float(tracked.count_floor.mean()) >= TRACKED
    dreams = dataclasses.replace(gather(dreamer, held, dreamed, seed), **context)
    probed = measure_all(further, dreams, say)
    figures |= probed.figures
    notes += probed.failures.values()
    left = _left_out(dreams)
    notes += [f"The distances do without the features of {name!r}. {why}" for name, why in left.items()]
    verdict = judge(figures, tracked.radius if tracked is not None and trusted else None)

    sha256 = model_hash(model)
    hashes = {"data": dataset.fingerprint, "checkpoint": sha256}
    figures = {name: dataclasses.replace(one, hashes=hashes | one.hashes) for name, one in figures.items()}
    report = Report(
        run=RunInfo(
            run.resolve().name,
            describe_model(model)["family"],
            sha256,
            sum(p.numel() for p in model.parameters()),
            tuple(model.spec.given),
        ),
        data=DataInfo(
            dataset.path.resolve().name,
            dataset.fingerprint,
            "test",
            len(dataset.splits["test"]),
            len(np.unique(groups)),
            dataset.stored,
            tensors_hash({"shown": shown, "true": true}, {}),
        ),
        setting=Setting(
            count,
            prompt,
            held.horizon,
            length if tracked else 0,
            seed,
            str(model.device),
            torch.get_num_threads(),
            full=full,
        ),
        verdict=verdict,
        figures=figures,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=tuple(notes),
        probes=tuple(p.name for p in further if p.name not in probed.unmeasured),
        unmeasured=probed.unmeasured | probed.failures,
    )
    lacking = {n: f"The probe {n!r} can't measure here. {why}" for n, why in probed.unmeasured.items()}
    failed = {n: why for n, why in (probed.failures | lacking).items() if n in asked}
    failed |= {name: why for name, why in left.items() if name == own_features}
    abouts = {p.name: p.about for p in further if p.about}
    command = as_given(run, further, kind, data=data, out=out if data is not None else None, extractor=extractor)
    return Measured(report, Evidence(shown, true, dream, tracked, model.spec.fps, command), abouts, failed)


def _positions(held: HeldOut) -> np.ndarray | None:
    """(B, T, K, 2) true positions in px, where the data hold them."""
    found = held.truth.get("position")
    if found is None or found.ndim != 4 or found.shape[-1] != 2 or not np.isfinite(found).all():
        return None
    return found.astype(np.float64)


def _tracker_notes(tracked: Tracked) -> list[str]:
    share = float(tracked.count_floor.mean())
    if share >= 0.99:
        return []
    return [
        f"The tracker counts the objects of only {share:.1%} of the true frames rightly: figures of objects are no "
        "better than that here (touching or hidden objects, or a background that moves)."
    ]


def _few_notes(episodes: int) -> list[str]:
    if not 1 < episodes < LEAST_EPISODES:
        return []
    return [
        f"The starts come from {episodes} held-out episodes: intervals over fewer than {LEAST_EPISODES} are narrower "
        "than 95 % would be. Collect more episodes."
    ]


def _asked(probes: str | Sequence[str | Probe | ProbeFunction]) -> set[str]:
    """Names of the probes that were asked for one by one."""
    given = [probes] if isinstance(probes, str) else list(probes)
    return {p.name for p in find_probes([one for one in given if one not in SETS])}


def _check_folder(folder: Path) -> None:
    """Told before the work: a report that can't be written where it should be."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "is not a folder" if not there.is_dir() else "can't be written into"
        raise WorldloomError(f"The report can't be written to {folder}: {there} {why}. Give another by --out.")


def _extractor_name(extractor: str) -> str:
    """Of the user's extractor, which is made once here: one that can't be is told before the work, not after it."""
    from worldloom.evaluation.distances.extractors import Own

    return Own(extractor).name


def _left_out(dreams: Dreams) -> dict[str, str]:
    """Extractors that could not be used, and why."""
    from worldloom.evaluation.distances.clips import left_out

    return left_out(dreams)


def _trained_frames(config: Mapping[str, Any]) -> int | None:
    """Frames of the windows that the run was trained on; None where nobody wrote it down."""
    found = (config.get("resolved") or {}).get("length")
    return found if isinstance(found, int) else None


def _shuffled(model: WorldModel, held: HeldOut, notes: list[str]) -> dict[str, Tensor] | None:
    """The controls with each start's action exchanged for the next one's; None where that changes nothing."""
    if model.spec.action is None or "action" not in held.control:
        return None
    action = held.control["action"]
    rolled = action.roll(1, 0)
    if len(action) < 2 or bool((action == rolled).all()):
        notes.append("What actions are worth was not measured: the recorded actions are all the same.")
        return None
    return {**held.control, "action": rolled}
