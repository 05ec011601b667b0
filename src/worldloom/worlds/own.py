"""A user's own :class:`~worldloom.worlds.base.World`, named as ``module:Class`` or ``module:function``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from worldloom import plugins
from worldloom.contract import Spec
from worldloom.plugins import explained, load, load_module, parameters, split
from worldloom.worlds.base import World
from worldloom.worlds.gym.find import EnvError


def find_world(name: str) -> Callable[..., World] | None:
    """What makes worlds under this name: a class or function with a parameter ``num``. None where it is a Gymnasium
    environment (a class, a function without ``num``, or an id that importing the module registers).

    Raises :class:`~worldloom.contract.WorldloomError` where there is no such module, or the class is neither.
    """
    if ":" not in name:
        return None
    import gymnasium

    module_name, attribute = split(name, EnvError)
    module = load_module(module_name, name, EnvError)
    if not hasattr(module, attribute) and attribute in gymnasium.registry:
        return None
    make = load(name, EnvError)
    if not callable(make):
        raise EnvError(
            f"{name} is a {type(make).__name__}, not a class or function that makes a world or an environment."
        )
    known = parameters(make)
    if inspect.isclass(make) and issubclass(make, gymnasium.Env):
        return None
    if known is not None and "num" in known:
        return make
    if inspect.isclass(make) and hasattr(make, "reset") and "spec" in _names(make):
        raise EnvError(
            f"{name} looks like a World, but its constructor takes ({', '.join(known or {})}), and not how many stand "
            f"side by side: write def __init__(self, num, seed=0{', config=None' if config_class(make) else ''})."
        )
    return None


def _names(kind: type[Any]) -> set[str]:
    return {name for base in kind.__mro__ for name in (*vars(base), *vars(base).get("__annotations__", ()))}


def config_class(make: Any) -> Any:
    """The ``Config`` of a world's class or function, a dataclass whose fields are its options; None without."""
    return plugins.config_class(make, _label(make), EnvError)


def default_config(make: Callable[..., World]) -> Any:
    """A default ``Config``, or None."""
    return plugins.default_config(make, _label(make), EnvError)


def construct(make: Callable[..., World], num: int, seed: int, config: Any) -> World:
    """``num`` worlds: ``make(num=..., seed=..., config=...)``, of which ``seed`` may be left out of its parameters, and
    ``config`` is given to those with a ``Config``."""
    label = _label(make)
    options: dict[str, Any] = {"num": num}
    known = parameters(make)
    if known is None or "seed" in known or any(p.kind is p.VAR_KEYWORD for p in known.values()):
        options["seed"] = seed
    if config is not None:
        options["config"] = config
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        given = ", ".join(options)
        raise EnvError(f"{label} is made as {label}({given}), by name, and does not take that: {error}.") from error
    with explained(f"{label}(num={num})", "be made", EnvError):
        world = make(**options)
    lacking = [n for n in ("spec", "num", "reset", "step", "close") if not hasattr(world, n)]
    if lacking:
        raise EnvError(
            f"{label} made a {type(world).__name__} that lacks {', '.join(lacking)}. A World has spec, num, reset(seed"
            ", mask), step(action) and close(); see docs/your-own.md."
        )
    if not isinstance(world.spec, Spec):
        raise EnvError(f"{label}.spec must be a worldloom.Spec, found {type(world.spec).__name__}.")
    if world.num != num:
        raise EnvError(f"{label} was asked for num={num} worlds and has num={world.num}.")
    return world


def from_options(make: Callable[..., World], options: Mapping[str, Any]) -> Any:
    """A ``Config`` with these fields; None for a world that has none and is given none."""
    from worldloom.configs import from_json

    settings, label = config_class(make), _label(make)
    if settings is not None:
        return from_json(settings, options, label)
    if options:
        name = next(iter(options))
        near = difflib.get_close_matches(name, ("num", "seed"), 1)
        hint = f" Did you mean {near[0]!r}?" if near else " Give its class a dataclass Config with such a field."
        raise EnvError(f"{label} has no option {name!r}.{hint}")
    return None


def check_own(make: Callable[..., World], config: Any, seed: int = 0) -> str:
    """Hold two of the worlds to the protocol and return a line that says they keep it, else raise with a table."""
    from worldloom.worlds.checking import check_world

    world = construct(make, 2, seed, config)
    try:
        report = check_world(world, make=lambda n: construct(make, n, seed, config), seed=seed, raise_on_failure=False)
    finally:
        world.close()
    if report.passed:
        return f"{report.model} keeps the protocol of worlds: {len(report.checks)} checks passed."
    raise EnvError(
        f"{report.model} breaks the protocol of worlds: {len(report.failures)} of {len(report.checks)} checks failed.\n"
        f"{report.table()}\nMend it (worldloom.check_world(world) checks again), or go on as it is by --no-check."
    )


def _label(make: Callable[..., World]) -> str:
    return str(getattr(make, "__qualname__", type(make).__name__))


__all__ = ["check_own", "config_class", "construct", "default_config", "find_world", "from_options"]
