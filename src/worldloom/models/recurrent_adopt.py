"""What a recurrent model keeps of weights that were trained for another world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from worldloom.contract import Sensor, Spec
from worldloom.models.adopt import Get, by_block, by_entry, fresh, reach, same_sensors, size
from worldloom.nn.conv import encoded, halvings


def adopt(model: Any, name: str, get: Get, spec: Spec) -> Tensor | None:
    """What a recurrent model takes over: sensors and actions by their names, whatever their place.

    What reads the encoders' features depends on the size of the frames, and is new where that differs.
    """
    part, _, rest = name.partition(".")
    if part in ("encoders", "decoders"):
        return _sensor(model, part, rest, get, spec)
    if name not in ("controller.net.0.weight", "join.0.weight", "posterior.0.weight"):
        return None
    own, there = model.get_parameter(name), get(name)
    if part == "controller":
        return _controls(model, own, there, spec)
    sizes = ("gates.0.weight", "prior.3.weight")  # these know the widths of memory, sample and hidden layers
    known = {n: get(n) for n in sizes}
    if there is None or any(x is None or x.shape != model.get_parameter(n).shape for n, x in known.items()):
        return fresh(own.shape)
    latent = model.config.stoch * model.config.classes
    if part == "join":  # what follows the sample is the controls, where there are any
        return None if there.shape == own.shape else by_block(own, there, [(0, 0, latent)])
    deter, pairs = model.config.deter, same_sensors(model.sensors, spec.shown)
    here, at = _places(model, model.sensors), _places(model, dict(sorted(spec.shown.items())))
    if deter + sum(width for _, width in at.values()) != there.shape[1]:  # its encoders had other channels
        return by_block(own, there, [(0, 0, deter)])
    same = [(*here[n], *at[m]) for n, m in pairs.items() if here[n][1] == at[m][1]]
    return by_block(own, there, [(0, 0, deter), *((deter + i, deter + j, w) for i, w, j, _ in same)])


def _places(model: Any, sensors: Mapping[str, Sensor]) -> dict[str, tuple[int, int]]:
    """Where each sensor's features begin in E(o), and how many they are."""
    places, begin = {}, 0
    for name, sensor in sensors.items():
        vector = sensor.kind == "vector"
        width = model.config.units if vector else math.prod(encoded(sensor.shape, model.config.channels))
        places[name] = (begin, width)
        begin += width
    return places


def _sensor(model: Any, part: str, rest: str, get: Get, spec: Spec) -> Tensor:
    """A sensor's encoder or decoder, from its namesake's. A decoder's layers are counted from the end."""
    place, _, layer = rest.partition(".")
    own, name = model.get_parameter(f"{part}.{rest}"), list(model.sensors)[int(place)]
    other = same_sensors(model.sensors, spec.shown).get(name)
    if other is None:
        return fresh(own.shape)
    if part == "decoders" and layer.startswith("net."):
        _, number, kind = layer.split(".")
        extra = halvings(model.sensors[name].shape) - halvings(spec.shown[other].shape)
        layer = f"net.{int(number) - 3 * extra}.{kind}"
    there = get(f"{part}.{sorted(spec.shown).index(other)}.{layer}")
    return there if there is not None and there.shape == own.shape else fresh(own.shape)


def _controls(model: Any, own: Tensor, there: Tensor | None, spec: Spec) -> Tensor:
    """The columns of the controls' first layer, by the names of controls and of their entries."""
    out, begin = fresh(own.shape), 0
    known = dict(sorted(spec.given.items()))
    at = dict(zip(known, accumulate((size(c) for c in known.values()), initial=0), strict=False))
    for name, mine in model.controller.given.items():
        theirs, columns = known.get(name), own[:, begin : begin + size(mine)]
        if there is not None and theirs is not None:
            part = there[:, at[name] : at[name] + size(theirs)]
            rescaled = mine.kind == theirs.kind == "continuous" and reach(mine) != reach(theirs)
            if rescaled:  # numbers are divided by their bounds before they come here
                part = part / torch.tensor(reach(theirs))
            taken = by_entry(columns, part, mine, theirs, 1)
            out[:, begin : begin + size(mine)] = taken * torch.tensor(reach(mine)) if rescaled else taken
        begin += size(mine)
    return out


__all__ = ["adopt"]
