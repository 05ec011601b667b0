"""A user's own classes and functions, named on the command line as ``module:Class``.

A name is imported because the user typed it, here and now. Names that stand in files are never imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from worldloom.contract import WorldloomError


class PluginError(WorldloomError):
    """A module, class or function of the user's can't be found or imported, or does not fit."""


def load(name: str, error: type[WorldloomError] = PluginError) -> Any:
    """What ``module:Class`` names; modules are looked for in the current folder too. ``error``: what is raised."""
    module_name, attribute = split(name, error)
    module = load_module(module_name, name, error)
    if not hasattr(module, attribute):
        raise missing(module, attribute, error)
    return getattr(module, attribute)


def split(name: str, error: type[WorldloomError] = PluginError) -> tuple[str, str]:
    """``module:Class`` as its two names."""
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise error(f"{name!r} is not of the form module:Class, as in my_module:MyClass.")
    return module_name, attribute


def load_module(module_name: str, name: str, error: type[WorldloomError] = PluginError) -> Any:
    """Import a module, from the current folder too. ``name``: what the user typed, for messages."""
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        stem = Path(module_name.replace("\\", "/")).stem
        attribute = name.rpartition(":")[2]
        raise error(f"{name!r}: give a module, not a file: '{stem}:{attribute}', from the folder it lies in.")
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:  # a console script does not start with the current folder on it
        sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(module_name)
    except ModuleNotFoundError as found:
        if found.name is None or not (module_name == found.name or module_name.startswith(found.name + ".")):
            raise error(f"Importing {module_name!r} failed: {found}.") from found
        near = difflib.get_close_matches(module_name, sorted(path.stem for path in Path(here).glob("*.py")), 1)
        hint = f" Did you mean '{near[0]}:{name.partition(':')[2]}'?" if near else ""
        raise error(f"There is no module {module_name!r} in {here} or among the installed ones.{hint}") from found
    except (Exception, SystemExit) as found:  # a script may end in sys.exit()
        raise error(
            f"Importing {module_name!r} failed: {type(found).__name__}: {one_line(found)}{place(found)}."
        ) from found


def missing(module: Any, attribute: str, error: type[WorldloomError] = PluginError) -> WorldloomError:
    """The error that a module has no such class or function, with the nearest ones that it has."""
    own = sorted(
        n
        for n, x in vars(module).items()
        if (inspect.isclass(x) or inspect.isfunction(x)) and x.__module__ == module.__name__
    )
    near = difflib.get_close_matches(attribute, own, 3)
    if near:
        hint = f"Did you mean {' or '.join(map(repr, near))}?"
    else:
        hint = f"It has {', '.join(own[:8])}." if own else "It has no classes or functions of its own."
    return error(f"Module {module.__name__!r} has no {attribute!r}. {hint}")


@contextmanager
def explained(label: str, doing: str, error: type[WorldloomError] = PluginError) -> Iterator[None]:
    """Turn whatever a user's code raises into one sentence with the place; the cause stays attached."""
    try:
        yield
    except WorldloomError:
        raise
    except Exception as found:
        raise error(
            f"{label} can't {doing}: {type(found).__name__}: {one_line(found).rstrip('.')}{place(found)}."
        ) from found


def config_class(owner: Any, label: str, error: type[WorldloomError] = PluginError) -> Any:
    """The ``Config`` of a class or function, a dataclass whose fields are its options; None where it has none."""
    found = getattr(owner, "Config", None)
    if found is not None and not (inspect.isclass(found) and dataclasses.is_dataclass(found)):
        raise error(f"{label}.Config must be a dataclass: write @dataclass above it.")
    return found


def default_config(owner: Any, label: str, error: type[WorldloomError] = PluginError) -> Any:
    """A default ``Config``, or None where there is none."""
    found = config_class(owner, label, error)
    if found is None:
        return None
    with explained(f"{label}.Config", "be made without arguments", error):
        return found()


def one_line(error: BaseException) -> str:
    """An exception's message without its line breaks."""
    return " ".join(str(error).split()) or "no message."


def place(error: BaseException) -> str:
    """Where an exception was raised: `` (file, line)``, or nothing."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        importing = trace.tb_frame.f_globals.get("__name__") in ("importlib", __name__)
        if not (importing or file.startswith("<")):  # the machinery is nobody's mistake
            where = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return where


def parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """The parameters that a class or function is called with, by name; None where it does not tell."""
    try:
        return dict(inspect.signature(make).parameters)
    except (TypeError, ValueError):  # some classes written in C have no signature
        return None


__all__ = [
    "PluginError",
    "config_class",
    "default_config",
    "explained",
    "load",
    "load_module",
    "missing",
    "one_line",
    "parameters",
    "place",
    "split",
]
