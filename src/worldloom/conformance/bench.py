"""What the checks share: random frames and controls of any spec, dreams, comparisons."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from worldloom.contract import ContractError, Control, Segment, Sensor, State, WorldModel

Named = dict[str, Tensor]

SAME = 1e-4
"""Frames of one dream agree to this, on a scale where images lie in [0, 1], whatever the batch size."""


class Failed(Exception):  # noqa: N818 - it is a verdict, not an error
    """The model breaks this part of the contract."""


def need(condition: bool | Tensor, message: str) -> None:
    """Fail the running check with ``message`` unless ``condition``."""
    if not bool(condition):
        raise Failed(message)


def pick(values: Mapping[str, Tensor], rows: Sequence[int] | slice) -> Named:
    """Some rows of named tensors."""
    return {name: x[rows] for name, x in values.items()}


def copied(values: Mapping[str, Tensor]) -> Named:
    """Copies that share no memory."""
    return {name: x.detach().clone() for name, x in values.items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two sets of named tensors are equal bit by bit."""
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)


def gap(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Largest difference, relative to the largest entry where that is above 1. Infinite for NaN."""
    worst = 0.0
    for name, x in a.items():
        y = b[name].cpu().double()  # not every device has float64
        scale = max(1.0, float(y.abs().max()))
        worst = max(worst, float(((x.cpu().double() - y).abs() / scale).nan_to_num(nan=math.inf).max()))
    return worst


@torch.no_grad()
def shake(model: WorldModel, seed: int, amount: float) -> None:
    """Add normal noise of standard deviation ``amount`` to every parameter, in place."""
    noise = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            change = torch.randn(parameter.shape, generator=noise) * amount
            parameter.add_(change.to(parameter.device, parameter.dtype))


class Bench:
    """A model under test and what it is tested with. Every random value is a function of the seed and its arguments."""

    def __init__(self, model: WorldModel, seed: int, frames: int):
        self.model = model
        self.spec = model.spec
        self.seed = seed
        self.frames = frames

    @cached_property
    def window(self) -> int:
        """A length of sequence that the model trains on: some families refuse windows shorter than their context."""
        refused = ""
        for length in (8, 16, 32, 64):
            try:
                with torch.no_grad():
                    self.model.loss(self.segment(1, length), torch.Generator(self.model.device).manual_seed(0))
            except ContractError as error:
                refused = str(error)
            else:
                return length
        raise Failed(f"loss refuses segments of 8, 16, 32 and 64 frames: {refused}")

    # ------------------------------------------------------------------------------ random data

    def _generator(self, *path: int | str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(repr((self.seed, path)).encode()))

    def sensor(self, sensor: Sensor, lead: tuple[int, ...], *path: int | str) -> Tensor:
        """(*lead, *shape) random entries of a sensor."""
        generator, shape = self._generator(*path), (*lead, *sensor.shape)
        if sensor.kind == "image":
            value = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        else:
            value = torch.randn(shape, generator=generator)
            value = value.abs() if sensor.kind == "range" else value
        return value.to(self.model.device)

    def value(self, control: Control, lead: tuple[int, ...], *path: int | str) -> Tensor:
        """(*lead, *shape) random values of a control, within its choices or bounds."""
        generator, shape = self._generator(*path), (*lead, *control.shape)
        if control.kind in ("discrete", "tokens"):
            return torch.randint(0, control.n, shape, generator=generator).to(self.model.device)
        value = torch.randn(shape, generator=generator)
        if control.low or control.high:
            size = control.shape[0]
            low = torch.tensor(control.low or (-math.inf,) * size)
            high = torch.tensor(control.high or (math.inf,) * size)
            uniform = low + (high - low) * torch.rand(shape, generator=generator)
            value = torch.where((high - low).isfinite(), uniform, value.clamp(low, high))
        return value.to(self.model.device)

    def obs(self, batch: int, *path: int | str) -> Named:
        """Sensor name to (B, *shape)."""
        return {name: self.sensor(s, (batch,), "obs", name, *path) for name, s in self.spec.shown.items()}

    def control(self, batch: int, *path: int | str) -> Named:
        """Controls of one frame, name to (B, *shape); empty for a world that is given nothing."""
        given = {name: c for name, c in self.spec.given.items() if c.per == "frame"}
        return {name: self.value(c, (batch,), "control", name, *path) for name, c in given.items()}

    def null(self, batch: int) -> Named:
        """The null controls of one frame."""
        given = {name: c for name, c in self.spec.given.items() if c.per == "frame"}
        return {name: c.null(batch, device=self.model.device) for name, c in given.items()}

    def once(self, batch: int, *path: int | str) -> Named:
        """What is given once, name to (B, *shape)."""
        given = {name: c for name, c in self.spec.given.items() if c.per == "once"}
        return {name: self.value(c, (batch,), "once", name, *path) for name, c in given.items()}

    def segment(self, batch: int, length: int, *path: int | str, heads: bool = True) -> Segment:
        """Random sequences (B, T): all valid, the first row begins an episode, the second in its middle."""
        device, lead = self.model.device, (batch, length)
        obs = {n: self.sensor(s, lead, "segment", n, *path) for n, s in self.spec.shown.items()}
        control: Named = {}
        for name, c in self.spec.given.items():
            control[name] = self.value(c, lead if c.per == "frame" else (batch,), "segment", name, *path)
        first = torch.zeros(lead, dtype=torch.bool, device=device)
        first[0, 0] = True
        if length > 2:
            first[-1, length // 2] = True
        for name, c in self.spec.given.items():
            if c.per == "frame":
                control[name][first] = c.null(device=device)
        generator = self._generator("heads", *path)
        reward = torch.randn(lead, generator=generator).to(device)
        terminal = (torch.rand(lead, generator=generator) < 0.3).to(device)
        valid = torch.ones_like(first)
        if not heads:
            return Segment(obs, control, first, valid, once=self.spec.once)
        return Segment(obs, control, first, valid, reward, terminal, self.spec.once)

    # --------------------------------------------------------------------------------- dreaming

    def start(self, batch: int, seeds: int | Sequence[int] | Tensor = 0, once: Named | None = None) -> State:
        """An empty state, with what is given once."""
        once = self.once(batch) if once is None else once
        return self.model.start(batch, seeds, once or None)

    def seen(self, batch: int, *path: int | str, count: int = 3, state: State | None = None) -> State:
        """A state that has observed ``count`` random frames, the first of them an episode's first."""
        state = self.start(batch) if state is None else state
        for t in range(count):
            control = self.control(batch, *path, t) if t else self.null(batch)
            first = torch.full((batch,), t == 0, device=self.model.device)
            state = self.model.observe(state, self.obs(batch, *path, t), control, first=first)
        return state

    def dream(self, state: State, *path: int | str, count: int = 3) -> tuple[State, list[Named]]:
        """Step ``count`` times under random controls; the last state and what each one looks like."""
        views = []
        for t in range(count):
            state = self.model.step(state, self.control(state.batch, "dream", *path, t))
            views.append(self.view(state))
        return state, views

    def look(self, state: State) -> Named:
        """What the tolerance on frames is about: the decoded floats, or the features of a model without frames."""
        if "decode" in self.model.capabilities:
            return copied(self.model.decode(state, raw=True))
        return {"features": self.model.features(state).detach().clone()}

    def view(self, state: State) -> Named:
        """Everything that can be seen of a state."""
        model = self.model
        out = {f"raw {name}": x for name, x in self.look(state).items()}
        out["features"] = model.features(state)
        if "decode" in model.capabilities:
            out |= model.decode(state)
        if "reward" in model.capabilities:
            out["the reward"] = model.reward(state)
        if "terminal" in model.capabilities:
            out["the end"] = model.terminal(state)
        return copied(out)
