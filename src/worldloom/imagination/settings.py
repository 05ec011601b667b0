"""How a model dreams, set otherwise than it was trained with."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from typing import Any, TypeVar

from worldloom.contract import UnsupportedError, WorldModel

M = TypeVar("M", bound=WorldModel)


def otherwise(model: M, **settings: Any) -> M:
    """The same model, its weights shared, with other settings in its configuration: of how it dreams, such as the
    diffusion family's ``steps``, ``told_noise`` or ``retrieve``, not of its layers.

    Raises :class:`UnsupportedError` where the configuration has no such setting; a value that it refuses is its own
    error.
    """
    config = model.config
    known = [f.name for f in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" It has {known or 'none'}."
            raise UnsupportedError(f"{type(model).__name__} has no setting {name!r}.{hint}")
    if not settings:
        return model
    model = copy.copy(model)
    model.config = dataclasses.replace(config, **settings)
    return model
