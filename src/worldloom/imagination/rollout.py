"""Dreaming: absorb a prompt, then step, with given actions or a policy, free or corrected by the truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from worldloom.contract import ContractError, Controls, Segment, Spec, State, WorldModel


@runtime_checkable
class Actor(Protocol):
    """Whatever chooses actions from a model's state: a planner, an agent, a controller."""

    def act(self, model: WorldModel, state: State, carry: Any) -> tuple[Tensor, Any]:
        """The next action (B, ...) and what the actor wants to be handed at the next frame (None at the first)."""
        ...


Policy: TypeAlias = Callable[[WorldModel, State, Any], tuple[Tensor, Any]] | Actor


@dataclass(frozen=True)
class Dream:
    """T dreamed frames of B rows. Frame ``t`` is what ``action[:, t]`` led to; the prompt is not among them."""

    obs: dict[str, Tensor]
    """Sensor name to (B, T, *shape): resting dtype, or floats in [0, 1] for images where the graph is kept. Empty for
    a model that does not decode."""
    reward: Tensor | None
    """(B, T) float expected reward; None without a reward head."""
    terminal: Tensor | None
    """(B, T) float probability that the episode ended with the frame; None without such a head. Dreams run on."""
    action: Tensor | None
    """(B, T, ...) the action that led to each frame; None for plain video."""
    state: State
    """The state after the last frame: the dream can be taken up again from here."""

    @property
    def length(self) -> int:
        """T."""
        parts = [*self.obs.values(), self.reward, self.terminal, self.action]
        return next((x.shape[1] for x in parts if x is not None), 0)


def check_segment(spec: Spec, segment: Segment, what: str) -> Segment:
    """The sensors and controls of ``segment`` that ``spec`` names, checked (range of the controls included).

    What the model does not know is left out: a dataset may show more than a model reads. What is given once is what
    ``spec`` says is. Raises
    :class:`ContractError`, beginning with ``what``, where something is missing or does not fit.
    """
    lead = tuple(segment.first.shape)
    try:
        if tuple(segment.valid.shape) != lead:
            raise ContractError(f"'valid' must have shape {lead} as 'first', found {tuple(segment.valid.shape)}.")
        spec.check_obs(segment.obs, *lead)
        control = {name: segment.control[name] for name in spec.given if name in segment.control}
        frames = {name: x.cpu() for name, x in control.items() if spec.given[name].per == "frame"}
        spec.controls(frames, *lead)
    except ContractError as error:
        raise ContractError(f"The {what} does not fit this model. {error}") from error
    obs, once = {name: segment.obs[name] for name in spec.shown}, spec.once.intersection(control)
    return Segment(obs, control, segment.first, segment.valid, once=once)


