"""Fine-tuning from the shell: a recipe takes its model's settings from the run that it begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from worldloom.configs import from_json
from worldloom.contract import WorldloomError
from worldloom.files import read_json
from worldloom.models import FAMILIES, family
from worldloom.models.saved import read_model
from worldloom.recipes.base import Recipe


def like(recipe: Recipe, init: Path, out: Path | None, *, fixed: bool) -> tuple[Recipe, str | None]:
    """The recipe with family and model settings of the run ``init``, and a line that says so.

    Where ``out`` was begun before, they are its own: a run is taken up again without the one it came from. ``fixed``:
    the family was asked for, and another one is an error here, before anything is collected. A model of a user's own
    class leaves the recipe as it is.
    """
    own = None if out is None else out / "config.json"
    begun = own is not None and own.is_file()
    stored: Any = read_json(own).get("model") if own is not None and begun else read_model(init)[2]["model"]
    if not isinstance(stored, dict) or stored.get("family") not in FAMILIES:
        return recipe, None
    if stored["family"] != recipe.family and fixed:
        raise WorldloomError(
            f"{out if begun else init} is a run of the family {stored['family']!r}, and {recipe.family!r} is asked "
            "for: weights go over within a family only. "
            f"Give --family {stored['family']} with --env or --data, or leave out --init."
        )
    config = from_json(family(stored["family"]).Config, stored["config"], f"{stored['family']} config")
    recipe = replace(recipe, family=stored["family"], model=config)
    return recipe, None if begun else f"The model's settings are those of {init}; --model.* changes single ones."


__all__ = ["like"]
