"""report.html: one page that holds everything it shows, and asks nothing of any other place."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from markupsafe import Markup
from torch import Tensor

from worldloom.evaluation.charts import Series, line_chart
from worldloom.evaluation.figures import PSNR_CAP, Tracked
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.schema import Curve, Figure, Report
from worldloom.evaluation.verdict import number

GAP = 6  # px between the pictures of the animation
BASELINES = {"copy_last": "last frame", "constant_velocity": "straight on"}
"""Names of the baselines in report.json, and what the page calls them."""


@dataclass(frozen=True)
class Evidence:
    """What the page shows beside the figures: frames (B, T, C, h, w) uint8, on the CPU."""

    prompt: Tensor
    """True frames that the dreams began with."""
    true: Tensor
    """What really followed."""
    dream: Tensor
    """What was dreamed; may be longer than ``true``."""
    tracked: Tracked | None
    """Tracked objects, where the world has some."""
    fps: float
    """Playback speed."""


def render(report: Report, evidence: Evidence) -> str:
    """The page."""
    import jinja2

    template = resources.files("worldloom.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["units"] = lambda text: re.sub(r"(?<=\d) (?=%|px|dB)", "\u00a0", text)
    order = _order(evidence)
    picks = [("A typical dream", order[len(order) // 2]), ("The worst of them", order[-1])]
    return environment.from_string(template).render(
        report=report,
        tiles=_tiles(report),
        charts=_charts(report, evidence),
        strips=[(title, filmstrip(evidence, int(row))) for title, row in picks[: 1 + (len(order) > 1)]],
        film=_film(evidence, order),
        rows=_rows(report),
        baselines=_baselines(report),
    )


def _baselines(report: Report) -> dict[str, str]:
    """Names of all baselines in the report, and what the page calls them; a probe may bring its own."""
    names = {name for figure in report.figures.values() for name in figure.baselines}
    return BASELINES | {name: name.replace("_", " ") for name in sorted(names - BASELINES.keys())}


# ----------------------------------------------------------------------------------------- pictures


def _rgb(frames: Tensor) -> np.ndarray:
    """(T, C, h, w) uint8 as (T, h, w, 3); one channel is grey, of more than three the first three are shown."""
    x = frames.permute(0, 2, 3, 1).numpy()
    return np.repeat(x[..., :1], 3, -1) if x.shape[-1] < 3 else x[..., :3]


def data_uri(mime: str, data: bytes) -> Markup:
    """Bytes as a ``data:`` address."""
    return Markup(f"data:{mime};base64,{base64.b64encode(data).decode()}")


def _png(frame: np.ndarray) -> Markup:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", optimize=True)
    return data_uri("image/png", out.getvalue())


def _order(evidence: Evidence) -> np.ndarray:
    """Rows from the best dream to the worst: by position error or PSNR, summed over the first ten frames."""
    frames = min(10, evidence.true.shape[1])
    if evidence.tracked is not None:
        return np.argsort(evidence.tracked.error[:, :frames].mean((1, 2)), kind="stable")
    score = psnr(evidence.true[:, :frames], evidence.dream[:, :frames], PSNR_CAP).mean(1).numpy()
    return np.argsort(-score, kind="stable")


def filmstrip(evidence: Evidence, row: int) -> Markup:
    """An SVG: true frames above dreamed ones, the prompt's last two first, horizons written above."""
    horizon, cell, gap, left, top = evidence.true.shape[1], 64.0, 5.0, 46.0, 20.0
    columns = [h for h in (-1, 0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50) if 1 - evidence.prompt.shape[1] <= h <= horizon]
    height, width = evidence.true.shape[-2:]
    tall = cell * height / width
    start = _rgb(evidence.prompt[row])
    true, dream = (np.concatenate([start, _rgb(x[row, :horizon])]) for x in (evidence.true, evidence.dream))
    total = left + len(columns) * (cell + gap)
    parts = [
        f'<svg class="strip" viewBox="0 0 {total:.0f} {top + 2 * (tall + gap):.0f}" role="img" '
        f'aria-label="True frames above dreamed ones at horizons up to {columns[-1]}">'
    ]
    for place, frames in enumerate((true, dream)):
        y = top + place * (tall + gap)
        parts.append(f'<text class="side" x="0" y="{y + tall / 2 + 4:.1f}">{("true", "dream")[place]}</text>')
        for i, h in enumerate(columns):
            if place and h < 1:
                continue
            x = left + i * (cell + gap)
            source = _png(np.ascontiguousarray(frames[len(start) - 1 + h]))
            parts.append(
                f'<image x="{x:.1f}" y="{y:.1f}" width="{cell}" height="{tall:.1f}" href="{source}" '
                'preserveAspectRatio="none"/>'
            )
    for i, h in enumerate(columns):
        text, given = (str(h), "") if h > 0 else ("given", " given")
        x = left + i * (cell + gap) + cell / 2
        parts.append(f'<text class="at{given}" x="{x:.1f}" y="12" text-anchor="middle">{text}</text>')
    return Markup("".join([*parts, "</svg>"]))


