"""What turns clips into features: one protocol, three extractors of ours, and the user's own.

A distance between distributions is as good as its features. None of ours is downloaded, and a user's is a callable in
a module of theirs: files of weights are opened by their code, never by ours.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldloom.contract import WorldloomError
from worldloom.evaluation.distances.embedded import trained
from worldloom.files import tensors_hash
from worldloom.plugins import explained, load, split

CHUNK = 16
"""Clips an extractor is given at a time: fixed, so that a report can be made again to the last digit."""
SIDE = 64
"""Frames whose shorter side is k times this many pixels are averaged over k × k pixels for our networks."""


class ExtractorError(WorldloomError):
    """A feature extractor can't be used, or returned something else than features."""


@runtime_checkable
class Extractor(Protocol):
    """Clips in, features out."""

    @property
    def name(self) -> str:
        """Of its figures: letters, digits and _."""
        ...

    @property
    def hash(self) -> str:
        """sha256 of all that its features depend on."""
        ...

    def __call__(self, clips: Tensor) -> Tensor:
        """(B, T, C, H, W) uint8 on the CPU to (B, d) float32. Clip by clip: a clip's features never depend on its
        company."""
        ...


def features(extractor: Extractor, clips: np.ndarray) -> np.ndarray:
    """(n, d) float64 features of clips (n, T, C, H, W) uint8, 16 at a time.

    Raises :class:`ExtractorError` where the extractor fails or returns anything but finite float32 (B, d), as a tensor
    or an array.
    """
    if clips.ndim != 5 or clips.dtype != np.uint8 or not len(clips):
        raise ExtractorError(f"An extractor is given clips (n, T, C, H, W) uint8, found {clips.dtype} {clips.shape}.")
    parts: list[np.ndarray] = []
    label = f"The extractor {extractor.name!r}"
    for begin in range(0, len(clips), CHUNK):
        given = torch.from_numpy(np.array(clips[begin : begin + CHUNK]))
        with explained(label, f"take clips of shape {tuple(given.shape)} uint8", ExtractorError):
            with torch.inference_mode():
                found = extractor(given)
        parts.append(_checked(label, found, len(given), parts[0].shape[1] if parts else None))
    return np.concatenate(parts)


def _checked(label: str, found: Any, rows: int, width: int | None) -> np.ndarray:
    wanted = f"({rows}, {'d' if width is None else width}) float32"
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(np.ascontiguousarray(found))
    if not isinstance(found, Tensor):
        raise ExtractorError(f"{label} must return a tensor {wanted}, found {type(found).__name__}.")
    shape, kind = tuple(found.shape), str(found.dtype).removeprefix("torch.")
    right = len(shape) == 2 and shape[0] == rows and shape[1] > 0 and width in (None, shape[1])
    if not right or found.dtype != torch.float32:
        raise ExtractorError(f"{label} must return a tensor {wanted} for {rows} clips, found {shape} {kind}.")
    values = found.detach().cpu().double().numpy()
    bad = int((~np.isfinite(values)).any(1).sum())
    if bad:
        raise ExtractorError(f"{label} must return finite features, found NaN or infinity in {bad} of {rows} clips.")
    return values


def colour(clips: Tensor) -> Tensor:
    """(B, T, C, H, W) uint8 to (B, T, 3, h, w) float32 in [0, 1], as our networks see them.

    One or two channels: the first, three times. More than three: the first three. Frames whose shorter side has at
    least 128 px are averaged over k × k pixels, k = side // 64; nothing is interpolated.
    """
    first = clips[:, :, :3] if clips.shape[2] >= 3 else clips[:, :, :1].expand(-1, -1, 3, -1, -1)
    x = first.to(torch.float32) / 255
    k = min(x.shape[-2:]) // SIDE
    if k > 1:
        x = F.avg_pool2d(x.flatten(0, 1), k).unflatten(0, x.shape[:2])
    return x


class Embedded:
    """The small network that was trained on our simulators; see :mod:`~worldloom.evaluation.distances.embedded`."""

    name = "embedded"

    def __init__(self) -> None:
        self.net, self.hash = trained()

    def __call__(self, clips: Tensor) -> Tensor:
        """(B, T, C, H, W) uint8 to (B, 64) float32."""
        found: Tensor = self.net(colour(clips))
        return found


class Calibrated:
    """An extractor whose features are put on a common scale by those of true clips: asinh((f - mean) / spread).

    The third power in the kernel would otherwise be that of the largest features alone; asinh is about linear up to
    the spread of true clips and grows slowly beyond it, where a few wild clips would decide all.
    """

    def __init__(self, extractor: Extractor, clips: np.ndarray, least: np.ndarray | None = None) -> None:
        """clips: (n, T, C, H, W) true ones, which are not compared later. least: (d,) the smallest spread that counts,
        by default a thousandth of the typical one: where the truth is exactly constant, its spread is no scale."""
        self.extractor, self.name = extractor, extractor.name
        found = features(extractor, clips)
        self.mean, spread = found.mean(0), found.std(0)
        if least is None:
            least = np.full(len(spread), max(1e-3 * float(np.sqrt(np.square(spread).mean())), 1e-9))
        self.spread = np.maximum(spread, least)
        digest = hashlib.sha256(f"asinh|{extractor.hash}|{clips.shape}|".encode())
        digest.update(np.ascontiguousarray(clips).data)
        self.hash = digest.hexdigest()

    def __call__(self, clips: Tensor) -> Tensor:
        """As :class:`Extractor`."""
        found = self.extractor(clips).cpu().double()
        return torch.asinh((found - torch.from_numpy(self.mean)) / torch.from_numpy(self.spread)).float()


class Own:
    """A user's own extractor, named as ``module:callable``: a function, a torch module, or a class made without
    arguments."""

    def __init__(self, name: str) -> None:
        """Raises :class:`ExtractorError` where it can't be found or made."""
        made = load(name, ExtractorError)
        if inspect.isclass(made):
            with explained(name, "be made without arguments", ExtractorError):
                made = made()
        if not callable(made):
            raise ExtractorError(f"{name} is a {type(made).__name__}, not a callable from clips to features.")
        if isinstance(made, nn.Module):
            made = made.eval()
        self.made = made
        own = getattr(made, "name", None)
        attribute = split(name, ExtractorError)[1]
        self.name = own if isinstance(own, str) else attribute
        if not self.name.isidentifier() or self.name in ("random3d", "embedded", "state"):
            raise ExtractorError(
                f"The extractor {name} must have a name of letters, digits and _ that is none of ours, found "
                f"{self.name!r}: give it an attribute name."
            )
        self.hash = _hash(name, made)

    def __call__(self, clips: Tensor) -> Any:
        """As :class:`Extractor`; whether it is so is checked by :func:`features`."""
        return self.made(clips)


def _hash(name: str, made: Any) -> str:
    """Over the source file of the module, the weights of a torch module, and the ``hash`` it may give itself."""
    digest = hashlib.sha256(name.encode())
    file = getattr(sys.modules.get(split(name)[0]), "__file__", None)
    if file is not None:
        digest.update(Path(file).read_bytes())
    if isinstance(made, nn.Module):
        digest.update(tensors_hash(made.state_dict(), {}).encode())
    if isinstance(getattr(made, "hash", None), str):
        digest.update(made.hash.encode())
    return digest.hexdigest()


__all__ = ["Calibrated", "Embedded", "Extractor", "ExtractorError", "Own", "colour", "features"]
