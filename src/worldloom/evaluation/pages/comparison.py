"""comparison.html: several runs on one page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from markupsafe import Markup

from worldloom.evaluation.evaluate import Measured
from worldloom.evaluation.pages.charts import Series, line_chart
from worldloom.evaluation.pages.pictures import best_first, filmstrip
from worldloom.evaluation.pages.report import template
from worldloom.evaluation.pages.sections import bands, shown

STYLES: tuple[Literal["model", "run1", "run2", "run3", "run4", "run5"], ...] = (
    "model", "run1", "run2", "run3", "run4", "run5",
)  # fmt: skip
"""Lines of the runs, in turn."""
STILL = "copy_last"
"""The baseline that is drawn where every run has the same."""


def render_comparison(result: dict[str, Any], found: dict[str, Measured]) -> str:
    """The page. result: what :func:`~worldloom.evaluation.compare.contrast` returns."""
    first = next(iter(found.values()))
    order = best_first(first.evidence)
    row = int(order[len(order) // 2])
    strips = [(run, filmstrip(one.evidence, row if row < len(one.evidence.true) else 0)) for run, one in found.items()]
    charts = _charts(found)
    rows = [_row(name, figure, list(found)) for name, figure in result["figures"].items()]
    return template("comparison.html.j2").render(
        runs=result["runs"],
        names=list(result["runs"]),
        notes=result["notes"],
        choices=result["choices"],
        charts=charts,
        floors=any('class="line floor"' in chart for *_, chart in charts),
        legend=[(run, _style(i)) for i, run in enumerate(found)],
        bands=bands({run: one.report for run, one in found.items()}),
        styles=len(STYLES),
        repeated=len(found) > len(STYLES),
        strips=strips,
        rows=[row for row in rows if row["known"]],
        empty=[row["title"] for row in rows if not row["known"]],
        versions=first.report.versions,
        created=first.report.created,
    )


def _style(i: int) -> Literal["model", "run1", "run2", "run3", "run4", "run5"]:
    return STYLES[i % len(STYLES)]


def _charts(found: dict[str, Measured]) -> list[tuple[str, str, Markup]]:
    """Curves that more than one run has, one line a run."""
    out = []
    for name in dict.fromkeys(n for one in found.values() for n in one.report.figures):
        figures = {run: one.report.figures[name] for run, one in found.items() if name in one.report.figures}
        curves = {run: figure.curve for run, figure in figures.items() if figure.curve is not None}
        if len(curves) < 2:
            continue
        one = next(iter(figures.values()))
        horizon = min((curve.horizon for curve in curves.values()), key=len)
        length = len(horizon)
        series = [
            Series(run, curve.value[:length], _style(list(found).index(run)), curve.low[:length], curve.high[:length])
            for run, curve in curves.items()
            if curve.horizon[:length] == horizon
        ]
        still = _common([curve.baselines.get(STILL) for curve in curves.values()], length)
        floor = _common([curve.floor for curve in curves.values()], length)
        series += [Series("last frame", still, "first")] if still else []
        series += [Series("floor", floor, "floor")] if floor else []
        describe = f"{one.title} by horizon of {', '.join(curves)}"
        most = max((v for line in series[: len(curves)] for v in line.high or () if v is not None), default=None)
        limit = 2 * most if most is not None and most > 0 else None  # a baseline far above leaves the plot
        chart = line_chart(horizon, series, one.unit, describe, share=one.statistic == "share", limit=limit)
        out.append((one.title, _told(one.meaning, floor is not None, still is not None), chart))
    return out


def _common(rows: Sequence[Sequence[float | None] | None], length: int) -> Sequence[float | None] | None:
    """The first frames of a curve that is the same for all runs, as those of one truth are; None where it is not."""
    cut = [None if row is None else tuple(row[:length]) for row in rows]
    return cut[0] if len(set(cut)) == 1 else None


def _told(meaning: str, floor: bool, still: bool) -> str:
    """What a figure means, without what it says of lines that are not drawn here."""
    if not still:
        meaning = meaning.replace(", against repeating the prompt's last frame", "")
    for name, drawn in (("floor", floor), ("ceiling", False)):
        if not drawn:
            meaning = re.sub(rf"; the {name} is\b.*?(?=\.(?: |$))|(?:^| )The {name} is\b.*?\.(?= |$)", "", meaning)
    return meaning.strip()


def _row(name: str, figure: dict[str, Any], runs: list[str]) -> dict[str, Any]:
    cells = []
    for run in runs:
        pair = figure["interval"].get(run)
        unit = figure["unit"]
        bare = "%" if unit == "%" else ""
        between = f"{shown(pair[0], bare)} to {shown(pair[1], unit)}" if pair else ""
        cells.append((shown(figure["value"].get(run), unit), between, figure["surely_best"] == run))
    known = any(figure["value"].get(run) is not None for run in runs)
    return {"name": name, "title": figure["title"], "horizon": figure["horizon"], "cells": cells, "known": known}


__all__ = ["render_comparison"]
