"""TensorBoard, Weights & Biases and trackio behind three methods. All are optional: ``worldloom[track]``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from worldloom.contract import WorldloomError


@runtime_checkable
class Tracker(Protocol):
    """Where figures and filmstrips go beside log.jsonl."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars."""

    def image(self, step: int, path: Path) -> None:
        """Record a picture that was written to ``path``."""

    def close(self) -> None:
        """Flush and finish."""


class NoTracker:
    """The default: log.jsonl alone."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record nothing."""

    def image(self, step: int, path: Path) -> None:
        """Record nothing."""

    def close(self) -> None:
        """Nothing is open."""


class TensorBoard:
    """Event files in the run's folder ``tensorboard``. Events after the step resumed from are purged."""

    def __init__(self, folder: Path, step: int):
        module = _load("torch.utils.tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, path: Path) -> None:
        """Record a picture."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._writer.add_image("samples", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and finish."""
        self._writer.close()


class Wandb:
    """Weights & Biases, or trackio, which has the same calls. The run is named after its folder."""

    def __init__(self, package: str, folder: Path, config: Mapping[str, Any]):
        self._module = _load(package, package)
        options: dict[str, Any] = {"dir": str(folder), "id": folder.name} if package == "wandb" else {}
        self._run = self._module.init(
            project="worldloom", name=folder.name, config=dict(config), resume="allow", **options
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars."""
        self._module.log(dict(values), step=step)

    def image(self, step: int, path: Path) -> None:
        """Record a picture."""
        self._module.log({"samples": self._module.Image(str(path))}, step=step)

    def close(self) -> None:
        """Flush and finish."""
        self._module.finish()


def _load(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise WorldloomError(
            f"tracker={package!r} needs the package {package}, which is not installed ({error}). "
            "Install it by: pip install 'worldloom[track]'"
        ) from error


def make_tracker(name: str, folder: Path, step: int, config: Mapping[str, Any]) -> Tracker:
    """The tracker called ``name``; a missing package is an error that names the extra."""
    if name == "none":
        return NoTracker()
    if name == "tensorboard":
        return TensorBoard(folder, step)
    if name in ("wandb", "trackio"):
        return Wandb(name, folder, config)
    raise WorldloomError(f"There is no tracker {name!r}. Choose none, tensorboard, wandb or trackio.")


__all__ = ["Tracker", "make_tracker"]
