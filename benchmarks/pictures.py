"""`python -m benchmarks.pictures`: a picture for each probe's page, drawn from docs/results; nothing is measured.

Most show what the probe says of known-bad worlds (detection.json; `python -m benchmarks detection` draws these too);
`frechet` is drawn from distances.json, `trust` from trust.json, `cost` from the reports kept there, and `coverage` on
points in the plane. Writes docs/media/probes/NAME.png.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.battery.claims import CLAIMS, claimed_in
from worldloom.evaluation.probes import PROBES
from worldloom.files import read_json, write_atomic

COLOURS = {"detected": "#2a6fbb", "blind": "#a9b2bf", "better": "#e0a030"}
TRUE = "#1f9d63"
PANELS = 3
"""Figures drawn of each probe: those with most claims, then those that detect most."""
FOLDER = RESULTS.parent / "media" / "probes"


def by_probe(worlds: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Probe to the (world, figure) pairs that its picture shows, the most telling first."""
    ranked: dict[str, list[tuple[tuple[int, int], str, str]]] = {}
    for name in dict.fromkeys(f for w in worlds.values() for f in w["figures"]):
        here = {w for w, one in worlds.items() if name in one["figures"]}
        world = claimed_in(name) if claimed_in(name) in here else sorted(here)[0]
        cells = worlds[world]["figures"][name]["bad"]
        found = sum(c["verdict"] == "detected" for n, c in cells.items() if not n.startswith("truth"))
        if any(c["verdict"] != "unmeasured" for c in cells.values()):
            rank = (-len(CLAIMS.get(name, ())), -found)
            ranked.setdefault(name.split("/")[0], []).append((rank, world, name))
    return {probe: [(w, f) for _, w, f in sorted(rows)[:PANELS]] for probe, rows in ranked.items()}


def last(value: Any) -> Any:
    """The value furthest ahead."""
    if not isinstance(value, Mapping):
        return value
    known = [v for v in value.values() if v is not None]
    return known[-1] if known else None


