"""Whether this machine can compile networks."""

from __future__ import annotations

import torch

from worldloom.contract import WorldloomError


def check_compiler(device: torch.device) -> None:
    """Raise :class:`WorldloomError` unless torch.compile works: a CPU needs a C++ compiler for it, CUDA Triton."""

    def small(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + 1

    try:
        torch.compile(small)(torch.zeros(2, device=device))
    except RuntimeError as error:  # the base of all that torch.compile raises
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise WorldloomError(
            f"torch.compile does not work here ({what[0]}). On a CPU it needs a C++ compiler (g++ or clang++ on Linux "
            "and macOS, Visual Studio's on Windows), on CUDA Triton. Install it, or leave compiling off."
        ) from error


__all__ = ["check_compiler"]
