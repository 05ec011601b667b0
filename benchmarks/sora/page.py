"""docs/prompts.md and docs/results/sora.md from sora.json: every figure and every verdict is taken from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.sora.asked import FRAMES, LONG, PROMPT, STEPS
from benchmarks.sora.given import AT

ATTRIBUTES = ("count", "size", "colour", "gravity", "speed", "all", "stays")
WAYS = {"joint": f"joint, {STEPS} steps", "joint, all at once": f"joint, {STEPS} steps, all frames at once"}

USAGE = """# Videos from prompts

A model that fills whole clips (the recipe `sora`) takes a text, a picture, a clip, an ending, or several of these
together: some frames are known, the others are dreamed. It is one task to it.

```sh
worldloom train sora --out runs/sora
worldloom imagine runs/sora --text "three small red balls, strong gravity, fast"
worldloom imagine runs/sora --image first.png                      # image-to-video
worldloom imagine runs/sora --clip start.mp4 --frames 100          # extension, to any length
worldloom imagine runs/sora --last end.mp4                         # extension backward
worldloom imagine runs/sora --image first.png --last end.png       # what lies between
worldloom imagine runs/sora --text "two blue balls" --size 64x96   # another size than trained on
worldloom imagine runs/sora --text "two blue balls" --guidance text=2 --batch 4 --out sheet.png
worldloom imagine runs/sora --text "two blue balls" --table autoregressive --steps 1
```

```py
from worldloom.imagination import prompted
from worldloom.models.saved import load_model

model = load_model("runs/sora")
video = prompted(model, text="three small red balls, strong gravity", frames=40)  # a Segment: video.obs["camera"]
video = prompted(model, first=picture, last=clip, text=["slow", "fast"], guidance={"text": 2.0})  # two videos
```

* **Frames** are uint8, channels first, of the model's size. In the command a file that was enlarged by a whole factor,
  as `imagine` writes them, is shrunk again; any other size is refused, for what is to be cut or stretched is yours to
  say.
* **Words** are those that the world's captions have. An unknown one is an error that names the nearest.
* **Longer videos** than the model was trained on are dreamed in windows (`chunk`), each beside at least half of a
  window that is known from before (`overlap`): forward, from an ending alone backward, and between two
  ends with room for the last window to join them.
* **Other sizes**: every layer sees frames of any size (`model.at_size(height, width)` shares the weights); what the
  grid does not divide is refused.
* **Tables** (`--table`) say in which order frames are denoised: `joint` all together, `autoregressive` one after the
  other, `pyramid` in a sliding ramp, `keyframes` every fourth first and then the rest. Any table of your own is as good
  (`worldloom.nn.tables`): a tensor of times [steps + 1, frames], 0 noise, 1 clean. Backward, tables run from the end.
* **Guidance** by `text`, or by `history` (what is known and already dreamed), costs one more pass each.

A user's own model gets all of this by filling in `fill` of [the contract](contract.md).
"""


def number(value: float | None) -> str:
    """Three digits at most."""
    return "–" if value is None else f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def span(row: Sequence[float | None] | None, form: Any = percent) -> str:
    """A value with its interval."""
    if row is None or row[0] is None:
        return "–"
    if row[1] is None or row[2] is None:
        return form(row[0])
    return f"{form(row[0])} ({form(row[1]).removesuffix(' %')} to {form(row[2]).removesuffix(' %')})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def about(found: Mapping[str, Any]) -> str:
    s = found["setting"]
    trained = f", trained for {s['steps']:,} steps of {s['batch']} clips" if s["steps"] else ""
    took = f" in {s['train_seconds'] / 60:.0f} minutes" if s["train_seconds"] else ""
    passes = sum(p["passes"] for p in found["parts"].values())
    seconds = sum(p["seconds"] for p in found["parts"].values())
    return (
        f"Written by `python -m benchmarks sora RUN` on {found['machine']}: a model of {s['parameters']:,} parameters"
        f"{trained}{took} (training seed {s['training_seed']}, weights {s['weights']}); figures with seed {s['seed']}, "
        f"{seconds / 60:.0f} minutes of dreaming, {passes:,} frames denoised. In brackets 95 % intervals over clips. "
        "One training seed: another training may differ by more than they say."
    )


def fidelity_rows(ways: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Attributes across, ways down; chance and true videos below."""
    names = [a for a in ATTRIBUTES if any(a in figures for figures in ways.values())]
    rows = []
    for way, figures in ways.items():
        cells = [span([figures[a]["value"], *(figures[a]["interval"] or (None, None))]) for a in names]
        rows.append((way, *cells))
    last = next(iter(ways.values()))
    rows.append(("a model that reads no prompt", *(percent(last[a]["baselines"].get("other_prompts")) for a in names)))
    rows.append(("chance", *(percent(last[a]["baselines"].get("chance")) for a in names)))
    rows.append(("true videos", *(percent(last[a]["floor"]) for a in names)))
    return table(("", *names), rows)


