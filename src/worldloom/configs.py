"""Typed configurations to and from plain JSON, with errors that name the field."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from worldloom.contract import WorldloomError

T = TypeVar("T")


class ConfigError(WorldloomError):
    """A configuration has an unknown field, a missing one, or a value of the wrong kind."""


def to_json(config: Any) -> Any:
    """A dataclass (nested ones too) as plain JSON types."""
    return dataclasses.asdict(config)


def from_json(cls: type[T], data: Mapping[str, Any], where: str = "config") -> T:
    """Build the dataclass ``cls`` from :func:`to_json`'s output. Nothing in ``data`` is ever imported or evaluated."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a JSON object, found {type(data).__name__}.")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Fields: {sorted(known)}."
            raise ConfigError(f"{where} has an unknown field {name!r}.{hint}")
    try:
        return cls(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def at_least(config: Any, low: int, *names: str) -> None:
    """Raise :class:`ConfigError` unless each named field is ``low`` or more: for a ``__post_init__``."""
    for name in names:
        if not getattr(config, name) >= low:
            raise ConfigError(f"{name} must be at least {low}, found {getattr(config, name)}.")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Raise :class:`ConfigError` unless each named field lies in [low, high]."""
    for name in names:
        if not low <= getattr(config, name) <= high:
            raise ConfigError(f"{name} must lie in [{low:g}, {high:g}], found {getattr(config, name)}.")


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        for option in options:
            try:
                return _value(option, value, where)
            except ConfigError:
                if option is options[-1]:
                    raise
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {list(args)}, found {value!r}.")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value, where)
    if origin is tuple or hint is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, found {value!r}.")
        inner = args[0] if args else Any
        if args and (len(args) != 2 or args[1] is not Ellipsis):
            if len(args) != len(value):
                raise ConfigError(f"{where} must have {len(args)} entries, found {len(value)}.")
            return tuple(_value(a, v, where) for a, v in zip(args, value, strict=True))
        return tuple(_value(inner, v, where) for v in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be an object, found {value!r}.")
        return {k: _value(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{where} is a number beyond 64 bits.")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong = hint in (int, float, str, bool) and not isinstance(value, hint)
    if wrong or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {hint.__name__}, found {value!r}.")
    return value
