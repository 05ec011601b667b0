"""What `python -m benchmarks speed` found, in words: docs/results/speed.md and docs/speed.md, from the JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIB = 2**20


def px(triple: list[float | None] | None) -> str:
    """A value with its interval."""
    if triple is None or triple[0] is None:
        return ""
    span = "" if triple[1] is None or triple[2] is None else f" ({triple[1]:.2f}–{triple[2]:.2f})"
    return f"{triple[0]:.2f}{span}"


def times(triple: list[float]) -> str:
    """A ratio with the least and the most of the rounds."""
    return f"{triple[0]:.2f} ({triple[1]:.2f}–{triple[2]:.2f})"


def settings_table(result: Mapping[str, Any]) -> list[str]:
    """Rows of settings."""
    lines = [
        "| setting | ms a frame, alone | × the first | frames/s, 16 together | × the first "
        "| px at 1 | px at 10 | px at 50 | count right | peak grows by, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        one, many, q = row["batch_1"], row["batch_16"], row["quality"]
        error = " | ".join(px(q["error_px"].get(h)) for h in ("1", "10", "50"))
        lines.append(
            f"| {name} | {one['ms']:.2f} | {times(one['times_plain'])} | {many['frames_per_second']:.0f} "
            f"| {times(many['times_plain'])} | {error} | {q['count_right'][0]:.1%} "
            f"| {row['growth_bytes'] / MIB:.0f} |"
        )
    return lines


def about(result: Mapping[str, Any]) -> str:
    """What was measured, and how."""
    row = next(iter(result["rows"].values()))
    one, many = row["batch_1"], row["batch_16"]
    method = {"euler": "Euler", "heun": "Heun"}[result["default"]["method"]]
    return (
        f"The run `{result['run']}` ({result['parameters']:,} parameters; as trained it takes "
        f"{result['default']['steps']} {method} step{'s' if result['default']['steps'] > 1 else ''} a frame), on "
        f"{result['machine']}. Times: step and decode, medians of {one['rounds']} rounds in which all settings take "
        f"turns, {one['frames']} frames alone and {many['frames']} frames of 16 dreams a round; ratios are medians "
        "over the rounds, with the least and the most. Quality: median distance from the true position, in px, at so "
        f"many dreamed frames, and the share of frames with the right number of objects, from {result['starts']} fresh "
        f"starts of {result['prompt']} frames, seed {result['seed']}, n = {row['quality']['n']}; in parentheses 95 % "
        "intervals over starts. Peak: of a process of its own, from the loaded model to the fourth frame of 16 dreams. "
        f"A dream's state takes {row['state_bytes'] / 1024:.0f} KiB."
    )


def linear_share(result: Mapping[str, Any]) -> float:
    """Of a frame's multiplications, those in linear layers."""
    work = result["multiplications"]
    return work["Linear"] / max(sum(work.values()), 1)


def int8_said(result: Mapping[str, Any]) -> str:
    """What int8 does here."""
    share = linear_share(result)
    row = result["rows"].get("int8 linear layers")
    text = (
        "torchao turns linear layers to int8 and leaves convolutions as they are. Of this network's multiplications "
        f"{share:.2%} are in linear layers"
    )
    if row is None:
        return f"{text}. It was not measured: {result['left_out'].get('int8 linear layers', '')}"
    ratio = row["batch_1"]["times_plain"][0]
    verdict = "so a frame takes as long" if 0.97 <= ratio <= 1.03 else f"and a frame takes {ratio:.2f} × as long"
    why = " (each call has its activations measured and rounded first)" if ratio > 1.03 else ""
    return f"{text}, {verdict}{why}."


def ring_table(result: Mapping[str, Any]) -> list[str]:
    """The ring against making memory anew, and the long dream."""
    ring, long = result["ring"], result["long"]
    same = "the frames are equal" if not ring["apart"] else f"frames differ by at most {ring['apart']} of 255"
    sizes = long["state_bytes"]
    constant = "the same" if sizes[0] == sizes[1] else f"{sizes[1] / MIB:.1f} MiB"
    return [
        "| what | ms a frame |",
        "|---|---|",
        f"| `step`, a ring of {ring['memory']} frames | {ring['ring_ms']:.2f} |",
        f"| `fill`, memory made anew of {ring['memory']} frames | {ring['anew_ms']:.2f} |",
        f"| ratio, median of {ring['rounds']} rounds | {times(ring['anew_over_ring'])} |",
        "",
        f"Over a short dream {same}.",
        "",
        f"| a dream of {long['frames']:,} frames | |",
        "|---|---|",
        f"| first {long['part']} frames, median | {long['first_ms']:.2f} ms |",
        f"| last {long['part']} frames, median | {long['last_ms']:.2f} ms |",
        f"| last / first | {long['last_over_first']:.3f} |",
        f"| the old dream and a young one in turn, old / young | {long['old_over_young']:.3f} |",
        f"| state after {long['part']} frames | {sizes[0] / MIB:.1f} MiB |",
        f"| state after {long['frames']:,} | {constant} |",
        f"| growth of the process's peak between them | {long['peak_growth_bytes'] / MIB:.1f} MiB |",
    ]


