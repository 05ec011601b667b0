"""``train``: a model, a dataset, a configuration and a folder in; a run out. Run again, it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worldloom.configs import from_json, to_json
from worldloom.contract import WorldloomError, WorldModel, check_covers
from worldloom.files import load_tensors, write_json
from worldloom.imagination.starts import load_starts
from worldloom.models.saved import describe_model
from worldloom.nn.devices import out_of_memory
from worldloom.training.config import TrainConfig
from worldloom.training.devices import pick_device, pick_precision, place
from worldloom.training.held import HeldOut
from worldloom.training.init import take_over
from worldloom.training.logs import JsonLog, plain
from worldloom.training.malloc import tune_malloc
from worldloom.training.progress import Progress, clock
from worldloom.training.run import FORMAT, RunFolder, check_same, version_notes, versions
from worldloom.training.signals import StopSignals
from worldloom.training.trackers import make_tracker
from worldloom.training.trainer import Trainer


@dataclass(frozen=True)
class RunSummary:
    """What a finished run says of itself: ``summary.json``, written last."""

    path: str
    """The run's folder, as it was given."""
    steps: int
    """Optimiser steps done."""
    train_seconds: float
    """Time in those steps, waiting for data included, over all resumes."""
    total_seconds: float
    """The same with validation, filmstrips and checkpoints."""
    parameters: int
    """Number of trained parameters."""
    device: str
    """Where it was trained."""
    precision: str
    """``float32`` or ``bf16``."""
    loss: float | None
    """Mean training loss over the last stretch of the log."""
    val_loss: float | None
    """Last validation loss; None where there was no validation."""


def train(
    model: WorldModel,
    dataset: Any,
    config: TrainConfig,
    out: str | Path,
    *,
    init: str | Path | None = None,
    describe: Mapping[str, Any] | None = None,
    force: bool = False,
    echo: Callable[[str], None] | None = None,
) -> RunSummary:
    """Train ``model`` on the train split of a :class:`worldloom.Dataset` or :class:`worldloom.Mixture`, into ``out``.

    Called again with the same arguments it resumes from the newest whole checkpoint; on a CPU with ``steps`` given the
    outcome is bitwise as if it had never stopped. A finished run is left as it is. ``init`` is another run whose
    weights to begin with, as far as they fit (:func:`worldloom.training.init.take_over`). ``describe`` is kept in
    config.json (the recipe's name, say). ``force`` goes on although the configuration or the data changed, or little of
    ``init`` fits. ``echo`` receives lines of text instead of stdout. The model is left with the averaged weights, in
    evaluation mode.

    Raises :class:`InterruptedTrainingError` after Ctrl-C or SIGTERM (all is saved), :class:`NonFiniteError` where the
    loss turns NaN, and other :class:`WorldloomError` for a changed configuration, another trainer in the folder,
    damaged checkpoints, too little memory, or a disk that refuses.
    """
    tune_malloc()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    run = RunFolder(out)
    with run.locked(), torch.random.fork_rng(devices=[]):
        progress = Progress(echo)
        try:
            return _train(run, model, dataset, config, init, describe, force, progress)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise WorldloomError(
                f"There is not enough memory to train in {run.path}; earlier checkpoints are untouched. Try a smaller "
                "batch (--train.batch), or one in more pieces (--train.accumulate)."
            ) from error
        finally:
            progress.close()


def _train(
    run: RunFolder,
    model: WorldModel,
    dataset: Any,
    config: TrainConfig,
    init: str | Path | None,
    describe: Mapping[str, Any] | None,
    force: bool,
    progress: Progress,
) -> RunSummary:
    say = progress.say
    check_covers(dataset.spec, model.spec, f"the dataset {dataset.path}")
    whole = _configuration(model, dataset, config, init, describe, run.path)
    begun = run.config(say)
    if begun is not None:
        changed = check_same(begun, whole, run.path, force)
        if not changed:
            try:
                done = run.summary()
                if done is not None:
                    summary = from_json(RunSummary, {**done, "path": str(run.path)}, "summary.json")
                    load_starts(run.starts_file)
                    _load_averaged(model, run)
                    say(f"{run.path} has finished: {summary.steps} steps. Nothing to do.")
                    return summary
            except WorldloomError as error:
                say(f"{error} Writing it anew from the last checkpoint.")
        for line in changed:
            say(f"Changed by force: {line}")
        version_notes(begun, say)

    old: dict[str, Any] = begun["resolved"] if begun is not None else {}
    device = _device(config, old, say)
    precision = old.get("precision", "auto") if config.precision == "auto" else config.precision
    precision = pick_precision(precision, device)
    length = config.length or old.get("length") or getattr(model, "window", None) or 16
    place(model, device)
    windows = dataset.windows("train", length)
    held = HeldOut(dataset, config, length, device, precision)
    if held.why_not:
        say(f"No validation loss, and samples from training episodes: {held.why_not}")
    if held.windows.left_out:
        say(f"Validation is on the other data: {', '.join(held.windows.left_out)} has no held-out episode.")
    trainer = Trainer(run, model, windows, held, config, progress, device, precision)
    parameters = sum(p.numel() for p in trainer.updater.parameters)
    steps = config.steps if config.steps is not None else _stored_steps(begun, config)
    whole["resolved"] = {"steps": steps, "device": device.type, "precision": precision, "length": length}
    whole["resolved"] |= {"parameters": parameters, "threads": torch.get_num_threads()}
    say(f"{run.path}: {parameters:,} parameters on {device.type} in {precision}, windows of {length} frames.")

    resumed = trainer.resume()
    _check_steps(run, trainer, steps)
    if not resumed and init is not None:
        account = take_over(model, init, force=force)
        trainer.begin_anew()
        for line in account.lines():
            say(line)
        write_json(run.init_file, account.to_json())
    run.forget_summary()  # nothing was touched before all was checked
    run.write_config(whole)
    if not _starts_are_whole(run, say):
        held.save_starts(run.starts_file)
    if steps is None:
        left = 60 * (config.minutes or 0) - trainer.total_seconds
        steps = max(1, trainer.step + (trainer.steps_for(left) if left > 0 else 0))
        whole["resolved"]["steps"] = steps
        run.write_config(whole)
    trainer.steps = steps
    if resumed:
        say(f"Going on from step {trainer.step} of {steps}.")
    _loop(run, trainer, config, whole)
    return _finish(run, trainer, parameters)


