"""Where to compute, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from worldloom.nn.devices import pick_device, place


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies in bf16 by instructions of its own, rather than by emulating them.

    On a CPU these are AVX512-BF16 or AMX: convolutions and matrix products in training then take 1.3 to 2.4 times
    less time. Without them autocast only adds conversions. The answer depends on the machine alone, not on a
    measurement, so that two runs of one command compute the same.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # PyTorch has these checks under private names only; where one is missing, float32 is the safe answer.
    checks = [getattr(torch.cpu, f"_is_{kind}_supported", None) for kind in ("avx512_bf16", "amx_tile")]
    return any(bool(check()) for check in checks if check is not None)


def pick_precision(name: str, device: torch.device) -> str:
    """``float32`` or ``bf16``; ``auto`` is bf16 where :func:`native_bf16` says that it pays."""
    if name == "auto":
        return "bf16" if native_bf16(device) else "float32"
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which a forward pass runs in ``precision``. Weights stay float32."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


__all__ = ["autocast", "native_bf16", "pick_device", "pick_precision", "place"]
