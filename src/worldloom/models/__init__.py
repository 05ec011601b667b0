"""The families. Each is found by its name in :data:`FAMILIES`; importing this module loads none of them."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from worldloom.configs import from_json
from worldloom.contract import Spec, WorldloomError, WorldModel

FAMILIES: dict[str, tuple[str, str]] = {
    "diffusion": ("worldloom.models.diffusion", "Diffusion"),
    "lab": ("worldloom.models.lab", "Lab"),
    "recurrent": ("worldloom.models.recurrent", "Recurrent"),
}
"""Family name to (module, class). The class has an attribute ``Config``, its typed configuration."""


def family(name: str) -> type[Any]:
    """The class of a family, by name; an unknown name raises with the nearest one."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Families: {', '.join(FAMILIES)}."
        raise WorldloomError(f"There is no model family {name!r}. {hint}")
    module, cls = FAMILIES[name]
    return getattr(importlib.import_module(module), cls)


def build(name: str | type[WorldModel], spec: Spec, config: Any = None) -> WorldModel:
    """A new model for a world, of a family or of your own class (docs/your-own.md).

    ``config`` is the family's Config, its JSON, or None for the default.
    """
    if not isinstance(name, str):
        from worldloom.models.own import config_class, construct, default_config

        if config is None:
            config = default_config(name)
        elif isinstance(config, dict) and config_class(name) is not None:
            config = from_json(config_class(name), config, f"{name.__name__} config")
        return construct(name, spec, config)
    cls = family(name)
    if config is None:
        config = cls.Config()
    elif isinstance(config, dict):
        config = from_json(cls.Config, config, f"{name} config")
    return cls(spec, config)


def family_name(model: WorldModel) -> str:
    """The registered name of a model's family."""
    for name, (module, cls) in FAMILIES.items():
        if (type(model).__module__, type(model).__name__) == (module, cls) or type(model) is family(name):
            return name
    raise WorldloomError(f"{type(model).__name__} is not a registered family: {', '.join(FAMILIES)}.")