def given_once(spec: Spec, control: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The controls that are given once for a whole sequence; None where there are none."""
    return {name: x for name, x in control.items() if name in spec.given and spec.given[name].per == "once"} or None


def absorb(model: WorldModel, state: State, segment: Segment, *, donate: bool = False) -> State:
    """Observe a segment (B, T, ...) frame by frame.

    Rows whose episode begins at a frame (``first``) forget what was before; frames that are not ``valid`` leave their
    row's state as it was. The segment may be on any device. With ``donate`` the given state is not used again.
    """
    segment = check_segment(model.spec, segment, "prompt")
    if segment.batch != state.batch:
        raise ContractError(f"The prompt has {segment.batch} rows, the state {state.batch}: they must be the same.")
    valid = segment.valid.cpu()  # decides the control flow: read once, not at every frame
    segment = segment.to(model.device)
    for t in range(segment.length):
        if not bool(valid[:, t].any()):
            continue
        whole = bool(valid[:, t].all())
        after = _observe(model, state, segment, t, donate=donate and whole)
        state = after if whole else where(segment.valid[:, t], after, state)
        donate = not torch.is_grad_enabled()
    return state


def where(rows: Tensor, yes: State, no: State) -> State:
    """Row by row: ``yes`` where ``rows`` (B,) is true, ``no`` elsewhere."""

    def pick(name: str) -> Tensor:
        x = yes[name]
        return torch.where(rows.view(-1, *[1] * (x.ndim - 1)), x, no[name])

    return State({name: pick(name) for name in yes.tensors})


def imagine(
    model: WorldModel,
    prompt: Segment | None,
    actions: Controls = None,
    frames: int | None = None,
    *,
    seed: int = 0,
    policy: Policy | None = None,
    mode: Literal["free", "teacher"] = "free",
    observe_every: int = 0,
    truth: Segment | None = None,
    grad: bool = False,
) -> Dream:
    """Dream on from a prompt.

    prompt: (B, P, ...) true frames to begin with; None for a model that can dream unprompted.
    actions: (B, T, ...), ``actions[:, t]`` leads to dreamed frame t; a mapping where the model takes further controls.
        Plain video takes none. Every value is checked before the first frame.
    frames: T; by default as many as there are actions, or frames of truth.
    policy: chooses the actions instead: ``policy(model, state, carry) -> action (B, ...), carry``, or an object with
        that method as ``act``. It sees the state before each frame; ``carry`` is None at the first.
    truth: (B, >= T, ...) the true continuation of the prompt; also gives the actions where none are given. Rows whose
        truth is not ``valid`` at a frame dream on there.
    mode: ``free`` dreams on its own frames. ``teacher`` observes every frame of ``truth`` beside the dream and begins
        each stretch of ``observe_every`` frames (1 unless given) from that wholly true history: with 1, every frame is
        predicted one frame ahead.
    observe_every: k > 0 in a free dream shows the model one true frame after every k dreamed ones (re-anchoring); what
        it remembers of the frames between stays dreamed. What is returned is always the prediction, never the truth.
    seed: makes the draws; row i uses (seed, i).
    grad: keep the graph; sensors are then decoded raw. Otherwise the dream runs under ``inference_mode``, the model in
        evaluation mode, and ordinary tensors are returned.

    Raises :class:`ContractError` for arguments that do not fit the model or each other, and
    :class:`~worldloom.contract.UnsupportedError` where there is no prompt and the model needs one.
    """
    spec = model.spec
    if actions is not None and not isinstance(actions, (Tensor, Mapping)):
        raise ContractError(
            f"actions must be a torch tensor (B, T, ...) or a mapping of tensors, found {type(actions).__name__}: "
            "give torch.as_tensor(actions)."
        )
    actions = {"action": actions} if isinstance(actions, Tensor) else dict(actions or {})
    _check_arguments(spec, actions, frames, policy, mode, observe_every, truth)
    if prompt is None:
        model.require("unprompted")
    else:
        prompt = check_segment(spec, prompt, "prompt")
        if "unprompted" not in model.capabilities and not bool(prompt.valid.any(1).all()):
            raise ContractError("Every row of the prompt needs at least one valid frame.")
    if truth is not None:
        truth = check_segment(spec, truth, "truth")
    given = {**(truth.control if truth is not None else {}), **actions}
    batch, length = _sizes(spec, prompt, given, _length(spec, actions, frames, truth), truth)
    controls = _check_controls(spec, given, batch, length, policy is not None)
    once = given_once(spec, {**given, **(prompt.control if prompt is not None else {})})

    dreamer = _Dreamer(model, grad)
    with _quiet(model, grad):
        state = model.start(batch, seed, {n: x.to(model.device) for n, x in once.items()} if once else None)
        if prompt is not None:
            state = absorb(model, state, prompt, donate=not grad)
        controls = {name: x.to(model.device) for name, x in controls.items()}
        if policy is not None:
            state = dreamer.follow(state, controls, length, policy)
        elif truth is not None and (mode == "teacher" or observe_every):
            state = dreamer.correct(state, controls, length, truth, observe_every, mode == "teacher")
        else:
            state = dreamer.free(state, controls, length)
    # Outside of inference mode, so that the tensors can be used in a graph later.
    return dreamer.dream(state, controls)


@contextlib.contextmanager
def _quiet(model: WorldModel, grad: bool) -> Iterator[None]:
    """Evaluation and inference mode, unless the graph is kept; the model's mode is restored."""
    if grad:
        yield
        return
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _at(controls: Mapping[str, Tensor], t: int) -> dict[str, Tensor] | None:
    return {name: x[:, t] for name, x in controls.items()} or None


def _observe(model: WorldModel, state: State, segment: Segment, t: int, donate: bool = False) -> State:
    """Observe frame ``t`` of a segment that is on the model's device."""
    per_frame = {name: x for name, x in segment.control.items() if model.spec.given[name].per == "frame"}
    obs = {name: x[:, t] for name, x in segment.obs.items()}
    return model.observe(state, obs, _at(per_frame, t), first=segment.first[:, t], donate=donate)


class _Dreamer:
    """The three ways through the frames, and what they record."""

    def __init__(self, model: WorldModel, grad: bool) -> None:
        self.model, self.grad = model, grad
        self.frames: list[dict[str, Tensor]] = []
        self.rewards: list[Tensor] = []
        self.terminals: list[Tensor] = []
        self.actions: list[Tensor] = []

    def record(self, state: State) -> None:
        """Keep what the model says of a state, in memory of its own: the state may be donated next."""

        def keep(x: Tensor) -> Tensor:
            return x if self.grad else x.clone()

        able = self.model.capabilities
        if "decode" in able:
            self.frames.append({name: keep(x) for name, x in self.model.decode(state, raw=self.grad).items()})
        if "reward" in able:
            self.rewards.append(keep(self.model.reward(state)))
        if "terminal" in able:
            self.terminals.append(keep(self.model.terminal(state)))

    def free(self, state: State, controls: Mapping[str, Tensor], length: int) -> State:
        """Step through given controls."""
        for t in range(length):
            state = self.model.step(state, _at(controls, t), donate=not self.grad)
            self.record(state)
        return state

    def follow(self, state: State, controls: Mapping[str, Tensor], length: int, policy: Policy) -> State:
        """Step with a policy's actions. States are never donated: the policy may carry them along."""
        act = policy.act if isinstance(policy, Actor) else policy
        control = self.model.spec.given["action"]
        carry: Any = None
        for t in range(length):
            action, carry = act(self.model, state, carry)
            control.check(action, (state.batch,), "action", values=action.device.type == "cpu")
            action = action.to(self.model.device, control.dtype)
            self.actions.append(action)
            state = self.model.step(state, {**(_at(controls, t) or {}), "action": action})
            self.record(state)
        return state

    def correct(
        self, state: State, controls: Mapping[str, Tensor], length: int, truth: Segment, every: int, teacher: bool
    ) -> State:
        """Step, and every so often take the truth's side: see ``imagine``."""
        every = every or 1
        valid = truth.valid.cpu()
        truth = truth.to(self.model.device)
        true = state  # teacher: the state that has seen nothing but the truth
        for t in range(length):
            dreamt = self.model.step(state, _at(controls, t))
            self.record(dreamt)
            anchor = (t + 1) % every == 0
            if not (teacher or anchor):
                state = dreamt
                continue
            seen = dreamt
            if bool(valid[:, t].any()):
                seen = _observe(self.model, true if teacher else state, truth, t)
                if not bool(valid[:, t].all()):
                    seen = where(truth.valid[:, t], seen, dreamt)
            true = seen
            state = seen if anchor else dreamt
        return state

    def dream(self, state: State, controls: Mapping[str, Tensor]) -> Dream:
        """Everything recorded, with time as the second axis."""

        def stack(parts: list[Tensor]) -> Tensor | None:
            return torch.stack(parts, 1) if parts else None

        names = self.frames[0] if self.frames else {}
        action = stack(self.actions) if self.actions else controls.get("action")
        if not self.grad:
            state, action = state.clone(), None if action is None else action.clone()
        return Dream(
            {name: torch.stack([f[name] for f in self.frames], 1) for name in names},
            stack(self.rewards),
            stack(self.terminals),
            action,
            state,
        )


def _check_arguments(
    spec: Spec,
    actions: Mapping[str, Tensor],
    frames: int | None,
    policy: Policy | None,
    mode: str,
    every: int,
    truth: Segment | None,
) -> None:
    if mode not in ("free", "teacher"):
        raise ContractError(f"mode must be 'free' or 'teacher', found {mode!r}.")
    if every < 0 or (frames is not None and frames < 1):
        raise ContractError(f"frames must be at least 1 and observe_every at least 0, found {frames} and {every}.")
    if (mode == "teacher" or every) and truth is None:
        raise ContractError(f"mode {mode!r} with observe_every={every} needs `truth`, the prompt's true continuation.")
    named = "action" in actions
    if policy is not None:
        if spec.action is None:
            raise ContractError("This model takes no action (plain video), so a policy has nothing to choose.")
        if named:
            raise ContractError("Give actions or a policy, not both.")
        if truth is not None:
            raise ContractError("A policy leads elsewhere than the truth went: give `policy` or `truth`, not both.")
    elif spec.action is not None and not named and (truth is None or "action" not in truth.control):
        raise ContractError("This model needs actions: give `actions` (B, T, ...) or a `policy`.")
    elif spec.action is None and named:
        raise ContractError("This model takes no action (plain video): give `frames` alone.")


def _per_frame(spec: Spec, control: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The controls that are given with every frame; unknown ones too, which are told of later."""
    out = {name: x for name, x in control.items() if name not in spec.given or spec.given[name].per == "frame"}
    for name, x in out.items():
        if x.ndim < 2:
            raise ContractError(f"Control {name!r} must begin with (batch, frames), found shape {tuple(x.shape)}.")
    return out


def _length(spec: Spec, actions: Mapping[str, Tensor], frames: int | None, truth: Segment | None) -> int:
    """Frames of the dream: as asked for, or as many as there are actions, or frames of truth."""
    if frames is not None:
        return frames
    lengths = [x.shape[1] for x in _per_frame(spec, actions).values()]
    length = min(lengths) if lengths else 0 if truth is None else truth.length
    if length < 1:
        raise ContractError("How long shall the dream be? Give `frames`, or actions for at least one frame.")
    return length


def _sizes(
    spec: Spec, prompt: Segment | None, given: Mapping[str, Tensor], length: int, truth: Segment | None
) -> tuple[int, int]:
    """Rows and frames of the dream, which everything given must have."""
    per_frame = _per_frame(spec, given)
    lengths = {f"control {n!r}": x.shape[1] for n, x in per_frame.items()}
    if truth is not None:
        lengths["truth"] = truth.length
    for name, found in lengths.items():
        if found < length:
            raise ContractError(f"{length} frames were asked for, but {name} holds {found}.")
    rows = {} if prompt is None else {"prompt": prompt.batch}
    rows |= {} if truth is None else {"truth": truth.batch}
    rows |= {f"control {n!r}": x.shape[0] for n, x in per_frame.items()}
    if len(set(rows.values())) > 1:
        raise ContractError(f"Prompt, controls and truth need the same number of rows, found {rows}.")
    return next(iter(rows.values()), 1), length


def _check_controls(
    spec: Spec, given: Mapping[str, Tensor], batch: int, length: int, chosen: bool
) -> dict[str, Tensor]:
    """The per-frame controls, cut to length, every value checked. The action is left out where a policy chooses it."""
    once = [name for name in given if name in spec.given and spec.given[name].per == "once"]
    cut = {name: x[:, :length].cpu() for name, x in given.items() if name not in once}
    if chosen and spec.action is not None:
        cut["action"] = spec.action.null(batch, length)
    checked = spec.controls(cut, batch, length)
    return {name: x for name, x in checked.items() if not (chosen and name == "action")}
