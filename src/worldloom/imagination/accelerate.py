"""A model that dreams faster: in bfloat16, with int8 linear layers, compiled (docs/speed.md has what each buys)."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

from worldloom.contract import WorldloomError, WorldModel
from worldloom.nn.compiling import check_compiler

M = TypeVar("M", bound=WorldModel)
Precision = Literal["float32", "bf16", "int8"]


def accelerate(model: M, precision: Precision = "float32", compiled: bool = False) -> M:
    """A copy for dreaming, whose heavy parts (the model's ``compile_parts``) compute otherwise.

    precision: ``bf16`` casts them, which is faster where the processor multiplies in bfloat16, and rounds to three
    digits; ``int8`` quantises their linear layers, weights and activations, through torchao (the extra
    ``worldloom[int8]``): convolutions stay as they are, so that it serves networks made of linear layers. compiled:
    through torch.compile, which needs a compiler and takes its time at the first frame of each batch size.

    Raises :class:`WorldloomError` where a model names no parts, or torchao or a compiler is missing.
    """
    check_precision(precision)
    names = tuple(getattr(model, "compile_parts", ()))
    if not names:
        raise WorldloomError(
            f"{type(model).__name__} names no parts to accelerate. Give the class an attribute compile_parts: the "
            "names of its modules that take most of a step."
        )
    model = copy.deepcopy(model).eval()
    if compiled:
        check_compiler(model.device)
    for name in names:
        part = model.get_submodule(name)
        if precision == "bf16":
            part.to(torch.bfloat16)
        elif precision == "int8":
            quantise(part)
        if compiled:
            part.compile()
    return model


def check_precision(name: str) -> None:
    """Raise :class:`WorldloomError` for what is none of :data:`Precision`."""
    if name not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise WorldloomError(f"There is no precision {name!r} to dream in: take one of {known}.")


def quantise(part: nn.Module) -> None:
    """Linear layers of a module to int8 weights and activations, in place."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise WorldloomError("int8 needs torchao: pip install worldloom[int8].") from error
    quantize_(part, Int8DynamicActivationInt8WeightConfig())


__all__ = ["Precision", "accelerate", "check_precision", "quantise"]
