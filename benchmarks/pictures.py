"""`python -m benchmarks.pictures`: what each probe says of known-bad worlds, from docs/results/detection.json.

Writes docs/media/probes/NAME.png for every probe of the detection table; `python -m benchmarks detection` calls it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from benchmarks.__main__ import RESULTS
from worldloom.evaluation.battery.claims import CLAIMS, claimed_in
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


def _last(value: Any) -> Any:
    """The value furthest ahead."""
    if not isinstance(value, Mapping):
        return value
    known = [v for v in value.values() if v is not None]
    return known[-1] if known else None


def _panel(axis: Any, world: str, figure: str, row: Mapping[str, Any]) -> None:
    """One figure: a dot with its interval for every bad world, the true simulator's interval as a band."""
    names = [n for n, c in row["bad"].items() if c["verdict"] != "unmeasured" and not n.startswith("truth")]
    names = [n for n in names if _last(row["bad"][n].get("value")) is not None]
    ahead = list(row["truth"])[-1] if isinstance(row["truth"], Mapping) else None
    true, band = _last(row["truth"]), _last(row["truth_interval"])
    if band is not None:
        axis.axvspan(*band, color=TRUE, alpha=0.25, linewidth=0)
    if true is not None:
        axis.axvline(true, color=TRUE, linewidth=1)
    for y, name in enumerate(names):
        cell = row["bad"][name]
        value, interval = _last(cell["value"]), _last(cell["interval"])
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def write(worlds: Mapping[str, Any]) -> None:
    """All pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for probe, shown in by_probe(worlds).items():
        write_atomic(FOLDER / f"{probe}.png", draw(worlds, shown))


if __name__ == "__main__":
    write(read_json(RESULTS / "detection.json")["worlds"])
