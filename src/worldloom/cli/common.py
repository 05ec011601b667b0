"""What the verbs share: taking flags, parsing typed ones, finding a verb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tyro

from worldloom.contract import WorldloomError, WorldModel

Verb = Callable[[list[str]], int]
"""Takes the arguments after its name; returns the exit code."""


def take(args: list[str], flag: str, *, keep: bool = False) -> str | None:
    """The value of ``flag VALUE`` or ``flag=VALUE``, which is removed from the arguments unless ``keep``."""
    for i, arg in enumerate(args):
        if arg == flag:
            if i + 1 == len(args):
                raise WorldloomError(f"{flag} needs a value.")
            value = args[i + 1]
            if not keep:
                del args[i : i + 2]
            return value
        if arg.startswith(f"{flag}="):
            if not keep:
                del args[i]
            return arg.split("=", 1)[1]
    return None


def model_class(name: str | None) -> type[WorldModel] | None:
    """The class that ``--model module:Class`` names, for the ``kind`` of whatever loads a run; None without the flag.

    Every verb that takes a model has a field ``model: str | None = None`` and passes it through here.
    """
    if name is None:
        return None
    from worldloom.models.own import find_model

    return find_model(name)


def parse(kind: type[Any], args: Sequence[str], program: str) -> Any:
    """The flags of a dataclass ``kind``."""
    # Flags may stand behind a choice too, as in `model.codec:none --out runs/mine`.
    return tyro.cli(kind, args=list(args), prog=program, config=(tyro.conf.CascadeSubcommandArgs,))


def dispatch(verbs: dict[str, Verb], args: list[str], what: str, usage: str) -> int:
    """Run the verb that the first argument names; an unknown one raises with the nearest."""
    import difflib

    if not args or args[0] in ("-h", "--help"):
        print(usage)
        return 0 if args else 2
    if args[0] not in verbs:
        near = difflib.get_close_matches(args[0], verbs, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(verbs)}."
        raise WorldloomError(f"There is no {what} {args[0]!r}. {hint}")
    return verbs[args[0]](args[1:])
