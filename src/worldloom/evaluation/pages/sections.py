"""Figures as charts, tiles and lines of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from worldloom.evaluation.figures import HORIZONS
from worldloom.evaluation.pages.charts import Series, line_chart, raised
from worldloom.evaluation.pages.pictures import Evidence
from worldloom.evaluation.schema import Curve, Figure, Report
from worldloom.evaluation.verdict import number

BASELINES = {"copy_last": "last frame", "constant_velocity": "straight on"}
"""Names of the baselines in report.json, and what the page calls them."""


def baselines(reports: Sequence[Report]) -> dict[str, str]:
    """Names of all baselines in the reports, and what the page calls them; a probe may bring its own."""
    names = {name for report in reports for figure in report.figures.values() for name in figure.baselines}
    return BASELINES | {name: name.replace("_", " ") for name in sorted(names - BASELINES.keys())}


def unit_of(figure: Figure) -> str:
    """The unit as :func:`number` takes it: shares are shown as per cent."""
    return "%" if figure.statistic == "share" or figure.title == "Lost objects" else figure.unit


def bands(reports: Mapping[str, Report]) -> str:
    """What the bands around the curves are, or why there are none."""
    single = [name for name, r in reports.items() if r.data.episodes_used < 2]
    if not single:
        return "Bands are 95 % intervals, by drawing whole episodes anew."
    why = "an interval needs the differences between several."
    if len(single) == len(reports):
        return f"There are no bands around the curves: all starts come from one episode, and {why}"
    return f"Bands are 95 % intervals, by drawing whole episodes anew. {', '.join(single)}: none, as {why}"


def shown(x: float | None, unit: str = "") -> str:
    """As :func:`number`, but what is tiny and not nothing, as floors are, and what is huge, as distances by a user's
    features may be, is written with its power of ten."""
    if x is None or x == 0 or unit == "%" or 5e-4 <= abs(x) < 999_999.5:
        return number(x, unit)
    digits, power = f"{abs(x):.2e}".split("e")
    return f"{'−' if x < 0 else ''}{digits} × 10{raised(int(power))} {unit}".rstrip()


def _series(figure: Figure, label: str, floor: str) -> list[Series]:
    curve = figure.curve
    if curve is None:
        return []
    out = [Series(label, curve.value, "model", curve.low, curve.high)]
    if "constant_velocity" in curve.baselines:
        out.append(Series("straight on", curve.baselines["constant_velocity"], "second"))
    if "copy_last" in curve.baselines:
        still = "standing still" if figure.unit == "px" else "last frame"
        out.append(Series(still, curve.baselines["copy_last"], "first"))
    for name, values in curve.baselines.items():
        if name not in BASELINES:
            out.append(Series(name.replace("_", " "), values, "first"))
    if curve.floor is not None:
        out.append(Series(floor, curve.floor, "floor"))
    if curve.ceiling is not None:
        out.append(Series("ceiling", curve.ceiling, "second"))
    return out


def _chart(figure: Figure, floor: str = "tracker’s floor", **options: Any) -> Markup:
    curve: Curve | None = figure.curve
    assert curve is not None  # figures by horizon always have their curve
    at = dict(zip(curve.horizon, curve.value, strict=True))
    describe = f"{figure.title} by horizon: " + ", ".join(
        f"{number(at[h])} {figure.unit} at {h}" for h in HORIZONS if h in at
    )
    return line_chart(curve.horizon, _series(figure, "dream", floor), figure.unit, describe, **options)


def charts(report: Report, evidence: Evidence) -> list[tuple[str, str, Markup]]:
    """(title, sentence, SVG) of every plot."""
    figures, out = report.figures, []
    options: dict[str, dict[str, Any]] = {
        "position_error_px": {},
        "object_count_ok": {"share": True},
        "psnr_db": {"zero": False},
        "ssim": {"zero": False},
        "action_gain_db": {},
    }
    if evidence.tracked is not None:
        position = figures["position_error_px"].curve
        assert position is not None  # figures by horizon always have their curve
        reach = [v for row in (position.high, position.baselines["copy_last"]) for v in row if v is not None]
        options["position_error_px"] = {
            "marks": [(evidence.tracked.radius, "one radius")],
            "limit": max([1.25 * evidence.tracked.radius, *reach]),  # going straight on leaves the box
        }
    for name, option in options.items():
        if name in figures:
            figure = figures[name]
            out.append((figure.title, figure.meaning, _chart(figure, **option)))
    return out


def tiles(report: Report) -> list[tuple[str, str, str]]:
    """(value, words, interval) of the figures that come first."""
    figures, out = report.figures, []
    for name in ("position_error_px", "psnr_gain_db"):
        if name in figures:
            figure = figures[name]
            value = figure.value if isinstance(figure.value, dict) else {}
            interval = figure.interval if isinstance(figure.interval, dict) else {}
            for h in [h for h in ("1", "10", "20") if h in value][: 2 if name == "position_error_px" else 1]:
                words = f"{figure.title.lower() if name != 'psnr_gain_db' else 'PSNR over copy-last'}, {h} ahead"
                out.append((shown(value[h], figure.unit), words, _between(interval.get(h), figure.unit)))
    if "object_count_ok" in figures:
        one = figures["object_count_ok"]
        pair = one.interval if isinstance(one.interval, tuple) else None
        share = one.value if isinstance(one.value, float) else None
        out.append((number(share, "%"), "of frames with the right number of objects", _between(pair, "%")))
    speed = figures["frames_per_second"]
    if isinstance(speed.value, float):
        out.append((number(speed.value), "frames a second, one dream", f"on {report.setting.device}"))
    return out[:5]


def _between(pair: tuple[float, float] | None, unit: str) -> str:
    return "" if pair is None else f"{shown(pair[0], '%' if unit == '%' else '')} to {shown(pair[1], unit)}"


def _counted(figure: Figure, report: Report) -> str:
    """How many values a figure sums up, with the episodes they come from where it has one for each of the starts."""
    episodes = report.data.episodes_used
    words = f"{figure.n:,} {figure.n_of}"
    if figure.n_of not in ("starts", "dreams", "starts × objects") or figure.n % report.setting.starts:
        return words  # of some of the starts only: from how many episodes is not told
    return f"{words}, {episodes} episode{'s' if episodes != 1 else ''}"


def lines(report: Report) -> list[dict[str, Any]]:
    """Lines of the table: one a figure and horizon."""
    rows, known = [], baselines([report])
    for figure in report.figures.values():
        unit = unit_of(figure)
        many = figure.value if isinstance(figure.value, dict) else {"": figure.value}
        for place, (horizon, value) in enumerate(many.items()):

            def pick(source: Any, key: str = horizon) -> Any:
                return source.get(key) if isinstance(source, dict) else source

            rows.append(
                {
                    "title": figure.title if place == 0 else "",
                    "span": len(many) if place == 0 else 0,
                    "horizon": horizon,
                    "value": shown(value, unit),
                    "interval": _between(pick(figure.interval), unit) or "–",
                    "floor": shown(pick(figure.floor), unit),
                    "baselines": [
                        (words, shown(pick(figure.baselines.get(name)), unit)) for name, words in known.items()
                    ],
                    "n": _counted(figure, report),
                    "seed": figure.seed,
                    "statistic": figure.statistic,
                }
            )
    return rows


def probe_section(report: Report, name: str, about: str) -> dict[str, Any]:
    """What one probe found: lines for its numbers, charts for its curves. What a figure means is said once, in the
    table where it has a line there; a figure without any number is named and no more."""
    rows, curves, empty = [], [], []
    for full, figure in report.figures.items():
        if full.partition("/")[0] != name:
            continue
        if figure.curve is not None:
            chart = _chart(figure, "floor", share=figure.statistic == "share")
            curves.append((figure.title, figure.meaning if isinstance(figure.value, dict) else "", chart))
        if not isinstance(figure.value, dict):
            row = _row(figure, report)
            if any(row[column] not in ("–", "") for column in ("value", "interval", "floor", "ceiling", "others")):
                rows.append(row)
            else:
                empty.append(figure.title)
    title = name.replace("_", " ").capitalize()
    columns = {column: any(row[column] not in ("–", "") for row in rows) for column in ("floor", "ceiling", "others")}
    return {
        "name": name,
        "title": title,
        "about": about,
        "rows": rows,
        "empty": empty,
        "charts": curves,
        "shown": columns,
    }


def _row(figure: Figure, report: Report) -> dict[str, Any]:
    unit = unit_of(figure)
    value, floor, ceiling = (_scalar(x) for x in (figure.value, figure.floor, figure.ceiling))
    interval = figure.interval if isinstance(figure.interval, tuple) else None
    bare = "%" if unit == "%" else ""
    known = {n: _scalar(x) for n, x in figure.baselines.items()}
    others = [f"{n.replace('_', ' ')} {shown(x, bare)}" for n, x in known.items() if x is not None]
    return {
        "title": figure.title,
        "meaning": figure.meaning,
        "gauge": gauge(value, interval, floor, ceiling, share=unit == "%"),
        "value": shown(value, unit),
        "interval": _between(interval, bare) or "–",
        "floor": shown(floor, bare),
        "ceiling": shown(ceiling, bare),
        "others": "; ".join(others),
        "n": _counted(figure, report),
    }


def _scalar(x: Any) -> float | None:
    return float(x) if isinstance(x, (int, float)) else None


def gauge(
    value: float | None,
    interval: tuple[float, float] | None,
    floor: float | None = None,
    ceiling: float | None = None,
    *,
    share: bool = False,
) -> Markup:
    """A small SVG: the value as a dot, its interval as a bar, floor and ceiling as ticks; empty without a value."""
    known = [x for x in (value, floor, ceiling, *(interval or ())) if x is not None]
    if value is None:
        return Markup("")
    low, high = (0.0, 1.0) if share else (min(0.0, *known), max(0.0, *known))
    span = (high - low) or 1.0

    def x(v: float) -> float:
        return 6 + 138 * (v - low) / span

    parts = [
        '<svg class="gauge" viewBox="0 0 150 20" aria-hidden="true">',
        '<line class="rail" x1="6" x2="144" y1="10" y2="10"/>',
    ]
    if interval is not None:
        parts.append(f'<line class="span" x1="{x(interval[0]):.1f}" x2="{x(interval[1]):.1f}" y1="10" y2="10"/>')
    for mark, at in (("floor", floor), ("ceiling", ceiling)):
        if at is not None:
            parts.append(f'<line class="tick-{mark}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="3" y2="17"/>')
    parts.append(f'<circle class="at" cx="{x(value):.1f}" cy="10" r="4"/></svg>')
    return Markup("".join(parts))


__all__ = ["BASELINES", "bands", "baselines", "charts", "gauge", "lines", "probe_section", "shown", "tiles", "unit_of"]