def _panel(axis: Any, world: str, figure: str, row: Mapping[str, Any]) -> None:
    """One figure: a dot with its interval for every bad world, the true simulator's interval as a band."""
    names = [n for n, c in row["bad"].items() if c["verdict"] != "unmeasured" and not n.startswith("truth")]
    names = [n for n in names if last(row["bad"][n].get("value")) is not None]
    ahead = list(row["truth"])[-1] if isinstance(row["truth"], Mapping) else None
    true, band = last(row["truth"]), last(row["truth_interval"])
    if band is not None:
        axis.axvspan(*band, color=TRUE, alpha=0.25, linewidth=0)
    if true is not None:
        axis.axvline(true, color=TRUE, linewidth=1)
    for y, name in enumerate(names):
        cell = row["bad"][name]
        value, interval = last(cell["value"]), last(cell["interval"])
        colour = COLOURS[cell["verdict"]]
        if interval is not None:
            axis.plot(interval, [y, y], color=colour, linewidth=2, solid_capstyle="round")
        axis.plot(value, y, "o", color=colour, markersize=4)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_ylim(len(names) - 0.5, -0.5)
    unit = f", {row['unit']}" if row["unit"] else ""
    axis.set_title(f"{figure.split('/')[-1]}{unit}" + (f", {ahead} frames ahead" if ahead else ""), fontsize=8)
    axis.set_xlabel(f"{row['better']} is better; world: {world}", fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.tick_params(length=0, axis="y")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", color="#e6e9ee", linewidth=0.6)
    axis.set_axisbelow(True)


def draw(worlds: Mapping[str, Any], shown: list[tuple[str, str]]) -> bytes:
    """The picture of a probe as PNG."""
    plt = _pyplot()
    most = max(len(worlds[w]["figures"][f]["bad"]) for w, f in shown)
    figure, axes = plt.subplots(1, len(shown), figsize=(3.3 * len(shown), 1.1 + 0.155 * most), squeeze=False)
    for axis, (world, name) in zip(axes[0], shown, strict=True):
        _panel(axis, world, name, worlds[world]["figures"][name])
    marks = [plt.Line2D([], [], color=TRUE, label="true simulator")]
    marks += [
        plt.Line2D([], [], marker="o", linestyle="", color=COLOURS[k], label=text)
        for k, text in (("detected", "detected"), ("blind", "not told apart"), ("better", "looks better"))
    ]
    figure.legend(handles=marks, loc="lower center", ncols=4, fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return _png(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _png(figure: Any) -> bytes:
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    _pyplot().close(figure)
    Image.open(buffer).convert("RGB").quantize(96).save(small, "PNG", optimize=True)  # a third of the bytes
    return small.getvalue()


def draw_frechet(distances: Mapping[str, Any]) -> bytes:
    """Against known truths, with and without extrapolation; and what each extractor makes of bad worlds."""
    figure, (left, right) = _pyplot().subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    pairs = [p for p in distances["frechet"] if p["d"] == max(q["d"] for q in distances["frechet"])]
    for y, pair in enumerate(pairs):
        left.plot(pair["truth"], y, "|", color=TRUE, markersize=14, markeredgewidth=2)
        left.plot(pair["raw"], y, "o", color=COLOURS["better"], markersize=4)
        low, high = pair["value"] - pair["half_width"], pair["value"] + pair["half_width"]
        left.plot([low, high], [y, y], color=COLOURS["detected"], linewidth=2)
        left.plot(pair["value"], y, "o", color=COLOURS["detected"], markersize=4)
    left.set_yticks(range(len(pairs)), [p["pair"] for p in pairs], fontsize=7)
    left.invert_yaxis()
    left.set_title(f"Normal distributions, d = {pairs[0]['d']}, n = {pairs[0]['n']:,}", fontsize=8)
    left.set_xlabel("Fréchet distance: truth (green), at n (amber), at n = ∞ (blue)", fontsize=7)
    rows = distances["detection"]["rows"]
    shades = dict(zip(("random3d", "embedded", "state"), ("#a9b2bf", "#2a6fbb", "#8a4fbf"), strict=True))
    for extractor, colour in shades.items():
        values = [max(row[extractor]["frechet_ratio"], 0.5) for row in rows.values()]
        right.plot(values, range(len(rows)), "o", color=colour, markersize=4, label=extractor)
    right.axvline(1, color=TRUE, linewidth=1)
    right.set(xscale="log")
    right.set_yticks(range(len(rows)), list(rows), fontsize=7)
    right.invert_yaxis()
    right.set_title("Bad worlds: distance over that of real clips to others", fontsize=8)
    right.legend(frameon=False, fontsize=7)
    for axis in (left, right):
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def draw_trust(runs: Mapping[str, Any]) -> bytes:
    """By run: coverage of each seed, and what of the strange starts was foretold."""
    figure, (left, right) = _pyplot().subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
    shades = dict(zip(runs, ("#2a6fbb", "#e0a030", "#8a4fbf", "#1f9d63"), strict=False))
    for y, (name, run) in enumerate(runs.items()):
        each = [np.mean(row["inside"]) for row in run["rows"]]
        left.plot(each, [y] * len(each), "o", color=shades[name], alpha=0.6)
        left.plot(np.mean(each), y, "|", color=shades[name], markersize=18, markeredgewidth=2)
    left.axvspan(0.87, 0.93, color=TRUE, alpha=0.2, linewidth=0)
    left.axvline(0.9, color=TRUE, linewidth=1)
    left.set_yticks(range(len(runs)), list(runs))
    left.set_ylim(len(runs) - 0.5, -0.5)
    left.set_title("Share of dreams within a bound of 90 %, each seed a dot", fontsize=8)
    known = {name: run for name, run in runs.items() if "strange" in run["rows"][0]}
    kinds = list(dict.fromkeys(kind for run in known.values() for kind in run["rows"][0]["strange"]))
    for i, (name, run) in enumerate(known.items()):
        sums = [[sum(r["strange"].get(k, {}).get(part, 0) for r in run["rows"]) for k in kinds] for part in PARTS]
        places = np.arange(len(kinds)) + 0.38 * (i - (len(known) - 1) / 2)
        right.barh(places, sums[0], 0.36, color=shades[name], alpha=0.25, label=f"{name}: break the bound")
        right.barh(places, sums[1], 0.36, color=shades[name], label=f"{name}: foretold")
    right.set_yticks(range(len(kinds)), kinds)
    right.invert_yaxis()
    right.set_title("Dreams from strange starts", fontsize=8)
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    for axis in (left, right):
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return _png(figure)


PARTS = ("broken", "caught")


def draw_cost(reports: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Frames a second and memory against the number of dreams side by side, by run."""
    figure, axes = _pyplot().subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
    shades = ("#2a6fbb", "#e0a030", "#8a4fbf")
    for axis, (stem, tail, title) in zip(axes, COSTS, strict=True):
        for colour, (name, report) in zip(shades, reports.items(), strict=False):
            keys = {b: f"cost/{stem}{b}{tail}" for b in (1, 4, 16, 64)}
            have = [(b, report[k], report.get(f"{k}_interval")) for b, k in keys.items() if report.get(k) is not None]
            axis.plot([b for b, *_ in have], [v for _, v, _ in have], "o-", color=colour, label=name, markersize=4)
            for b, _, span in have:
                if span:
                    axis.plot([b, b], span, color=colour, linewidth=2)
        axis.set(xscale="log", xticks=(1, 4, 16, 64), xticklabels=("1", "4", "16", "64"), ylim=(0, None))
        axis.set_xlabel("dreams side by side", fontsize=7)
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=7)
    return _png(figure)


COSTS = (("frames_per_second_", "", "frames a second, all together"), ("memory_", "_mib", "memory beside weights, MiB"))


def draw_coverage() -> bytes:
    """Points in the plane: what each of the four measures says of dreams that lack something."""
    from worldloom.evaluation.distances.coverage import coverage

    draw = np.random.default_rng(0)

    def life(count: int) -> np.ndarray:
        return draw.normal(size=(count, 2)) * 0.5 + np.where(draw.random((count, 1)) < 0.5, -1.5, 1.5)

    real, other = life(200), life(200)
    dreams = {
        "as real": other,
        "half of life is never dreamed": other[other[:, 0] > 0],
        "a third is not lifelike": np.concatenate([other[:140], draw.uniform(-4, 4, (70, 2))]),
        "one clip, again and again": np.repeat(other[:1], 200, 0) + 0.02 * draw.normal(size=(200, 2)),
    }
    figure, axes = _pyplot().subplots(1, len(dreams), figsize=(11, 3.1), layout="constrained")
    for axis, (name, points) in zip(axes, dreams.items(), strict=True):
        found = coverage(real, points)
        axis.plot(*real.T, ".", color="#c3cad4", markersize=4)
        axis.plot(*points.T, ".", color=COLOURS["detected"], markersize=3)
        parts = [f"{part} {getattr(found, part).mean():.2f}" for part in ("density", "coverage", "precision", "recall")]
        axis.set_title(f"{name}\n{', '.join(parts[:2])}\n{', '.join(parts[2:])}", fontsize=8)
        axis.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), xticks=(), yticks=(), aspect="equal")
    return _png(figure)


def write(worlds: Mapping[str, Any]) -> None:
    """All pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for probe, shown in by_probe(worlds).items():
        if probe in PROBES:  # not the report's own figures, which have no page
            write_atomic(FOLDER / f"{probe}.png", draw(worlds, shown))


def main() -> None:
    write(read_json(RESULTS / "detection.json")["worlds"])
    reports = {name: read_json(RESULTS / f"{name}.json") for name in ("demo", "breakout")}
    others = {
        "frechet": draw_frechet(read_json(RESULTS / "distances.json")),
        "trust": draw_trust(read_json(RESULTS / "trust.json")["runs"]),
        "cost": draw_cost(reports),
        "coverage": draw_coverage(),
    }
    for probe, picture in others.items():
        write_atomic(FOLDER / f"{probe}.png", picture)


if __name__ == "__main__":
    main()
