"""Fine-tuning from the shell: a recipe takes its model's settings from the run that it begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from worldloom.configs import from_json
from worldloom.contract import WorldloomError
from worldloom.files import DamagedFileError, read_json
from worldloom.models import FAMILIES, family
from worldloom.models.own import config_class
from worldloom.models.saved import MODEL_FILE, read_model, same_family
from worldloom.recipes.base import Recipe


def like(recipe: Recipe, init: Path, out: Path | None, *, fixed: bool) -> tuple[Recipe, str | None]:
    """The recipe with family and model settings of the run ``init``, and a line that says so.

    Where ``out`` was begun before, they are its own: a run is taken up again without the one it came from. Another
    family is an error here, before anything is collected, if one was asked for (``fixed``, or a class of the user's
    own).
    """
    begun = out is not None and (out / "config.json").is_file()
    source = out if out is not None and begun else init
    stored: Any = _begun_with(source) if begun else read_model(init)[2]["model"]
    if not isinstance(stored, dict) or not isinstance(stored.get("family"), str):
        return recipe, None  # the trainer has words for it
    name = stored["family"]
    if not same_family(recipe.family, name) and (fixed or recipe.kind is not None or name not in FAMILIES):
        flag = f"--family {name}" if name in FAMILIES else f"--model {name}"
        raise WorldloomError(
            f"{source} is a run of the family {name!r}, and {recipe.family!r} is asked for: weights go over within a "
            f"family only. Give {flag} with --env or --data, or leave out --init."
        )
    settings = config_class(recipe.kind) if recipe.kind is not None else family(name).Config
    if settings is None or not isinstance(stored.get("config"), dict):
        return recipe, None
    config = from_json(settings, stored["config"], f"{name} config")
    if recipe.kind is None:
        recipe = replace(recipe, family=name)
    note = None if begun else f"The model's settings are those of {init}; --model.* changes single ones."
    return replace(recipe, model=config), note


def _begun_with(run: Path) -> Any:
    """The model that a run was begun with: by its config.json, or by its weights where that is damaged; else None."""
    try:
        found = read_json(run / "config.json", sealed=True)
    except DamagedFileError:
        return read_model(run)[2]["model"] if (run / MODEL_FILE).is_file() else None
    return found.get("model") if isinstance(found, dict) else None


__all__ = ["like"]
