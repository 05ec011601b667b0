"""Training steps through torch.compile: the modules that a model names, and those alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from worldloom.contract import WorldloomError


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
        _check_compiler(next(model.parameters()).device)
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


def _check_compiler(device: torch.device) -> None:
    """Compile something small, to know at once: a CPU needs a C++ compiler, CUDA needs Triton."""

    def small(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + 1

    try:
        torch.compile(small)(torch.zeros(2, device=device))
    except RuntimeError as error:  # the base of all that torch.compile raises
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise WorldloomError(
            f"torch.compile does not work here ({what[0]}). On a CPU it needs a C++ compiler (g++ or clang++ on Linux "
            "and macOS, Visual Studio's on Windows), on CUDA Triton. Install it, or train with compile off."
        ) from error


__all__ = ["Compiled"]
