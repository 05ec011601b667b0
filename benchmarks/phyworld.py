"""`python -m benchmarks.phyworld RUN [RUN ...]`: PhyWorld's protocol on runs of the recipe `phyworld`.

Writes docs/results/phyworld.json and phyworld.md, the paper's figures beside ours, and docs/media/phyworld.png, true
velocities against dreamed ones. Each RUN may be of another scenario (`--world.scenario`) and another training split
(`--world.split bands` or `wedge`).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import worldloom
from benchmarks.__main__ import RESULTS
from worldloom.evaluation import load_report
from worldloom.evaluation.probes import Dreams
from worldloom.evaluation.probes.phyworld import CLIPS, NAMES, judged
from worldloom.evaluation.probes.phyworld_motion import clip_mean, window_velocity
from worldloom.evaluation.schema import Figure
from worldloom.files import read_json, write_atomic, write_json
from worldloom.worlds.phyworld import FRAMES, PROMPT, TEST_SPLITS

PAPER: dict[str, dict[str, str]] = {
    "uniform": {"floor": "0.0099", "in": "0.022 (DiT-S, 30K clips), 0.012 (DiT-L, 3M)", "out": "0.427 (DiT-L, 3M)"},
    "collision": {"floor": "0.0117", "in": "≤ 0.03 (read off a figure)", "out": "0.15–0.3 (read off a figure)"},
    "parabola": {"floor": "0.0210", "in": "≤ 0.06 (read off a figure)", "out": "0.3–0.4 (read off a figure)"},
}
"""Velocity errors of Kang et al. 2025 (arXiv 2411.02385), in units/s: the instrument's floor on true video, in
distribution, out of distribution."""
KEPT = ("value", "interval", "n", "floor", "ceiling", "baselines", "unit", "title", "statistic", "hashes")


def speeds(dreams: Dreams) -> dict[str, list[tuple[float, float]]]:
    """Split to each ball's true and dreamed velocity to the right, units/s, over the frames that count."""
    assert dreams.world is not None
    assert dreams.world.phyworld is not None
    found: dict[str, list[tuple[float, float]]] = {}
    for split in TEST_SPLITS[dreams.world.phyworld.split]:
        sub, seen = judged(dreams, dreams.world, split)
        counts = seen.five(seen.dreamed)
        pairs = []
        for k in range(seen.dreamed.shape[2]):
            velocity = (window_velocity(x)[:, :, k, :1] for x in (sub.truth["position"], seen.dreamed))
            true, dreamed = (clip_mean(v, counts) for v in velocity)
            pairs += [(float(a), float(b)) for a, b in zip(true, dreamed, strict=True) if np.isfinite(b)]
        found[split] = pairs
    return found


