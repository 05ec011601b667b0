"""docs/drift.md, docs/results/remedies.md and the picture from remedies.json: all figures and verdicts are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.exercises.page import number, spread, table
from benchmarks.pictures import _png, _pyplot

TRAINING = """worldloom train balls --out runs/remedies --train.minutes 60 --train.optimizer muon --train.lr 2e-3 \\
  --model.prompt 2 --model.steps 1 --model.flow.pure 0.7 --model.backbone.attention 2 \\
  --model.memory 8 --model.retrieve 4 --model.lookback 12 --model.archive 128 --model.context-noise 0.2 \\
  --model.joint 0.3 --model.ahead 3"""
"""What trains a checkpoint on which every remedy can be tried."""
UNSATURATED = {
    "count_right": "count right",
    "lost": "objects lost",
    "ghosts": "frames with too many",
    "speed_kept": "speed kept",
    "background_db": "background, dB",
}
SHARES = ("count_right", "lost", "ghosts")


def share(row: Sequence[float | None] | None) -> str:
    """Per cent with its interval."""
    if row is None or row[0] is None:
        return "–"
    if row[1] is None or row[2] is None:
        return f"{row[0]:.1%}"
    return f"{row[0]:.1%} ({row[1]:.1%} to {row[2]:.1%})"


def plain_spread(row: Sequence[float | None] | None) -> str:
    """A value with its interval, where they are known."""
    if row is None or row[0] is None:
        return "–"
    return number(row[0]) if row[1] is None or row[2] is None else spread([x for x in row if x is not None])


def side(row: Sequence[float | None]) -> int:
    """1 where a difference lies above 0 with its whole interval, -1 where below, 0 where it holds 0 or is unknown."""
    if row[0] is None or row[1] is None or row[2] is None:
        return 0
    return (row[1] > 0) - (row[2] < 0)


def verdict(name: str, row: Mapping[str, Any]) -> str:
    """One remedy in a sentence: where it brings the dream nearer to the truth, and at what price."""
    parts: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for h, gain in row["nearer_px"].items():
        parts[side(gain)].append(h if gain[0] is None else f"{h} ({number(abs(gain[0]))} px)" if side(gain) else h)
    words = {1: "surely nearer to the truth at {}", 0: "not told apart from plain at {}", -1: "surely farther at {}"}
    said = [words[k].format(", ".join(parts[k])) for k in (1, 0, -1) if parts[k]]
    cost = row.get("cost")
    price = "" if cost is None else f"; {number(cost['times_plain'])} times the time of a frame"
    needs = " It is shown the truth, which a free dream has not." if row["shows_truth"] else ""
    ahead = " It must know the actions beforehand." if row["keyframes"] else ""
    return f"- **{name}**: {'; '.join(said)}{price}.{needs}{ahead}"


def errors(result: Mapping[str, Any]) -> list[str]:
    """Position error at each horizon, and the difference to plain over the frames up to it."""
    at = list(result["truth"]["at"])
    head = ("dreamed", *(f"px at frame {h}" for h in at), *(f"nearer by, px, up to {h}" for h in at))
    rows = [("true frames, as the tracker sees them",
             *(plain_spread(result["truth"]["at"][h]["error_px"]) for h in at), *("" for _ in at))]  # fmt: skip
    for name, row in result["rows"].items():
        gains = [plain_spread(row["nearer_px"].get(h)) if name != "plain" else "" for h in at]
        rows.append((name, *(plain_spread(row["at"][h]["error_px"]) for h in at), *gains))
    return table(head, rows)


def unsaturated(result: Mapping[str, Any], h: str) -> list[str]:
    """What still tells dreams apart where their positions no longer do."""
    rows = []
    for name, row in (("true frames", result["truth"]), *result["rows"].items()):
        one = row["at"][h]
        rows.append((name, *(share(one[x]) if x in SHARES else plain_spread(one[x]) for x in UNSATURATED)))
    return table(("dreamed", *UNSATURATED.values()), rows)


def cost(result: Mapping[str, Any]) -> list[str]:
    """Time and memory."""
    rows = []
    for name, row in result["rows"].items():
        one = row.get("cost")
        if one is not None:
            rows.append((name, number(one["ms_a_frame"]), number(one["times_plain"]), f"{one['bytes'] / 1024:,.0f}",
                         str(one["frames_at_once"])))  # fmt: skip
    head = ("dreamed", "ms a frame", "times plain", "KiB carried", "frames made at once")
    return table(head, rows)


def trained(run: Mapping[str, Any]) -> str:
    """The run that was measured, from its own files."""
    model, train, world = run["model"], run["train"], run["world"]
    settings = ("history", "ahead", "memory", "retrieve", "context_noise", "joint", "steps")
    return (
        f"Measured here: {run['parameters']:,} parameters, {run['steps']:,} steps of {run['batch']} windows in "
        f"{run['seconds'] / 60:.0f} minutes by {train['optimizer']}, seed {run['training_seed']}, on {world['balls']} "
        f"ball{'s' if world['balls'] > 1 else ''}; " + ", ".join(f"{n} {model[n]}" for n in settings if n in model)
    ) + "."


def figures(result: Mapping[str, Any]) -> str:
    """All tables, for docs/results."""
    lines = [
        "# Remedies against drift",
        "",
        f"Written by `python -m benchmarks remedies RUN`: {result['starts']} fresh starts, {result['prompt']} frames "
        f"shown, {result['frames']:,} dreamed, seed {result['seed']}; intervals of 95 % over starts; times on "
        f"{result['machine']}. What follows: [drift](../drift.md).",
        "",
        trained(result["run"]),
        "",
        *errors(result),
    ]
    for h in result["truth"]["at"]:
        lines += [f"## Up to frame {h}", "", *unsaturated(result, h)]
    return "\n".join([*lines, "## Cost", "", *cost(result)])


def page(result: Mapping[str, Any]) -> str:
    """The page of docs."""
    last = list(result["truth"]["at"])[-1]
    rows = {name: row for name, row in result["rows"].items() if name != "plain"}
    end = result["rows"]["plain"]["at"][last]["error_px"]
    share_of = end[0] / result["unrelated_px"]
    lines = [
        "# Drift, and remedies against it",
        "",
        "A dream feeds on its own frames, and what each adds of error is carried on. Here one trained model dreams "
        "from the same starts with every remedy that this library has. Written by `python -m benchmarks remedies "
        "RUN`: no figure and no verdict here is typed. All figures: "
        "[results/remedies.md](results/remedies.md), raw in [results/remedies.json](results/remedies.json).",
        "",
        "| remedy | in code | what it takes |",
        "|---|---|---|",
        "| re-anchoring | `imagine(…, truth=…, observe_every=k)`, or with the whole history `mode=\"teacher\"` "
        "| the truth, every k frames |",
        "| keyframes, then fill | `Remedy(keyframes=k)` | a model trained with `joint` and `ahead`; actions known "
        "beforehand |",
        "| explicit memory | `retrieve` in the model's configuration | a model trained with it; off: "
        "`Remedy(settings={\"retrieve\": 0})` |",
        "| context noise | `Remedy(settings={\"told_noise\": s})` | a model trained with `context_noise` |",
        "",
        "```py",
        "from worldloom.imagination import Remedy",
        "",
        'frames = Remedy(settings={"told_noise": 0.1}).dream(model, prompt, actions)["camera"]',
        "```",
        "",
        "## Which remedy helps",
        "",
        f"Differences are of the same starts, over the {result['span']} frames up to each horizon. Without remedy the "
        f"median error after {last} frames is {plain_spread(end)} px, {share_of:.0%} of the "
        f"{number(result['unrelated_px'])} px that part two dreams which have nothing to do with each other: "
        + ("there positions say no more which dream is the better one, and the table below it does."
           if share_of > 0.7 else "positions still tell dreams apart there."),
        "",
        *(verdict(name, row) for name, row in rows.items()),
        "",
        "![Position error by frame](media/drift.png)",
        "",
        *errors(result),
        f"Up to frame {last}: shares of frames with the right number of objects, of objects lost, and of frames with "
        "too many; the speed of the objects over the true one's; and how clean the background stays where no object "
        f"is (at most {60} dB):",
        "",
        *unsaturated(result, last),
        "## What it costs",
        "",
        f"One dream alone, medians of rounds in which all take turns, {result['machine']}. *Carried* is what a dream "
        "holds from one frame to the next, or from one chunk to the next.",
        "",
        *cost(result),
        "## Train it yourself",
        "",
        "One model for all rows, as a remedy must have been trained for. An hour on 2 CPU cores:",
        "",
        "```bash",
        TRAINING,
        "python -m benchmarks remedies runs/remedies",
        "```",
        "",
        trained(result["run"]) + " One training seed: intervals are over starts and say nothing of another training.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def picture(result: Mapping[str, Any]) -> bytes:
    """Median error by frame: free dreams on the left, those that are shown the truth on the right."""
    figure, axes = _pyplot().subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", sharey=True)
    colours = _pyplot().get_cmap("tab10")
    for axis, shown, title in ((axes[0], False, "free dreams"), (axes[1], True, "shown the truth now and then")):
        rows = [(n, r) for n, r in result["rows"].items() if n == "plain" or r["shows_truth"] == shown]
        for i, (name, row) in enumerate(rows):
            h = np.array([int(x) for x in row["by_frame"]])
            values = np.array(list(row["by_frame"].values()))
            colour = "#4a5261" if name == "plain" else colours((i - 1) % 10)
            axis.plot(h, values, color=colour, linewidth=2 if name == "plain" else 1.2, label=name)
        axis.axhline(result["unrelated_px"], color="#1f9d63", linewidth=1, label="two unrelated dreams")
        axis.set(xscale="log", yscale="log")
        axis.set_xlabel("frames dreamed", fontsize=8)
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e9ee", linewidth=0.6)
        axis.legend(frameon=False, fontsize=6)
    axes[0].set_ylabel("median position error, px", fontsize=8)
    return _png(figure)
