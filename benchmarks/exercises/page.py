"""docs/exercises.md and docs/results/exercises.md from exercises.json: figures and verdicts all come from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.exercises.collisions import AFTER, FRAMES
from benchmarks.exercises.drift import AT, TEXTBOOK
from benchmarks.exercises.runs import RUNS
from benchmarks.exercises.starts import EVENT, HORIZON, PROMPT

PROBED = {
    "momentum_error": "momentum lost or gained, median share",
    "restitution_error": "error of the rebound, median",
    "ghosts": "ghosts: passed through, share of contacts",
    "penetration_px": "deepest overlap, mean px",
    "distance_px": "contact at a distance, median px",
    "left_out": "left out, share",
}
SIMPLE = ("linear", "h^1.5", "saturating")


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def spread(row: Sequence[float] | None) -> str:
    """A value with its interval."""
    return "–" if row is None else f"{number(row[0])} ({number(row[1])} to {number(row[2])})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def apart(a: Sequence[float] | None, b: Sequence[float] | None) -> int:
    """1 where a lies above b with its whole interval, -1 where below, 0 where they overlap or one is unknown."""
    if a is None or b is None:
        return 0
    return (a[1] > b[2]) - (a[2] < b[1])


def trained(runs: Mapping[str, Any]) -> list[str]:
    head = ("run", "parameters", "steps", "batch", "seconds", "held-out loss at the end", "by ball")
    rows = []
    for name, run in runs.items():
        last = run["loss"][-1][1]
        counts = (f"{run['parameters']:,}", f"{run['steps']:,}", str(run["batch"]), f"{run['seconds']:.0f}")
        rows.append((RUNS[name], *counts, number(last), number(last / run["world"]["balls"])))
    return table(head, rows)


def capacity(runs: Mapping[str, Any], unlike: Sequence[str]) -> list[str]:
    """What the loss curves say."""
    if unlike:
        return [
            "These runs were **not trained alike**, so their losses can't be set beside each other: "
            f"{'; '.join(unlike[:6])}{' …' if len(unlike) > 6 else ''}.",
            "",
        ]
    if not {"one", "two", "large"} <= set(runs):
        return ["Not all three runs are there: nothing is said of capacity.", ""]
    last = {name: run["loss"][-1][1] for name, run in runs.items()}
    ratio, gain = last["two"] / last["one"], last["two"] / last["large"]
    excess = ratio / 2
    lines = [
        f"After equally many steps the loss of two balls is {number(ratio)} times that of one. Twice as many pixels "
        "move, so were two balls no harder than one, twice over, it would be 2; what is left, a factor of "
        f"{number(excess)}, is the price of there being two: of telling them apart and of their meeting. "
        + ("" if excess > 1.1 else "There is none, after so many steps.")
    ]
    recovered = (last["two"] - last["large"]) / (last["two"] - 2 * last["one"]) if excess > 1.1 else None
    if gain > 1.1:
        lines.append(
            f"A model of {runs['large']['parameters'] / runs['two']['parameters']:.1f} times the parameters ends "
            f"{number(gain)} times lower than the small one after the same steps"
            + ("" if recovered is None else f", which is {recovered:.0%} of that price")
            + f": capacity was lacking. (It took {runs['large']['seconds'] / runs['two']['seconds']:.1f} times as "
            "long; for equal time the comparison would be another.)"
        )
    else:
        lines.append(
            f"A model of {runs['large']['parameters'] / runs['two']['parameters']:.1f} times the parameters ends at "
            f"{1 / gain:.2f} times the loss of the small one: after so many steps it is not capacity that is lacking, "
            "but steps."
        )
    lines.append("A curve that still falls at its end says nothing of where it would stop: " + falling(runs) + ".")
    return [*lines, ""]


def falling(runs: Mapping[str, Any]) -> str:
    """How much each curve fell over the second half of its steps."""
    parts = []
    for name, run in runs.items():
        half = [loss for step, loss in run["loss"] if step <= run["steps"] / 2]
        if half:
            parts.append(f"{RUNS[name]} by {1 - run['loss'][-1][1] / half[-1]:.0%}")
    return "over the second half of the steps the loss fell, for " + ", ".join(parts)


def meetings(events: Mapping[str, Any]) -> list[str]:
    head = ("run", "start", "starts", *(f"px at frame {h}" for h in FRAMES), "error of the velocity after it", "lost")
    rows = [
        (RUNS[name], kind, str(row["starts"]), *(spread(row["error_px"][str(h)]) for h in FRAMES),
         spread(row["velocity_error"]), f"{row['lost']:.1%}")
        for name, kinds in events.items() for kind, row in kinds.items()
    ]  # fmt: skip
    return table(head, rows)


def independence(events: Mapping[str, Any]) -> list[str]:
    """Is a ball in free flight dreamed as well where there is another?"""
    if not {"one", "two"} <= set(events):
        return []
    at = str(HORIZON)
    one, two = (events[name]["free"]["error_px"][at] for name in ("one", "two"))
    words = {
        1: "surely worse than alone: what the model has to know of the other costs it",
        -1: "surely better than alone",
        0: "not told apart from flight alone: the other ball, while it is away, costs nothing that can be measured",
    }
    return [
        f"**Independent motion.** With nothing met for {HORIZON} frames, a ball of two is {spread(two)} px off at the "
        f"end, one that is alone in its world {spread(one)} px: {words[apart(two, one)]}.",
        "",
    ]


def transfer(events: Mapping[str, Any]) -> list[str]:
    """Momentum and ghosts, by the report's own probe."""
    out = []
    with_contacts = {n: kinds["contact"]["probe"] for n, kinds in events.items() if "probe" in kinds.get("contact", {})}
    if not with_contacts:
        return []
    rows = []
    for figure, text in PROBED.items():
        cells = []
        for probe in with_contacts.values():
            f = probe[figure]
            cells.append(spread([f["value"], *f["interval"]] if f["interval"] else None) + f", n = {f['n']}")
        floor = next(iter(with_contacts.values()))[figure]["floor"]
        rows.append((text, *cells, number(floor)))
    out += ["**Momentum transfer**, as [the probe `contacts`](probes/contacts.md) measures it on these starts:", ""]
    out += table(("figure", *(RUNS[name] for name in with_contacts), "true frames"), rows)
    return out


