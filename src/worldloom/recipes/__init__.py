"""One file a system: a function that returns a full, typed configuration, and what turns it into a run."""

from __future__ import annotations

import difflib
import importlib

from worldloom.contract import WorldloomError
from worldloom.recipes.base import CollectConfig, Recipe

RECIPES = ("balls", "breakout", "duo", "lab", "phyworld", "recurrent", "sora")
"""Names of the recipes. Each is a module here with a function ``recipe()``."""


def find(name: str) -> Recipe:
    """The recipe of that name; an unknown one raises with the nearest."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1, 0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Recipes: {', '.join(RECIPES)}."
        raise WorldloomError(
            f"There is no recipe {name!r}. {hint} For your own data give --data FOLDER, for an environment --env NAME."
        )
    return importlib.import_module(f"worldloom.recipes.{name}").recipe()


__all__ = ["RECIPES", "CollectConfig", "Recipe", "find"]
