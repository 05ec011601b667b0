"""Several runs side by side: each is measured as :func:`evaluate` does it, then they are held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldloom.contract import WorldloomError
from worldloom.evaluation.evaluate import Measured, measure, write
from worldloom.evaluation.probes import ProbeError
from worldloom.evaluation.schema import TIMED, Figure, Report
from worldloom.evaluation.statistics import LEAST_EPISODES
from worldloom.evaluation.verdict import LEAST_ACTION_GAIN, number
from worldloom.files import sweep, write_atomic, write_json
from worldloom.shipped import home, resolve

FOLDER = "comparison"
"""Where the page of several runs is written unless said otherwise."""

WATCH = "To watch"
DRIFT = 1.2
"""Timings that differ by less are not told apart."""

PURPOSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (WATCH, ("frechet/embedded", "kernel/embedded", "kernel/random3d", "psnr_gain_db")),
    ("To act and plan in", ("counterfactual/sign_right", "action_gain/psnr_db", "action_gain_db")),
    ("To obey the laws of motion", ("physics/score",)),
    (
        "To go far",
        (
            "half_life/position_mean_frames",
            "prediction_time/mean_frames",
            "half_life/picture_mean_frames",
            "position_error_px",
        ),
    ),
    ("To be fast", ("frames_per_second",)),
)
"""What a model is wanted for, and the figures that decide it: the first of them that was measured alike in all runs."""


CHANCE = {
    "counterfactual/sign_right": 0.5,
    "action_gain/psnr_db": LEAST_ACTION_GAIN,
    "action_gain_db": LEAST_ACTION_GAIN,
}
"""Figures that decide who can be acted in, and what a model may reach that does not listen: one that moves at random is
on the right side half of the time."""


@dataclass(frozen=True)
class Choice:
    """Which run serves a purpose best."""

    purpose: str
    """In a few words."""
    figure: str
    """Name of the figure that decides."""
    horizon: str
    """At which horizon, in frames; empty where it is one number."""
    best: str
    """Name of the run; empty where no difference is shown."""
    words: str
    """One sentence."""


def compare(
    runs: Sequence[str | Path], *, out: str | Path | None = None, progress: Any = print, **options: Any
) -> dict[str, Any]:
    """Measure several runs and write comparison.json and comparison.html; returns what the first holds.

    out: a folder for both, and for each run's own report in a folder of its name; by default ``comparison`` here, and
    the reports stay with their runs. options: as :func:`~worldloom.evaluation.evaluate`.

    Raises :class:`WorldloomError` where fewer than two runs are given, or two are one.
    """
    paths = [resolve(run) for run in runs]
    if len(paths) < 2 or len({p.resolve() for p in paths}) < len(paths):
        raise WorldloomError(f"Give two or more different runs to compare, found {[str(p) for p in paths]}.")
    if missing := [str(p) for p in paths if not p.is_dir()]:  # told before minutes of measuring the others
        raise WorldloomError(f"{_and(missing)}: no such folder. Give folders of runs, as written by `worldloom train`.")
    folder = Path(out) if out is not None else Path(FOLDER)
    names = _names(paths)
    say = progress or (lambda _: None)
    found: dict[str, Measured] = {}
    for name, path in zip(names, paths, strict=True):
        place = folder / name if out is not None else home(path)
        found[name] = measure(path, out=None if out is None else place, progress=progress, **options)
        write(found[name], place)
        say(f"{name}: {found[name].report.verdict.headline}")
    result = contrast({name: one.report for name, one in found.items()})
    from worldloom.evaluation.pages.comparison import render_comparison

    page = render_comparison(result, found)
    for file in ("comparison.json", "comparison.html"):
        sweep(folder, file)
    write_json(folder / "comparison.json", result, sealed=True)
    write_atomic(folder / "comparison.html", page.encode("utf-8"))
    for note in result["notes"]:
        say(note)
    for choice in result["choices"]:
        say(f"{choice['purpose']}: {choice['words']}")
    say(f"See {folder / 'comparison.html'}")
    failed = [f"{run}: {why}" for run, one in found.items() for why in one.failed.values()]
    if failed:
        raise ProbeError(f"{' '.join(failed)} All other figures are in {folder / 'comparison.json'}.")
    return result


def contrast(reports: dict[str, Report]) -> dict[str, Any]:
    """Which run is surely better at what: the JSON of comparison.json. Nobody is, where the runs' dreams were not held
    against the same true frames, or there are too few episodes for an interval to mean anything."""
    figures: dict[str, Any] = {}
    enough = all(r.data.episodes_used >= LEAST_EPISODES for r in reports.values())
    fair = (
        enough
        and len({(r.data.frames or r.data.fingerprint, r.setting.prompt, r.setting.seed) for r in reports.values()})
        == 1
    )
    for name in dict.fromkeys(n for report in reports.values() for n in report.figures):
        have = {run: report.figures[name] for run, report in reports.items() if name in report.figures}
        horizon = _horizon(list(have.values()))
        values = {run: _at(figure.value, horizon) for run, figure in have.items()}
        one = next(iter(have.values()))
        figures[name] = {
            "title": one.title,
            "unit": "%" if one.statistic == "share" else one.unit,
            "better": one.better,
            "horizon": horizon,
            "value": values,
            "interval": {run: list(_pair(figure.interval, horizon) or ()) or None for run, figure in have.items()},
            "surely_best": surely_best(have, horizon, _margin(name)) if fair and len(have) == len(reports) else None,
        }
    return {
        "schema": "1",
        "runs": {run: {"model_sha256": r.run.model_sha256, "family": r.run.family, "parameters": r.run.parameters,
                       "controls": list(r.run.controls), "headline": r.verdict.headline, "data": r.data.fingerprint}
                 for run, r in reports.items()},
        "notes": _notes(reports),
        "choices": [vars(choice) for choice in (_choose(*p, reports, fair) for p in PURPOSES) if choice is not None],
        "figures": figures,
    }  # fmt: skip


def surely_best(have: dict[str, Figure], horizon: str, margin: float = 1.0) -> str | None:
    """The run whose interval lies wholly on the better side of every other's; None where there is none, or they are
    not one figure (see :func:`comparable`). margin: and by how many times, of positive figures."""
    pairs = {run: _pair(figure.interval, horizon) for run, figure in have.items()}
    if len(have) < 2 or any(pair is None for pair in pairs.values()) or not comparable(list(have.values())):
        return None
    better = next(iter(have.values())).better
    if better == "neither":
        return None
    lower = better == "lower"
    for run, pair in pairs.items():
        others = [other for name, other in pairs.items() if name != run]
        known = [o for o in others if o is not None]
        if pair and all(margin * pair[1] < o[0] if lower else pair[0] > margin * o[1] for o in known):
            return run
    return None


def comparable(figures: Sequence[Figure]) -> bool:
    """Whether these are the same quantity of several runs: by the same features, in the same words.

    The words tell what a name does not: a mean life *of 100* frames can't be held against one *of 200*, and each run is
    dreamed to ten times the length that it was trained on.
    """
    return len({(f.title, f.unit, f.statistic, f.better, f.hashes.get("extractor")) for f in figures}) == 1


def _choose(purpose: str, names: tuple[str, ...], reports: dict[str, Report], fair: bool) -> Choice | None:
    running = dict(reports)
    left_out = ""
    if purpose.startswith("To act"):
        running = {run: r for run, r in reports.items() if "action" in r.run.controls}
        deaf = [run for run in reports if run not in running]
        left_out = f" {_and(deaf)} {'takes' if len(deaf) == 1 else 'take'} no actions." if deaf else ""
        if not running:
            return Choice(purpose, "", "", "", f"None: no run takes actions.{left_out}".strip())
    shared = [n for n in names if all(n in r.figures and _known(r.figures[n]) for r in running.values())]
    if not shared:
        return None
    alike = [n for n in shared if comparable([r.figures[n] for r in running.values()])]
    decides = (alike or shared)[0]
    figures = {run: r.figures[decides] for run, r in running.items()}
    one, horizon = next(iter(figures.values())), _horizon(list(figures.values()))
    unit = "%" if one.statistic == "share" else one.unit
    said = ", ".join(f"{run} {number(_at(figure.value, horizon), unit)}" for run, figure in figures.items())
    what = f"{one.title}{f', {horizon} frames ahead' if horizon else ''}: {said}."
    best = surely_best(figures, horizon, _margin(decides)) if fair else None
    if len(figures) == 1:
        best = next(iter(figures))
        hears = _hears(decides, one, horizon)
        words = f"Only {best} can: {what}" if hears else f"Only {best} could, and is not shown to listen: {what}"
        best = best if hears else ""
    elif not fair or not alike:
        best, words = "", f"Not to be told from what was measured: {what}"
    elif best is None:
        best, words = "", f"No difference is shown: {what}"
    elif purpose == WATCH and (apart := _disagree(alike, running)):
        best, words = "", f"The figures disagree: {apart}"
    elif purpose == WATCH and not _beats_standing_still(running[best]):
        best, words = "", f"None is shown to be better than repeating the last frame: {what}"
    elif decides in CHANCE and not _hears(decides, figures[best], horizon):
        best, words = "", f"None is shown to listen: {what}"
    else:
        words = f"{best}. {what}"
    return Choice(purpose, decides, horizon, best, f"{words}{left_out}")


def _margin(name: str) -> float:
    """Timings of two runs are taken one after the other, and the machine is not the same."""
    return DRIFT if name.split("/")[0] in TIMED else 1.0


def _disagree(names: Sequence[str], running: dict[str, Report]) -> str:
    """Which run each of the figures calls best, as a sentence, where they do not call the same one; else empty."""
    best = {}
    for name in names:
        figures = {run: r.figures[name] for run, r in running.items()}
        if found := surely_best(figures, _horizon(list(figures.values()))):
            best[next(iter(figures.values())).title] = found
    if len(set(best.values())) < 2:
        return ""
    return f"{', '.join(f'{title} is for {run}' for title, run in best.items())}."


def _beats_standing_still(report: Report) -> bool:
    """Whether the first dreamed frame is surely closer to the truth than the prompt's last."""
    pair = _pair(report.figures["psnr_gain_db"].interval, "1")
    return pair is not None and pair[0] > 0