def _starts_are_whole(run: RunFolder, say: Callable[[str], None]) -> bool:
    if not run.starts_file.exists():
        return False
    try:
        load_starts(run.starts_file)
    except WorldloomError as error:
        say(f"{error} The starts are taken anew from the data.")
        return False
    return True


def _check_steps(run: RunFolder, trainer: Trainer, steps: int | None) -> None:
    if steps is not None and trainer.step > steps:
        raise WorldloomError(
            f"{run.path} holds a checkpoint of step {trainer.step}, beyond the {steps} steps asked for. Ask for more "
            "steps or choose another --out."
        )


def _loop(run: RunFolder, trainer: Trainer, config: TrainConfig, whole: Mapping[str, Any]) -> None:
    log = JsonLog(run.log_file, upto=trainer.step)
    if log.damaged:
        trainer.progress.say(f"{run.log_file} had {log.damaged} damaged lines, which are left out.")
    try:
        tracker = make_tracker(config.tracker, run.path, trainer.step, whole)
        try:
            trainer.progress.begin(trainer.step, trainer.steps)
            with StopSignals() as stop:
                trainer.train(log, tracker, stop)
        finally:
            tracker.close()
    finally:
        log.close()


def _finish(run: RunFolder, trainer: Trainer, parameters: int) -> RunSummary:
    trainer.save_weights()
    last = plain(trainer.last)
    summary = RunSummary(
        path=str(run.path),
        steps=trainer.step,
        train_seconds=trainer.train_seconds,
        total_seconds=trainer.total_seconds,
        parameters=parameters,
        device=trainer.device.type,
        precision=trainer.precision,
        loss=last.get("loss"),
        val_loss=last.get("val_loss"),
    )
    stored = dataclasses.asdict(summary)
    del stored["path"]  # a run can be moved
    run.write_summary(stored)
    trainer.progress.say(
        f"Done: {summary.steps} steps in {clock(summary.total_seconds)} "
        f"(training alone {clock(summary.train_seconds)}), model in {run.model_file}."
    )
    _load_averaged(trainer.model, run)
    return summary


def _load_averaged(model: WorldModel, run: RunFolder) -> None:
    tensors, _ = load_tensors(run.model_file)
    model.load_state_dict(tensors)
    model.eval()


def _configuration(
    model: WorldModel,
    dataset: Any,
    config: TrainConfig,
    init: str | Path | None,
    describe: Mapping[str, Any] | None,
    out: Path,
) -> dict[str, Any]:
    """Everything that config.json says, but for what is resolved later. As plain JSON (tuples have become lists)."""
    whole = {
        "format": FORMAT,
        "model": describe_model(model),
        "train": to_json(config),
        "data": dataset.remembered(out),
        "init": None if init is None else Path(init).as_posix(),
        "describe": dict(describe or {}),
        "versions": versions(),
        "resolved": {},
    }
    plainly: dict[str, Any] = json.loads(json.dumps(whole))
    return plainly


def _device(config: TrainConfig, old: Mapping[str, Any], say: Callable[[str], None]) -> torch.device:
    """The device, and a word where it or the number of threads is not the one that the run began with."""
    device = pick_device(config.device)
    now = {"device": device.type, "threads": torch.get_num_threads()}
    changed = [f"{name} {old.get(name)} -> {value}" for name, value in now.items() if old and old.get(name) != value]
    if changed:
        say(f"The run began elsewhere ({', '.join(changed)}), so it may differ in the last digits.")
    return device


def _stored_steps(begun: Mapping[str, Any] | None, config: TrainConfig) -> int | None:
    """The number of steps that ``minutes`` came to when the run began, unless the minutes were changed by force."""
    if begun is None or begun["train"].get("minutes") != config.minutes:
        return None
    steps: int | None = begun["resolved"].get("steps")
    return steps


__all__ = ["RunSummary", "train"]
