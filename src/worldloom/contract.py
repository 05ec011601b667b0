"""The one page that every world model, world, planner, probe and server agrees on.

A world *shows* sensors and is *given* controls (:class:`Spec`). Sequences of both are a
:class:`Segment`; what a model carries from frame to frame is a :class:`State`; a
:class:`WorldModel` is trained by ``loss`` and dreams through ``start``, ``observe``, ``step`` and
``decode``. In the field's words: encoder z = E(o), dynamics z' ~ f(z, a), decoder o' = D(z'),
reward r = g(z').

Conventions, which every part of the library relies on:

* ``action[t]`` led to frame ``t``. At the start of an episode ``first`` is true and the action is
  null: index n for n discrete actions, zeros for continuous ones.
* ``control[name][t]`` describes frame ``t``; ``reward[t]`` and ``terminal[t]`` belong to arriving at
  frame ``t``. A time limit is not terminal.
* Images rest as uint8 ``(..., C, H, W)`` and become floats only inside a model.
* A random draw is a pure function of (row's key, frame, place of the draw), never of the batch.

This module imports nothing else of the library.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from operator import index
from typing import Any, ClassVar, Literal, TypeAlias, overload

import torch
from torch import Tensor, nn

# ------------------------------------------------------------------------------------- errors


class WorldloomError(Exception):
    """A mistake the user can mend. The message says what was found, expected, and what to do."""


class ContractError(WorldloomError):
    """A tensor, control or model does not fit the :class:`Spec` or the contract."""


class UnsupportedError(WorldloomError):
    """A capability was asked of a model that does not have it."""


# --------------------------------------------------------------------------------------- spec


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape as whole numbers, whose tensors this world's computers can hold."""
    sizes = tuple(int(index(n)) for n in shape)
    if not all(0 <= n < 2**40 for n in sizes) or math.prod(sizes) >= 2**40:
        raise ContractError(f"Sizes must be positive and fit into memory, found {sizes}.")
    return sizes


@dataclass(frozen=True)
class Sensor:
    """Something a world shows at every frame."""

    kind: Literal["image", "range", "vector"]
    """``image``: uint8 (C, H, W); ``range``: float32 (C, H, W); ``vector``: float32 (D,)."""
    shape: tuple[int, ...]
    """Shape of one frame, without batch and time."""
    unit: str = ""
    """Physical unit of a range image's or vector's entries, for labels."""

    def __post_init__(self) -> None:
        if self.kind not in ("image", "range", "vector") or not isinstance(self.unit, str):
            raise ContractError(f"A sensor is an image, range or vector with a unit in letters, found {self}.")
        object.__setattr__(self, "shape", _sizes(self.shape))
        expected = 1 if self.kind == "vector" else 3
        if len(self.shape) != expected or min(self.shape) < 1:
            raise ContractError(
                f"A sensor of kind {self.kind!r} has {expected} positive sizes, not shape {self.shape}."
            )

    @property
    def dtype(self) -> torch.dtype:
        """Resting dtype of the sensor's tensors."""
        return torch.uint8 if self.kind == "image" else torch.float32


