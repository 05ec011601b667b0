"""`worldloom train`: a recipe, an environment, or data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from worldloom.cli.common import model_class, parse, take
from worldloom.cli.mix import MixFlags, mixing, spec_of, take_all
from worldloom.contract import WorldloomError
from worldloom.files import read_json

HELP = """worldloom train RECIPE --out RUN         a recipe, from the world to the model (worldloom recipes lists them)
worldloom train --env ENV --out RUN      your environment: collects, then trains
worldloom train --data DATA --out RUN    your data; several are mixed: --data A B --mix 3 1

Every one explains its flags: worldloom train balls --help
"""


@dataclass
class Train:
    """Flags of `train` that are not the recipe's own."""

    out: Path
    """Folder of the run. The same command in the same folder goes on where it stopped."""
    env: str | None = None
    """World to collect from: a built-in name, a Gymnasium id, or module:Class. Its options follow as --world.*"""
    data: tuple[Path, ...] | None = None
    """Dataset to train on, or recordings that are imported into OUT/data first (their options: --import.*); several are
    mixed. By default one is collected into OUT/data."""
    family: str | None = None
    """Model family for your own world or data: diffusion or recurrent. Its options follow as --model.*"""
    own_model: Annotated[str | None, tyro.conf.arg(name="model")] = None
    """Your own class of model, as my_model:MyModel (docs/your-own.md), in place of a family. The fields of its Config
    follow as --model.*"""
    check: bool = True
    """Hold your own model to the contract, and your own world to its protocol, before the run begins."""
    init: Path | None = None
    """Another run, or shipped model (balls, duo), whose weights to begin with, as far as they fit; its model's settings
    are then the defaults."""
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
    """Go on although the configuration or the data changed since the run began, or recordings look wrong."""


def train(args: list[str]) -> int:
    """`worldloom train ...`."""
    from worldloom.data.sources import ImportConfig
    from worldloom.recipes import find, finetune, own
    from worldloom.recipes.run import run_recipe

    name = args.pop(0) if args and not args[0].startswith("-") else None
    env, family, datas = take(args, "--env"), take(args, "--family"), take_all(args, "--data")
    data = datas[0] if datas else None
    kind_of_model = model_class(take(args, "--model", keep=True))
    if kind_of_model is not None and family is not None:
        raise WorldloomError("Give --family for a model of ours, or --model for your own, not both.")
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
        recipe = own.from_data(spec_of(datas, take_all(list(args), "--sensors")), family)
    elif "--help" in args or "-h" in args:
        print(HELP)
        return 0
    else:
        raise WorldloomError(
            "Say what to train: a recipe (`worldloom recipes` lists them), --env NAME or --data FOLDER."
        )
    if kind_of_model is not None:
        recipe = recipe.own(kind_of_model)
    if "--debug" in args:
        recipe = recipe.debug()
    init, out, note = take(args, "--init", keep=True), take(args, "--out", keep=True), None
    if init is not None:
        fixed = name is not None or family is not None or kind_of_model is not None
        recipe, note = finetune.like(recipe, Path(init), None if out is None else Path(out), fixed=fixed)
    # The recipe's parts as flags: --model.history 8, --train.lr 1e-3, --collect.episodes 50, --world.balls 3
    shown = ("model", "train") if data is not None else ("model", "train", "collect", "world")
    parts = {p: getattr(recipe, p) for p in shown if getattr(recipe, p) is not None}
    raw = any(not (Path(d) / "dataset.json").is_file() for d in datas)
    args[:0] = ["--data", *datas] if datas else []  # before subcommands, such as model.codec:none
    fields: list[tuple[str, Any, Any]] = [
        (p, type(v), field(default_factory=partial(_same, v))) for p, v in parts.items()
    ]
    if raw:
        kind_of_import = Annotated[ImportConfig, tyro.conf.arg(name="import")]
        fields += [
            ("importing", kind_of_import, field(default=ImportConfig())),
            ("skip_bad", bool, field(default=False)),
        ]
    kind = dataclasses.make_dataclass(
        "TrainFlags",
        fields,
        bases=(Train, MixFlags) if datas else (Train,),
        kw_only=True,
    )
    kind.__doc__ = f"{recipe.name}: {recipe.about}"
    flags = parse(kind, args, f"worldloom train {name or ''}".strip())
    recipe = dataclasses.replace(recipe, **{p: getattr(flags, p) for p in parts})
    recipe = _shorthands(recipe, flags)
    how = {"importing": flags.importing, "skip_bad": flags.skip_bad} if raw else {}
    if note is not None:
        print(note)
    mix = mixing(flags) if datas else {}
    how |= {"init": flags.init, "force": flags.force, "check": flags.check}
    summary = run_recipe(recipe, flags.out, data=flags.data, mix=mix, **how)
    print(f"{flags.out}: {summary.steps} steps in {summary.train_seconds:.0f} s.")
    again = f" --model {flags.own_model}" if flags.own_model else ""
    shown = read_json(flags.out / "config.json", sealed=True)["model"]["spec"]["shown"]
    if any(sensor["kind"] == "image" for sensor in shown.values()):
        print(f"Next: worldloom imagine {flags.out}{again} --out dream.mp4; worldloom evaluate {flags.out}{again}")
    else:
        print("It dreams numbers and no pictures: in Python worldloom.imagine and worldloom.DreamEnv use it.")
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