def picture(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """True against dreamed velocity, a panel a run; on the diagonal a law is kept, on a step a case is remembered."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(runs), figsize=(3.6 * len(runs), 3.8), squeeze=False, layout="constrained")
    for axis, (name, run) in zip(axes[0], runs.items(), strict=True):
        ends = [v for pairs in run["speeds"].values() for pair in pairs for v in pair] or [0.0, 1.0]
        axis.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.8", linewidth=1, zorder=0)
        for split, pairs in run["speeds"].items():
            axis.scatter([a for a, _ in pairs], [b for _, b in pairs], s=8, alpha=0.6, label=split, linewidths=0)
        axis.set(title=name, xlabel="true velocity to the right, units/s", ylabel="dreamed")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def measure(run: Path) -> dict[str, Any]:
    """One run's figures, without touching its own report."""
    kept: dict[str, Any] = {}

    def look(dreams: Dreams) -> dict[str, Figure]:
        kept["speeds"] = speeds(dreams)
        empty = np.zeros(len(dreams))  # a probe returns figures, and this one only looks
        return {"nothing": dreams.figure(empty, title="Nothing", better="lower", meaning="Nothing.")}

    with tempfile.TemporaryDirectory() as folder:
        report = worldloom.evaluate(
            run, probes=["phyworld", look], prompt=PROMPT, horizon=FRAMES - PROMPT, count_horizon=FRAMES - PROMPT,
            starts=16, other_actions=False, out=folder,
        )  # fmt: skip
        figures = load_report(Path(folder)).figures
    dataset = worldloom.Dataset(run / "data")
    world = dataset.info["world"]["config"]
    return {
        "scenario": world["scenario"],
        "split": world["split"],
        "parameters": report["run"]["parameters"],
        "clips": len(dataset.splits["train"]),
        "steps": read_json(run / "summary.json", sealed=True)["steps"],
        "train_seconds": report["train_seconds"],
        "data": dataset.fingerprint,
        "speeds": kept["speeds"],
        "figures": {
            name.removeprefix("phyworld/"): {key: getattr(figure, key) for key in KEPT}
            for name, figure in figures.items()
            if name.startswith("phyworld/")
        },
    }


def cell(figure: dict[str, Any] | None, digits: int = 3, interval: bool = False) -> str:
    """A figure as text; a dash where it could not be measured."""
    if figure is None or figure["value"] is None:
        return "–"
    if figure["statistic"] == "share":
        return f"{figure['value']:.0%}"
    text = f"{figure['value']:.{digits}f}"
    if interval and figure["interval"] is not None:
        text += f" ({figure['interval'][0]:.{digits}f}, {figure['interval'][1]:.{digits}f})"
    return text


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def page(runs: dict[str, dict[str, Any]], seed: int) -> str:
    """The tables, as Markdown."""
    lines = [
        "# PhyWorld's protocol",
        "",
        f"Written by `python -m benchmarks.phyworld {' '.join(f'runs/{name}' for name in runs)}`. Velocity errors in",
        f"units/s (the box is 10 units wide, two frames 0.1 s apart); {CLIPS} fresh clips of each split, {PROMPT}",
        f"frames given and {FRAMES - PROMPT} dreamed, seed {seed}; 95 % intervals over clips. What is asked, and how:",
        "[the probe's page](../probes/phyworld.md).",
        "",
        "![True and dreamed velocities](../media/phyworld.png)",
        "",
        "## Beside the paper",
        "",
        "Kang et al. 2025 (arXiv 2411.02385). Velocities between two frames here as there: theirs of 128 × 128 px or",
        "more, ours of 64 × 64; ours are distances in the plane. Their single figure out of distribution is beside our",
        "three.",
        "",
        "| scenario | whose | parameters, training clips | true video | in distribution | out of distribution |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        if run["split"] != "in":
            continue
        figures, paper = run["figures"], PAPER[run["scenario"]]
        inside, *outside = (cell(figures[f"error_two_frames_{split}"]) for split in TEST_SPLITS["in"])
        floor = number(figures["error_two_frames_in"]["floor"], 4)
        lines += [
            f"| {run['scenario']} | the paper | 22.5M to 310M, 30K to 3M | {paper['floor']} | {paper['in']} | "
            f"{paper['out']} |",
            f"| | `{name}` | {run['parameters'] / 1e6:.1f}M, {run['clips']:,} | {floor} | {inside} | "
            f"{outside[0]} in speed, {outside[1]} in size, {outside[2]} in both |",
        ]
    for name, run in runs.items():
        lines += [
            "",
            f"## {name}: {run['scenario']}, trained on `{run['split']}`",
            "",
            f"{run['parameters']:,} parameters, {run['clips']:,} training clips, {run['steps']:,} steps, "
            f"{run['train_seconds']:.0f} s of training.",
            "",
            "| split | velocity error | true video | exact engine | straight on | nearest training clip | clips that "
            "lost a ball | radius drift, units | momentum error, units/s | energy error, units²/s² | n |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for split in TEST_SPLITS[run["split"]]:
            found = run["figures"]
            error = found[f"error_{split}"]
            known = [number(error["baselines"].get(b)) for b in ("straight_on", "nearest_training_clip")]
            rest = [cell(found.get(f"{what}_{split}")) for what in ("lost", "radius", "momentum", "energy")]
            lines.append(
                f"| {NAMES[split]} | {cell(error, interval=True)} | {number(error['floor'], 4)} | "
                f"{number(error['ceiling'], 4)} | {' | '.join([*known, *rest])} | {error['n']} |"
            )
    return "\n".join([*lines, ""])


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit("Give the runs to measure: python -m benchmarks.phyworld runs/phyworld-uniform ...")
    torch.set_num_threads(2)
    runs = {path.resolve().name: measure(path) for path in map(Path, sys.argv[1:])}
    setting = {"clips": CLIPS, "prompt": PROMPT, "frames": FRAMES, "seed": 0}
    picture(runs, RESULTS.parent / "media" / "phyworld.png")
    for run in runs.values():
        del run["speeds"]
    write_json(RESULTS / "phyworld.json", {"setting": setting, "paper": PAPER, "runs": runs})
    write_atomic(RESULTS / "phyworld.md", page(runs, 0).encode())


if __name__ == "__main__":
    main()