def animation(evidence: Evidence, rows: list[int]) -> tuple[bytes, tuple[int, int]]:
    """An endless WebP, truth above dream for each of the rows, and its size (width, height).

    A bar between the two is grey while the prompt is shown, and coloured while the lower one is dreamed.
    """
    from PIL import Image

    shown, horizon = evidence.prompt.shape[1], evidence.true.shape[1]
    height, width = evidence.true.shape[-2:]
    size = (2 * height + GAP, len(rows) * (width + GAP) - GAP)
    canvas = np.zeros((shown + horizon, *size, 4), np.uint8)
    for i, row in enumerate(rows):
        left = slice(i * (width + GAP), i * (width + GAP) + width)
        start = _rgb(evidence.prompt[row])
        canvas[:, :height, left, :3] = np.concatenate([start, _rgb(evidence.true[row])])
        canvas[:, height + GAP :, left, :3] = np.concatenate([start, _rgb(evidence.dream[row, :horizon])])
        canvas[:, :height, left, 3] = canvas[:, height + GAP :, left, 3] = 255
        bar = slice(height + GAP // 2 - 1, height + GAP // 2 + 1)
        canvas[:shown, bar, left] = (150, 150, 150, 255)
        canvas[shown:, bar, left] = (232, 121, 61, 255)
    images = [Image.fromarray(frame) for frame in canvas]
    times = [max(40, round(1000 / evidence.fps))] * len(images)
    times[-1] += 900
    out = io.BytesIO()
    images[0].save(out, "WEBP", save_all=True, append_images=images[1:], duration=times, loop=0, lossless=True)
    return out.getvalue(), (size[1], size[0])


def _film(evidence: Evidence, order: np.ndarray) -> dict[str, Any]:
    """The animation of a few starts, evenly from the best to the worst."""
    width = evidence.true.shape[-1]
    few = min(len(order), 6 if width <= 96 else 3)
    rows = [int(order[i]) for i in np.linspace(0, len(order) - 1, few).round().astype(int)]
    data, size = animation(evidence, rows)
    return {"source": data_uri("image/webp", data), "size": size, "count": few, "frames": evidence.true.shape[1]}


# ------------------------------------------------------------------------------------------- charts


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
    return out


def _chart(figure: Figure, floor: str = "tracker’s floor", **options: Any) -> Markup:
    curve: Curve | None = figure.curve
    assert curve is not None  # figures by horizon always have their curve
    describe = f"{figure.title} by horizon: " + ", ".join(
        f"{number(curve.value[h - 1])} {figure.unit} at {h}" for h in (1, 5, 10, 20, 50, 100) if h <= len(curve.value)
    )
    return line_chart(curve.horizon, _series(figure, "dream", floor), figure.unit, describe, **options)


def _charts(report: Report, evidence: Evidence) -> list[tuple[str, str, Markup]]:
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
    for name, figure in figures.items():  # of probes
        if name.partition("/")[0] in report.probes and figure.curve is not None:
            chart = _chart(figure, "floor", share=figure.statistic == "share")
            out.append((figure.title, figure.meaning, chart))
    return out


# ------------------------------------------------------------------------------------------- figures


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """(value, words, interval) of the figures that come first."""
    figures, out = report.figures, []
    for name in ("position_error_px", "psnr_gain_db"):
        if name in figures:
            figure = figures[name]
            value = figure.value if isinstance(figure.value, dict) else {}
            interval = figure.interval if isinstance(figure.interval, dict) else {}
            for h in [h for h in ("1", "10", "20") if h in value][: 2 if name == "position_error_px" else 1]:
                words = f"{figure.title.lower() if name != 'psnr_gain_db' else 'PSNR over copy-last'}, {h} ahead"
                out.append((number(value[h], figure.unit), words, _between(interval.get(h), figure.unit)))
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
    return "" if pair is None else f"{number(pair[0], '%' if unit == '%' else '')} to {number(pair[1], unit)}"


def _rows(report: Report) -> list[dict[str, Any]]:
    """Lines of the table: one a figure and horizon."""
    rows = []
    for figure in report.figures.values():
        unit = "%" if figure.statistic == "share" or figure.title == "Lost objects" else figure.unit
        many = figure.value if isinstance(figure.value, dict) else {"": figure.value}
        for place, (horizon, value) in enumerate(many.items()):

            def pick(source: Any, key: str = horizon) -> Any:
                return source.get(key) if isinstance(source, dict) else source

            rows.append(
                {
                    "title": figure.title if place == 0 else "",
                    "span": len(many) if place == 0 else 0,
                    "horizon": horizon,
                    "value": number(value, unit),
                    "interval": _between(pick(figure.interval), unit) or "–",
                    "floor": number(pick(figure.floor), unit),
                    "baselines": [number(pick(figure.baselines.get(name)), unit) for name in _baselines(report)],
                    "n": figure.n,
                    "n_of": figure.n_of,
                    "seed": figure.seed,
                    "statistic": figure.statistic,
                }
            )
    return rows
