"""One spec for several datasets: what differs, and what the user must say before they are read as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from worldloom.configs import ConfigError
from worldloom.contract import Control, Sensor, Spec
from worldloom.data.episode import DataError
from worldloom.data.mixing.actions import Actions, agree_actions, describe_action
from worldloom.data.mixing.adapt import Reading

ALIKE = 0.01
"""Rates that differ by less (29.97 and 30) count as one where the user said how rates should meet."""


@dataclass(frozen=True)
class Terms:
    """How datasets that differ are read as one. What is not said must not differ."""

    size: tuple[int, int] | Literal["first"] | None = None
    """Height and width that all pictures are resized to, or ``first``: those of the first dataset. Grey pictures become
    RGB where others are."""
    fit: Literal["strict", "crop", "pad", "stretch"] = "strict"
    """How pictures of another shape are fitted: ``crop`` cuts the middle out, ``pad`` adds black, ``stretch``
    distorts; ``strict`` refuses."""
    sensors: tuple[str, ...] | None = None
    """Sensors, and controls beside the action, to keep. ``camera=image=top``: the sensor camera, or what it is called
    elsewhere."""
    actions: Actions | None = None
    """``same``, ``union``, ``drop``, or a map; see :class:`worldloom.data.mixing.mixture.Mixture`."""
    fps: Literal["stride", "ignore"] | None = None
    """Where rates differ: ``stride`` takes every k-th frame of the faster ones, ``ignore`` takes all frames of all."""

    def __post_init__(self) -> None:
        if isinstance(self.size, tuple) and not all(1 <= n <= 4096 for n in self.size):
            raise ConfigError(f"size must be two numbers from 1 to 4096, found {self.size}.")


def agree(names: Sequence[str], specs: Sequence[Spec], terms: Terms) -> tuple[Spec, list[Reading]]:
    """The spec that all are read as, and how each is.

    Raises one :class:`DataError` that lists everything in which they differ and ``terms`` does not settle, each with
    what settles it.
    """
    problems: list[str] = []

    def settle(part: Callable[..., Any], *args: Any) -> Any:
        try:
            return part(names, *args)
        except DataError as error:
            problems.append(str(error))
            return None

    sensors = settle(_sensors, specs, terms)
    if sensors is None:  # then what they have in common is still looked at, so that all is said at once
        sensors = [{n: n for n in specs[0].shown if all(n in s.shown for s in specs)} for _ in specs]
    shown = settle(_shown, specs, sensors, terms)
    given = settle(_given, specs, terms)
    action = settle(agree_actions, [s.action for s in specs], terms.actions)
    rate = settle(_rate, [s.fps for s in specs], terms.fps)
    if problems or shown is None:
        listed = "\n".join(f"  {p}" for p in problems)
        raise DataError(f"The datasets differ, and nobody said how to mix what differs:\n{listed}")
    common, places = action
    fps, strides = rate
    controls = ({} if common is None else {"action": common}) | given
    readings = [
        Reading(own, terms.fit, stride, goes if common is not None else None)
        for own, stride, goes in zip(sensors, strides, places, strict=True)
    ]
    return Spec(shown, controls, fps), readings


def _sensors(names: Sequence[str], specs: Sequence[Spec], terms: Terms) -> list[dict[str, str]]:
    """Each kept sensor, and its name in each dataset."""
    shown = [s.shown for s in specs]
    if terms.sensors is None:
        everywhere = [n for n in shown[0] if all(n in s for s in shown)]
        some = {n: [who for who, s in zip(names, shown, strict=True) if n in s] for s in shown for n in s}
        some = {n: who for n, who in some.items() if n not in everywhere}
        if some:
            listed = ", ".join(f"{n!r} in {' and '.join(who)} alone" for n, who in some.items())
            keep = f"Say --sensors {' '.join(everywhere)} to leave the others out." if everywhere else ""
            called = "Where one is called differently: --sensors camera=image."
            raise DataError(f"sensors: {listed}. {keep or called}")
        return [{n: n for n in shown[0]} for _ in shown]
    found: list[dict[str, str]] = [{} for _ in shown]
    for word in terms.sensors:
        aliases = word.split("=")
        own = [next((a for a in aliases if a in s), None) for s in shown]
        if not any(own) and not any(aliases[0] in s.given for s in specs):
            has = dict.fromkeys(n for s in specs for n in (*s.shown, *s.given))
            raise DataError(f"sensors: nobody has {' or '.join(map(repr, aliases))}; there are {', '.join(has)}.")
        for who, s, name, mine in zip(names, shown, own, found, strict=True):
            if name is None and any(own):
                raise DataError(f"sensors: {who} has no {' or '.join(map(repr, aliases))}; it has {', '.join(s)}.")
            if name is not None:
                mine[aliases[0]] = name
    if not found[0]:
        raise DataError(f"sensors: --sensors must keep at least one of {', '.join(shown[0])}.")
    return found


def _shown(
    names: Sequence[str], specs: Sequence[Spec], sensors: list[dict[str, str]], terms: Terms
) -> dict[str, Sensor]:
    result = {}
    for name in sensors[0]:
        own = [s.shown[m[name]] for s, m in zip(specs, sensors, strict=True)]
        if terms.size is not None and all(s.kind == "image" for s in own):
            channels = {s.shape[0] for s in own}
            if channels - {max(channels), 1}:
                raise DataError(f"picture {name!r}: {_shapes(names, own)}. Channels must be equal, or 1 (grey).")
            size = own[0].shape[1:] if terms.size == "first" else terms.size
            result[name] = replace(own[0], shape=(max(channels), *size))
        elif any(s != own[0] for s in own):
            image = all(s.kind == "image" for s in own)
            say = "Say --size first, or --size HEIGHT WIDTH." if image else "Leave it out: --sensors and the others."
            raise DataError(f"{'picture' if image else 'sensor'} {name!r}: {_shapes(names, own)}. {say}")
        else:
            result[name] = own[0]
    return result


def _shapes(names: Sequence[str], sensors: Sequence[Sensor]) -> str:
    def words(s: Sensor) -> str:
        return (
            "×".join(map(str, s.shape))
            + (f" {s.kind}" if s.kind != "image" else "")
            + (f" in {s.unit}" if s.unit else "")
        )

    return ", ".join(f"{who} {words(s)}" for who, s in zip(names, sensors, strict=True))


def _given(names: Sequence[str], specs: Sequence[Spec], terms: Terms) -> dict[str, Control]:
    """Controls beside the action: equal in all, and among those to keep."""
    keep = None if terms.sensors is None else {w.split("=")[0] for w in terms.sensors}
    every = dict.fromkeys(n for s in specs for n in s.given if n != "action" and (keep is None or n in keep))
    for name in every:
        own = [s.given.get(name) for s in specs]
        if any(c != own[0] for c in own):
            has = ", ".join(
                f"{who} {describe_action(c) if c else 'has none'}" for who, c in zip(names, own, strict=True)
            )
            raise DataError(f"control {name!r}: {has}. Say --sensors with what to keep instead.")
    return {name: specs[0].given[name] for name in every}


def _rate(names: Sequence[str], rates: Sequence[float], how: str | None) -> tuple[float, list[int]]:
    """The common rate, and every how many frames of each are taken."""
    if all(r == rates[0] for r in rates) or how == "ignore":
        return rates[0], [1] * len(rates)
    slowest = min(rates)
    strides = [max(1, round(r / slowest)) for r in rates]
    whole = all(abs(r / (k * slowest) - 1) <= ALIKE for r, k in zip(rates, strides, strict=True))
    found = ", ".join(f"{who} {r:g}" for who, r in zip(names, rates, strict=True))
    if how == "stride" and whole:
        return slowest, strides
    every = ", ".join(f"every {k}. frame of {who}" for who, k in zip(names, strides, strict=True) if k > 1)
    say = f"--fps-mix stride ({every or 'all frames: they are nearly equal'}), or " if whole else ""
    only = "" if whole else " They are no whole multiples of the slowest."
    raise DataError(f"frames per second: {found}.{only} Say {say}--fps-mix ignore (all frames of all).")


__all__ = ["Terms", "agree"]
