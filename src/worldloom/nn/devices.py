"""Where to compute: the device that a name stands for, and a model put there."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from worldloom.contract import WorldloomError

M = TypeVar("M", bound=nn.Module)
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
)  # GPUs, Windows, others


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name`` (auto, cpu, cuda, mps, or cuda with a number), or an error that says what there is.

    ``auto`` takes CUDA, else Apple's GPU (MPS), else the CPU.
    """
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = str(name)
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if found[kind])
    kind, _, number = name.partition(":")
    there = ", ".join(k for k, is_there in found.items() if is_there)
    if not found.get(kind, False):
        built = {"cuda": torch.version.cuda is not None, "mps": torch.backends.mps.is_built()}.get(kind, True)
        why = "" if built else f" (this PyTorch, {torch.__version__}, was built without it)"
        raise WorldloomError(f"There is no device {name!r} here{why}. Choose one of: auto, {there}.")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if number and not (number.isdigit() and int(number) < count):
        raise WorldloomError(f"There is no device {name!r} here: {kind} devices are numbered 0 to {count - 1}.")
    return torch.device(name)


def place(model: M, device: str | torch.device) -> M:
    """The model on a device, by :func:`pick_device`'s names.

    On MPS convolutions with weights that lie channels last were wrong more than once (pytorch issues 140902, 142344),
    so weights lie there as they do by default. MPS has no float64: a weight of that kind is an error that names it.
    """
    device = pick_device(device)
    if device.type != "mps":
        return model.to(device)
    for name, x in model.state_dict().items():
        if x.dtype in (torch.float64, torch.complex128):
            raise WorldloomError(f"Apple's GPU has no {x.dtype}, and {name} is of it: call model.float() first.")
    return model.to(device).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has too little memory: PyTorch has no one class for it on all of them."""
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))


__all__ = ["out_of_memory", "pick_device", "place"]