@dataclass(frozen=True)
class Control:
    """Something a world is given: an action, a layout, telemetry, a text's tokens."""

    kind: Literal["discrete", "continuous", "map", "tokens"]
    """``discrete``: int64 index; ``continuous``: float32 (D,); ``map``: float32 (C, H, W);
    ``tokens``: int64 (L,)."""
    shape: tuple[int, ...] = ()
    """Shape of one frame's value; ``()`` for discrete."""
    n: int = 0
    """Number of choices (discrete) or of the vocabulary (tokens); 0 otherwise. For a discrete control index
    ``n`` itself is the null choice."""
    names: tuple[str, ...] = ()
    """Names of the choices (discrete) or of the entries (continuous); may be empty."""
    low: tuple[float, ...] = ()
    """Lower bounds of a continuous control's entries; empty when unbounded."""
    high: tuple[float, ...] = ()
    """Upper bounds, as ``low``."""
    per: Literal["frame", "once"] = "frame"
    """Whether the control is given with every frame or once for a whole sequence."""

    def __post_init__(self) -> None:
        if self.kind not in ("discrete", "continuous", "map", "tokens") or self.per not in ("frame", "once"):
            raise ContractError(f"There is no control of kind {self.kind!r} given per {self.per!r}.")
        object.__setattr__(self, "shape", _sizes(self.shape))
        if not 0 <= index(self.n) < 2**62:
            raise ContractError(f"A control has between 1 and 2**62 choices, found {self.n}.")
        object.__setattr__(self, "n", index(self.n))
        if not all(isinstance(x, (tuple, list)) for x in (self.names, self.low, self.high)):
            raise ContractError(
                f"Names and bounds of a control are lists, found {self.names}, {self.low}, {self.high}."
            )
        if not all(isinstance(name, str) for name in self.names):
            raise ContractError(f"The names of a control must be texts, found {self.names!r}.")
        if not all(isinstance(x, Real) and not math.isnan(x) for x in (*self.low, *self.high)):
            raise ContractError(f"The bounds of a control must be numbers, found {self.low} and {self.high}.")
        # Plain tuples and numbers, so that what numpy or a list says is the same control, and has JSON.
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        for name in ("low", "high"):
            bounds = tuple(x if type(x) in (int, float) else float(x) for x in getattr(self, name))
            object.__setattr__(self, name, bounds)
        if self.kind in ("discrete", "tokens") and self.n < 1:
            raise ContractError(f"A {self.kind} control needs n >= 1 choices, found {self.n}.")
        ndim = {"discrete": 0, "continuous": 1, "map": 3, "tokens": 1}[self.kind]
        if len(self.shape) != ndim:
            raise ContractError(f"A {self.kind} control has {ndim} sizes, not shape {self.shape}.")
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound and (self.kind != "continuous" or len(bound) != self.shape[0]):
                raise ContractError(f"{name} must have one bound per entry of {self.shape}, found {len(bound)}.")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the control's tensors."""
        return torch.int64 if self.kind in ("discrete", "tokens") else torch.float32

    def null(self, *lead: int, device: torch.device | str | None = None) -> Tensor:
        """The null value (index ``n`` or zeros), shape ``(*lead, *shape)``."""
        if self.kind in ("discrete", "tokens"):
            return torch.full((*lead, *self.shape), self.n, dtype=torch.int64, device=device)
        return torch.zeros((*lead, *self.shape), device=device)

    def check(self, value: Tensor, lead: tuple[int, ...], name: str, *, values: bool = True) -> None:
        """Raise :class:`ContractError` unless ``value`` has shape ``(*lead, *shape)``, the right kind of
        dtype and, with ``values``, lies inside the control's range."""
        if tuple(value.shape) != (*lead, *self.shape):
            raise ContractError(f"Control {name!r} must have shape {(*lead, *self.shape)}, found {tuple(value.shape)}.")
        if value.is_floating_point() != self.dtype.is_floating_point or value.dtype == torch.bool:
            raise ContractError(f"Control {name!r} must be {self.dtype}, found {value.dtype}.")
        if not values or value.numel() == 0:
            return
        if self.kind in ("discrete", "tokens"):
            lo, hi = int(value.min()), int(value.max())
            if lo < 0 or hi > self.n:
                raise ContractError(
                    f"Control {name!r} has {self.n} choices: give 0..{self.n - 1} ({self.n} is 'none'), "
                    f"found {lo if lo < 0 else hi}."
                )
            return
        if not bool(torch.isfinite(value).all()):
            raise ContractError(f"Control {name!r} holds NaN or infinite values.")
        if self.low or self.high:
            low = torch.tensor(self.low or (-math.inf,) * self.shape[0], device=value.device)
            high = torch.tensor(self.high or (math.inf,) * self.shape[0], device=value.device)
            null = (value == 0).all(-1, keepdim=True)  # zeros are 'none', whatever the bounds
            slack = 1e-4 * (1 + torch.maximum(low.abs().nan_to_num(posinf=0), high.abs().nan_to_num(posinf=0)))
            outside = ((value < low - slack) | (value > high + slack)) & ~null
            if bool(outside.any()):
                worst = value[outside][0].item()
                raise ContractError(
                    f"Control {name!r} lies outside its bounds: found {worst:.4g}, "
                    f"expected low {list(self.low)} to high {list(self.high)}."
                )


