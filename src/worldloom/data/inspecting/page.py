"""An inspection as one page of HTML that needs nothing else."""

from __future__ import annotations

import base64
from importlib import resources
from pathlib import Path

from worldloom.data.inspecting.inspection import Inspection
from worldloom.data.inspecting.sheet import draw_sheet
from worldloom.data.inspecting.words import facts, headline, tallies
from worldloom.files import write_atomic


def render(inspection: Inspection) -> str:
    """The page."""
    import jinja2

    template = resources.files("worldloom.data.inspecting").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    sheet = ""
    if inspection.strips:
        sheet = "data:image/png;base64," + base64.b64encode(draw_sheet(inspection.strips)).decode()
    return environment.from_string(template).render(
        i=inspection,
        facts=facts(inspection),
        headline=headline(inspection),
        tallies=tallies(inspection),
        sheet=sheet,
        zip=zip,
        name=Path(inspection.path).name or inspection.path,
    )


def write_page(path: str | Path, inspection: Inspection) -> Path:
    """Write the page to ``path``, whole or not at all."""
    path = Path(path)
    write_atomic(path, render(inspection).encode())
    return path