def fidelity(part: Mapping[str, Any]) -> list[str]:
    n = part["n"]
    best = max(part["weights"], key=lambda w: part["weights"][w]["figures"]["all"]["value"])
    plain, strong = (part["weights"][w]["figures"]["all"] for w in ("1", best))
    ways = {f"guidance {w}": row["figures"] for w, row in part["weights"].items()}
    ways["text and first picture"] = part["picture"]["figures"]
    steps = {f"{s} steps": part["steps"][s]["figures"] for s in sorted(part["steps"], key=int)}
    if best == "1":
        said = "No weight of guidance does better than none."
    elif plain["interval"] and strong["value"] > plain["interval"][1]:
        said = f"Guidance of {best} shows all that is asked for in {percent(strong['value'])} of the videos, none in "
        said += f"{percent(plain['value'])}."
    else:
        said = f"Guidance of {best} is best, but within the interval of none: no difference is shown."
    return [
        "## Is what was asked for what is seen?", "",
        f"{n} prompts that tell all five attributes, {FRAMES} frames each, all denoised together in {STEPS} steps. A "
        "tracker that knows nothing of the prompt looks for number, size, colour, gravity and speed in the video alone "
        "(`evaluation/prompts.py`); *all* is all five at once, *stays* that no ball vanishes, appears or merges. True "
        "videos of the same prompts, seen by the same tracker, are the last row.", "",
        *fidelity_rows(ways), said, "", "Without guidance, by the number of steps:", "", *fidelity_rows(steps),
    ]  # fmt: skip


def sign(row: Sequence[float | None]) -> int:
    """1 where a difference is above 0 with its whole interval, -1 below, 0 otherwise."""
    if row[1] is None or row[2] is None:
        return 0
    return (row[1] > 0) - (row[2] < 0)


def named(way: str) -> str:
    if way.startswith("next, "):
        steps = way.removeprefix("next, ")
        return f"next-frame, {steps} step{'s' * (steps != '1')} a frame"
    return WAYS.get(way, way)


def verdict(part: Mapping[str, Any]) -> list[str]:
    """The claim: joint denoising beats next-frame generation on object persistence."""
    words = {
        1: "joint denoising **keeps balls better**",
        -1: "joint denoising **keeps balls worse**",
        0: "**no difference is shown**",
    }
    lines = ["Does joint denoising beat next-frame generation at keeping objects? In this model, on `stays`:", ""]
    for setting in (k for k in part if isinstance(part[k], dict)):
        for what, row in part[setting]["joint minus next"].items():
            a, b = map(named, row["ways"])
            lines.append(
                f"- {setting.replace(' from ', ' frames from a ')}, {what} ({a} against {b}): "
                f"{words[sign(row['stays'])]}; difference {span(row['stays'])} of the videos."
            )
    return [*lines, ""]


def persistence(part: Mapping[str, Any]) -> list[str]:
    out = ["## Do objects stay?", ""]
    for setting, found in part.items():
        if not isinstance(found, dict):
            continue
        frames, _, start = setting.split(" ")
        given = "a text alone" if start == "text" else f"a text and {PROMPT} true frames"
        n = next(iter(found["rows"].values()))["n"]
        out += [f"{frames} frames from {given}, n = {n}:", ""]
        head = ("", "no ball vanishes, appears or merges", "frames with as many balls as most", "number as asked",
                "passes a video")  # fmt: skip
        rows = [
            (named(way) if way != "true" else "true videos",
             *(span(row[p]) for p in ("stays", "steady", "count")),
             "–" if row["passes"] is None else f"{row['passes']:,.0f}")
            for way, row in found["rows"].items()
        ]  # fmt: skip
        out += table(head, rows)
    return [*out, *verdict(part)]


