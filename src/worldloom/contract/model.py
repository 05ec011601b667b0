"""What every family fills in: loss, start, observe, step, decode."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from worldloom.contract.errors import ContractError, UnsupportedError, WorldloomError
from worldloom.contract.segment import Segment
from worldloom.contract.spec import Controls, Spec
from worldloom.contract.state import State, row_keys


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

    capabilities: frozenset[str] = frozenset({"decode"})
    """Which of :data:`CAPABILITIES` this family has; a model sets its own where they depend on its configuration."""

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
