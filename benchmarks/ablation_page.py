"""docs/ablation.md and docs/results/ablation.md from ablation.json: figures and verdicts all come from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.exercises.page import number, table
from benchmarks.remedies_page import plain_spread, share, side
from worldloom.evaluation.statistics import bootstrap

Row = Sequence[float | None]

WORLDS = {
    "balls": "two balls with pushes and gravity",
    "breakout": "Breakout",
}
DECIDED_AT = {"balls": 10, "breakout": 5}
"""Frames ahead at which a world's verdict is given ..."""
DECIDES = {"balls": "error_px 10", "breakout": "gain_db 5"}
"""... the figure there ..."""
SAID = {"balls": "median position error 10 frames ahead, px", "breakout": "PSNR over copying 5 frames ahead, dB"}
"""... and how it is called."""
BEYOND = 2.0
"""Times the difference between two seeds, which one pair tells but roughly, that a difference must exceed."""
LEAST_PX = 0.02
"""px; what is nearer than this is as good: the tracker's own error is of that size."""


def gain(world: str, a: Mapping[str, Any], b: Mapping[str, Any], way: str = "", how: str = "") -> list[float | None]:
    """By how much ``a``, dreamed from in its ``way``, is better than ``b`` in the way ``how``: [value, low, high].

    Start by start, so that hard starts do not hide it; whole episodes are drawn anew. Of an error the mean logarithm of
    the ratio, of dB the mean difference.
    """
    x, y = np.array(a["each"][way]), np.array(b["each"][how])
    if world == "balls":
        x, y = -np.log(np.maximum(x, LEAST_PX)), -np.log(np.maximum(y, LEAST_PX))
    low, high = bootstrap(x - y, np.array(a["episodes"]), "mean", seed=0)
    if not (np.isfinite(low) and np.isfinite(high)):
        return [float((x - y).mean()), None, None]
    return [float((x - y).mean()), float(low), float(high)]


def in_words(world: str, found: Sequence[float | None]) -> str:
    """Such a gain, as a reader takes it: how many times the error, or how many dB more."""
    if world == "balls":
        turned = [None if x is None else float(np.exp(-x)) for x in (found[0], found[2], found[1])]
        return f"{plain_spread(turned)} times the error"
    return f"{plain_spread(found)} dB more"


def between_seeds(world: str, rows: Mapping[str, Any]) -> float | None:
    """How far two trainings lie apart that differ in nothing but the seed; None unless both are there."""
    if not {"base", "base, another seed"} <= set(rows):
        return None
    found = gain(world, rows["base, another seed"], rows["base"])[0]
    return None if found is None else abs(found)


def compared(world: str, group: Mapping[str, Any], rows: Mapping[str, Any], how: str = "") -> dict[str, list[str]]:
    """Labels of a group's rows by what is known of them beside its first: ``better``, ``worse``, ``seeds`` (apart by
    starts, but hardly more than two seeds are), ``alike``; all dreamed from in the way ``how``. Ways that the first
    does not know are compared with its own."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "seeds": [], "alike": []}
    first, *others = group["rows"]
    noise = between_seeds(world, rows)
    if not _has(rows, first, how):
        return found
    for name in others:
        for way, figures in rows.get(name, {"figures": {}})["figures"].items():
            if way != how and (how or way in rows[first]["figures"]):
                continue
            more = gain(world, rows[name], rows[first], way, how)
            kind = {1: "better", -1: "worse", 0: "alike"}[side(more)]
            if side(more) and noise is not None and abs(more[0] or 0.0) <= BEYOND * noise:
                kind = "seeds"
            label = f"{group['rows'][name]}{f', {way}' if way != how else ''}"
            found[kind].append(f"{label} ({plain_spread(figures[DECIDES[world]])}; {in_words(world, more)})")
    return found


def _has(rows: Mapping[str, Any], name: str, how: str) -> bool:
    return name in rows and how in rows[name]["figures"]


def ways(group: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    """In which ways the first row and another one were dreamed from: each is compared with its like."""
    first, *others = group["rows"]
    return [how for how in rows.get(first, {"figures": {}})["figures"] if any(_has(rows, n, how) for n in others)]


def verdict(world: str, name: str, group: Mapping[str, Any], rows: Mapping[str, Any]) -> list[str]:
    """A sentence for each way of dreaming in which a group can be compared."""
    out = []
    words = {
        "better": "surely better", "worse": "surely worse", "alike": "not told apart from it",
        "seeds": f"apart from it by its starts, but by no more than {BEYOND:g} times what parts two seeds",
    }  # fmt: skip
    first = next(iter(group["rows"]))
    for how in ways(group, rows):
        found = compared(world, group, rows, how)
        mine = rows[first]["figures"][how][DECIDES[world]]
        parts = [f"{words[kind]}: {', '.join(labels)}" for kind, labels in found.items() if labels]
        aim = f"{WORLDS[world]}{f', {how}' if how else ''}"
        end = "nothing here is shown to beat it" if not found["better"] else "it is beaten"
        if name == "seed":
            more = [gain(world, rows[n], rows[first], how, how) for n in list(group["rows"])[1:] if _has(rows, n, how)]
            parts = [f"another seed has {in_words(world, one)}" for one in more]
            end = (
                "two trainings are not told apart"
                if all(side(one) == 0 for one in more)
                else "two trainings of one setting are told apart by their starts, so intervals are not all"
            )
        out.append(
            f"- On {aim}, by {SAID[world]}: beside {group['rows'][first]} ({plain_spread(mine)}), {'; '.join(parts)}. "
            f"**{end[0].upper()}{end[1:]}.**"
        )
    return out


def cells(world: str, figures: Mapping[str, Row], horizons: Sequence[int]) -> list[str]:
    """One line's figures."""
    if world == "balls":
        return [*(plain_spread(figures[f"error_px {h}"]) for h in horizons), share(figures["push_right"])]
    return [plain_spread(figures[f"{kind} {h}"]) for kind in ("gain_db", "actions_db") for h in horizons]


