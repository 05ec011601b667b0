"""`python -m benchmarks detection`: every probe against every known-bad world.

Writes docs/results/detection.json and .md, docs/media/detection.png, and a picture of each probe. How to read them:
docs/detection.md.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks import pictures
from benchmarks.__main__ import RESULTS
from worldloom.evaluation.battery.claims import CLAIMS, claimed_in
from worldloom.evaluation.battery.corruptions import BATTERY, REFERENCES
from worldloom.evaluation.battery.table import MARGIN, SETTINGS, WORLDS, Asked, Setting, all_probes, ask, judge, names
from worldloom.files import read_json, write_atomic, write_json

SETTING = Setting()
ALARMS = (1, 2)
"""Seeds at which the true simulator is measured once more: whatever is detected there is a false alarm."""
PROCESSES = 2
FEW = 15
"""A world with as few figures is in the table alone, not in the picture."""
SIGNS = {"detected": "●", "blind": "·", "better": "▲", "unmeasured": " "}


_learnt: dict[tuple[str, int], dict[Any, Any]] = {}
"""Of each process: what probes learnt from the true world."""


def measure(task: tuple[str, str, int]) -> tuple[tuple[str, str, int], Asked]:
    """One dreamer in one world."""
    import torch

    torch.set_num_threads(1)
    world, name, seed = task
    setting = dataclasses.replace(SETTINGS.get(world, SETTING), seed=seed)
    asked = ask(WORLDS[world], name, all_probes(world), setting, shared=_learnt.get((world, seed)))
    _learnt[world, seed], asked.shared = asked.shared, {}
    return task, asked


def collect() -> dict[tuple[str, str, int], Asked]:
    """All dreamers in all worlds."""
    tasks = [(w, n, SETTING.seed) for w in WORLDS for n in ("truth", "tracked", *names(WORLDS[w]))]
    tasks += [(w, "truth", seed) for w in WORLDS for seed in ALARMS]
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes
    found = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        for task, asked in pool.map(measure, tasks):
            found[task] = asked
            print(*task, f"{sum(asked.seconds.values()):.0f} s", *asked.failures.values(), flush=True)
    return found


def table(found: Mapping[tuple[str, str, int], Asked]) -> dict[str, Any]:
    """The results as plain JSON."""
    out: dict[str, Any] = {}
    for world, exact in WORLDS.items():
        true = found[world, "truth", SETTING.seed]
        columns = {name: found[world, name, SETTING.seed] for name in ("tracked", *names(exact))}
        alarms = {f"truth, seed {s}": found[world, "truth", s] for s in ALARMS}
        figures = {}
        for figure, reference in true.figures.items():
            cells = {}
            for name, asked in (columns | alarms).items():
                one = asked.figures.get(figure)
                cells[name] = {"verdict": judge(one, reference)}
                if one is not None:
                    cells[name] |= {"value": one.value, "interval": one.interval, "n": one.n}
            figures[figure] = {
                "title": reference.title,
                "unit": reference.unit,
                "better": reference.better,
                "truth": reference.value,
                "truth_interval": reference.interval,
                "floor": reference.floor,
                "n": reference.n,
                "bad": cells,
            }
        out[world] = {
            "config": {k: v for k, v in vars(exact.config).items() if k in SHOWN},
            "figures": figures,
            "unmeasured": true.unmeasured,
            "seconds": {name: round(t, 1) for name, t in true.seconds.items()},
            "failures": {name: a.failures for name, a in (columns | alarms).items() if a.failures},
        }
    return out


SHOWN = ("height", "width", "balls", "radius", "speed", "gravity", "action", "push")


def claims(worlds: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The claims that do not hold: figure to bad world to what it says instead."""
    out: dict[str, dict[str, str]] = {}
    for figure, bad in CLAIMS.items():
        row = worlds[claimed_in(figure)]["figures"].get(figure, {}).get("bad", {})
        said = {name: row.get(name, {}).get("verdict", "unmeasured") for name in bad}
        if missed := {name: verdict for name, verdict in said.items() if verdict != "detected"}:
            out[figure] = missed
    return out