def _hears(name: str, figure: Figure, horizon: str) -> bool:
    """Whether a run surely does better than one that does not listen to its actions."""
    pair = _pair(figure.interval, horizon)
    return pair is not None and pair[0] > CHANCE[name]


def _known(figure: Figure) -> bool:
    """Whether it has a value, at some horizon."""
    values = figure.value.values() if isinstance(figure.value, dict) else [figure.value]
    return any(value is not None for value in values)


def _horizon(figures: Sequence[Figure]) -> str:
    """The horizon at which figures are held against each other: the farthest up to 20 frames that all have."""
    if not all(isinstance(f.value, dict) for f in figures):
        return ""
    common = set.intersection(*(set(f.value) for f in figures if isinstance(f.value, dict)))
    near = [int(h) for h in common if h.isdigit() and int(h) <= 20]
    return str(max(near)) if near else min(common, key=int, default="")


def _at(value: Any, horizon: str) -> float | None:
    found = value.get(horizon) if isinstance(value, dict) else value
    return float(found) if isinstance(found, (int, float)) else None


def _pair(interval: Any, horizon: str) -> tuple[float, float] | None:
    found = interval.get(horizon) if isinstance(interval, dict) else interval
    return None if found is None else (float(found[0]), float(found[1]))


def _notes(reports: dict[str, Report]) -> list[str]:
    """What stands in the way of a fair comparison."""
    notes = []
    data = {r.data.stored or r.data.fingerprint for r in reports.values()}
    if len(data) == 1 and len({r.data.fingerprint for r in reports.values()}) > 1:
        notes.append("The runs read the same data differently, as each was trained: see their own reports.")
    if len(data) > 1:
        listed = ", ".join(f"{run} on {r.data.name} ({r.data.fingerprint[:8]})" for run, r in reports.items())
        notes.append(f"The runs were measured on different data: {listed}. Give one dataset to all by --data.")
    settings = {(r.setting.starts, r.setting.prompt, r.setting.horizon, r.setting.seed) for r in reports.values()}
    if len(settings) > 1:
        notes.append("The runs were measured with different starts, prompts or horizons: see their own reports.")
    least = min(r.data.episodes_used for r in reports.values())
    if least < LEAST_EPISODES:
        notes.append(
            f"The starts come from {least} held-out episode{'' if least == 1 else 's'}; {LEAST_EPISODES} are needed to "
            "name a run. Collect more episodes."
        )
    return notes


def _names(paths: list[Path]) -> list[str]:
    """A name for each run: its folder's, with as many folders above as tell them apart."""
    parts = [p.resolve().parts for p in paths]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["-".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(i) for i in range(len(paths))]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


__all__ = ["Choice", "comparable", "compare", "contrast", "surely_best"]