def together(events: Mapping[str, Any]) -> list[str]:
    """Simultaneous hits against plain contacts."""
    out = []
    words = {
        1: "surely worse: to meet two things at once is harder than to meet one",
        -1: "surely better",
        0: "the intervals overlap: no difference is shown",
    }
    for name, kinds in events.items():
        if {"contact", "wall and ball"} <= set(kinds):
            both, plain = kinds["wall and ball"], kinds["contact"]
            out.append(
                f"- {RUNS[name]}: after a wall and a ball within one frame the velocity is wrong by "
                f"{spread(both['velocity_error'])} of the speed, after a ball alone by "
                f"{spread(plain['velocity_error'])}: {words[apart(both['velocity_error'], plain['velocity_error'])]}."
            )
    return ["**Wall and ball at once.**", "", *out, ""] if out else []


def growth(drift: Mapping[str, Any]) -> list[str]:
    out: list[str] = []
    for name, found in drift.items():
        out += [f"### {RUNS[name].capitalize()}", ""]
        known = [str(h) for h in AT if str(h) in found["distance_px"]]
        rows = [("mean distance", *(spread(found["distance_px"][h]) for h in known))]
        rows.append(("median distance", *(number(found["median_px"][h]) for h in known)))
        for part, text in (
            ("x", "mean signed, x"),
            ("y", "mean signed, y"),
            ("along", "mean signed, along the motion"),
        ):
            rows.append((text, *(spread(found["signed_px"][part].get(h)) for h in known)))
        out += table(("px, after frames", *known), rows)
        head = (
            "frames",
            "half against half",
            *(f"`{row['formula']}`" for row in found["laws"][0]["laws"].values()),
            "",
        )
        rows = []
        for one in found["laws"]:
            cells = [f"{row['misfit'][0]:.1%}" for row in one["laws"].values()]
            rows.append((f"{one['span'][0]} to {one['span'][1]}", f"{one['halves']:.1%}", *cells, verdict(one)))
        out += ["Relative error of each law on the starts that it was not fitted to:", ""]
        out += table(head, rows)
    return out


