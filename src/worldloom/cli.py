"""The command: `worldloom VERB ...`. It parses, calls the library, and turns its errors into one sentence."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from worldloom.contract import WorldloomError

USAGE = """worldloom: train, dream in and measure world models.

  worldloom train RECIPE --out RUN         a recipe, from the world to the model (worldloom recipes lists them)
  worldloom train --env ENV --out RUN      your environment: collects, then trains
  worldloom train --data DATA --out RUN    your data
  worldloom imagine RUN --out dream.mp4    a video of the model's dream
  worldloom evaluate RUN                   report.json and report.html: where to believe it
  worldloom data collect --env ENV --out DATA
  worldloom data show DATA                 what a dataset holds
  worldloom recipes                        the recipes

Every verb explains its flags: worldloom train balls --help
"""


@dataclass
class Imagine:
    """Dream on from held-out frames, and write a video: beside the truth where there is one."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    out: Path = Path("dream.mp4")
    """Video to write: .mp4 or .gif, or .png for a contact sheet."""
    frames: int = 200
    """Frames to dream."""
    start: int = 0
    """Which held-out start."""
    prompt: int = 4
    """True frames to begin with."""
    actions: Literal["recorded", "random", "null"] = "recorded"
    """Where actions come from; ``recorded`` goes on with random ones after the recording's end."""
    data: Path | None = None
    """Dataset to take the start from; by default the run's own, and without it the starts stored in the run."""
    seed: int = 0
    """Seed of the dream and of random actions."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to dream."""


@dataclass
class Evaluate:
    """Measure a run on held-out episodes; writes report.json and report.html."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    data: Path | None = None
    """Dataset to measure on (its test split); by default the run's own."""
    out: Path | None = None
    """Folder for the report; by default the run."""
    starts: int = 64
    """Dreams, each from another held-out start."""
    prompt: int = 4
    """True frames before each dream."""
    horizon: int | None = None
    """Dreamed frames compared with the truth; by default 50 or what the episodes allow."""
    count_horizon: int = 100
    """Dreamed frames in which objects are counted, for worlds with an exact truth."""
    seed: int = 0
    """Seed of starts, dreams and intervals."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to dream."""


@dataclass
class Train:
    """Flags of `train` that are not the recipe's own."""

    out: Path
    """Folder of the run. The same command in the same folder goes on where it stopped."""
    env: str | None = None
    """World to collect from: a built-in name, a Gymnasium id, or module:Class. Its options follow as --world.*"""
    data: Path | None = None
    """Dataset to train on; by default one is collected into OUT/data."""
    family: str | None = None
    """Model family for your own world or data: diffusion or recurrent. Its options follow as --model.*"""
    init: Path | None = None
    """Another run whose weights to begin with."""
    minutes: float | None = None
    """Shorthand for --train.minutes."""
    steps: int | None = None
    """Shorthand for --train.steps."""
    seed: int | None = None
    """Shorthand for --train.seed and --collect.seed."""
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None
    """Shorthand for --train.device."""
    debug: bool = False
    """A tiny size that shows in seconds that all runs."""
    force: bool = False
    """Go on although the configuration or the data changed since the run began."""


def _train(args: list[str]) -> int:
    from worldloom.data import Dataset
    from worldloom.recipes import find, own
    from worldloom.recipes.run import run_recipe

    name = args.pop(0) if args and not args[0].startswith("-") else None
    env, family, data = _take(args, "--env"), _take(args, "--family"), _take(args, "--data", keep=True)
    if name is not None and env is not None and data is not None:
        raise WorldloomError("Give --env to collect, or --data for what was collected before, not both.")
    if name is not None:
        recipe = find(name)
        if env is not None:
            recipe = dataclasses.replace(recipe, env=env, world=own.world_config(env))
        if family is not None and family != recipe.family:
            raise WorldloomError(f"The recipe {name!r} is of the family {recipe.family!r}; leave --family out.")
    elif env is not None and data is not None:
        raise WorldloomError("Give --env to collect, or --data for what was collected before, not both.")
    elif env is not None:
        recipe = own.from_env(env, family)
    elif data is not None:
        recipe = own.from_data(Dataset(data).spec, family)
    elif "--help" in args or "-h" in args:
        print(USAGE)
        return 0
    else:
        raise WorldloomError(
            "Say what to train: a recipe (`worldloom recipes` lists them), --env NAME or --data FOLDER."
        )
    if "--debug" in args:
        recipe = recipe.debug()
    # The recipe's parts as flags: --model.history 8, --train.lr 1e-3, --collect.episodes 50, --world.balls 3
    shown = ("model", "train") if data is not None else ("model", "train", "collect", "world")
    parts = {p: getattr(recipe, p) for p in shown if getattr(recipe, p) is not None}
    kind = dataclasses.make_dataclass(
        "TrainFlags",
        [(p, type(v), field(default_factory=partial(_same, v))) for p, v in parts.items()],
        bases=(Train,),
        kw_only=True,
    )
    kind.__doc__ = f"{recipe.name}: {recipe.about}"
    flags = _parse(kind, args, f"worldloom train {name or ''}".strip())
    recipe = dataclasses.replace(recipe, **{p: getattr(flags, p) for p in parts})
    recipe = _shorthands(recipe, flags)
    summary = run_recipe(recipe, flags.out, data=flags.data, init=flags.init, force=flags.force)
    print(f"{flags.out}: {summary.steps} steps in {summary.train_seconds:.0f} s.")
    print(f"Next: worldloom imagine {flags.out} --out dream.mp4; worldloom evaluate {flags.out}")
    return 0


