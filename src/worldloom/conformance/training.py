"""Checks of ``loss``: finite, reproducible, reaching every parameter, blind to padding and across ``first``."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch

from worldloom.conformance.bench import Bench, copied, need, same, shake
from worldloom.contract import Loss, Segment, WorldModel


def _loss(bench: Bench, segment: Segment, seed: int = 0) -> Loss:
    return bench.model.loss(segment, torch.Generator(bench.model.device).manual_seed(seed))


def _spliced(mine: Segment, other: Segment, window: slice) -> Segment:
    """``mine`` with the frames, controls, rewards and ends of ``other`` in a window of time."""

    def splice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        out = a.clone()
        out[:, window] = b[:, window]
        return out

    def maybe(a: torch.Tensor | None, b: torch.Tensor | None) -> torch.Tensor | None:
        return None if a is None or b is None else splice(a, b)

    return dataclasses.replace(
        mine,
        obs={name: splice(x, other.obs[name]) for name, x in mine.obs.items()},
        control={name: x if name in mine.once else splice(x, other.control[name]) for name, x in mine.control.items()},
        reward=maybe(mine.reward, other.reward),
        terminal=maybe(mine.terminal, other.terminal),
    )


def loss(bench: Bench) -> None:
    """A finite scalar, the same for the same generator, whose gradient reaches every trained parameter."""
    model = bench.model
    segment = bench.segment(3, bench.window)
    tensors = {**segment.obs, **segment.control, "first": segment.first, "valid": segment.valid}
    before = copied(tensors)
    result = _loss(bench, segment)
    need(isinstance(result, Loss), f"loss must return a Loss, found {type(result).__name__}.")
    need(
        result.total.ndim == 0 and result.total.is_floating_point() and bool(result.total.isfinite()),
        f"Loss.total must be a finite scalar, found {result.total.dtype} {tuple(result.total.shape)}.",
    )
    need(same(before, tensors), "loss must not write into the segment.")
    for name, metric in result.metrics.items():
        need(metric.ndim == 0 and not metric.requires_grad, f"Metric {name!r} must be a detached scalar.")
    torch.manual_seed(bench.seed + 1)
    again = _loss(bench, segment)
    need(torch.equal(again.total, result.total), "The same generator must give the same loss: draw from nothing else.")
    bare = bench.segment(2, bench.window, heads=False)
    need(bool(_loss(bench, bare).total.isfinite()), "loss must be finite for segments without reward and terminal.")
    single = bench.segment(1, bench.window)
    need(bool(_loss(bench, single).total.isfinite()), "loss must be finite for a single sequence.")

    unreached = {name for name, p in model.named_parameters() if p.requires_grad}
    for seed in range(4):  # a mechanism that training drops at random may need several draws
        unreached &= _unreached(model, segment, seed)
        wild = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
        need(not wild, f"The gradients of {wild[:6]} are not finite.")
    for seed in range(4):  # and one behind a threshold, as free nats are, another place in parameter space
        if unreached:
            elsewhere = copy.deepcopy(model)
            shake(elsewhere, seed, 0.1 * (seed + 1))
            unreached &= _unreached(elsewhere, segment, seed)
    need(
        not unreached,
        f"No gradient reaches {sorted(unreached)[:6]}: they never train. Use them in the loss, or set requires_grad "
        "to False.",
    )


def _unreached(model: WorldModel, segment: Segment, seed: int) -> set[str]:
    """Names of the trained parameters whose gradient is zero."""
    model.train()
    model.zero_grad(set_to_none=True)
    model.loss(segment, torch.Generator(model.device).manual_seed(seed)).total.backward()
    out = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any())):
            out.add(name)
    return out


@torch.no_grad()
def padding(bench: Bench) -> None:
    """Frames that are not valid leave the loss as it is, at the end and, before a ``first``, at the beginning."""
    length = bench.window
    cut = length // 2
    mine, other = bench.segment(3, length, "mine"), bench.segment(3, length, "other")
    total = _loss(bench, mine).total
    changed = _loss(bench, _spliced(mine, other, slice(cut, cut + 1))).total
    need(not torch.equal(total, changed), "Changing a valid frame must change the loss.")
    for window, where in ((slice(cut, length), "at the end"), (slice(0, cut), "before a `first`")):
        valid, first = mine.valid.clone(), mine.first.clone()
        valid[:, window] = False
        first[:, 0] = True
        first[:, cut] = True
        padded = dataclasses.replace(mine, valid=valid, first=first)
        a, b = _loss(bench, padded).total, _loss(bench, _spliced(padded, other, window)).total
        near = bool((a - b).abs() <= 1e-5 * (1 + a.abs()))
        need(
            near,
            f"Frames {where} that are not valid must not change the loss, found {float(a):.6g} and {float(b):.6g}. "
            "Average over `valid` frames, and let nothing cross `first`.",
        )


@torch.no_grad()
def causal_loss(bench: Bench) -> None:
    """What comes after the valid frames leaves the loss as it is, though the episode goes on and no ``first`` parts
    them: nothing looks ahead. It needs no ``Loss.states``."""
    length = bench.window
    mine, other = bench.segment(3, length, "mine"), bench.segment(3, length, "other")
    first = torch.zeros_like(mine.first)
    first[:, 0] = True
    for cut in (length // 2, length - 1):
        valid = mine.valid.clone()
        valid[:, cut:] = False
        before = dataclasses.replace(mine, first=first, valid=valid)
        a, b = _loss(bench, before).total, _loss(bench, _spliced(before, other, slice(cut, length))).total
        need(
            bool((a - b).abs() <= 1e-5 * (1 + a.abs())),
            f"Frames and controls after the last valid frame must not change the loss, found {float(a):.6g} and "
            f"{float(b):.6g}. A frame may be predicted from earlier ones alone.",
        )


def posterior(bench: Bench) -> None:
    """``Loss.states``, where there are any: batch-major, causal, reset by ``first``, and good to dream from."""
    batch, length = 3, bench.window
    cut = length // 2
    mine, other = bench.segment(batch, length, "mine"), bench.segment(batch, length, "other")
    result = _loss(bench, mine)
    if result.states is None:
        return
    need(result.states.batch == batch * length, f"Loss.states must have B*T = {batch * length} rows.")
    features = bench.model.features(result.states)
    need(features.requires_grad, "Loss.states must keep their graph.")
    with torch.no_grad():
        bench.dream(result.states.detach(), count=2)

        def looked(segment: Segment) -> torch.Tensor:
            states = _loss(bench, segment).states
            assert states is not None
            return bench.model.features(states).unflatten(0, (batch, length))

        kept = looked(mine)
        later = looked(_spliced(mine, other, slice(cut, length)))
        near = torch.isclose(kept, later, atol=1e-5).all(-1)
        need(near[:, :cut].all(), "A later frame changed an earlier posterior in loss.")
        need(not near[:, cut:].all(), "Loss.states must be the posteriors of their own frames, batch-major.")
        first = mine.first.clone()
        first[:, cut] = True
        reset = dataclasses.replace(mine, first=first)
        near = torch.isclose(looked(reset), looked(_spliced(reset, other, slice(0, cut))), atol=1e-5).all(-1)
        need(near[:, cut:].all(), "Frames before a `first` changed a posterior after it in loss.")


CHECKS: dict[str, Callable[[Bench], None]] = {
    "loss": loss,
    "padding": padding,
    "causal_loss": causal_loss,
    "posterior": posterior,
}
