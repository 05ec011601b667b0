"""The optimiser, its learning rate over time, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from worldloom.files import DamagedFileError
from worldloom.training.config import TrainConfig
from worldloom.training.muon import Muon, hidden


def lr_factor(step: int, steps: int, warmup: int, decay: str = "cosine", final: float = 0.0) -> float:
    """Learning rate of update number ``step`` (0 … steps-1) as a fraction of its peak.

    It rises linearly over ``warmup`` updates (at most a tenth of all), reaching 1 at the last of them, then falls
    to ``final`` at the last update, by half a cosine (Loshchilov and Hutter 2017) or linearly, or stays.
    """
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    if decay == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    left = 0.5 * (1 + math.cos(math.pi * done)) if decay == "cosine" else 1 - done
    return final + (1 - final) * left


def param_groups(model: nn.Module, weight_decay: float, muon: Collection[str] = frozenset()) -> list[dict[str, Any]]:
    """Groups of named parameters: those that decay, and those of one dimension or less, which do not.

    Biases, gains of norms and learned scalars are not made better by being small; nor are frozen parameters trained.
    Parameters named in ``muon`` are a group of their own, which decays too, first and marked ``muon``.
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parts = [
        ([(n, p) for n, p in named if n in muon], {"weight_decay": weight_decay, "muon": True}),
        ([(n, p) for n, p in named if n not in muon and p.ndim > 1], {"weight_decay": weight_decay}),
        ([(n, p) for n, p in named if n not in muon and p.ndim <= 1], {"weight_decay": 0.0}),
    ]
    return [{"params": [p for _, p in part], "names": [n for n, _ in part], **how} for part, how in parts if part]


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """What ``config.optimizer`` names, over :func:`param_groups`; AdamW's part as one fused kernel where there is one.

    AdamW is Loshchilov and Hutter's (2019); :class:`~worldloom.training.muon.Muon` moves the matrices that
    :func:`~worldloom.training.muon.hidden` finds and leaves the rest to AdamW.
    """
    kind = next(model.parameters()).device.type
    fused = kind in ("cpu", "cuda")
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas}
    settings |= {"fused": fused, "foreach": None if fused else True}
    if config.optimizer == "muon":
        return Muon(param_groups(model, config.weight_decay, hidden(model)), **settings)
    return torch.optim.AdamW(param_groups(model, config.weight_decay), **settings)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named ``<parameter>|<entry>``, for a checkpoint."""
    packed: dict[str, Tensor] = {}
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for entry, value in optimizer.state.get(parameter, {}).items():
                packed[f"{name}|{entry}"] = value
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, packed: Mapping[str, Tensor]) -> None:
    """Put back what :func:`pack_optimizer` gave. Raises :class:`DamagedFileError` if it is of another model."""
    state: dict[int, dict[str, Tensor]] = {}
    names = [n for group in optimizer.param_groups for n in group["names"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in packed.items():
        name, _, entry = key.rpartition("|")
        if name not in names:
            raise DamagedFileError(f"The checkpoint has optimiser state for {name!r}, which the model does not train.")
        index = names.index(name)
        if value.ndim and value.shape != parameters[index].shape:
            raise DamagedFileError(
                f"The optimiser state of {name!r} has shape {tuple(value.shape)}, "
                f"the parameter {tuple(parameters[index].shape)}."
            )
        # The fused kernel walks through memory: moments must lie in it as their parameter does (channels last, say).
        laid_out = torch.empty_like(parameters[index], dtype=value.dtype).copy_(value) if value.ndim else value
        state.setdefault(index, {})[entry] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


__all__ = ["lr_factor", "make_optimizer", "pack_optimizer", "param_groups", "unpack_optimizer"]
