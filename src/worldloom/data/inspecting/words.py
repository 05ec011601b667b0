"""An inspection in words: what the command prints and the page shows."""

from __future__ import annotations

from worldloom.data.inspecting.inspection import Inspection
from worldloom.data.inspecting.tallies import Tally

_BAR = 28


def facts(i: Inspection) -> list[tuple[str, str]]:
    """(name, value) of what there is, in the order in which it is shown."""
    what = "recordings" if i.format not in ("worldloom", "memory") else "episodes"
    out = [("What", "a worldloom dataset" if i.format == "worldloom" else f"not yet imported: {i.format}")]
    if i.format == "memory":
        out = []
    total = "frames known once decoded" if i.frames is None else f"{i.frames:,} frames"
    out.append(("Size", f"{i.episodes:,} {what}, {total}" + (f", {size(i.bytes)}" if i.bytes is not None else "")))
    if i.lengths is not None:
        t = i.lengths
        out.append(("Lengths", f"{t.low:.0f} to {t.high:.0f} frames, median {t.middle:.0f}"))
    out.append(("Rate", f"{i.spec.fps:g} frames/s"))
    for name, s in i.spec.shown.items():
        unit = f" in {s.unit}" if s.unit else ""
        out.append((f"Shows {name}", f"{s.kind} {'×'.join(map(str, s.shape))}{unit}"))
    for name, c in i.spec.given.items():
        shape = f"{c.n} choices" if c.kind == "discrete" else f"{c.kind} {'×'.join(map(str, c.shape))}"
        out.append((f"Given {name}", shape + (", once" if c.per == "once" else "")))
    if not i.spec.given:
        out.append(("Given", "nothing: plain video"))
    if i.splits:
        out.append(("Splits", ", ".join(f"{name} {n:,}" for name, n in i.splits.items())))
    if i.verified is not None:
        out.append(("Hashes", "all right" if i.verified else "damage found, see below"))
    seen = i.looked_at
    whole = i.frames is not None and seen["frames"] == i.frames
    part = "all of it" if whole else f"a sample of {seen['episodes']:,} episodes, {seen['frames']:,} frames"
    out.append(("Looked at", part + ("" if whole else f" (seed {seen['seed']})")))
    out.append(("Repeated", f"{100 * i.repeated:.1f} % of the frames equal the one before"))
    if i.spec.action is not None:
        out.append(("Actions stand", alignment(i)))
    return out


def alignment(i: Inspection) -> str:
    """The finding on the column of actions, in a line."""
    f = i.alignment
    if f.verdict == "aligned":
        return f"beside the frames they led to (the motion to a frame tells {100 * f.told[0]:.0f} % of its action)"
    if f.verdict == "unclear":
        return f"can't be told: {f.why}"
    return f"{abs(f.shift)} {'row' if abs(f.shift) == 1 else 'rows'} {'early' if f.shift < 0 else 'late'}, see below"


def size(n: int) -> str:
    """Bytes for people."""
    value = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def tallies(i: Inspection) -> list[tuple[str, Tally]]:
    """(title, histogram) of all there are."""
    out = [("Lengths of episodes, frames", i.lengths)] if i.lengths is not None else []
    if i.spec.action is not None and i.spec.action.kind == "continuous":
        out += [(f"Action {t.name!r}", t) for t in i.actions]
    else:
        out += [("Actions", t) for t in i.actions]
    if i.rewards is not None:
        out.append(("Rewards", i.rewards))
    return [(title, t) for title, t in out if t is not None]


def headline(i: Inspection) -> str:
    """One line: how many problems of which kind."""
    named = [f"{n} {s}{'s' * (n != 1)}" for s, n in i.counts.items() if n]
    return ", ".join(named) if named else "No problem found"


def lines(i: Inspection) -> list[tuple[str, str]]:
    """(style, line) of the print-out; styles are ``head``, ``error``, ``warning``, ``remark`` and empty."""
    out = [("head", i.path)]
    out += [("", f"  {name:<16} {value}") for name, value in facts(i)]
    if i.notes:
        out += [("", ""), ("head", "As understood")] + [("", f"  {note}") for note in i.notes]
    for title, tally in tallies(i):
        out += [("", ""), ("head", title)]
        wide = min(24, max(map(len, tally.labels), default=0))
        most, total = max(max(tally.counts), 1), max(sum(tally.counts), 1)
        for label, count in zip(tally.labels[:40], tally.counts[:40], strict=True):
            bar = "█" * round(_BAR * count / most)
            out.append(("", f"  {label[:24]:<{wide}}  {bar:<{_BAR}} {count:>9,}  {100 * count / total:5.1f} %"))
    out += [("", ""), ("head", headline(i))]
    for p in i.problems:
        out.append((p.severity, f"  {p.severity}: {p.kind} · {p.where}"))
        out.append(("", f"      {p.what}"))
    return out
