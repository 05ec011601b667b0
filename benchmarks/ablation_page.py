"""docs/ablation.md and docs/results/ablation.md from ablation.json: figures and verdicts all come from there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.exercises.page import apart, number, table
from benchmarks.remedies_page import plain_spread, share

Row = Sequence[float | None]

WORLDS = {
    "balls": "two balls with pushes and gravity",
    "breakout": "Breakout",
}
DECIDES = {"balls": "error_px 10", "breakout": "gain_db 5"}
"""The figure that a world's verdict goes by ..."""
SAID = {"balls": "median position error 10 frames ahead, px", "breakout": "PSNR over copying 5 frames ahead, dB"}
"""... and how it is called."""
LOWER = {"balls": True, "breakout": False}


def better(world: str, a: Row, b: Row) -> int:
    """1 where ``a`` is better than ``b`` with its whole interval, -1 where worse, 0 where they overlap."""
    if None in (*a, *b):
        return 0
    side = apart([x for x in a if x is not None], [x for x in b if x is not None])
    return -side if LOWER[world] else side


def distance(world: str, a: Row, b: Row) -> float:
    """How far two values lie apart: for an error the logarithm of their ratio, for dB the difference."""
    x, y = a[0], b[0]
    if x is None or y is None:
        return math.nan
    return abs(math.log(max(x, 1e-9) / max(y, 1e-9))) if LOWER[world] else abs(x - y)


def between_seeds(world: str, rows: Mapping[str, Any]) -> float | None:
    """How far two trainings lie apart that differ in nothing but the seed."""
    pair = [rows.get(name) for name in ("base", "base, another seed")]
    if pair[0] is None or pair[1] is None:
        return None
    found = distance(world, *(row["figures"][""][DECIDES[world]] for row in pair if row is not None))
    return None if math.isnan(found) else found


def compared(world: str, group: Mapping[str, Any], rows: Mapping[str, Any], how: str = "") -> dict[str, list[str]]:
    """Labels of a group's rows by what is known of them beside its first: ``better``, ``worse``, ``seeds`` (apart by
    starts, but no more than two seeds are), ``alike``; all dreamed from in the way ``how``. Ways that the first does
    not know are compared with its own."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "seeds": [], "alike": []}
    first, *others = group["rows"]
    noise = between_seeds(world, rows)
    if not _has(rows, first, how):
        return found
    mine = rows[first]["figures"][how]
    for name in others:
        for way, figures in rows.get(name, {"figures": {}})["figures"].items():
            if way != how and (how or way in rows[first]["figures"]):
                continue
            value = figures[DECIDES[world]]
            side = better(world, value, mine[DECIDES[world]])
            kind = {1: "better", -1: "worse", 0: "alike"}[side]
            if side and noise is not None and distance(world, value, mine[DECIDES[world]]) <= noise:
                kind = "seeds"
            label = f"{group['rows'][name]}{f', {way}' if way != how else ''}"
            found[kind].append(f"{label} ({plain_spread(value)})")
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
        "seeds": "apart from it by its starts, but by no more than two seeds of one setting are",
    }  # fmt: skip
    first = next(iter(group["rows"]))
    for how in ways(group, rows):
        found = compared(world, group, rows, how)
        mine = rows[first]["figures"][how][DECIDES[world]]
        parts = [f"{words[kind]}: {', '.join(labels)}" for kind, labels in found.items() if labels]
        aim = f"{WORLDS[world]}{f', {how}' if how else ''}"
        end = "nothing here is shown to beat it" if not found["better"] else "it is beaten"
        if name == "seed":
            others = {n: rows[n]["figures"][how][DECIDES[world]] for n in list(group["rows"])[1:] if _has(rows, n, how)}
            parts = [f"{group['rows'][n]}: {plain_spread(value)}" for n, value in others.items()]
            alike = all(better(world, value, mine) == 0 for value in others.values())
            end = (
                "the intervals of two trainings overlap"
                if alike
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
    if not lines:
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
            parts.append(f"{one['starts']} starts in {one['episodes']} episodes of {WORLDS[world]}")
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
        "Verdicts: *surely* means that the intervals of 95 % do not overlap, and that the two lie farther apart than "
        "two trainings of one setting with different seeds. There are but two such seeds, and one of every other row: "
        "small differences may be chance all the same. And so short a training says which setting learns fast, not "
        "which would be best in the end.",
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