def verdict(one: Mapping[str, Any]) -> str:
    """Which of the exercise's three laws holds, with its parameters."""
    laws = one["laws"]
    ranked = sorted(SIMPLE, key=lambda name: laws[name]["misfit"][0])
    best = laws[ranked[0]]
    parts = [f"{'c' if 'c ' in best['formula'] else 'a'} = {spread(best['scale'])}"]
    if "inner" in best:
        parts.append(f"τ = {spread(best['inner'])}")
    clear = best["misfit"][2] < laws[ranked[1]]["misfit"][1]
    power = laws["power"]
    near = best["misfit"][0] < 1.5 * one["halves"]
    words = f"**{ranked[0]}**" if clear else f"{ranked[0]} or {ranked[1]}"
    return (
        f"of the three: {words}, {', '.join(parts)}{'' if near else '; but none within 1.5 times the noise'}; free "
        f"exponent {spread(power['inner'])}"
    )


def textbook(found: Mapping[str, Any]) -> list[str]:
    """The 0.5 px question."""
    at, rate = TEXTBOOK["frames"], TEXTBOOK["px_a_frame"]
    key = str(at)
    if key not in found["distance_px"]:
        return [f"The dreams are shorter than {at} frames: the question is not answered.", ""]
    first, then, level = found["per_frame_px"], found["distance_px"][key], found["unrelated_px"]
    straight, own = found["straightness"]["value"], at * found["per_frame_px"][0]
    lines = [
        f"The textbook lets an error of {rate:g} px a frame, always in one direction, become {rate * at:g} px after "
        f"{at} frames and {rate * TEXTBOOK['far']:g} after {TEXTBOOK['far']:,}. Measured, on {found['starts']} dreams:",
        "",
        f"1. The first dreamed frame is {spread(first)} px off. {at} times that is {number(own)} px; there it is "
        f"{spread(then)} px, {then[0] / own:.1f} times as much: "
        + (
            "an error in a frame is an error in the velocity that all later frames are made from, so the distance "
            "grows faster than in proportion to the horizon while it is small."
            if then[1] > own
            else "the proportional law foretells too much, even from the model's own first frame."
            if then[2] < own
            else "no more and no less than in proportion."
        ),
        f"2. The mean can't be {rate * at:g} px, and far less {rate * TEXTBOOK['far']:g}: two balls that have nothing "
        f"to do with each other are {number(level)} px apart on average in this box. After {at} frames the dream is "
        f"at {then[0] / level:.0%} of that. An error saturates where it has forgotten its start, and by this measure "
        "a longer dream is then no worse.",
    ]
    signs = {part: found["signed_px"][part][key] for part in ("x", "y", "along")}
    sure = [part for part, row in signs.items() if row[1] > 0 or row[2] < 0]
    lines.append(
        f"3. {'There is a direction, too' if sure else 'There is no one direction'}. Over all dreams the mean signed "
        f"error after {at} frames is {spread(signs['x'])} px in x and {spread(signs['y'])} px in y, and "
        f"{spread(signs['along'])} px along the motion"
        + (f" (surely not 0: {', '.join(sure)})" if sure else ", none of them surely different from 0")
        + f". Within a dream, what the frames add makes {spread(straight)} of the way that it would make in one "
        "line: a wall turns an error's direction as it turns the ball's."
    )
    return [*lines, ""]


