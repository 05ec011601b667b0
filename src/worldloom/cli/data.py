"""`worldloom data`: collect, import, export and inspect."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from worldloom.cli.common import Verb, dispatch, parse, take
from worldloom.cli.inspect import inspect
from worldloom.contract import WorldloomError

HELP = """worldloom data collect --env ENV --out DATA   play a world by a random policy, and keep it
worldloom data import SOURCE --out DATA        videos, pictures, LeRobot, Minari, HDF5 or npz into a dataset
worldloom data export DATA --format F --out O  a dataset as LeRobot, Minari, or a folder of video
worldloom data inspect PATH                   what data hold, and every problem found

Every one explains its flags: worldloom data collect --help
"""


@dataclass
class Export:
    """Write a dataset in another project's format."""

    data: tyro.conf.Positional[Path]
    """The dataset."""
    out: Path
    """New folder to write; it appears when all of it is there."""
    format: Literal["lerobot", "minari", "video"]
    """``lerobot``: LeRobotDataset v3; ``minari``: Farama's Minari; ``video``: mp4 files with csv tables of actions."""


def data(args: list[str]) -> int:
    """`worldloom data VERB ...`."""
    verbs: dict[str, Verb] = {"collect": _collect, "import": _import, "export": _export, "inspect": inspect}
    return dispatch(verbs, args, "data verb", HELP)


def _collect(args: list[str]) -> int:
    from worldloom.recipes import own
    from worldloom.recipes.run import collect_data

    env = take(args, "--env")
    if env is None:
        if "--help" in args or "-h" in args:
            env = "balls"
        else:
            raise WorldloomError(
                "Say where to collect: --env NAME (a built-in world, a Gymnasium id, or module:Class)."
            )
    recipe = own.from_env(env)

    kind = dataclasses.make_dataclass(
        "Collect",
        [
            ("out", Path),
            ("env", str, field(default=env)),
            ("check", bool, field(default=True)),  # hold a user's own world to its protocol first
            *([("world", type(recipe.world), field(default_factory=lambda: recipe.world))] if recipe.world else []),
        ],
        bases=(type(recipe.collect),),
        kw_only=True,
        frozen=True,
    )
    kind.__doc__ = "Collect episodes from a world into a dataset, or top it up. The options shown are those of --env."
    flags = parse(kind, args, "worldloom data collect")
    collect = type(recipe.collect)(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(type(recipe.collect))})
    recipe = dataclasses.replace(recipe, world=getattr(flags, "world", None), collect=collect)
    collect_data(recipe, flags.out, check=flags.check)
    return 0


def _import(args: list[str]) -> int:
    from worldloom.data.importing import import_data
    from worldloom.data.sources import FORMATS, ImportConfig
    from worldloom.recipes.run import look_over, progress_bar

    kind = dataclasses.make_dataclass(
        "Import",
        [
            ("source", tyro.conf.Positional[Path]),
            ("out", Path),
            ("format", Literal[("auto", *FORMATS)], field(default="auto")),
            ("skip_bad", bool, field(default=False)),
            ("workers", int | None, field(default=None)),
        ],
        bases=(ImportConfig,),
        kw_only=True,
        frozen=True,
    )
    kind.__doc__ = """Import recordings into a dataset; the same command resumes. The source is only read.

    Args:
        source: A video or a folder of videos or of pictures, a LeRobot or Minari dataset, HDF5 or npz files.
        out: Folder of the dataset.
        format: What the source is, where it can't be told by looking.
        skip_bad: Keep the good part where some recordings can't be used.
        workers: Threads that decode; by default one a core.
    """
    flags = parse(kind, args, "worldloom data import")
    config = ImportConfig(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(ImportConfig)})
    with progress_bar("recordings") as progress:
        import_data(
            flags.source,
            flags.out,
            config,
            format=flags.format,
            skip_bad=flags.skip_bad,
            workers=flags.workers,
            progress=progress,
        )
    if look_over(flags.out):
        print(f"The errors above are in the data: see `worldloom data inspect {flags.out}`. Training refuses them.")
        return 1
    print(f"Next: worldloom data inspect {flags.out}; worldloom train --data {flags.out} --out RUN")
    return 0


def _export(args: list[str]) -> int:
    from worldloom.data import Dataset
    from worldloom.data.sinks import export_data
    from worldloom.recipes.run import progress_bar

    flags = parse(Export, args, "worldloom data export")
    dataset = Dataset(flags.data)
    with progress_bar("episodes") as progress:
        notes = export_data(dataset, flags.out, flags.format, lambda done: progress(done, len(dataset)))
    for note in notes:
        print(note)
    print(f"{flags.out}: {len(dataset)} episodes, {dataset.frames:,} frames.")
    return 0
