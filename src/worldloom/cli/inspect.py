"""`worldloom data inspect`: what data hold, and every problem found."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import field
from pathlib import Path
from typing import Annotated

import tyro

from worldloom.cli.common import parse


def inspect(args: list[str]) -> int:
    """`worldloom data inspect ...`; 1 where an error was found in the data, 0 where none was."""
    from worldloom.data.inspecting.inspection import InspectConfig, inspect_data
    from worldloom.data.inspecting.page import write_page
    from worldloom.data.inspecting.sheet import write_sheet
    from worldloom.data.inspecting.words import lines
    from worldloom.data.sources import ImportConfig
    from worldloom.files import write_json

    kind = dataclasses.make_dataclass(
        "Inspect",
        [
            ("path", tyro.conf.Positional[Path]),
            ("html", Path | None, field(default=None)),
            ("sheet", Path | None, field(default=None)),
            ("json", Path | None, field(default=None)),
            ("importing", Annotated[ImportConfig, tyro.conf.arg(name="import")], field(default=ImportConfig())),
        ],
        bases=(InspectConfig,),
        kw_only=True,
        frozen=True,
    )
    kind.__doc__ = """What data hold, and every problem found, with where and what to do. Nothing is changed.

    The exit code is 1 where a problem is an error, else 0.

    Args:
        path: A dataset, or what `worldloom data import` would read.
        html: Write a page that needs nothing else.
        sheet: Write a contact sheet, a .png.
        json: Write everything as JSON.
        importing: How a source not yet imported is to be read, as in `worldloom data import`.
    """
    flags = parse(kind, args, "worldloom data inspect")
    config = InspectConfig(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(InspectConfig)})
    found = inspect_data(flags.path, config, flags.importing)
    _print(lines(found))
    if flags.sheet is not None and found.strips:
        print(f"Contact sheet: {write_sheet(flags.sheet, found.strips)}")
    elif flags.sheet is not None:
        print("No contact sheet: the data show no pictures.")
    if flags.html is not None:
        print(f"Page: {write_page(flags.html, found)}")
    if flags.json is not None:
        write_json(flags.json, found.to_json())
        print(f"JSON: {flags.json}")
    return found.exit_code


def _print(styled: list[tuple[str, str]]) -> None:
    """Coloured on a terminal, plain elsewhere."""
    if not sys.stdout.isatty():
        print("\n".join(line for _, line in styled))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    styles = {"head": "bold", "error": "bold red", "warning": "yellow", "remark": "cyan"}
    for style, line in styled:
        console.print(Text(line, styles.get(style, "")))
