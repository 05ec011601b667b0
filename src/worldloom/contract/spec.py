"""What a world shows and what it is given: names, kinds, shapes, bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from operator import index
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from worldloom.contract.errors import ContractError

RESTING = ("stay", "noop", "no-op", "no_op", "none", "null", "nothing", "do nothing", "do_nothing", "idle", "wait")
"""Names of discrete choices that do nothing, in any case."""


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

    def rest(self, *lead: int, device: torch.device | str | None = None) -> Tensor | None:
        """The value that does nothing, shape ``(*lead, *shape)``: the choice with such a name (:data:`RESTING`); of a
        continuous control zeros, or the bound that is nearest to them. None where it is not known.

        Not the null value: that says that nothing was chosen, which a model has seen at the start of episodes alone.
        """
        if self.kind == "discrete":
            named = [i for i, name in enumerate(self.names) if name.strip().casefold() in RESTING]
            return torch.full(lead, named[0], dtype=torch.int64, device=device) if named else None
        if self.kind != "continuous":
            return None
        value = torch.zeros(self.shape, device=device)
        if self.low:
            value = value.maximum(torch.tensor(self.low, dtype=torch.float32, device=device))
        if self.high:
            value = value.minimum(torch.tensor(self.high, dtype=torch.float32, device=device))
        return value.expand(*lead, *self.shape).clone()

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

    def controls_once(
        self, control: Controls, batch: int, device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """What a model is given once for a whole sequence, checked: (B, *shape) each, copies on ``device``."""
        given = {"action": control} if isinstance(control, Tensor) else dict(control or {})
        if set(given) != self.once:
            raise ContractError(f"Give {sorted(self.once) or 'no controls'} to start, found {sorted(given) or 'none'}.")
        out: dict[str, Tensor] = {}
        for name in sorted(given):
            self.given[name].check(given[name], (batch,), name)
            out[name] = given[name].to(device, self.given[name].dtype, copy=True)
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
