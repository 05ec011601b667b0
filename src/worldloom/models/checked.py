"""A model from a description that may lie: nothing is made that is larger than the weights that came with it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from worldloom.contract import WorldloomError, WorldModel
from worldloom.files import DamagedFileError

_FREE = 2**30  # bytes of tables and the like that a model may have beside its weights
_ERRORS = (
    *(RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError),
    MemoryError,
)


def build_within(make: Callable[[], WorldModel], tensors: Mapping[str, Tensor], where: str) -> WorldModel:
    """``make()``, once it is sure that its state has the names and shapes of ``tensors``.

    It is first made on PyTorch's ``meta`` device, which has shapes but no memory, and stopped as soon as it has more
    parameters than there are tensors: a file that claims a billion layers costs neither memory nor time. Raises
    :class:`DamagedFileError` where the description can't be built or does not fit; ``where`` names the file.
    """
    try:
        with _no_more_than(len(tensors), where), torch.device("meta"):
            sketch = make()
    except WorldloomError:
        raise
    except _ERRORS:
        sketch = None  # a model that needs values to be made: what is wrong with it will be said below
    if sketch is not None:
        _compare(sketch, tensors, where)
    try:
        with _no_more_than(len(tensors), where):
            return make()
    except WorldloomError:
        raise
    except _ERRORS as error:
        raise DamagedFileError(
            f"{where} describes a model that can't be built: {type(error).__name__}: {error}"
        ) from error


def _compare(sketch: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    wanted = {n: tuple(x.shape) for n, x in sketch.state_dict().items()}
    found = {n: tuple(x.shape) for n, x in tensors.items()}
    odd = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
    if odd:
        n = odd[0]
        raise DamagedFileError(
            f"{where} does not fit its own description: {n!r} has shape {found.get(n, 'none')}, the model that is "
            f"described {wanted.get(n, 'none')}. Use another checkpoint."
        )
    tables = sum(x.numel() * x.element_size() for x in sketch.buffers())
    if tables > _FREE + 16 * sum(x.numel() * x.element_size() for x in tensors.values()):
        raise DamagedFileError(f"{where} describes a model with {tables:,} bytes of tables. Use another checkpoint.")


@contextlib.contextmanager
def _no_more_than(count: int, where: str) -> Iterator[None]:
    """Inside, in this thread, modules that register many more parameters and buffers than ``count`` are an error."""
    left, thread = [2 * count + 1000], threading.get_ident()

    def hook(module: nn.Module, name: str, value: Any) -> None:
        if value is None or threading.get_ident() != thread:
            return
        left[0] -= 1
        if left[0] < 0:
            raise DamagedFileError(f"{where} describes a model of far more than its {count} tensors.")

    handles = [register_module_parameter_registration_hook(hook), register_module_buffer_registration_hook(hook)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["build_within"]
