"""`worldloom data`: collect, and what a dataset holds."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from pathlib import Path

from worldloom.cli.common import Verb, dispatch, parse, take
from worldloom.contract import WorldloomError

HELP = """worldloom data collect --env ENV --out DATA   play a world by a random policy, and keep it
worldloom data show DATA                      what a dataset holds

Every one explains its flags: worldloom data collect --help
"""


def data(args: list[str]) -> int:
    """`worldloom data VERB ...`."""
    verbs: dict[str, Verb] = {"collect": _collect, "show": _show}
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
            ("world", type(recipe.world), field(default_factory=lambda: recipe.world)),
        ],
        bases=(type(recipe.collect),),
        kw_only=True,
        frozen=True,
    )
    kind.__doc__ = "Collect episodes from a world into a dataset, or top it up. The options shown are those of --env."
    flags = parse(kind, args, "worldloom data collect")
    collect = type(recipe.collect)(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(type(recipe.collect))})
    collect_data(dataclasses.replace(recipe, world=flags.world, collect=collect), flags.out)
    return 0


def _show(args: list[str]) -> int:
    from worldloom.data import Dataset
    from worldloom.recipes.own import describe

    if len(args) != 1 or args[0].startswith("-"):
        print("worldloom data show DATA: what a dataset holds, and whether all its hashes are right.")
        return 0 if args in (["--help"], ["-h"]) else 2
    dataset = Dataset(Path(args[0]))
    print(describe(dataset.spec, dataset.frames))
    lengths = dataset.lengths
    print(f"{len(lengths)} episodes of {lengths.min()} to {lengths.max()} frames; info: {dataset.info}")
    print(", ".join(f"{name} {len(part)}" for name, part in dataset.splits.items()), "episodes")
    dataset.verify()
    print("Every hash is right.")
    return 0
