"""Defaults for a user's own data or environment: what is chosen, and why, in words that are printed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worldloom.contract import Spec, WorldloomError
from worldloom.recipes.base import CollectConfig, Recipe
from worldloom.training import TrainConfig

SMALL_FRAMES = 20_000


def world_config(env: str) -> Any:
    """The configuration of a world given by name: the built-in one's own, a Gymnasium environment's, or that of a
    user's own world (None where that has none)."""
    from worldloom.worlds import is_gymnasium, own_world

    make = own_world(env)
    if make is not None:
        from worldloom.worlds.own import default_config

        return default_config(make)
    if is_gymnasium(env):
        from worldloom.worlds.gym import GymConfig

        return GymConfig()
    if env == "lab":
        from worldloom.worlds.lab import LabWorldConfig

        return LabWorldConfig()
    if env == "phyworld":
        from worldloom.worlds.phyworld import PhyWorldConfig

        return PhyWorldConfig()
    from worldloom.worlds.balls import BallsConfig, CaptionsConfig

    return CaptionsConfig() if env == "captions" else BallsConfig()


def from_env(env: str, family: str | None = None) -> Recipe:
    """A recipe for an environment, before anything of it is known; :func:`fit` completes it once it is."""
    own = family or "diffusion"
    return Recipe(
        name="own",
        about=f"your environment {env}",
        family=own,
        model=_model(own),
        train=TrainConfig(minutes=20.0, batch=8, lr=1e-3, decay="linear", ema=0.998),
        env=env,
        world=world_config(env),
        collect=CollectConfig(),
    )


def from_data(spec: Spec | None, family: str | None = None) -> Recipe:
    """A recipe for data that exist already: the diffusion family where there are pictures, else the recurrent one.

    ``spec`` is None for recordings that are not imported yet; they are taken to have pictures.
    """
    family = family or ("diffusion" if spec is None or spec.images else "recurrent")
    return replace(from_env("balls", family), about="your own data", env=None, world=None)


def _model(family: str) -> Any:
    from worldloom.models import family as find_family

    return find_family(family).Config()


def fit(recipe: Recipe, spec: Spec, frames: int) -> tuple[Recipe, Spec, list[str]]:
    """The recipe and the spec that suit a dataset, and what was chosen, one line each.

    The diffusion family is given the first picture alone. Raises :class:`WorldloomError` where the family can't model
    the world.
    """
    notes = [describe(spec, frames)]
    if recipe.family == "diffusion" and not spec.images:
        raise WorldloomError(
            f"The diffusion family dreams pictures, and this world shows only {', '.join(spec.shown)}. Give "
            "--family recurrent, or an environment that can be rendered."
        )
    if recipe.family == "diffusion":
        name, sensor = next(iter(spec.images.items()))
        left = sorted(set(spec.shown) - {name})
        if left:
            spec = Spec({name: sensor}, spec.given, spec.fps)
            notes.append(f"The diffusion family dreams the picture {name!r}; left out: {', '.join(left)}.")
        multiple = recipe.model.backbone.multiple
        if not recipe.model.pad and any(side % multiple for side in sensor.shape[1:]):
            recipe = replace(recipe, model=replace(recipe.model, pad=True))
            notes.append(f"Frames are padded inside the model to multiples of {multiple} pixels.")
    if frames < SMALL_FRAMES:
        notes.append(f"{frames:,} frames are few: expect a dream that remembers rather than understands.")
    reason = getattr(recipe.model_class, "supports", lambda _: None)(spec)
    if reason:
        raise WorldloomError(reason)
    return recipe, spec, notes


def describe(spec: Spec, frames: int) -> str:
    """One line: frames, sensors, actions, rate."""
    shown = ", ".join(f"{n} {'×'.join(map(str, s.shape))}" for n, s in spec.shown.items())
    action = spec.action
    if action is None:
        given = "no actions (plain video)"
    elif action.kind == "discrete":
        given = f"{action.n} actions" + (f" ({', '.join(action.names)})" if 0 < len(action.names) <= 8 else "")
    else:
        given = f"{action.shape[0]} continuous actions"
    return f"Data: {frames:,} frames, {shown}; {given}; {spec.fps:g} frames/s."
