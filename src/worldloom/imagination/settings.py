"""How a model dreams, set otherwise than it was trained with."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from typing import Any, TypeVar

from worldloom.contract import UnsupportedError, WorldModel

M = TypeVar("M", bound=WorldModel)


def otherwise(model: M, **settings: Any) -> M:
    """The same model, its weights shared, with other settings of how it dreams: those that its attribute
    ``dream_settings`` names, such as the diffusion family's ``steps`` or ``told_noise``.

    Raises :class:`UnsupportedError` for any other setting; a value that the configuration refuses is its own error.
    """
    known = sorted(getattr(model, "dream_settings", ()))
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" It has {known or 'none'}."
            raise UnsupportedError(f"This {type(model).__name__} has no setting {name!r} of how it dreams.{hint}")
    if not settings:
        return model
    model = copy.copy(model)
    model.config = dataclasses.replace(model.config, **settings)
    return model