Controls: TypeAlias = Mapping[str, Tensor] | Tensor | None


@dataclass(frozen=True)
class Spec:
    """What a world shows and what it is given."""

    shown: dict[str, Sensor]
    """Sensors by name, each shown at every frame."""
    given: dict[str, Control] = field(default_factory=dict)
    """Controls by name; ``action`` is the first, and absent for plain video."""
    fps: float = 15.0
    """Frames per second of the world, for playback."""

    def __post_init__(self) -> None:
        if not self.shown:
            raise ContractError("A Spec shows at least one sensor.")
        if not (self.fps > 0 and math.isfinite(self.fps)):
            raise ContractError(f"fps must be a positive number, found {self.fps}.")
        object.__setattr__(self, "fps", float(self.fps))  # so that 20 and 20.0 are one spec, and one JSON

    @property
    def action(self) -> Control | None:
        """The control named ``action``, or None for plain video."""
        return self.given.get("action")

    @property
    def once(self) -> frozenset[str]:
        """Names of the controls that are given once for a whole sequence."""
        return frozenset(name for name, c in self.given.items() if c.per == "once")

    @property
    def images(self) -> dict[str, Sensor]:
        """The sensors that are images."""
        return {name: s for name, s in self.shown.items() if s.kind == "image"}

    def check_obs(self, obs: Mapping[str, Tensor], *lead: int) -> None:
        """Raise :class:`ContractError` unless ``obs`` holds every shown sensor as ``(*lead, *shape)``."""
        missing = sorted(set(self.shown) - set(obs))
        if missing:
            raise ContractError(f"Missing sensors {missing}: the model needs {sorted(self.shown)}.")
        for name, sensor in self.shown.items():
            value = obs[name]
            if tuple(value.shape) != (*lead, *sensor.shape):
                raise ContractError(
                    f"Sensor {name!r} must have shape {(*lead, *sensor.shape)}, found {tuple(value.shape)}."
                )
            if value.dtype != sensor.dtype:
                raise ContractError(f"Sensor {name!r} must be {sensor.dtype}, found {value.dtype}.")

    def controls(self, control: Controls, *lead: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """The per-frame controls as a checked dictionary of tensors ``(*lead, *shape)``.

        ``control`` may be a bare tensor (the action), a mapping, or None where no action is taken. Values are
        checked against their range on the CPU only; elsewhere that would wait for the device at every frame.
        """
        if isinstance(control, Tensor):
            control = {"action": control}
        control = dict(control or {})
        unknown = sorted(set(control) - set(self.given))
        if unknown:
            raise ContractError(f"Unknown controls {unknown}: this model is given {sorted(self.given) or 'none'}.")
        out: dict[str, Tensor] = {}
        for name, kind in self.given.items():
            if kind.per != "frame":
                continue
            if name not in control:
                raise ContractError(f"Missing control {name!r} of shape {(*lead, *kind.shape)}.")
            value = control[name]
            kind.check(value, lead, name, values=value.device.type == "cpu")
            out[name] = value.to(device=device, dtype=kind.dtype)
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Spec:
        """Rebuild a spec from :meth:`to_json`'s output (tuples may have become lists)."""

        def build(kind: type[Any], values: Mapping[str, Any]) -> Any:
            known = {f.name for f in fields(kind)}
            if not isinstance(values, Mapping) or set(values) - known:
                raise ContractError(f"A {kind.__name__} has the fields {sorted(known)}, found {str(values)[:200]}.")
            return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

        try:
            shown = {name: build(Sensor, s) for name, s in data["shown"].items()}
            given = {name: build(Control, c) for name, c in data.get("given", {}).items()}
            fps = data.get("fps", 15.0)
            if isinstance(fps, (str, bool)):
                raise ContractError(f"fps must be a positive number, found {fps!r}.")
            return cls(shown, given, float(fps))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ContractError(f"This is not the JSON of a Spec: {error!r}.") from error


def check_covers(there: Spec, wanted: Spec, where: str) -> None:
    """Raise :class:`ContractError` unless ``there`` has all that a model of ``wanted`` reads, in the same shapes.

    It may hold more, which the model then does not see.
    """
    for what, mine, its in (("sensor", wanted.shown, there.shown), ("control", wanted.given, there.given)):
        for name, kind in mine.items():
            if its.get(name) != kind:
                raise ContractError(
                    f"The model reads the {what} {name!r} as {kind}; {where} has {its.get(name) or f'no such {what}'}. "
                    "Build the model from the dataset's spec, or take a dataset of its world."
                )


# ------------------------------------------------------------------------------------ segment


@dataclass(frozen=True)
class Segment:
    """A batch of sequences, ``(B, T, ...)``."""

    obs: dict[str, Tensor]
    """Sensor name to (B, T, *sensor.shape); images uint8."""
    control: dict[str, Tensor]
    """Control name to (B, T, *control.shape), or (B, *control.shape) for those named in ``once``."""
    first: Tensor
    """(B, T) bool: the frame starts an episode."""
    valid: Tensor
    """(B, T) bool: the frame is real, not padding."""
    reward: Tensor | None = None
    """(B, T) float32, or None where the data have no rewards."""
    terminal: Tensor | None = None
    """(B, T) bool: arriving at the frame truly ended the episode; None where unknown."""
    once: frozenset[str] = frozenset()
    """Names of the controls that are given once, (B, ...) without an axis of time."""

    @property
    def action(self) -> Tensor | None:
        """(B, T, ...) the action that led to each frame; None for plain video."""
        return self.control.get("action")

    @property
    def batch(self) -> int:
        """B."""
        return self.first.shape[0]

    @property
    def length(self) -> int:
        """T."""
        return self.first.shape[1]

    def _map(self, fn: Any, once: Any = None) -> Segment:
        """Apply ``fn`` to tensors with (B, T), ``once`` (default ``fn``) to those with B alone."""

        def one(x: Tensor | None) -> Tensor | None:
            return None if x is None else fn(x)

        return Segment(
            {k: fn(v) for k, v in self.obs.items()},
            {k: (once or fn)(v) if k in self.once else fn(v) for k, v in self.control.items()},
            fn(self.first),
            fn(self.valid),
            one(self.reward),
            one(self.terminal),
            self.once,
        )

    def to(self, device: torch.device | str) -> Segment:
        """The same segment on another device."""
        return self._map(lambda x: x.to(device, non_blocking=torch.device(device).type == "cuda"))

    def rows(self, index: Tensor | slice | Sequence[int]) -> Segment:
        """Some of the sequences."""
        return self._map(lambda x: x[index])

    def time(self, window: slice) -> Segment:
        """Some of the frames: ``segment.time(slice(0, 4))`` is the first four of each sequence.

        Controls given once stay whole. One without an axis of time that :attr:`once` does not name raises
        :class:`ContractError`.
        """
        for name, x in self.control.items():
            if name not in self.once and x.shape[:2] != self.first.shape:
                raise ContractError(
                    f"Control {name!r} has shape {tuple(x.shape)} and no axis of {self.length} frames. If it is given "
                    "once for a sequence, name it in Segment.once."
                )
        return self._map(lambda x: x[:, window], once=lambda x: x)


# -------------------------------------------------------------------------------------- state

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


# -------------------------------------------------------------------------------------- model


@dataclass(frozen=True)
class Loss:
    """What ``WorldModel.loss`` returns."""

    total: Tensor
    """Scalar to minimise."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Named detached scalars, for the log."""
    states: State | None = None
    """Posterior states with their graph, (B*T) rows, batch-major, where the family has them."""


CAPABILITIES: dict[str, str] = {
    "decode": "turn a state into sensors",
    "reward": "predict the reward of arriving at a state",
    "terminal": "predict whether a state ends the episode",
    "fill": "dream whole clips with some frames given",
    "unprompted": "dream from an empty state that has observed nothing",
}
"""The optional parts of the contract, and what each does."""


class WorldModel(nn.Module, ABC):
    """The base of every family. A user's own model fills in the same page and gets every tool.

    Subclasses set ``capabilities`` and implement :meth:`loss`, :meth:`start`, :meth:`observe`, :meth:`step`, usually
    :meth:`features`, and those optional methods that they claim. ``worldloom.check_model`` tests the promise.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"decode"})
    """Which of :data:`CAPABILITIES` this family has."""

    def __init__(self, spec: Spec, config: Any = None):
        super().__init__()
        self.spec = spec
        self.config = config

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def require(self, *names: str) -> None:
        """Raise :class:`UnsupportedError` unless the model has every named capability."""
        for name in names:
            if name not in self.capabilities:
                doing = CAPABILITIES.get(name, name)
                raise UnsupportedError(
                    f"{type(self).__name__} can't {doing} (capability {name!r}); it has "
                    f"{sorted(self.capabilities) or 'none of the optional ones'}."
                )

    def require_prompted(self, state: State) -> None:
        """Raise :class:`UnsupportedError` where a row has seen nothing yet and the model can't begin unprompted.

        For the top of ``step``. Looked at on the CPU only; elsewhere it would wait for the device at every frame.
        """
        if state.device.type == "cpu" and not bool((state.frame > 0).all()):
            self.require("unprompted")

    def check_inputs(
        self, state: State, control: Controls = None, obs: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The controls of one frame, checked, on the model's device: for the top of ``step``, and with ``obs``, which
        are checked too, of ``observe``. Raises :class:`ContractError` where something does not fit the spec, and what
        :meth:`require_prompted` does."""
        if obs is None:
            self.require_prompted(state)
        else:
            self.spec.check_obs(obs, state.batch)
        return self.spec.controls(control, state.batch, device=self.device)

    def empty(self, batch: int, seed: int | Sequence[int] | Tensor = 0, **shapes: Sequence[int]) -> State:
        """A state of ``batch`` rows that have seen nothing: their keys, frame counts of 0, and zeros (B, *shape) by
        name. For ``start`` of models that are given nothing once."""
        key = row_keys(batch, seed, self.device)
        zeros = {name: torch.zeros(batch, *shape, device=self.device) for name, shape in shapes.items()}
        return State({"key": key, "frame": torch.zeros_like(key), **zeros})

    @abstractmethod
    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        """Training loss of a segment (B, T, ...), averaged over its valid frames.

        ``generator`` (on the model's device) drives the draws of training, so that a resumed run repeats them.
        """

    @abstractmethod
    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        """The empty state of ``batch`` rows, with what is given once (``control``)."""

    @abstractmethod
    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        """The posterior s_t = observe(s_{t-1}, o_t, a_t), *instead of* ``step``.

        obs: sensor name to (B, *shape). control: the controls that led to this frame, (B, ...). first: (B,) bool, rows
        whose episode begins here: their past and their action are forgotten; their key and frame count go on. Called
        where a ``step`` would come next, this re-anchors a dream to the truth.
        """

    @abstractmethod
    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        """The prior: dream frame t from s_{t-1} and the control that leads to it."""

    def features(self, state: State) -> Tensor:
        """(B, D) float: what actors, critics and probes see. By default all floats of the state, side by side."""
        parts = [x.flatten(1) for _, x in sorted(state.tensors.items()) if x.is_floating_point()]
        if not parts:
            raise ContractError(f"{type(self).__name__} carries no floats in its state: implement features(state).")
        return torch.cat(parts, 1)

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        """Sensors of the state's newest frame, (B, *shape) each, in their resting dtype.

        With ``raw`` images are differentiable floats in [0, 1] instead of uint8. An empty state decodes to zeros.
        """
        raise self._lacks("decode")

    def reward(self, state: State) -> Tensor:
        """(B,) expected reward of having arrived at the state."""
        raise self._lacks("reward")

    def terminal(self, state: State) -> Tensor:
        """(B,) probability that arriving at the state ended the episode."""
        raise self._lacks("terminal")

    def fill(self, segment: Segment, known: Tensor, seed: int = 0, table: Any = None) -> Segment:
        """Whole clips at once: keep the frames marked in ``known`` (B, T) and dream the others."""
        raise self._lacks("fill")

    def _lacks(self, name: str) -> WorldloomError:
        try:
            self.require(name)
        except UnsupportedError as error:
            return error
        return ContractError(f"{type(self).__name__} claims the capability {name!r} but does not implement it.")


__all__ = [
    "CAPABILITIES",
    "ContractError",
    "Control",
    "Controls",
    "Loss",
    "Segment",
    "Sensor",
    "Spec",
    "State",
    "UnsupportedError",
    "WorldModel",
    "WorldloomError",
    "check_covers",
    "mix",
    "row_keys",
]
