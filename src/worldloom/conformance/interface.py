"""Checks of the page itself: shapes and dtypes, errors, capabilities, weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from worldloom.conformance.bench import Bench, Failed, copied, gap, need, same
from worldloom.contract import (
    CAPABILITIES,
    ContractError,
    Loss,
    Segment,
    Spec,
    State,
    UnsupportedError,
    WorldModel,
    row_keys,
)


@torch.no_grad()
def shapes(bench: Bench) -> None:
    """Every method returns what the page says, on empty, observed and dreamed states."""
    model, batch = bench.model, 3
    empty = bench.start(batch, 7)
    need(isinstance(empty, State), f"start must return a State, found {type(empty).__name__}.")
    keys = row_keys(batch, 7, model.device)
    need(torch.equal(empty.key, keys), "start must key its rows by row_keys(batch, seed).")
    apart = bench.start(2, [7, 9])
    need(torch.equal(apart.key[:1], row_keys(1, 7, model.device)), "start(2, [7, 9]) must key row 0 as start(1, 7).")
    need(not bool(empty.frame.any()), "An empty state has seen 0 frames.")
    seen = model.observe(empty, bench.obs(batch), bench.null(batch))
    dreamed = model.step(seen, bench.control(batch))
    widths = set()
    for state, age, how in ((empty, 0, "start"), (seen, 1, "observe"), (dreamed, 2, "step")):
        need(isinstance(state, State), f"{how} must return a State, found {type(state).__name__}.")
        need(torch.equal(state.key, keys), f"{how} must keep the rows' keys.")
        need(bool((state.frame == age).all()), f"{how}: `frame` must count the frames, expected {age}.")
        features = model.features(state)
        widths.add(features.shape[1:])
        need(
            features.ndim == 2 and len(features) == batch and features.is_floating_point(),
            f"features must be ({batch}, D) floats, found {tuple(features.shape)} {features.dtype} after {how}.",
        )
        need(bool(features.isfinite().all()), f"features must be finite after {how}.")
        for name in ("reward", "terminal"):
            if name in model.capabilities:
                head: Tensor = getattr(model, name)(state)
                need(
                    tuple(head.shape) == (batch,) and head.is_floating_point(),
                    f"{name} must be ({batch},) floats, found {tuple(head.shape)} {head.dtype}.",
                )
                need(bool(head.isfinite().all()), f"{name} must be finite after {how}.")
                if name == "terminal":
                    need(bool(((head >= 0) & (head <= 1)).all()), "terminal must be a probability.")
        if "decode" in model.capabilities:
            _frames(bench, state, how)
    need(len(widths) == 1, f"features must keep their width, found {sorted(map(tuple, widths))}.")
    if "decode" in model.capabilities:
        zeros = all(not bool(x.any()) for x in model.decode(empty).values())
        need(zeros, "An empty state must decode to zeros.")


def _frames(bench: Bench, state: State, how: str) -> None:
    resting, raw = bench.model.decode(state), bench.model.decode(state, raw=True)
    for name, sensor in bench.spec.shown.items():
        for values, dtype, what in ((resting, sensor.dtype, "decode"), (raw, torch.float32, "decode(raw=True)")):
            need(name in values, f"{what} must return every sensor, {name!r} is missing.")
            found = values[name]
            need(
                tuple(found.shape) == (state.batch, *sensor.shape) and found.dtype == dtype,
                f"{what} of {name!r} after {how} must be {dtype} {(state.batch, *sensor.shape)}, "
                f"found {found.dtype} {tuple(found.shape)}.",
            )
            need(bool(found.float().isfinite().all()), f"{what} of {name!r} must be finite after {how}.")
        if sensor.kind == "image":
            x = raw[name]
            need(bool((x >= 0).all() & (x <= 1).all()), f"Raw images of {name!r} must lie in [0, 1].")
            off = float((resting[name].float() / 255 - x).abs().max())
            need(
                off <= 1.01 / 255, f"decode and decode(raw=True) of {name!r} must agree to one level, found {off:.3g}."
            )


def differentiable(bench: Bench) -> None:
    """Raw frames have a gradient with respect to the state."""
    model = bench.model
    if "decode" not in model.capabilities:
        return
    with torch.no_grad():
        state = bench.seen(2)
    floats = {n: x.detach().clone().requires_grad_() for n, x in state.tensors.items() if x.is_floating_point()}
    raw = model.decode(state.replace(**floats), raw=True)
    for name, x in raw.items():
        need(x.requires_grad, f"decode(raw=True) of {name!r} must be differentiable with respect to the state.")
        grads = torch.autograd.grad(x.sum(), list(floats.values()), allow_unused=True, retain_graph=True)
        reach = any(g is not None and bool(g.any()) for g in grads)
        need(reach, f"No gradient reaches the state from decode(raw=True) of {name!r}.")


@torch.no_grad()
def inputs(bench: Bench) -> None:
    """What does not fit the spec raises ContractError at once."""
    model, batch = bench.model, 2
    state = bench.seen(batch)
    obs, control = bench.obs(batch), bench.control(batch)
    calls: dict[str, Callable[[], object]] = {}

    def wrong_obs(label: str, name: str, value: Tensor | None) -> None:
        bad = {k: v for k, v in obs.items() if k != name} | ({} if value is None else {name: value})
        calls[f"observe with {label} {name!r}"] = lambda: model.observe(state, bad, control)

    def wrong_control(label: str, name: str, value: Tensor | None) -> None:
        bad = {k: v for k, v in control.items() if k != name} | ({} if value is None else {name: value})
        calls[f"step with {label} {name!r}"] = lambda: model.step(state, bad)
        calls[f"observe with {label} {name!r}"] = lambda: model.observe(state, obs, bad)

    for name, x in obs.items():
        wrong_obs("no sensor", name, None)
        wrong_obs("a wrong shape of", name, x[..., :-1] if x.shape[-1] > 1 else torch.cat([x, x], -1))
        wrong_obs("a wrong batch of", name, torch.cat([x, x]))
        wrong_obs("a wrong dtype of", name, x.float() if x.dtype == torch.uint8 else x.half())
    for name, x in control.items():
        kind = bench.spec.given[name]
        wrong_control("no control", name, None)
        wrong_control("a wrong batch of", name, torch.cat([x, x]))
        wrong_control("a wrong shape of", name, x[..., None])
        wrong_control("a wrong dtype of", name, x.float() if kind.dtype == torch.int64 else x.long())
        if kind.kind in ("discrete", "tokens"):
            wrong_control("a choice above n in", name, torch.full_like(x, kind.n + 1).cpu())
            wrong_control("a negative choice in", name, torch.full_like(x, -1).cpu())
        else:
            wrong_control("NaN in", name, torch.full_like(x, torch.nan).cpu())
            if kind.high:
                wrong_control("a value above the bounds of", name, (torch.tensor(kind.high) * 2 + 1).expand(x.shape))
    wrong_control("an unknown control", "no such control", torch.zeros(batch))
    calls["start with the wrong number of seeds"] = lambda: bench.start(2, [1, 2, 3])
    if once := bench.once(batch):
        calls["start without what is given once"] = lambda: model.start(batch, 0)
        calls["start with a wrong shape of what is given once"] = lambda: model.start(
            batch, 0, {k: v[..., None] for k, v in once.items()}
        )
    for label, call in calls.items():
        try:
            call()
        except ContractError:
            continue
        except Exception as error:
            raise Failed(f"{label} must raise ContractError, found {type(error).__name__}: {error}") from error
        raise Failed(f"{label} must raise ContractError, but was accepted.")


@torch.no_grad()
def capabilities(bench: Bench) -> None:
    """What is claimed works; what is not claimed raises UnsupportedError."""
    model = bench.model
    unknown = sorted(model.capabilities - CAPABILITIES.keys())
    need(not unknown, f"Unknown capabilities {unknown}; there are {sorted(CAPABILITIES)}.")
    state, segment = bench.seen(2), bench.segment(2, 8)
    known = torch.zeros_like(segment.first)
    known[:, :2] = True
    calls: dict[str, Callable[[], object]] = {
        "decode": lambda: model.decode(state),
        "reward": lambda: model.reward(state),
        "terminal": lambda: model.terminal(state),
        "fill": lambda: model.fill(segment, known),
        "unprompted": lambda: model.step(bench.start(2), bench.null(2)),
    }
    for name, call in calls.items():
        if name in model.capabilities:
            try:
                result = call()
            except Exception as error:
                raise Failed(f"The claimed capability {name!r} raised {type(error).__name__}: {error}") from error
            if name == "fill":
                _filled(result, segment, known)
            continue
        if name == "unprompted" and model.device.type != "cpu":
            continue  # to look whether a state is empty would wait for the device at every frame
        try:
            call()
        except UnsupportedError:
            continue
        except Exception as error:
            raise Failed(f"Asking for {name!r} must raise UnsupportedError, found {type(error).__name__}.") from error
        raise Failed(f"The model does not claim {name!r}: asking for it must raise UnsupportedError, but was accepted.")


def _filled(result: object, segment: Segment, known: Tensor) -> None:
    if not isinstance(result, Segment):
        raise Failed(f"fill must return a Segment, found {type(result).__name__}.")
    for name, x in segment.obs.items():
        y = result.obs[name]
        need(y.shape == x.shape and y.dtype == x.dtype, f"fill must keep shape and dtype of {name!r}.")
        need(torch.equal(y[known], x[known]), f"fill must keep the known frames of {name!r}.")


@torch.no_grad()
def weights(bench: Bench) -> None:
    """A new model with the same state_dict, whose spec lists everything in another order, dreams the same."""
    model, spec = bench.model, bench.spec
    turned = Spec(dict(reversed(spec.shown.items())), dict(reversed(spec.given.items())), spec.fps)
    torch.manual_seed(bench.seed + 2)  # a constructor that repeats its draws would hide what was not saved
    try:
        twin: WorldModel = type(model)(turned, copy.deepcopy(model.config))
    except TypeError:  # a user's class may have another constructor
        twin = copy.deepcopy(model)
        for parameter in twin.parameters():
            parameter.zero_()
    twin.to(model.device).load_state_dict(copied(model.state_dict()))
    other = Bench(twin.eval(), bench.seed, bench.frames)
    _, mine = bench.dream(bench.seen(2), count=4)
    _, theirs = other.dream(other.seen(2), count=4)
    need(
        all(gap(a, b) < 1e-5 for a, b in zip(mine, theirs, strict=True)),
        "A new model built for the same spec, with its sensors and controls listed in another order, must dream the "
        "same after load_state_dict. Register everything learned, and sort what is concatenated by name.",
    )


@torch.no_grad()
def hidden_state(bench: Bench) -> None:
    """Nothing is remembered in the module: sequences taken in turns go on as each would alone."""
    before = copied(bench.model.state_dict())
    alone = bench.dream(bench.seen(2, "mine"), "mine", count=6)[1]
    mine, other = bench.seen(2, "mine"), bench.seen(2, "other", state=bench.start(2, 5))
    turns = []
    for t in range(6):
        mine = bench.model.step(mine, bench.control(2, "dream", "mine", t))
        other = bench.model.step(other, bench.control(2, "dream", "other", t))
        other = bench.model.observe(other, bench.obs(2, "other", t), bench.control(2, "other", t))
        turns.append(bench.view(mine))
    need(
        all(same(a, b) for a, b in zip(alone, turns, strict=True)),
        "A dream changed because another sequence ran in between: the module holds state. Keep it in the State.",
    )
    result = bench.model.loss(bench.segment(2, bench.window), torch.Generator(bench.model.device).manual_seed(0))
    need(isinstance(result, Loss), f"loss must return a Loss, found {type(result).__name__}.")
    need(
        same(before, copied(bench.model.state_dict())), "Dreaming or an evaluation loss changed a parameter or buffer."
    )


CHECKS: dict[str, Callable[[Bench], None]] = {
    "shapes": shapes,
    "differentiable": differentiable,
    "inputs": inputs,
    "capabilities": capabilities,
    "weights": weights,
    "hidden_state": hidden_state,
}
