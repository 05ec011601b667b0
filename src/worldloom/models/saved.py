"""One file that is a whole model: weights, family, configuration and spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldloom.configs import from_json, to_json
from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.files import DamagedFileError, load_tensors, save_tensors, tensors_hash
from worldloom.models import FAMILIES, build, family, family_name
from worldloom.models.checked import build_within
from worldloom.models.own import config_class, construct
from worldloom.nn.devices import place
from worldloom.shipped import hidden_by, resolve

MODEL_FILE = "model.safetensors"
STORED = "stored"
"""Field of the meta data: the kind of numbers, such as ``float16``, in which all weights were stored to be small. They
are float32 when read."""


def describe_model(model: WorldModel) -> dict[str, Any]:
    """What is needed, beside weights, to build the model again: JSON.

    ``family`` is the registered name, or ``module:Class`` of a user's own class (see :func:`load_model`). Raises
    :class:`WorldloomError` where the model's configuration has no JSON.
    """
    try:
        name = family_name(model)
    except WorldloomError:
        name = _own_name(type(model))
    config = to_json(model.config) if dataclasses.is_dataclass(model.config) else model.config
    if not _is_json(config):
        raise WorldloomError(
            f"The config of {type(model).__name__} can't be stored, so the model could not be built again from its "
            f"file: found {config!r}, expected a dataclass of numbers, texts and lists, the same as JSON, or None."
        )
    return {"family": name, "config": config, "spec": model.spec.to_json()}


def model_hash(model: WorldModel) -> str:
    """sha256 of the weights and of all that says what they are. Settings that stand at their defaults are left out, so
    that one which a later version of the library adds leaves the hash as it was."""
    described = describe_model(model)
    if dataclasses.is_dataclass(model.config) and not isinstance(model.config, type):
        described["config"] = _chosen(model.config)
    return tensors_hash(model.state_dict(), {"model": described})


def _chosen(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as JSON."""
    found, plain = {}, to_json(config)
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if value != default:
            nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
            found[field.name] = _chosen(value) if nested else plain[field.name]
    return found


def _own_name(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


def save_model(path: Path, model: WorldModel, weights: dict[str, Tensor] | None = None, **extra: Any) -> str:
    """Write a model (or these averaged ``weights`` of it) to one safetensors file; returns its hash."""
    return save_tensors(path, weights or model.state_dict(), {"model": describe_model(model), **extra})


def read_model(path: str | Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """The file, tensors and meta data of a model, unbuilt. ``path`` and errors as in
    :func:`load_model`. ``meta["model"]`` is what :func:`describe_model` gave.
    """
    path = resolve(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.exists():
        what = (
            "has no model.safetensors: it is not a run, or nothing was saved yet" if path.is_dir() else "does not exist"
        )
        raise WorldloomError(
            f"{path} {what}. Give the folder of a run, as written by `worldloom train`.{hidden_by(path)}"
        )
    tensors, meta = load_tensors(file)
    stored = meta.get("model")
    if not isinstance(stored, dict) or not {"family", "spec", "config"} <= stored.keys():
        raise DamagedFileError(f"{file} holds tensors but no description of a model. Give the folder of a run.")
    if not isinstance(stored["family"], str) or not isinstance(stored["config"], (dict, type(None))):
        raise DamagedFileError(f"{file} describes its model in words that are not understood. Use another checkpoint.")
    if STORED in meta:
        tensors = {name: x.float() if x.is_floating_point() else x for name, x in tensors.items()}
    return file, tensors, meta


def load_model(
    path: str | Path, device: str | torch.device = "cpu", *, kind: type[WorldModel] | None = None
) -> WorldModel:
    """Read what :func:`save_model` wrote, in evaluation mode. ``path`` is the file, a run's folder, or the name of a
    shipped model.

    kind: the class of a model that is not of a registered family: nothing that a file names is ever imported. It is
    built as ``kind(spec, config)``, where config is its ``Config`` if it has one, and otherwise what was stored, the
    JSON of the configuration.

    Raises :class:`WorldloomError` where there is no model, or it is of another class than ``kind``, and
    :class:`DamagedFileError` where it is damaged.
    """
    file, tensors, meta = read_model(path)
    model = _build(meta["model"], kind, file, tensors)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFileError(f"{file} does not fit its own description: {error}") from error
    return place(model, device).eval()


def _build(
    stored: dict[str, Any], kind: type[WorldModel] | None, file: Path, tensors: Mapping[str, Tensor]
) -> WorldModel:
    """The model that a file describes, without its weights."""
    name, spec, config = stored["family"], Spec.from_json(stored["spec"]), stored["config"]
    if kind is not None and not (name in FAMILIES and kind is family(name)) and not _same_class(_own_name(kind), name):
        raise WorldloomError(
            f"{file} holds a model of {name!r}, not of {_own_name(kind)!r}. Pass the class that was trained"
            f"{', or none: the family is registered' if name in FAMILIES else ''}."
        )
    if kind is None or name in FAMILIES:
        if ":" in name:
            module, _, cls = name.rpartition(":")
            where = "module" if module == "__main__" else module
            raise WorldloomError(
                f"{file} holds a model of your own class {name!r}, and nothing that a file names is imported. Name it "
                f"yourself: --model {where}:{cls} in the command, kind={cls.rpartition('.')[2]} in Python."
            )
        return build_within(lambda: build(name, spec, config), tensors, str(file))
    settings = config_class(kind)
    if settings is not None and config is not None:
        config = from_json(settings, config, f"{name} config")
    return construct(kind, spec, config)


def same_family(one: str, other: str) -> bool:
    """Whether two names of :func:`describe_model` are one family: a registered one, or a user's class."""
    return one == other or (":" in one and ":" in other and _same_class(one, other))


def _same_class(given: str, stored: str) -> bool:
    """Whether two ``module:Class`` are one. A class of the script that trained it has the module ``__main__`` there."""
    (module, _, cls), (other, _, trained) = given.partition(":"), stored.partition(":")
    return cls == trained and (module == other or "__main__" in (module, other))