def page(result: Mapping[str, Any]) -> str:
    """The page of docs."""
    runs, events, drift = result["runs"], result["events"], result["drift"]
    lines = [
        "# The lab's exercises",
        "",
        "Written by `python -m benchmarks exercises`, which also trains what it measures: no figure and no verdict "
        f"here is typed. Seed {result['seed']}; one training seed each; medians or means with intervals of 95 % over "
        "starts, none of which a dataset holds. All figures: [results/exercises.json](results/exercises.json).",
        "",
        "## 1. Two balls that collide",
        "",
        *trained(runs),
        "![Loss curves](media/exercises_loss.png)",
        "",
        "**The two loss curves.** " + capacity(runs, result["unlike"])[0],
        *capacity(runs, result["unlike"])[1:],
        "Now the dreams. The exact world is searched for starts after which *one* thing happens, in dreamed frame "
        f"{EVENT}, and nothing else in {PROMPT} frames shown and {HORIZON} dreamed: free flight, one wall, one "
        "contact of two balls, or a ball and a wall within the same frame. So equal horizons are compared, and only "
        f"the event differs. The velocity after it comes from the {AFTER} frames that follow, its error is a share of "
        "the true speed; only balls that take part are counted.",
        "",
        *meetings(events),
        "![Error before and after](media/exercises_events.png)",
        "",
        *independence(events),
        *transfer(events),
        *together(events),
        "## 2. Drift",
        "",
        "How does the error grow, by which law, and where does it end? Mean distance between dreamed and true ball "
        "(no more than the frame's diagonal, which a lost ball counts as), over dreams from fresh starts. A constant "
        "error of the velocity gives `a h`; errors of the velocity that are drawn anew in each frame give `a h^1.5`; "
        "a box ends both. Laws are fitted by least squares to the logarithm of the mean curve of half of the starts, "
        "each octave of equal weight, and judged on the other half: the horizons of one dream are not independent, "
        "and an information criterion would take them for so many draws. `half against half` is how well one half's "
        "own curve foretells the other's: a law that comes near it, or below, fits as well as so many starts can "
        "tell.",
        "",
        "![Growth of the error](media/exercises_drift.png)",
        "",
        *growth(drift),
        "### Half a pixel a frame",
        "",
        *(textbook(drift[next(iter(drift))]) if drift else []),
        "## 3. Two video models for driving",
        "",
        "[Model A or model B?](which-model.md), on two real ones.",
        "",
        "## 4. World model against physics engine",
        "",
        "[World model or physics engine?](engines.md), with a hybrid of both.",
        "",
        "## 5. Vision, memory, controller",
        "",
        "Belongs to the family of recurrent models with compact states, and will be answered there, by crippling "
        "each part in turn.",
    ]
    return "\n".join(lines) + "\n"


def figures(result: Mapping[str, Any]) -> str:
    """docs/results/exercises.md: what the page leaves out, above all every law with its parameters."""
    lines = [
        "# The lab's exercises: figures",
        "",
        f"Written by `python -m benchmarks exercises` on {result['machine']}, seed {result['seed']}. What they mean: "
        "[the lab's exercises](../exercises.md).",
        "",
        *trained(result["runs"]),
        *meetings(result["events"]),
    ]
    for name, found in result["drift"].items():
        lines += [
            f"## Laws of growth: {RUNS[name]}",
            "",
            f"{found['starts']} dreams of {found['frames']} frames. `misfit`: relative error on starts not fitted to, "
            "median and range of 95 % over random halvings; `best in`: share of these in which it foretells best.",
            "",
        ]
        rows = [
            (f"{one['span'][0]} to {one['span'][1]}", f"`{row['formula']}`", spread(row["scale"]),
             spread(row.get("inner")), spread(row["misfit"]), f"{row['best_in']:.0%}")
            for one in found["laws"] for row in one["laws"].values()
        ]  # fmt: skip
        lines += table(("frames", "law", "a or c", "τ or b", "misfit", "best in"), rows)
        lines += [
            f"Tracker's own error on the true frames: {number(found['floor_px'])} px. Lost at the end: "
            f"{found['lost']:.1%}. Two unrelated dreams: {number(found['unrelated_px'])} px apart.",
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n"
