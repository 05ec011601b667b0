"""From a recipe to a run: collect where no data are given, build the model, train."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from worldloom.configs import to_json
from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.data import Dataset, Mixture
from worldloom.data.mixing.mixture import part_names
from worldloom.data.sources import ImportConfig
from worldloom.models.own import check_own, construct
from worldloom.recipes.base import Recipe
from worldloom.recipes.own import fit
from worldloom.training import RunSummary, train
from worldloom.training.devices import pick_device, place
from worldloom.worlds import World, is_gymnasium, own_world


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, told (done, of how many); elsewhere nothing, for the lines before and after say enough."""
    if not sys.stdout.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def open_world(recipe: Recipe, *, check: bool = False, say: Callable[[str], None] = print) -> World:
    """The recipe's world, ``collect.num`` of it side by side; with ``check`` a user's own is held to the protocol."""
    if recipe.env is None:
        raise WorldloomError("There is nothing to collect from: give --env NAME, or your own data by --data FOLDER.")
    num, seed = recipe.collect.num, recipe.collect.seed
    make = own_world(recipe.env)
    if make is not None:
        from worldloom.worlds.own import check_own as check_own_world
        from worldloom.worlds.own import construct as construct_world

        if check:
            say(check_own_world(make, recipe.world))
        return construct_world(make, num, seed, recipe.world)
    if is_gymnasium(recipe.env):
        from worldloom.worlds.gym import GymWorld

        return GymWorld(recipe.env, num, recipe.world, seed=seed, workers=recipe.collect.workers)
    if recipe.env == "lab":
        from worldloom.worlds.lab import LabWorld

        return LabWorld(num, seed, recipe.world.first, recipe.world.samples)
    if recipe.env == "phyworld":
        from worldloom.worlds.phyworld import PhyWorld

        return PhyWorld(recipe.world, num, seed)
    from worldloom.worlds.balls import Balls, Captions

    return (Captions if recipe.env == "captions" else Balls)(recipe.world, num, seed)


def collect_data(
    recipe: Recipe,
    out: Path,
    say: Callable[[str], None] = print,
    *,
    check: bool = False,
    before: Callable[[Spec], object] = lambda _: None,
) -> Dataset:
    """Collect the recipe's dataset into ``out``, or top it up. ``check``: hold a user's own world to the protocol;
    ``before`` is told the world's spec first, and may raise."""
    from worldloom.data.collect import collect

    world = open_world(recipe, check=check, say=say)
    try:
        before(world.spec)
        for note in getattr(world, "notes", ()):
            say(note)
        say(f"Collecting {recipe.collect.episodes} episodes of {recipe.env} into {out}")
        begun = time.monotonic()
        with progress_bar("episodes") as advance:
            dataset = collect(
                world,
                out,
                recipe.collect.episodes,
                recipe.collect.length,
                seed=recipe.collect.seed,
                policy=getattr(world, "policy", recipe.collect.policy),
                progress=advance,
                info={"world": {"env": recipe.env, "config": None if recipe.world is None else to_json(recipe.world)}},
            )
        say(f"{out}: {len(dataset.lengths)} episodes, {dataset.frames:,} frames ({time.monotonic() - begun:.0f} s).")
        return dataset
    finally:
        world.close()