def shortcut_table(result: Mapping[str, Any]) -> list[str]:
    """Clips by long steps."""
    found = result["shortcut"]
    horizons = list(next(iter(found["rows"].values()))["error_px"])
    lines = [
        f"| clips of {found['frames']} frames after {found['prompt']} | ms a frame | × the first | "
        + " | ".join(f"px at {h}" for h in horizons)
        + " | count right |",
        "|---|---|---|" + "---|" * (len(horizons) + 1),
    ]
    for name, row in found["rows"].items():
        error = " | ".join(px(row["error_px"][h]) for h in horizons)
        lines.append(f"| {name} | {row['ms']:.2f} | {row['times_plain']:.2f} | {error} | {row['count_right'][0]:.1%} |")
    return lines


def figures(result: Mapping[str, Any]) -> str:
    """docs/results/speed.md."""
    lines = ["# Remedies for cost", "", "Written by `python -m benchmarks speed`. " + about(result), ""]
    lines += [*settings_table(result), "", int8_said(result)]
    lines += [f"\nNot measured: {name}. {why}" for name, why in result["left_out"].items()]
    lines += ["", "## Memory (random weights)", "", *ring_table(result)]
    if "shortcut" in result:
        lines += ["", "## Long steps over clips", "", *shortcut_table(result)]
    return "\n".join(lines) + "\n"


def verdict(result: Mapping[str, Any]) -> list[str]:
    """One sentence a remedy."""
    rows = result["rows"]
    said = []

    def error(name: str, h: str) -> float | None:
        found = rows[name]["quality"]["error_px"].get(h)
        return None if found is None else found[0]

    if {"1 Euler step", "4 Euler steps"} <= set(rows):
        gain = rows["4 Euler steps"]["batch_1"]["ms"] / rows["1 Euler step"]["batch_1"]["ms"]
        parts = []
        for h in ("1", "10", "50"):
            a, b = error("1 Euler step", h), error("4 Euler steps", h)
            if a is not None and b:
                parts.append(f"{a / b:.2f} × at {h}")
        said.append(
            f"**Fewer steps.** One step is {gain:.1f} × as fast as four; its error is {', '.join(parts)} frames."
        )
    for name, what in (("bf16", "bf16"), ("compiled", "Compiled"), ("compiled, bf16", "Both")):
        if name in rows:
            one, many = (1 / rows[name][f"batch_{b}"]["times_plain"][0] for b in (1, 16))
            a, b = error(name, "10"), error(next(iter(rows)), "10")
            change = "" if a is None or b is None else f"; the error at 10 frames goes from {b:.2f} to {a:.2f} px"
            said.append(f"**{what}.** {one:.2f} × as fast alone, {many:.2f} × for 16{change}.")
    said.append(f"**int8.** {int8_said(result)}")
    ring, long = result["ring"], result["long"]
    said.append(
        f"**A ring of memory.** Making the memory of {ring['memory']} frames anew at each takes "
        f"{ring['anew_over_ring'][0]:.1f} × as long. The last frames of a dream of {long['frames']:,} take "
        f"{long['last_over_first']:.2f} × as long as its first ones ({long['old_over_young']:.2f} × beside a young "
        "dream, in turn), and its state is as large."
    )
    first = next(iter(rows.values()))
    share = first["batch_16"]["frames_per_second"] / first["batch_1"]["frames_per_second"]
    said.append(f"**Side by side.** 16 dreams together give {share:.1f} × the frames of one.")
    return said


def page(result: Mapping[str, Any]) -> str:
    """docs/speed.md."""
    lines = [
        "# Dreaming faster",
        "",
        "What each remedy for cost buys, and what it costs in quality. Written by `python -m benchmarks speed`, like",
        "the figures in [results/speed.md](results/speed.md).",
        "",
        "```py",
        "import worldloom",
        "from worldloom.imagination.settings import otherwise",
        "",
        'fast = worldloom.accelerate(otherwise(model, steps=1), "bf16", compiled=True)',
        "```",
        "",
        "`accelerate` gives a copy whose network computes otherwise; `otherwise` the same weights under other",
        "settings. `int8` needs the extra `worldloom[int8]`, `compiled` a C++ compiler; compiling takes its time at",
        "the first frame of each batch size.",
        "",
        *(f"- {line}" for line in verdict(result)),
        "",
        "## Settings",
        "",
        about(result),
        "",
        *settings_table(result),
        "",
        *(f"Not measured: {name}. {why}\n" for name, why in result["left_out"].items()),
        "## Memory",
        "",
        f"A network with {result['long']['parameters']:,} random weights, on which time does not depend; one step a",
        "frame.",
        "",
        *ring_table(result),
        "",
    ]
    if "shortcut" in result:
        lines += [
            "## Long steps over clips",
            "",
            "A model that learnt long steps as two of half their length (shortcut models) dreams whole clips, all",
            "frames together; the last row dreams the same frame by frame.",
            "",
            *shortcut_table(result),
            "",
        ]
    return "\n".join(lines)
