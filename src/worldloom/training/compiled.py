"""Training steps through torch.compile: the modules that a model names, and those alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from worldloom.contract import WorldloomError
from worldloom.nn.compiling import check_compiler


class Compiled:
    """Compiled forwards of the modules named in the model's attribute ``compile_parts``.

    They run inside :meth:`running` only: a dream has other shapes and would compile anew for each. The model itself,
    the names of its weights included, stays as it is. Raises :class:`WorldloomError` where the model names nothing, or
    where this machine can't compile.
    """

    def __init__(self, model: nn.Module):
        names = tuple(getattr(model, "compile_parts", ()))
        if not names:
            raise WorldloomError(
                f"{type(model).__name__} names nothing to compile. Give the class an attribute compile_parts, the "
                "names of its modules whose forward takes most of a step, or train with compile off."
            )
        known = dict(model.named_modules())
        odd = [name for name in names if name not in known]
        if odd:
            raise WorldloomError(f"compile_parts of {type(model).__name__} names {odd}, which it has no modules for.")
        check_compiler(next(model.parameters()).device)
        self._parts = [(known[name], torch.compile(known[name].forward)) for name in names]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, the named modules compute by compiled code."""
        for module, forward in self._parts:
            module.forward = forward
        try:
            yield
        finally:
            for module, _ in self._parts:
                del module.forward  # the class's own shows again


__all__ = ["Compiled"]