def head(world: str, horizons: Sequence[int]) -> list[str]:
    """The titles of these cells."""
    if world == "balls":
        return [*(f"px at {h}" for h in horizons), "push in the right direction"]
    return [*(f"dB over copying at {h}" for h in horizons), *(f"dB that actions are worth at {h}" for h in horizons)]


def block(world: str, group: Mapping[str, Any], rows: Mapping[str, Any], horizons: Sequence[int]) -> list[str]:
    """A group's table on one world; empty where none of it is measured."""
    lines = []
    first = rows.get(next(iter(group["rows"])), {"figures": {}})["figures"]
    shared = {"", *ways(group, rows)}
    for name, label in group["rows"].items():
        for how, found in rows.get(name, {"figures": {}})["figures"].items():
            if how in first and how not in shared:
                continue  # a way of the first row that belongs to another group
            cost = ("", "") if how else (f"{rows[name]['parameters']:,}", f"{rows[name]['seconds_a_step']:.2f}")
            lines.append((f"{label}{f', {how}' if how else ''}", *cost, *cells(world, found, horizons)))
    if len(lines) < 2:
        return []
    title = WORLDS[world]
    return [f"*{title[0].upper()}{title[1:]}*", "",
            *table(("", "parameters", "s a step", *head(world, horizons)), lines)]  # fmt: skip


def without_model(rows: Mapping[str, Any], horizons: Sequence[int]) -> list[str]:
    """What foretells the balls' places without a model, from the same starts."""
    if not rows:
        return []
    found = next(iter(rows.values()))["figures"][""]
    names = {"still_px": "staying where they are", "straight_px": "going straight on"}
    parts = [f"{text} {', '.join(number(found[f'{key} {h}'][0]) for h in horizons)} px" for key, text in names.items()]
    return [f"Without a model, at {', '.join(map(str, horizons))} frames: {'; '.join(parts)}.", ""]


def how_measured(result: Mapping[str, Any]) -> str:
    """n, seeds and setting."""
    parts = []
    for world, rows in result["worlds"].items():
        if rows:
            one = next(iter(rows.values()))
            count = len(set(one["episodes"]))
            parts.append(f"{len(one['episodes'])} starts in {count} episodes of {WORLDS[world]}")
    base = result["base"]
    threads = {row["threads"] for rows in result["worlds"].values() for row in rows.values()}
    return (
        f"{result['steps']} steps of 12 windows by Muon at 2e-3, training seed 0 unless said; measured on held-out "
        f"starts ({' and '.join(parts) or 'none yet'}), the same for all rows, {result['prompt']} frames shown, seed "
        f"{result['seed']}; intervals of 95 % over episodes. Unless said, {base['history']} frames in the stem, x "
        f"emitted, half of the targets at pure noise, {base['steps']} denoising step. Seconds a step on "
        f"{result['machine']}, {', '.join(map(str, sorted(threads))) or '–'} thread a training, beside others."
    )


def missing(result: Mapping[str, Any]) -> list[str]:
    """Rows that are not finished."""
    wanted = {name for group in result["groups"].values() for name in group["rows"]}
    left = [f"{WORLDS[w]}: {', '.join(sorted(wanted - set(rows)))}"
            for w, rows in result["worlds"].items() if wanted - set(rows)]  # fmt: skip
    return [f"Not measured yet: {'; '.join(left)}.", ""] if left else []


def figures(result: Mapping[str, Any]) -> str:
    """All tables, for docs/results."""
    lines = ["# Ablation", "", f"Written by `python -m benchmarks ablation`: {how_measured(result)}", ""]
    for group in result["groups"].values():
        lines += [f"## {group['title']}", ""]
        for world, rows in result["worlds"].items():
            lines += block(world, group, rows, result["horizons"][world])
    return "\n".join([*lines, *missing(result)])


def page(result: Mapping[str, Any]) -> str:
    """The page of docs."""
    lines = [
        "# Ablation: what a small diffusion world model owes to what",
        "",
        "Small trainings, alike in all but one thing: same data, same seed of the batches, same number of steps, "
        "same held-out starts. Equal in steps, not in time: seconds a step stand beside. Written by `python -m "
        "benchmarks ablation`: no figure and no verdict here is typed. Raw: "
        "[results/ablation.json](results/ablation.json).",
        "",
        how_measured(result),
        "",
        "Verdicts compare start by start. *Surely* means that the interval of 95 % of the difference (of an error: of "
        "the mean ratio) leaves out none at all, and that the two lie more than "
        f"{BEYOND:g} times as far apart as two trainings of one setting with different seeds. There are but two such "
        "seeds, and one of every other row: small differences may be "
        "chance all the same. And so short a training says which setting learns fast, not which would be best in the "
        "end.",
        "",
        *missing(result),
        *without_model(result["worlds"].get("balls", {}), result["horizons"]["balls"]),
    ]
    for name, group in result["groups"].items():
        said = [line for world, rows in result["worlds"].items() for line in verdict(world, name, group, rows)]
        tables = [
            line for world, rows in result["worlds"].items()
            for line in block(world, group, rows, result["horizons"][world])
        ]  # fmt: skip
        if tables:
            lines += [f"## {group['title']}", "", *said, "", *tables]
    return "\n".join(lines) + "\n"
