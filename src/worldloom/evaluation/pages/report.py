"""report.html: one page that holds everything it shows, and asks nothing of any other place."""

from __future__ import annotations

import re
from typing import Any

from worldloom.evaluation.pages.command import again
from worldloom.evaluation.pages.pictures import Evidence, best_first, film, filmstrip
from worldloom.evaluation.pages.sections import bands, baselines, charts, lines, probe_section, tiles
from worldloom.evaluation.schema import Report

GROUPS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    (
        "physics",
        "Objects and laws",
        "Measured on the dream’s own objects, event by event, not on likeness to the truth: a dream may go elsewhere "
        "and still obey.",
        ("physics", "permanence", "occlusion", "inertia", "gravity", "walls", "contacts", "constancy", "causality",
         "reversal"),
    ),
    (
        "actions",
        "Actions",
        "Whether actions matter, and whether they do the right thing.",
        ("counterfactual", "action_gain", "inverse_dynamics", "noop", "undo"),
    ),
    (
        "long",
        "Far ahead",
        "Past the point where frames can be compared one by one, what counts is whether it still looks like the world.",
        ("prediction_time", "half_life", "regimes", "drift", "fidelity"),
    ),
    (
        "distributions",
        "Many dreams against many truths",
        "Distances between distributions of clips, in several feature spaces, each with what two sets of true clips "
        "give.",
        ("kernel", "frechet", "coverage", "foreground"),
    ),
    ("protocols", "Protocols", "Measured as others do, for figures that stand beside theirs.", ("phyworld",)),
    ("trust", "Trust", "What a new dream may be believed for, from what is known before its truth is.", ("trust",)),
    ("cost", "Cost", "On the machine that made this report.", ("cost",)),
)  # fmt: skip
"""Anchor, title, lead and probes of each part of the page. Probes of a user's own come after them."""
FLOOR = "the same figure measured on the true frames; no dream can be seen to do better."
CEILING = "the best that can be had, by the exact world from what the prompt shows."


def render(report: Report, evidence: Evidence, abouts: dict[str, str] | None = None) -> str:
    """The page. abouts: what each probe asks, by its name."""
    order = best_first(evidence)
    picks = [("A typical dream", order[len(order) // 2]), ("The worst of them", order[-1])]
    groups = _groups(report, abouts or {})
    floors = [p["name"] for group in groups for p in group["probes"] if p["rows"] and p["shown"]["floor"]]
    return template("report.html.j2").render(
        report=report,
        tiles=tiles(report),
        charts=charts(report, evidence),
        groups=groups,
        bands=bands({report.run.name: report}),
        first_floor=next(iter(floors), ""),
        strips=[(title, filmstrip(evidence, int(row))) for title, row in picks[: 1 + (len(order) > 1)]],
        film=film(evidence, order),
        rows=lines(report),
        baselines=baselines([report]),
        again=again(report, evidence.asked),
    )


def template(name: str) -> Any:
    """One of the pages' templates, strict about what it is not given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("worldloom.evaluation", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {"FLOOR": FLOOR, "CEILING": CEILING}
    environment.filters["units"] = lambda text: re.sub(r"(?<=\d) (?=%|px|dB)", "\u00a0", text)
    return environment.get_template(name)


def _groups(report: Report, abouts: dict[str, str]) -> list[dict[str, Any]]:
    known = {name for *_, names in GROUPS for name in names}
    own = tuple(name for name in report.probes if name not in known)
    groups = []
    for anchor, title, lead, names in (*GROUPS, ("own", "Further probes", "Asked for by name.", own)):
        sections = [probe_section(report, name, abouts.get(name, "")) for name in names if name in report.probes]
        if sections:
            groups.append({"anchor": anchor, "title": title, "lead": lead, "probes": sections})
    return groups


__all__ = ["GROUPS", "render", "template"]
