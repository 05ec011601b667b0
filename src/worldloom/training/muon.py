"""Muon: the momentum of a hidden matrix, made orthogonal, is its step. All other parameters take AdamW's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic s -> a s + b s^3 + c s^5, steep at 0: small singular values rise fast, none settles exactly at 1."""
ROUNDS = 5
"""Rounds of it: they take singular values from 0.003 to 1 (as shares of the norm) to between 0.68 and 1.21."""
MATCH = 0.2
"""Root mean square of an AdamW step in units of its learning rate, as usually observed."""


def orthogonal(x: Tensor, rounds: int = ROUNDS) -> Tensor:
    """(..., rows, columns) with about the singular vectors of ``x`` and singular values near 1, in float32.

    Newton-Schulz iterations (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"): matrix
    products alone, no decomposition. A matrix of zeros stays one.

    A round is X <- P(G) X with G = X X^T and P(G) = a + b G + c G^2. All P commute with G, so the rounds are gathered
    as Q <- P Q, G <- P G P on the small side and meet X once, at the end: for a 3x3 kernel a third of the time, which
    lets a CPU afford float32. (In bf16 the squares that G holds would be lost.)
    """
    a, b, c = COEFFICIENTS
    x = x.float()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-20)
    gram = x @ x.mT
    gathered = torch.eye(x.shape[-2], device=x.device)
    for _ in range(rounds):
        polynomial = b * gram + c * gram @ gram
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        gathered = polynomial @ gathered
        gram = polynomial @ gram @ polynomial
    x = gathered @ x
    return x.mT if tall else x


def hidden(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that Muon moves: weights of linear layers and convolutions between hidden features.

    A matrix of such a layer takes features to features, those of a text too. Left to AdamW are embeddings (rows that
    are looked up one by one), parameters that no linear layer or convolution owns (positions, gains, stacks of
    matrices), weights tied to any of these, and the modules or parameters that the model itself names in its attribute
    ``not_hidden``: layers that face data or conditions.
    """
    apart = tuple(f"{name}." for name in getattr(model, "not_hidden", ()))
    mine: dict[int, str] = {}
    others: set[int] = set()
    for prefix, module in model.named_modules():
        layer = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if layer and parameter is module.weight and not f"{name}.".startswith(apart):
                mine.setdefault(id(parameter), name)
            else:
                others.add(id(parameter))
    return frozenset(name for key, name in mine.items() if key not in others)


class Muon(torch.optim.AdamW):
    """Groups with ``muon`` true are moved by Muon, the others by AdamW; one learning rate serves both.

    A step of Muon is W <- (1 - lr decay) W - 0.2 lr sqrt(max(rows, columns)) orthogonal(momentum), whose root mean
    square is that of a usual AdamW step (Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4). A kernel (out,
    in, ...) is the matrix (out, in x ...) of its layer as a product with patches. The momentum is Nesterov's, an
    average of decay ``momentum``; it stands in the state as ``exp_avg``.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float = 0.95, **settings: Any):
        super().__init__(groups, **settings)
        self.defaults["momentum"] = momentum
        for group in self.param_groups:
            group.setdefault("muon", False)
            group.setdefault("momentum", momentum)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        every = self.param_groups
        for group in every:
            if group["muon"]:
                self._move(group)
        self.param_groups = [group for group in every if not group["muon"]]
        try:
            super().step(closure)
        finally:
            self.param_groups = every

    def _move(self, group: dict[str, Any]) -> None:
        moved = [p for p in group["params"] if p.grad is not None]
        beta, lr = group["momentum"], group["lr"]
        ahead: list[tuple[nn.Parameter, Tensor]] = []
        for p in moved:
            state = self.state[p]
            if not state:
                # Unused here, but AdamW's loading of a state looks for it.
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                state["exp_avg"] = torch.zeros_like(p)
            state["step"] += 1
            state["exp_avg"].lerp_(p.grad, 1 - beta)
            ahead.append((p, p.grad.lerp(state["exp_avg"], beta).flatten(1)))
        # Matrices of one shape go through the iterations together: their products are small.
        ahead.sort(key=lambda pair: pair[1].shape)
        for shape, alike in groupby(ahead, key=lambda pair: pair[1].shape):
            some = list(alike)
            steps = orthogonal(torch.stack([matrix for _, matrix in some]))
            size = MATCH * lr * math.sqrt(max(shape))
            for (p, _), one in zip(some, steps, strict=True):
                p.mul_(1 - lr * group["weight_decay"]).add_(one.view(p.shape), alpha=-size)


__all__ = ["Muon", "hidden", "orthogonal"]