def _same(value: Any) -> Any:
    return value


def _shorthands(recipe: Any, flags: Any) -> Any:
    train, collect = recipe.train, recipe.collect
    if flags.minutes is not None and flags.steps is not None:
        raise WorldloomError("Give --minutes or --steps, not both.")
    if flags.minutes is not None:
        train = dataclasses.replace(train, minutes=flags.minutes, steps=None)
    if flags.steps is not None:
        train = dataclasses.replace(train, steps=flags.steps, minutes=None)
    if flags.device is not None:
        train = dataclasses.replace(train, device=flags.device)
    if flags.seed is not None:
        train = dataclasses.replace(train, seed=flags.seed)
        collect = dataclasses.replace(collect, seed=flags.seed)
    return dataclasses.replace(recipe, train=train, collect=collect)


def _imagine(args: list[str]) -> int:
    from worldloom.recipes.show import imagine_video

    flags = _parse(Imagine, args, "worldloom imagine")
    for line in imagine_video(**dataclasses.asdict(flags)):
        print(line)
    return 0


def _evaluate(args: list[str]) -> int:
    from worldloom.evaluation.evaluate import evaluate

    flags = _parse(Evaluate, args, "worldloom evaluate")
    evaluate(**dataclasses.asdict(flags))
    return 0


def _data(args: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], int]] = {"collect": _data_collect, "show": _data_show}
    return _dispatch(verbs, args, "data verb")


def _data_collect(args: list[str]) -> int:
    from worldloom.recipes import own
    from worldloom.recipes.run import collect_data

    env = _take(args, "--env")
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
    flags = _parse(kind, args, "worldloom data collect")
    collect = type(recipe.collect)(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(type(recipe.collect))})
    collect_data(dataclasses.replace(recipe, world=flags.world, collect=collect), flags.out)
    return 0


def _data_show(args: list[str]) -> int:
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


def _recipes(args: list[str]) -> int:
    from worldloom.recipes import RECIPES, find

    for name in RECIPES:
        print(f"{name:<12}{find(name).about}")
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "imagine": _imagine,
    "evaluate": _evaluate,
    "data": _data,
    "recipes": _recipes,
}


def _take(args: list[str], flag: str, *, keep: bool = False) -> str | None:
    """The value of ``flag VALUE`` or ``flag=VALUE``, which is removed from the arguments unless ``keep``."""
    for i, arg in enumerate(args):
        if arg == flag:
            if i + 1 == len(args):
                raise WorldloomError(f"{flag} needs a value.")
            value = args[i + 1]
            if not keep:
                del args[i : i + 2]
            return value
        if arg.startswith(f"{flag}="):
            if not keep:
                del args[i]
            return arg.split("=", 1)[1]
    return None


def _parse(kind: type[Any], args: Sequence[str], program: str) -> Any:
    return tyro.cli(kind, args=list(args), prog=program)


def _dispatch(verbs: dict[str, Callable[[list[str]], int]], args: list[str], what: str) -> int:
    import difflib

    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if args else 2
    if args[0] not in verbs:
        near = difflib.get_close_matches(args[0], verbs, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(verbs)}."
        raise WorldloomError(f"There is no {what} {args[0]!r}. {hint}")
    return verbs[args[0]](args[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. A user's mistake is one sentence on stderr and exit code 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args == ["--version"]:
        from importlib.metadata import version

        print(f"worldloom {version('worldloom')}")
        return 0
    try:
        return _dispatch(VERBS, args, "verb")
    except WorldloomError as error:
        print(f"worldloom: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except BrokenPipeError:  # `worldloom ... | head`: what is left to print goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("worldloom: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
