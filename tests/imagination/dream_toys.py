"""Toy worlds whose frames say everything: which actions led there, how much was dreamed, from which seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from worldloom.contract import Control, Controls, Loss, Segment, Sensor, Spec, State, WorldModel
from worldloom.nn.noise import uniform

CHOICES = 3
MODULUS = 199


def rule(x, action):
    """The counter's next value. Doubling makes it depend on the order of the actions."""
    return (2 * x + action + 1) % MODULUS


class Counter(WorldModel):
    """Row pixels: [value, last action, steps dreamed since the last fully true history, draw of the row's key].

    A donated state is scribbled over and decoding returns a view of the state, so that whoever uses a state after
    donating it, or keeps what it decoded without copying, finds nonsense.
    """

    capabilities: frozenset[str] = frozenset({"decode", "reward", "terminal"})

    def __init__(self, action: bool = True, extra: bool = False, ends: float = 1.0):
        given = {"action": Control("discrete", n=CHOICES)} if action else {}
        if extra:
            given["wind"] = Control("continuous", (1,))
        super().__init__(Spec({"screen": Sensor("image", (1, 2, 4))}, given, fps=10.0))
        self.weight = nn.Parameter(torch.ones(()))
        self.ends = ends
        self.batches: list[int] = []

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        return Loss(self.weight**2)

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        from worldloom.contract import row_keys

        zeros = torch.zeros(batch, dtype=torch.int64)
        screen = torch.zeros(batch, 1, 2, 4, dtype=torch.uint8)
        return State({"key": row_keys(batch, seed), "frame": zeros, "screen": screen})

    def _next(self, state: State, value: Tensor, action: Tensor | None, dreamed: Tensor, donate: bool) -> State:
        frame = state.frame + 1
        top = [value, torch.zeros_like(value) if action is None else action, dreamed]
        top.append((uniform(state.key, frame, 1) * 255).long())
        screen = torch.zeros(state.batch, 1, 2, 4, dtype=torch.uint8)
        screen[:, 0, 0] = torch.stack(top, 1).to(torch.uint8)
        out = State({"key": state.key.clone(), "frame": frame.clone(), "screen": screen})
        if donate:
            for x in state.tensors.values():
                x.fill_(77)
        return out

    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        controls = self.spec.controls(control, state.batch)
        dreamed = state["screen"][:, 0, 0, 2].long()
        if first is not None:
            dreamed = torch.where(first, 0, dreamed)
        return self._next(state, obs["screen"][:, 0, 0, 0].long(), controls.get("action"), dreamed, donate)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        self.batches.append(state.batch)
        controls = self.spec.controls(control, state.batch)
        action = controls.get("action")
        value, dreamed = state["screen"][:, 0, 0, 0].long(), state["screen"][:, 0, 0, 2].long()
        wind = controls["wind"][:, 0].long() if "wind" in controls else 0
        return self._next(state, rule(value, 0 if action is None else action) + wind, action, dreamed + 1, donate)

    def features(self, state: State) -> Tensor:
        return state["screen"].flatten(1).float()

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        return {"screen": state["screen"].float() / 255 if raw else state["screen"]}

    def reward(self, state: State) -> Tensor:
        return state["screen"][:, 0, 0, 0] / 10 * self.weight

    def terminal(self, state: State) -> Tensor:
        return (state["screen"][:, 0, 0, 0] % 7 == 0).float() * self.ends


class Filler(WorldModel):
    """For models whose ``fill`` is all that a test looks at."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.weight = nn.Parameter(torch.ones(()))

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        return Loss(self.weight)

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        return self.empty(batch, seed)

    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        return state

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        return state


class Slider(WorldModel):
    """Differentiable: an image and a vector that add up two continuous actions. Dreams unprompted; no heads."""

    capabilities: frozenset[str] = frozenset({"decode", "unprompted"})

    def __init__(self) -> None:
        action = Control("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0))
        shown = {"eye": Sensor("image", (3, 4, 6)), "pose": Sensor("vector", (2,))}
        super().__init__(Spec(shown, {"action": action}))
        self.gain = nn.Parameter(torch.full((), 0.1))

    def loss(self, segment: Segment, generator: torch.Generator | None = None) -> Loss:
        return Loss(self.gain**2)

    def start(self, batch: int, seed: int | Sequence[int] | Tensor = 0, control: Controls = None) -> State:
        from worldloom.contract import row_keys

        return State(
            {
                "key": row_keys(batch, seed),
                "frame": torch.zeros(batch, dtype=torch.int64),
                "pose": torch.full((batch, 2), 0.5),
            }
        )

    def observe(
        self,
        state: State,
        obs: Mapping[str, Tensor],
        control: Controls = None,
        *,
        first: Tensor | None = None,
        donate: bool = False,
    ) -> State:
        return state.replace(pose=obs["pose"], frame=state.frame + 1)

    def step(self, state: State, control: Controls = None, *, donate: bool = False) -> State:
        action = self.spec.controls(control, state.batch)["action"]
        return state.replace(pose=state["pose"] + self.gain * action, frame=state.frame + 1)

    def features(self, state: State) -> Tensor:
        return state["pose"]

    def decode(self, state: State, *, raw: bool = False) -> dict[str, Tensor]:
        eye = state["pose"].mean(1).clamp(0, 1)[:, None, None, None].expand(-1, 3, 4, 6)
        return {"eye": eye if raw else (eye * 255).to(torch.uint8), "pose": state["pose"]}


def history(values: Sequence[Sequence[int]], actions: Tensor | None = None, first: bool = True) -> Segment:
    """A segment of counter frames with these values, and the actions that led to them (null where not given)."""
    value = torch.as_tensor(values)
    obs = torch.zeros(*value.shape, 1, 2, 4, dtype=torch.uint8)
    obs[..., 0, 0, 0] = value.to(torch.uint8)
    begins = torch.zeros(value.shape, dtype=torch.bool)
    begins[:, 0] = first
    action = torch.full(value.shape, CHOICES) if actions is None else actions
    return Segment({"screen": obs}, {"action": action}, begins, torch.ones_like(begins))


def unroll(value: int, actions: Sequence[int]) -> list[int]:
    """What the counter must show after ``value``, frame by frame."""
    out = []
    for action in actions:
        value = int(rule(value, action))
        out.append(value)
    return out
