"""A user's own model: found by the name that was typed, built as ``Class(spec, config)``, checked before it trains."""

from __future__ import annotations

import inspect
from typing import Any

from worldloom import plugins
from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.plugins import explained, load

QUICK_FRAMES = 8
"""Frames of the dreams with which an own model is checked before it trains."""


class OwnModelError(WorldloomError):
    """A user's own model class can't be used: it is no WorldModel, can't be built, or breaks the contract."""


def find_model(name: str) -> type[WorldModel]:
    """The class that ``module:Class`` names. It is imported because the user typed it; the current folder is looked in.

    Raises :class:`WorldloomError` where there is no such module or class, it is not a :class:`WorldModel`, or it leaves
    methods of the contract out.
    """
    if ":" not in name:
        from worldloom.models import FAMILIES

        hint = f"give --family {name}" if name in FAMILIES else f"for a family of ours ({', '.join(FAMILIES)}) --family"
        raise OwnModelError(f"--model names a class of your own, as in my_model:MyModel, found {name!r}; {hint}.")
    kind = load(name, OwnModelError)
    if not inspect.isclass(kind):
        raise OwnModelError(f"{name} is a {type(kind).__name__}, not a class. Name the class of your model.")
    if not issubclass(kind, WorldModel):
        bases = ", ".join(base.__name__ for base in kind.__bases__)
        raise OwnModelError(
            f"{name} is a {bases}, not a worldloom.WorldModel. Let it inherit from that, and fill it in."
        )
    lacking = sorted(getattr(kind, "__abstractmethods__", ()))
    if lacking:
        raise OwnModelError(f"{name} lacks {', '.join(lacking)}: the contract asks for them (docs/contract.md).")
    config_class(kind)
    return kind


def config_class(kind: type[WorldModel]) -> Any:
    """The class's ``Config``, a dataclass whose fields are flags; None where it has none."""
    return plugins.config_class(kind, kind.__name__, OwnModelError)


def default_config(kind: type[WorldModel]) -> Any:
    """A default ``Config``, or None where the class has none."""
    return plugins.default_config(kind, kind.__name__, OwnModelError)


def construct(kind: type[WorldModel], spec: Spec, config: Any) -> WorldModel:
    """``kind(spec, config)``. What it raises becomes one sentence with the place; the cause stays attached."""
    try:
        inspect.signature(kind).bind(spec, config)
    except TypeError as error:
        raise OwnModelError(
            f"{kind.__name__} is built as {kind.__name__}(spec, config), and its constructor does not take that: "
            f"{error}. Write def __init__(self, spec, config=None)."
        ) from error
    with explained(f"{kind.__name__}(spec, config)", "be built for this world", OwnModelError):
        model = kind(spec, config)
    if getattr(model, "spec", None) is None:
        raise OwnModelError(f"{kind.__name__} has no spec: call super().__init__(spec, config) in its constructor.")
    if next(model.parameters(), None) is None:
        raise OwnModelError(f"{kind.__name__} has no parameters, so there is nothing to train.")
    return model


def check_own(model: WorldModel, seed: int = 0) -> str:
    """Run the conformance suite once and return a line that says it passed, else raise with a table of what did not."""
    from worldloom.conformance import check_model

    report = check_model(model, seed=seed, frames=QUICK_FRAMES, raise_on_failure=False)
    if report.passed:
        return f"{report.model} keeps the contract: {len(report.checks)} of {len(report.checks)} checks passed."
    raise OwnModelError(
        f"{report.model} breaks the contract: {len(report.failures)} of {len(report.checks)} checks failed.\n"
        f"{report.table()}\nMend it (worldloom.check_model(model) checks again), or train it as it is by --no-check."
    )


__all__ = ["OwnModelError", "check_own", "config_class", "construct", "default_config", "find_model"]
