"""comparison.html: several runs on one page."""

from __future__ import annotations

from typing import Any, Literal

from markupsafe import Markup

from worldloom.evaluation.evaluate import Measured
from worldloom.evaluation.pages.charts import Series, line_chart
from worldloom.evaluation.pages.pictures import best_first, filmstrip
from worldloom.evaluation.pages.report import template
from worldloom.evaluation.verdict import number

STYLES: tuple[Literal["model", "run1", "run2", "run3"], ...] = ("model", "run1", "run2", "run3")
"""Lines of the runs, in turn."""


def render_comparison(result: dict[str, Any], found: dict[str, Measured]) -> str:
    """The page. result: what :func:`~worldloom.evaluation.compare.contrast` returns."""
    first = next(iter(found.values()))
    order = best_first(first.evidence)
    row = int(order[len(order) // 2])
    strips = [(run, filmstrip(one.evidence, row if row < len(one.evidence.true) else 0)) for run, one in found.items()]
    return template("comparison.html.j2").render(
        runs=result["runs"],
        notes=result["notes"],
        choices=result["choices"],
        charts=_charts(found),
        strips=strips,
        rows=[_row(name, figure, list(found)) for name, figure in result["figures"].items()],
        versions=first.report.versions,
        created=first.report.created,
    )


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
            Series(run, curve.value[:length], STYLES[list(found).index(run) % len(STYLES)], curve.low[:length],
                   curve.high[:length])
            for run, curve in curves.items()
            if curve.horizon[:length] == horizon
        ]  # fmt: skip
        describe = f"{one.title} by horizon of {', '.join(curves)}"
        chart = line_chart(horizon, series, one.unit, describe, share=one.statistic == "share")
        out.append((one.title, one.meaning, chart))
    return out


def _row(name: str, figure: dict[str, Any], runs: list[str]) -> dict[str, Any]:
    cells = []
    for run in runs:
        pair = figure["interval"].get(run)
        unit = figure["unit"]
        bare = "%" if unit == "%" else ""
        between = f"{number(pair[0], bare)} to {number(pair[1], unit)}" if pair else ""
        cells.append((number(figure["value"].get(run), unit), between, figure["surely_best"] == run))
    return {"name": name, "title": figure["title"], "horizon": figure["horizon"], "cells": cells}


__all__ = ["render_comparison"]
