"""Gymnasium's spaces as the sensors and controls of a :class:`~worldloom.contract.Spec`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from worldloom.contract import ContractError, Control, Sensor, UnsupportedError
from worldloom.worlds.gym.pixels import Picture

MOST_CHOICES = 1024
"""Combinations of buttons above which a space of several choices is refused rather than counted through."""
UNBOUNDED = 1e10
"""Bounds beyond this are the largest floats by another name."""


# ------------------------------------------------------------------------------- observations


def leaves(space: gym.Space[Any], path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every simple space inside nested Dict and Tuple spaces, with the keys that lead to it."""
    if isinstance(space, gym.spaces.Dict):
        for key, inner in space.spaces.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(space, gym.spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from leaves(inner, (*path, index))
    else:
        yield path, space


def pick(value: Any, path: tuple[str | int, ...]) -> Any:
    """The entry of a nested observation that ``path`` leads to."""
    for key in path:
        value = value[key]
    return value


def is_numeric(space: gym.Space[Any]) -> bool:
    """Whether observations of the space have a fixed number of entries."""
    kinds = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)
    return isinstance(space, kinds)


class Vector:
    """An entry of the observation as a vector: Box entries as they are, choices as one-hot."""

    def __init__(self, name: str, space: gym.Space[Any]):
        self.name, self.space = name, space
        self.sensor = Sensor("vector", (int(gym.spaces.flatdim(space)),))

    def read(self, value: Any) -> np.ndarray:
        """One value as a new (D,) float32 array."""
        x = np.asarray(value)
        if x.shape != self.space.shape:
            raise ContractError(f"Sensor {self.name!r} was declared with shape {self.space.shape}, found {x.shape}.")
        if isinstance(self.space, gym.spaces.Box):
            return np.array(x, dtype=np.float32).reshape(-1)
        if not self.space.contains(x.astype(self.space.dtype)):
            raise ContractError(f"Sensor {self.name!r} was declared as {self.space}, found {value!r}.")
        return np.array(gym.spaces.flatten(self.space, x), dtype=np.float32).reshape(-1)


Reader = Picture | Vector


def sensor_of(reader: Reader) -> Sensor:
    """What a reader shows."""
    return reader.sensor if isinstance(reader, Vector) else Sensor("image", reader.shape)


# ------------------------------------------------------------------------------------ actions


def control_of(
    space: gym.Space[Any], names: tuple[str, ...] = ()
) -> tuple[Control, Callable[[np.ndarray | np.integer[Any]], Any]]:
    """The ``action`` control of an action space, and what turns one of its values into an action of the space.

    Discrete, Box (flattened), MultiDiscrete and MultiBinary (every combination a choice, the last entry fastest).
    """
    if isinstance(space, gym.spaces.Discrete):
        n, start, whole = int(space.n), int(space.start), np.dtype(space.dtype or np.int64).type
        return Control("discrete", n=n, names=names if len(names) == n else ()), lambda a: whole(int(a) + start)
    if isinstance(space, gym.spaces.Box):
        return _continuous(space)
    if isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        sizes = np.full(space.shape, 2) if isinstance(space, gym.spaces.MultiBinary) else space.nvec
        begin = getattr(space, "start", 0)
        total = int(np.prod(sizes.astype(np.float64).ravel()).clip(max=2**62))
        if total > MOST_CHOICES:
            raise UnsupportedError(
                f"The action space {space} has {total} combinations; up to {MOST_CHOICES} can be one discrete action. "
                "Wrap the environment to offer fewer (gymnasium.wrappers.TransformAction), or a Box."
            )

        def decode(a: np.ndarray | np.integer[Any]) -> Any:
            flat = np.unravel_index(int(a), tuple(int(s) for s in sizes.ravel()))
            return (np.array(flat).reshape(sizes.shape) + begin).astype(space.dtype)

        combined = _combined(names, sizes) if len(names) == sizes.size else ()
        return Control("discrete", n=total, names=combined), decode
    raise UnsupportedError(
        f"The action space {space} is not supported; expected Discrete, Box, MultiDiscrete or MultiBinary. Wrap the "
        "environment in gymnasium.wrappers.TransformAction to offer one of these."
    )


def _combined(names: tuple[str, ...], sizes: np.ndarray) -> tuple[str, ...]:
    """Names of all combinations of buttons: ``LEFT+ATTACK``, and ``NOOP`` for none."""
    if (sizes != 2).any():
        return ()
    grid = np.indices([2] * sizes.size).reshape(sizes.size, -1).T
    return tuple("+".join(n for n, on in zip(names, row, strict=True) if on) or "NOOP" for row in grid)


def _continuous(space: gym.spaces.Box) -> tuple[Control, Callable[[np.ndarray | np.integer[Any]], Any]]:
    low, high = space.low.astype(np.float64).ravel(), space.high.astype(np.float64).ravel()
    free = (np.abs(low) > UNBOUNDED) | (np.abs(high) > UNBOUNDED)
    if free.any() and not free.all():
        raise UnsupportedError(
            f"The action space {space} is bounded in some entries only. Wrap the environment in "
            "gymnasium.wrappers.ClipAction or RescaleAction to bound them all."
        )
    bounds: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    if not free.any():
        bounds = tuple(low.tolist()), tuple(high.tolist())
    whole = np.dtype(space.dtype).kind in "iu"

    def decode(a: np.ndarray | np.integer[Any]) -> Any:
        x = np.clip(np.asarray(a, np.float64), low, high)
        return (
            (np.rint(x) if whole else x)
            .astype(space.dtype)
            .clip(space.low.ravel(), space.high.ravel())
            .reshape(space.shape)
        )

    return Control("continuous", (low.size,), low=bounds[0], high=bounds[1]), decode


def check_actions(control: Control, action: Any, num: int) -> np.ndarray:
    """``action`` as (num, ...) int64 or float32, or :class:`ContractError` unless every row lies inside the space."""
    x = np.asarray(action)
    if x.shape != (num, *control.shape):
        raise ContractError(f"Actions must have shape {(num, *control.shape)}, one row a world, found {x.shape}.")
    if control.kind == "discrete":
        if x.dtype.kind not in "iu":
            raise ContractError(f"Actions must be whole numbers 0..{control.n - 1}, found {x.dtype}.")
        wrong = (x < 0) | (x >= control.n)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            null = f" ({control.n} is 'no action', which only a model can be given)" if x[row] == control.n else ""
            raise ContractError(f"World {row}: action {x[row]} is outside 0..{control.n - 1}{null}.")
        return x.astype(np.int64)
    if x.dtype.kind not in "fiu":
        raise ContractError(f"Actions must be numbers, found {x.dtype}.")
    bad = ~np.isfinite(x)
    if control.low:
        low, high = np.array(control.low), np.array(control.high)
        slack = 1e-4 * (1 + np.maximum(np.abs(low), np.abs(high)))
        bad |= (x < low - slack) | (x > high + slack)
    if bad.any():
        row, entry = (int(i) for i in np.argwhere(bad)[0])
        within = f" [{control.low[entry]:.4g}, {control.high[entry]:.4g}]" if control.low else " the finite numbers"
        raise ContractError(f"World {row}: action entry {entry} is {x[row, entry]:.4g}, outside{within}.")
    return x.astype(np.float32)
