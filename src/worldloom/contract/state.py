"""What a model carries from frame to frame, and the keys from which its rows draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import overload

import torch
from torch import Tensor

from worldloom.contract.errors import ContractError

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit number
_MUL1 = -4658895280553007687  # multipliers of splitmix64 (Steele, Lea, Flood 2014)
_MUL2 = -7723592293110705685


def mix(a: Tensor, b: Tensor | int) -> Tensor:
    """Hash two int64 tensors (broadcast together) into one, by splitmix64's finaliser.

    Integer arithmetic only, hence the same bits on every device and for every batch shape.
    """
    z = a * _GOLDEN + b + _GOLDEN
    for shift, multiplier in ((30, _MUL1), (27, _MUL2)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def row_keys(batch: int, seed: int | Sequence[int] | Tensor, device: torch.device | str | None = None) -> Tensor:
    """(B,) int64 keys. One ``seed`` gives row i the key of (seed, i); a sequence of B seeds gives each row the key
    that it would have alone, so that sessions started apart can be stacked into one batch."""
    if isinstance(seed, Integral):  # numpy's too
        seeds = torch.tensor(int(seed), dtype=torch.int64, device=device)
        return mix(mix(seeds, 1), torch.arange(batch, device=device))
    seeds = torch.as_tensor(seed, dtype=torch.int64, device=device)
    if seeds.shape != (batch,):
        raise ContractError(f"Give one seed or one per row: expected shape ({batch},), found {tuple(seeds.shape)}.")
    return mix(mix(seeds, 1), 0)


class State:
    """What a model carries from frame to frame: named tensors, batch first, explicit in and out.

    Two entries are in every state: ``key`` (B,) int64, the row's source of randomness, and ``frame`` (B,) int64, how
    many frames the row has seen or dreamed. Shapes never depend on a state's age, so sessions of any age can be
    stacked. States are values: methods return new ones, and models never write into one they are given unless the
    caller donates it.
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors: dict[str, Tensor] = dict(tensors)
        for name in ("key", "frame"):
            if name not in self.tensors or self.tensors[name].dtype != torch.int64:
                raise ContractError(f"A State holds {name!r} as (B,) int64.")
        sizes = {name: x.shape[0] if x.ndim else 0 for name, x in self.tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ContractError(f"All tensors of a State share the batch size, found {sizes}.")

    @property
    def batch(self) -> int:
        """B."""
        return self.tensors["key"].shape[0]

    @property
    def key(self) -> Tensor:
        """(B,) int64: each row's source of randomness."""
        return self.tensors["key"]

    @property
    def frame(self) -> Tensor:
        """(B,) int64: frames seen or dreamed so far; draws for the coming frame use this number."""
        return self.tensors["frame"]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.key.device

    @overload
    def __getitem__(self, index: str) -> Tensor: ...
    @overload
    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> State: ...
    def __getitem__(self, index: str | int | slice | Sequence[int] | Tensor) -> Tensor | State:
        """``state["name"]`` is a tensor; any other index picks rows (an int keeps a batch of one)."""
        if isinstance(index, str):
            return self.tensors[index]
        if isinstance(index, int):
            index = range(self.batch)[index]
            index = slice(index, index + 1)
        picked = index if isinstance(index, slice) else torch.as_tensor(index, device=self.device)
        return State({name: x[picked] for name, x in self.tensors.items()})

    def replace(self, **tensors: Tensor) -> State:
        """The same state with some tensors exchanged."""
        return State({**self.tensors, **tensors})

    def repeat(self, n: int) -> State:
        """Each row ``n`` times, side by side: (B,) to (B*n,). Keys are kept (common random numbers)."""
        return State({name: x.repeat_interleave(n, 0) for name, x in self.tensors.items()})

    @staticmethod
    def stack(states: Iterable[State]) -> State:
        """Join states of any age along the batch."""
        parts = list(states)
        if not parts:
            raise ContractError("State.stack needs at least one state.")
        names = [set(p.tensors) for p in parts]
        if any(n != names[0] for n in names):
            raise ContractError("Only states of one model can be stacked: their tensors have different names.")
        return State({name: torch.cat([p.tensors[name] for p in parts]) for name in parts[0].tensors})

    def split(self, size: int = 1) -> list[State]:
        """Pieces of ``size`` rows (the last may be smaller); the inverse of :meth:`stack`."""
        return [self[i : i + size] for i in range(0, self.batch, size)]

    def to(self, device: torch.device | str) -> State:
        """The same state on another device."""
        return State({name: x.to(device) for name, x in self.tensors.items()})

    def detach(self) -> State:
        """Cut from the graph."""
        return State({name: x.detach() for name, x in self.tensors.items()})

    def clone(self) -> State:
        """A copy that shares no memory."""
        return State({name: x.clone() for name, x in self.tensors.items()})

    def reseed(self, seed: int | Sequence[int] | Tensor) -> State:
        """Independent futures: new keys from the old ones, the seed and the row's place.

        ``state.repeat(8).reseed(1)`` gives eight different dreams of each row.
        """
        return self.replace(key=mix(self.key, row_keys(self.batch, seed, self.device)))