def extension(part: Mapping[str, Any]) -> list[str]:
    names = {"joint": f"joint, {STEPS} steps", "next": "next-frame, 1 step", "next, 8": "next-frame, 8 steps"}
    out = [
        "## On from a clip, and back from it", "",
        f"{part['n']} true videos of {FRAMES} frames; {PROMPT} are given, with their caption. Median distance in px of "
        "each ball from where it truly is, so many frames after the clip, or before it: a true video is also the "
        "true past of its own end. *Lost*: balls that can't be found in the last frame, counted as the diagonal.", "",
    ]  # fmt: skip
    for side in ("forward", "backward"):
        rows = [
            (names.get(way, way), *(span(row["error_px"].get(str(h)), number) for h in AT), percent(row["lost"]))
            for way, row in part[side].items()
        ]
        out += [f"{side.capitalize()}:", "", *table(("px", *(f"frame {h}" for h in AT), "lost"), rows)]
    return out


def picture(part: Mapping[str, Any]) -> list[str]:
    rows = [
        (way, *(span(row["error_px"].get(str(h)), number) for h in AT), percent(row["lost"]))
        for way, row in part["rows"].items()
    ]
    return [
        "## On from a picture", "",
        f"A picture does not tell how its balls move, so that none can foretell the true video ({part['n']} of them): "
        "a good one is as far from it as another true video that begins with the same picture.", "",
        *table(("px", *(f"frame {h}" for h in AT), "lost"), rows),
    ]  # fmt: skip


def infilling(part: Mapping[str, Any]) -> list[str]:
    out = [
        "## Between two clips, between two pictures", "",
        f"Videos of {FRAMES} frames whose ends are given; median distance of each ball from the truth in the two "
        "middle frames, px. *With an impact*: of balls that meet a wall or another ball, where a straight line between "
        "the ends is wrong.", "",
    ]  # fmt: skip
    for ends, ways in part["rows"].items():
        n = ways["joint"]["n"]
        rows = [(way, *(span(row[of], number) for of in ("all", "with an impact"))) for way, row in ways.items()]
        head = (f"between {ends}", f"all balls (n = {n[0]})", f"with an impact (n = {n[1]})")
        out += table(head, rows)
    return out


def shapes(part: Mapping[str, Any]) -> list[str]:
    out = ["## Other lengths and sizes", ""]
    for what, title in (("lengths", "Frames"), ("sizes", "Height x width")):
        rows = []
        for name, figures in part[what].items():
            cells = [
                f"{span([f['value'], *(f['interval'] or (None, None))])}; true {percent(f['floor'])}"
                for f in (figures[a] for a in ("count", "all", "stays"))
            ]
            rows.append((name, *cells))
        out += table((title, "number as asked", "all as asked", "balls stay"), rows)
    out.append(
        f"n = {part['n']} prompts each, trained on {FRAMES} frames of the first size; *true*: the same of true videos. "
        "The words mean the same pixels at every size."
    )
    return [*out, ""]


SECTIONS = {
    "fidelity": fidelity, "persistence": persistence, "extension": extension, "picture": picture,
    "infilling": infilling, "shapes": shapes,
}  # fmt: skip
PICTURES = {
    "fidelity": ("sora_text", "Dreamed from texts alone, every second frame."),
    "infilling": ("sora_clips", "On from a clip, back from one, and between two: given frames are framed."),
    "shapes": ("sora_sizes", "One text at three sizes, none of them trained on."),
}


def measured(found: Mapping[str, Any], media: str) -> list[str]:
    """All sections that were measured."""
    out: list[str] = []
    for name, section in SECTIONS.items():
        if name not in found["parts"]:
            out += [f"*{name} is not measured yet.*", ""]
            continue
        part = {k: v for k, v in found["parts"][name].items() if k not in ("seconds", "passes")}
        out += section(part)
        if name in PICTURES and found.get("pictures"):
            file, says = PICTURES[name]
            out += [f"![{says}]({media}/{file}.png)", "", f"*{says}*", ""]
    return out


def results(found: Mapping[str, Any]) -> str:
    """docs/results/sora.md."""
    return "\n".join(["# sora", "", about(found), "", *measured(found, "../media")]).rstrip() + "\n"


def page(found: Mapping[str, Any]) -> str:
    """docs/prompts.md."""
    return "\n".join([USAGE, "# What it obeys", "", about(found), "", *measured(found, "media")]).rstrip() + "\n"


__all__ = ["LONG", "page", "results"]