def open_data(
    data: Path,
    own: Path,
    config: ImportConfig | None = None,
    *,
    begun: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Dataset:
    """The dataset in ``data``; other people's recordings are imported into the run's folder ``own`` first, once: not
    again when training has ``begun``. Raises :class:`WorldloomError` where they are wrong, unless ``force``."""
    from worldloom.data.importing import changed_settings, import_data, imported_from

    if (data / "dataset.json").is_file():
        dataset = Dataset(data)
        if "import" in dataset.info and not begun:
            _refuse_wrong(data, data, force, say)
        return dataset
    if begun and imported_from(own) == data.resolve():
        changed = changed_settings(own, config)
        if changed and not force:
            raise WorldloomError(
                f"{own} was imported otherwise (then -> now): {'; '.join(changed)}. Give what the run was begun with, "
                "or another --out; --force goes on with the data as they are."
            )
        return Dataset(own)  # the run has begun: recordings that were added, or are gone, do not concern it
    with progress_bar("recordings") as progress:
        dataset = import_data(data, own, config, skip_bad=skip_bad, say=say, progress=progress)
    _refuse_wrong(data, own, force, say)
    return dataset


def _refuse_wrong(data: Path, imported: Path, force: bool, say: Callable[[str], None]) -> None:
    if look_over(imported, say) and not force:
        again = "" if imported == data else f" What was imported lies in {imported}: delete it to import otherwise."
        raise WorldloomError(
            f"{data} has the errors above. Mend them (see docs/inspect.md), or train on it by --force.{again}"
        )


def look_over(folder: Path, say: Callable[[str], None] = print) -> int:
    """Say what is wrong with a sample of a dataset just imported, remarks left out; returns the number of errors."""
    from worldloom.data.inspecting import InspectConfig, inspect_data

    found = inspect_data(folder, InspectConfig(sample=50, frames=6000, verify=False))
    if found.spec.action is not None and found.alignment.verdict == "unclear":
        say(f"Whether actions stand beside the frames they led to can't be told: {found.alignment.why}.")
    for problem in found.problems:
        if problem.severity != "remark":
            say(f"{problem.severity}: {problem.kind}: {problem.where}: {problem.what}")
    return found.counts["error"]


def mix_data(data: Sequence[Path], mix: Mapping[str, Any], open_one: Callable[[Path], Dataset]) -> Dataset | Mixture:
    """The one dataset as it is, or several, or one that is read otherwise, as a mixture; ``mix``: its arguments."""
    opened = [open_one(path) for path in data]
    return opened[0] if len(opened) == 1 and not mix else Mixture(opened, **mix)


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | Sequence[Path] | None = None,
    mix: Mapping[str, Any] | None = None,
    init: Path | None = None,
    force: bool = False,
    importing: ImportConfig | None = None,
    skip_bad: bool = False,
    check: bool = True,
    say: Callable[[str], None] = print,
) -> RunSummary:
    """Train a recipe into the folder ``out``. Without ``data`` its dataset is collected into ``out``/data first.

    ``data`` is a dataset, or recordings that are imported into ``out``/data, as ``importing`` and ``skip_bad`` say; or
    several, which are mixed as ``mix``, the further arguments of :class:`worldloom.Mixture`, says. ``force``: go on
    although recordings look wrong, or the configuration or data of a run changed. ``check``: hold a user's own model to
    the contract, and their world to its protocol, before the run begins.
    """
    device = pick_device(recipe.train.device)  # a missing one is told of before anything is collected
    own = out / "data"
    begun = (out / "config.json").exists()
    dataset: Dataset | Mixture

    def vet(spec: Spec) -> None:
        """A world that the model can't take, and a user's own model that breaks the contract, are told of before hours
        of collecting or training."""
        if not begun:
            fit(recipe, spec, 0)
        if recipe.kind is not None and check and not begun:
            say(check_own(place(build_model(recipe, spec), device)))

    if data is not None:
        several = [data] if isinstance(data, Path) else list(data)
        names = part_names(several)
        folders = {d: own if len(several) == 1 else own / n for d, n in zip(several, names, strict=True)}

        def open_one(path: Path) -> Dataset:
            return open_data(path, folders[path], importing, begun=begun, skip_bad=skip_bad, force=force, say=say)

        dataset = mix_data(several, mix or {}, open_one)
        for note in dataset.notes() if isinstance(dataset, Mixture) else ():
            say(note)
        vet(dataset.spec)
    elif begun and (own / "dataset.json").exists():
        dataset = Dataset(own)  # the run has begun: topping its data up now would make it another run
    else:
        dataset = collect_data(recipe, own, say, check=check, before=vet)
    recipe, spec, notes = fit(recipe, dataset.spec, dataset.frames)
    for note in notes:
        say(note)
    say(f"Model: {recipe.family}{_brief(recipe.model)}")
    model = build_model(recipe, spec)
    return train(model, dataset, recipe.train, out, init=init, force=force, describe={"recipe": recipe.name})


def build_model(recipe: Recipe, spec: Spec) -> WorldModel:
    """The recipe's model. Its first weights are a function of the seed, like all that follows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        return construct(recipe.model_class, spec, recipe.model)


def _brief(config: Any) -> str:
    """The plain numbers of a configuration, for the end of a line; nothing for a model without one."""
    if config is None:
        return ""
    parts = [(f.name, getattr(config, f.name)) for f in fields(config)]
    return "".join(f", {n} {v}" for n, v in parts if isinstance(v, (int, float, str, bool)))
