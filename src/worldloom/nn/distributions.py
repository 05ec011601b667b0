"""Distributions that the families predict: squashed scalars as two-hot classes, categoricals with a floor, their KL."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def symlog(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) ln(1 + |x|): near 0 the identity, far from it a logarithm (DreamerV3, eq. 9)."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of :func:`symlog`."""
    return torch.sign(x) * torch.expm1(x.abs())


def symexp_bins(count: int, limit: float = 20.0) -> Float[Tensor, " bins"]:
    """``count`` bin centres, symmetric about 0 and spaced evenly in symlog space, from -symexp(limit) to symexp(limit).

    ``count`` must be odd, so that zero is a bin.
    """
    half = symexp(torch.linspace(-limit, 0, count // 2 + 1))
    return torch.cat([half, -half[:-1].flip(0)])


def two_hot(x: Float[Tensor, "*shape"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*shape bins"]:
    """Weights on the two bins around each x, whose weighted mean is x; beyond the last bin all weight is on it."""
    x = x.clamp(bins[0], bins[-1])
    above = torch.searchsorted(bins, x.contiguous()).clamp(1, len(bins) - 1)
    low, high = bins[above - 1], bins[above]
    weight = ((x - low) / (high - low)).unsqueeze(-1)
    lower = F.one_hot(above - 1, len(bins)).to(x.dtype)
    upper = F.one_hot(above, len(bins)).to(x.dtype)
    return lower * (1 - weight) + upper * weight


def two_hot_loss(
    logits: Float[Tensor, "*shape bins"], x: Float[Tensor, "*shape"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*shape"]:
    """Cross-entropy of ``logits`` against the two-hot weights of ``x``."""
    return -(two_hot(x, bins) * F.log_softmax(logits, -1)).sum(-1)


def two_hot_mean(logits: Float[Tensor, "*shape bins"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*shape"]:
    """The expected value, summed from both ends towards the middle, so that equal logits give exactly zero.

    ``bins`` are symmetric about 0; the large outer terms then cancel in pairs instead of leaving a rounding error.
    """
    probs, middle = F.softmax(logits, -1), len(bins) // 2
    paired = probs[..., :middle] * bins[:middle] + (probs[..., middle + 1 :] * bins[middle + 1 :]).flip(-1)
    return paired.sum(-1) + probs[..., middle] * bins[middle]


def unimix(logits: Float[Tensor, "*shape classes"], share: float) -> Float[Tensor, "*shape classes"]:
    """Log-probabilities of the categorical mixed with a ``share`` of the uniform one, so that none is ever zero."""
    probs = F.softmax(logits, -1)
    return torch.log(probs * (1 - share) + share / logits.shape[-1])


def categorical_kl(
    p: Float[Tensor, "*shape variables classes"], q: Float[Tensor, "*shape variables classes"]
) -> Float[Tensor, "*shape"]:
    """KL(p ‖ q) in nats, summed over the variables. Both are log-probabilities."""
    return (p.exp() * (p - q)).sum((-2, -1))


def straight_through(
    log_probs: Float[Tensor, "*shape classes"], gumbel: Float[Tensor, "*shape classes"]
) -> Float[Tensor, "*shape classes"]:
    """A one-hot sample, chosen by the given Gumbel draws, whose gradient is that of the probabilities."""
    hard = F.one_hot((log_probs + gumbel).argmax(-1), log_probs.shape[-1]).to(log_probs.dtype)
    probs = log_probs.exp()
    return hard + (probs - probs.detach())