def claimed(world: str, figure: str, name: str) -> bool:
    return claimed_in(figure) == world and name in CLAIMS.get(figure, ())


def alarms(worlds: Mapping[str, Any]) -> list[str]:
    """Figures that tell the true simulator at another seed from itself."""
    return [
        f"{figure} ({world}, seed {seed})"
        for world, one in worlds.items()
        for figure, row in one["figures"].items()
        for seed in ALARMS
        if row["bad"][f"truth, seed {seed}"]["verdict"] == "detected"
    ]


def page(results: Mapping[str, Any]) -> str:
    """docs/results/detection.md."""
    s, worlds = results["setting"], results["worlds"]
    checks = sum(
        row["bad"][f"truth, seed {seed}"]["verdict"] != "unmeasured"
        for w in worlds.values()
        for row in w["figures"].values()
        for seed in ALARMS
    )
    lines = [
        "# Detection table",
        "",
        "Written by `python -m benchmarks detection`: what every figure of the report says of every known-bad world. "
        "How to read it: [detection.md](../detection.md).",
        "",
        f"{s['starts']} starts, {s['prompt']} frames of prompt, {s['horizon']} dreamed frames"
        + "".join(f" ({w}: {o.starts} and {o.horizon})" for w, o in SETTINGS.items())
        + f", seed {s['seed']}; "
        f"{results['machine']}, {results['seconds']:.0f} s with {PROCESSES} processes.",
        "",
        f"● detected: the two intervals of 95 % lie apart, the bad world's on the worse side, and the values differ by "
        f"more than {MARGIN:.0%} of the larger and more than the figure's floor, at some horizon. ◉ detected as it is "
        "claimed, ✗ claimed and missed. · not told from the true simulator. ▲ it looks *better* than the true "
        "simulator: the figure is fooled. Blank: not measurable.",
        "",
        f"False alarms: {len(results['alarms'])} of {checks} (figure, seed) pairs on the true simulator at other "
        f"seeds{': ' + ', '.join(results['alarms']) if results['alarms'] else ''}.",
        "",
        f"Claims: {sum(len(b) for b in CLAIMS.values())}, of which "
        f"{sum(len(b) for b in results['claims_missed'].values())} do not hold here"
        + (f": {results['claims_missed']}." if results["claims_missed"] else "."),
        "",
        "| bad world | what is wrong | figures that detect it |",
        "|---|---|---|",
    ]
    for name, one in (REFERENCES | BATTERY).items():
        if name == "truth":
            continue
        count = sum(
            row["bad"].get(name, {}).get("verdict") == "detected"
            for w in worlds.values()
            for row in w["figures"].values()
        )
        here = sum(name in row["bad"] for w in worlds.values() for row in w["figures"].values())
        lines.append(f"| {name} | {one.about} | {count} of {here} |")
    for world, one in worlds.items():
        columns = ["tracked", *names(WORLDS[world])]
        config = ", ".join(f"{k} {v}" for k, v in one["config"].items())
        lines += ["", f"## {world}", "", f"{config}.", "", f"| figure | true | {' | '.join(columns)} |"]
        lines.append("|---|---|" + ":-:|" * len(columns))
        for figure, row in one["figures"].items():
            cells = []
            for name in columns:
                verdict = row["bad"][name]["verdict"]
                ours = claimed(world, figure, name)
                cells.append(("◉" if verdict == "detected" else "✗") if ours else SIGNS[verdict])
            lines.append(f"| `{figure}` | {_short(row['truth'])} | {' | '.join(cells)} |")
        for name, why in one["unmeasured"].items():
            lines.append(f"\n`{name}` does not measure here: {why}")
        for name, failed in one["failures"].items():
            for probe, why in failed.items():
                lines.append(f"\n`{probe}` failed on {name}: {why}")
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    shown = pictures.last(value)
    return "" if shown is None else f"{shown:.3g}"


