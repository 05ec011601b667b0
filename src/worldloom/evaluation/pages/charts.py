"""Line charts as inline SVG. Colours and fonts come from the page's style sheet, so they follow its light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 122, 30, 44
_LETTER, _WIDE, _ROW = 7.2, 8.8, 16.0  # px of the drawing: a letter of a label, a wide one, and a line of labels
_FEWEST = 1e-6  # a range below this is none: the axis would count noise


@dataclass(frozen=True)
class Series:
    """One line, with a band around it where ``low`` and ``high`` are given."""

    label: str
    """Written at the line's end."""
    values: Sequence[float | None]
    """One a horizon."""
    style: Literal["model", "first", "second", "floor", "run1", "run2", "run3", "run4", "run5"] = "model"
    """Class of the style sheet."""
    low: Sequence[float | None] | None = None
    """Lower edge of the band."""
    high: Sequence[float | None] | None = None
    """Upper edge."""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that cover [low, high] (steps of 1, 2 or 5 times a power of ten)."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next((m * power for m in (1, 2, 5) if span / (m * power) <= count), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _tick(value: float) -> str:
    digits, _, power = f"{value:g}".partition("e")
    return (f"{digits}·10{raised(int(power))}" if power else digits).replace("-", "−")


def raised(power: int) -> str:
    """An exponent, set high."""
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def line_chart(
    horizon: Sequence[int],
    series: Sequence[Series],
    unit: str,
    describe: str,
    *,
    zero: bool = True,
    share: bool = False,
    limit: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """An SVG of lines over the horizon in frames. zero: the axis shows 0; share: it runs from 0 to 100 %.

    limit: what lies above is cut off. marks: horizontal dashed lines as (value, label). describe: the text for those
    who can't see it.
    """
    shown = [v for s in series for row in (s.values, s.low or (), s.high or ()) for v in row if v is not None]
    shown += [v for v, _ in marks]
    shown += [0.0] if zero or not shown else []
    least, most = min(shown), max(shown) if limit is None else min(max(shown), limit)
    grid = [0.0, 0.25, 0.5, 0.75, 1.0] if share else ticks(least, most if most - least > _FEWEST else least + 1.0)
    bottom, top = grid[0], grid[-1]
    first, last = horizon[0], max(horizon[-1], horizon[0] + 1)

    def x(h: int) -> float:
        return _LEFT + (h - first) / (last - first) * (WIDTH - _LEFT - _RIGHT)

    def y(v: float) -> float:
        return HEIGHT - _BOTTOM - (min(v, top) - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(describe)}">']
    for value in grid:
        label = f"{value:.0%}".replace("%", " %") if share else _tick(round(value, 10))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    for h in sorted({first, *(int(t) for t in ticks(float(first), float(last)) if first < t <= last and t == int(t))}):
        parts.append(f'<text class="tick" x="{x(h):.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{h}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">frames after the prompt</text>'
    )
    parts.append(f'<text class="axis" x="{_LEFT - 8}" y="{_TOP - 14}" text-anchor="end">{escape(unit)}</text>')
    ends: list[_End] = []
    lines: list[list[tuple[float, float]]] = []
    for value, label in marks:
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        lines.append([(float(_LEFT), y(value)), (float(WIDTH - _RIGHT), y(value))])
        ends.append(_End(y(value), float(WIDTH - _RIGHT), label, "marked"))
    for one in series:
        if one.low is not None and one.high is not None:
            rows = [
                (x(h), y(a), y(b))
                for h, a, b in zip(horizon, one.low, one.high, strict=True)
                if a is not None and b is not None
            ]
            outline = [f"{px:.1f},{b:.1f}" for px, _, b in rows] + [f"{px:.1f},{a:.1f}" for px, a, _ in reversed(rows)]
            parts.append(f'<polygon class="band {one.style}" points="{" ".join(outline)}"/>')
    for one in reversed(series):  # the first is drawn last, on top
        known = [(h, v) for h, v in zip(horizon, one.values, strict=True) if v is not None]
        out = next((i for i, (_, v) in enumerate(known) if v > top), len(known))
        points = [(x(h), y(v)) for h, v in known[: out + 1]]  # a line that leaves the plot ends at its edge
        if points:
            text = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            parts.append(f'<polyline class="line {one.style}" points="{text}"/>')
            if len(points) == 1:
                parts.append(f'<circle class="dot {one.style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="4"/>')
            lines.append(points)
            ends.append(_End(points[-1][1], points[-1][0], one.label, one.style))
    parts += _end_labels(ends, lines)
    parts.append("</svg>")
    return Markup("".join(parts))


class _End(NamedTuple):
    """Where a line ends, and what is written there."""

    y: float
    x: float
    label: str
    style: str


def _end_labels(ends: list[_End], lines: Sequence[Sequence[tuple[float, float]]]) -> list[str]:
    """Labels at the lines' ends, moved apart where they would overlap. Those of lines that end within the plot also
    keep off the lines."""
    edge = float(WIDTH - _RIGHT)
    outer = sorted((e for e in ends if e.x >= edge - 1), key=lambda e: e.y)
    places: list[float] = []
    for end in outer:
        places.append(max(end.y, places[-1] + _ROW) if places else end.y)
    limit = float(HEIGHT - _BOTTOM)
    for i in reversed(range(len(places))):  # pushed out below: move up again
        places[i] = min(places[i], limit)
        limit = places[i] - _ROW
    placed = list(zip(outer, places, strict=True))
    for end in sorted((e for e in ends if e.x < edge - 1), key=lambda e: e.y):
        near = sorted((end.y + _ROW / 4 * step for step in range(-60, 61)), key=lambda p: abs(p - end.y))
        fits = [p for p in near if _TOP <= p <= HEIGHT - _BOTTOM - 4]
        free = (p for p in fits if not any(_meet(end, p, *other) for other in placed))
        placed.append((end, next((p for p in free if not any(_strikes(line, end, p) for line in lines)), end.y)))
    return [
        f'<text class="label {end.style}" x="{end.x + 8:.1f}" y="{place + 4:.1f}">{_shortened(end)}</text>'
        for end, place in placed
    ]


def _shortened(end: _End) -> Markup:
    """The label, without its middle where it has no room (names of runs often differ at their ends); the whole of it is
    then its title."""
    room, half = ((WIDTH - end.x - 8) / width for width in (_LETTER, 2 * _WIDE))
    half = max(1, int(half - 0.5))
    cut = f"{end.label[:half]}…{end.label[-half:]}"
    return escape(end.label) if len(end.label) <= room else Markup("<title>{}</title>{}").format(end.label, cut)


def _meet(one: _End, place: float, other: _End, other_place: float) -> bool:
    """Whether two labels overlap."""
    apart = one.x + len(one.label) * _LETTER < other.x or other.x + len(other.label) * _LETTER < one.x
    return not apart and abs(place - other_place) < _ROW


def _strikes(line: Sequence[tuple[float, float]], end: _End, place: float) -> bool:
    """Whether a line runs through a label; the points of a line go from left to right."""
    left, right = end.x + 4, end.x + 8 + len(end.label) * _LETTER
    for (x0, y0), (x1, y1) in pairwise(line):
        if x1 <= left or x0 >= right or x1 == x0:
            continue
        a, b = (y0 + (y1 - y0) * (x - x0) / (x1 - x0) for x in (max(x0, left), min(x1, right)))
        if min(a, b) < place + _ROW / 2 and max(a, b) > place - _ROW / 2:
            return True
    return False