def picture(results: Mapping[str, Any]) -> bytes:
    """The table at a glance: a row a figure, a column a bad world, one panel a world."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    worlds = {name: w for name, w in results["worlds"].items() if len(w["figures"]) > FEW}
    figures = list(dict.fromkeys(f for w in worlds.values() for f in w["figures"]))
    colours = {"detected": "#2a6fbb", "blind": "#eceff3", "better": "#e0a030", "unmeasured": "#ffffff"}
    wide = [1 + len(names(WORLDS[w])) for w in worlds]
    figure, axes = plt.subplots(
        1, len(worlds), figsize=(4.2 + 0.2 * sum(wide), 2.2 + 0.16 * len(figures)), width_ratios=wide, squeeze=False
    )
    for axis, (world, one) in zip(axes[0], worlds.items(), strict=True):
        columns = ["tracked", *names(WORLDS[world])]
        for y, row in enumerate(figures):
            for x, name in enumerate(columns):
                cell = one["figures"].get(row, {}).get("bad", {}).get(name, {"verdict": "unmeasured"})
                box = plt.Rectangle((x - 0.45, y - 0.45), 0.9, 0.9, facecolor=colours[cell["verdict"]])
                axis.add_patch(box)
                if claimed(world, row, name) and cell["verdict"] == "detected":
                    axis.plot(x, y, ".", color="white", markersize=3)
        axis.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(figures) - 0.4, -0.6), title=world)
        axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
        axis.set_yticks(range(len(figures)), figures if axis is axes[0][0] else [""] * len(figures), fontsize=6)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    handles = [
        plt.Line2D([], [], marker="s", linestyle="", color=colours[k], label=text)
        for k, text in (("detected", "detected (white dot: claimed)"), ("blind", "blind"), ("better", "fooled"))
    ]
    figure.legend(handles=handles, loc="lower center", ncols=3, fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def rounded(value: Any) -> Any:
    """Five digits of every number: more say nothing here."""
    if isinstance(value, Mapping):
        return {key: rounded(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(x) for x in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def write(results: dict[str, Any]) -> None:
    """The table, its page and its pictures, and what follows from it."""
    worlds = results["worlds"]
    results |= {"alarms": alarms(worlds), "claims_missed": claims(worlds)}
    write_json(RESULTS / "detection.json", rounded(results))
    write_atomic(RESULTS / "detection.md", page(results).encode())
    write_atomic(RESULTS.parent / "media" / "detection.png", picture(results))
    pictures.write(worlds)


def run() -> list[dict[str, Any]]:
    """Measure, write, and return the rows of `python -m benchmarks`."""
    began = time.perf_counter()
    worlds = table(collect())
    results: dict[str, Any] = {
        "setting": vars(SETTING),
        "margin": MARGIN,
        "machine": platform.processor() or platform.machine(),
        "seconds": round(time.perf_counter() - began),
        "worlds": worlds,
    }
    write(results)
    cells = [
        c["verdict"]
        for w in worlds.values()
        for r in w["figures"].values()
        for n, c in r["bad"].items()
        if n in BATTERY
    ]
    missed = sum(len(b) for b in results["claims_missed"].values())
    rows = [
        ("cells of the table", len(cells), ""),
        ("cells detected", cells.count("detected"), ""),
        ("claims", sum(len(b) for b in CLAIMS.values()), ""),
        ("claims that do not hold", missed, str(results["claims_missed"] or "")),
        ("false alarms", len(results["alarms"]), ", ".join(results["alarms"])),
        ("time", results["seconds"], "s"),
    ]
    return [
        {
            "what": w,
            "value": float(v),
            "unit": u if w == "time" else "",
            "n": SETTING.starts,
            "note": "" if w == "time" else u,
        }
        for w, v, u in rows
    ]


if __name__ == "__main__":  # the page and the pictures anew, from what was measured
    write(read_json(RESULTS / "detection.json"))
