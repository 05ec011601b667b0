"""The training of one run: steps, and what happens between them."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from worldloom.contract import Segment, WorldloomError, WorldModel
from worldloom.data.prefetch import prefetch
from worldloom.data.windows import Batches
from worldloom.files import DamagedFileError, reason
from worldloom.models.saved import save_model
from worldloom.training.checkpoints import Checkpoint, newest_valid, save_checkpoint
from worldloom.training.config import TrainConfig
from worldloom.training.ema import Ema
from worldloom.training.held import HeldOut
from worldloom.training.logs import JsonLog, Means
from worldloom.training.optim import make_optimizer, pack_optimizer, unpack_optimizer
from worldloom.training.progress import Progress
from worldloom.training.run import RunFolder
from worldloom.training.signals import InterruptedTrainingError, StopSignals
from worldloom.training.trackers import Tracker
from worldloom.training.update import NonFiniteError, Update, Updater

_LINE_SECONDS, _BAR_SECONDS = 10.0, 0.25
FEW_STEPS = 50
"""A run of fewer is warned of, here and in its report."""
_SLOW_STEPS, _TIMED_STEPS, _TIMED_SECONDS = 3, 5, 5.0  # --minutes: steps left out, then timed at least so many, so long


class Trainer:
    """Takes a model from ``step`` to ``steps``. Everything that decides the outcome is in a checkpoint."""

    def __init__(
        self,
        run: RunFolder,
        model: WorldModel,
        windows: Batches,
        held: HeldOut,
        config: TrainConfig,
        progress: Progress,
        device: torch.device,
        precision: str,
    ):
        self.run, self.model, self.windows, self.held, self.config = run, model, windows, held, config
        self.progress, self.device, self.precision = progress, device, precision
        self.step = 0
        self.steps = 0
        self.train_seconds = 0.0
        self.total_seconds = 0.0
        self.last: dict[str, float] = {}
        self.means = Means()
        self._written = -1  # the step whose weights are in model.safetensors
        self.begin_anew()

    def begin_anew(self) -> None:
        """A new optimiser and a new average around the weights as they are."""
        self.ema = Ema(self.model, self.config.ema)
        optimizer = make_optimizer(self.model, self.config)
        self.updater = Updater(self.model, optimizer, self.ema, self.config, self.device, self.precision)

    # ------------------------------------------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Write a checkpoint and then the model. NaN weights are never saved."""
        self.updater.check_weights(self.step)
        tensors = {f"model/{n}": x for n, x in self.model.state_dict().items()}
        tensors |= {f"ema/{n}": x for n, x in self.ema.tensors().items()}
        tensors |= {f"optimizer/{n}": x for n, x in pack_optimizer(self.updater.optimizer).items()}
        meta = {
            "train_seconds": self.train_seconds,
            "total_seconds": self.total_seconds,
            "ema_updates": self.ema.updates,
            "skips": self.updater.skips,
            "means": self.means.state(),
            "last": {name: repr(value) for name, value in self.last.items()},
            "config": self.run.written,
        }
        try:
            self._log.sync()
            save_checkpoint(self.run.checkpoints, self.step, tensors, meta, self.config.keep)
        except OSError as error:  # what write_atomic does not meet: flushing folders, deleting old files
            raise WorldloomError(
                f"Can't save in {self.run.path}: {reason(error)}. Check the disk; earlier checkpoints are untouched."
            ) from error
        self._saved_at, self._saved_step = time.monotonic(), self.step
        self.save_weights()

    def save_weights(self) -> None:
        """Write model.safetensors: the averaged weights, with all that is needed to build the model again."""
        if self._written == self.step:
            return
        save_model(self.run.model_file, self.model, self.ema.state_dict(), step=self.step)
        self._written = self.step

    def resume(self) -> bool:
        """Continue from the newest whole checkpoint; False where there is none."""
        found = newest_valid(self.run.checkpoints, self.progress.say)
        if found is None:
            return False
        try:
            self._restore(found)
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise DamagedFileError(f"The checkpoint of step {found.step} does not fit this model: {error}") from error
        return True

    def _restore(self, found: Checkpoint) -> None:
        meta = found.meta
        self.model.load_state_dict(found.part("model"))
        self.ema.load(found.part("ema"), int(meta["ema_updates"]))
        unpack_optimizer(self.updater.optimizer, found.part("optimizer"))
        self.updater.skips = int(meta["skips"])
        self.means = Means(meta["means"])
        self.last = {name: float(value) for name, value in meta["last"].items()}
        self.train_seconds, self.total_seconds = float(meta["train_seconds"]), float(meta["total_seconds"])
        self.step = found.step

    # ------------------------------------------------------------------------------------------------------ timing

    def steps_for(self, seconds: float) -> int:
        """How many further steps fit into ``seconds``, found by timing a few that leave no trace.

        The first few are slow (caches, kernels chosen) and left out; the median of the others counts. One validation
        and one filmstrip are timed too, for as many as the run will have. Weights are put back afterwards and the
        optimiser made anew, so the run is then exactly the run of that number of steps.
        """
        began = time.monotonic()
        before = {name: x.detach().clone() for name, x in self.model.state_dict().items()}
        kept = self.ema, self.updater
        self.begin_anew()
        times: list[float] = []
        try:
            with StopSignals() as stop, self._batches(0, 10**9) as batches:
                while len(times) < _SLOW_STEPS + _TIMED_STEPS or time.monotonic() - began < min(
                    _TIMED_SECONDS, 0.03 * seconds
                ):
                    at = time.perf_counter()
                    self.updater.step(next(batches), len(times), 10**6)
                    times.append(time.perf_counter() - at)
                    if stop.signum is not None:
                        raise InterruptedTrainingError(
                            "Stopped before the first step; the same command starts again.", stop.signum
                        )
            each = statistics.median(times[_SLOW_STEPS:])
            at = time.monotonic()
            if self.config.validate_every != 0:
                self.held.validate(self.model)
            validation = time.monotonic() - at
            at = time.monotonic()
            if self.config.sample_every != 0:
                picture = self.run.samples / "timing.png"
                with self._forgiving():
                    self.held.filmstrip(self.model, picture)
                with contextlib.suppress(OSError):
                    picture.unlink(missing_ok=True)
            sample = time.monotonic() - at
        finally:
            self.model.load_state_dict(before)
            self.ema, self.updater = kept
        spent = time.monotonic() - began
        left = max(0.5 * seconds, seconds - spent)
        # Intervals given in steps depend on the answer: cost = n each + (n / every) validation.
        for every, default, cost in (
            (self.config.validate_every, 10, validation),
            (self.config.sample_every, 5, sample),
        ):
            if every is None:
                left -= min(default * cost, 0.25 * seconds)
            elif every:
                each += cost / every
        steps = max(1, int(0.98 * left / each))
        self.progress.say(
            f"{seconds / 60:.3g} minutes at {each:.3g} s a step: {steps} steps, stored in {self.run.config_file.name}."
        )
        if steps < FEW_STEPS:
            self.progress.say(
                f"{steps} steps are hardly enough to learn from. Is the machine busy? The number stays as it is for "
                "this run: begin another with more --train.minutes, or with --train.steps."
            )
        return steps

    # -------------------------------------------------------------------------------------------------------- loop

    @contextlib.contextmanager
    def _batches(self, start: int, stop: int) -> Iterator[Iterator[Segment]]:
        """The batches of steps ``start`` to ``stop - 1``, made ahead by a thread where so configured."""

        def make(step: int) -> Segment:
            return self.windows.batch(self.config.batch, seed=self.config.seed, step=step, device=self.device)

        if self.config.prefetch == 0 or start >= stop:
            yield map(make, range(start, stop))
            return
        with prefetch(make, start, stop, self.config.prefetch) as batches:
            yield batches

    def train(self, log: JsonLog, tracker: Tracker, stop: StopSignals) -> None:
        """Run to the last step. Raises :class:`InterruptedTrainingError` after saving where a signal asks to stop."""
        self._log, self._tracker = log, tracker
        self._saved_at, self._saved_step = time.monotonic(), self.step
        self._logged_at, self._logged_step = time.monotonic(), self.step
        self._line_at = self._bar_at = 0.0
        began, before = time.monotonic(), self.total_seconds
        with self._batches(self.step, self.steps) as batches:
            at = time.perf_counter()
            while self.step < self.steps:
                segment = self._next(batches)
                try:
                    update = self.updater.step(segment, self.step, self.steps)
                except NonFiniteError as error:
                    raise self._explain(error) from error
                self.step += 1
                self.train_seconds += time.perf_counter() - at
                self.total_seconds = before + time.monotonic() - began
                self._after(update)
                if stop.signum is not None and self.step < self.steps:
                    self._stop(stop.signum)
                at = time.perf_counter()

    def _next(self, batches: Iterator[Segment]) -> Segment:
        """The coming batch. Where it can't be made (a file vanished, memory ran out) all steps are saved first."""
        try:
            return next(batches)
        except (WorldloomError, OSError, MemoryError) as error:
            why = str(error).rstrip(".")
            if isinstance(error, MemoryError):
                why = "there is not enough memory for it, so try a smaller batch"
            raise WorldloomError(
                f"The batch of step {self.step + 1} can't be read: {why}. Training stopped; {self._keep()}. Mend it "
                "and run the same command again to go on."
            ) from error

    def _keep(self) -> str:
        """Save what is not saved yet, where the disk lets us; says what is safe."""
        before = f"the checkpoint of step {self._saved_step} is untouched" if self._saved_step else "nothing was saved"
        if self.step == self._saved_step:
            return before
        try:
            self.save()
        except WorldloomError as error:
            return f"{before} ({error})"
        return f"everything up to step {self.step} is saved"

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Inside, a disk that refuses a picture or a line of the log stops the training only where it shall."""
        try:
            yield
        except WorldloomError as error:
            if self.config.save_errors == "stop":
                raise
            self.progress.say(f"{error} Training goes on.")

    def _after(self, update: Update) -> None:
        """Log, validate, sample and save what is due after a step, in this order: a checkpoint knows all of it."""
        config, record = self.config, {}
        if update.applied:
            self.means.add(update.metrics)
        else:
            self._write({"kind": "skipped", "step": self.step, **update.metrics})
            self.progress.say(f"Step {self.step} left out: loss {update.metrics['loss']}, not finite.")
        if self._due(config.log_every):
            record = self._record()
            self._write({"kind": "train", "step": self.step, **record})
            self._tracker.log(self.step, record)
        if self._due(config.validate_every, 10):
            with self.ema.swapped():
                self.last |= self.held.validate(self.model)
            if self.held.why_not is None:
                values = {n: x for n, x in self.last.items() if n.startswith("val_")}
                self._write({"kind": "validate", "step": self.step, **values})
                self._tracker.log(self.step, values)
        if self._due(config.sample_every, 5):
            path = None
            with self._forgiving(), self.ema.swapped():
                path = self.held.filmstrip(self.model, self.run.samples / f"step_{self.step:08d}.png")
            if path is not None:
                self._tracker.image(self.step, path)
        self._show(record)
        late = config.checkpoint_minutes is not None
        late = late and time.monotonic() - self._saved_at >= 60 * (config.checkpoint_minutes or 0)
        if late or self.step == self.steps or self._due(config.checkpoint_every, last=False):
            self._save_or_complain(must=self.step == self.steps)

    def _write(self, record: dict[str, Any]) -> None:
        with self._forgiving():
            self._log.write(record)

    def _due(self, every: int | None, share: int = 0, *, last: bool = True) -> bool:
        """Whether a thing is due after this step: each ``every`` steps, or ``share`` times a run, and at its end."""
        if every == 0 or (every is None and not share):
            return False
        every = every or max(1, self.steps // share)
        return self.step % every == 0 or (last and self.step == self.steps)

    def _record(self) -> dict[str, float]:
        now = time.monotonic()
        speed = (self.step - self._logged_step) / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_step = now, self.step
        means = self.means.take()
        self.last |= {name: means[name] for name in ("loss",) if name in means}
        return {
            **means,
            "lr": self.updater.lr(self.step - 1, self.steps),
            "steps_per_second": speed,
            "frames_per_second": speed * self.config.batch * self.windows.length,
            "seconds": self.train_seconds,
        }

    def _show(self, record: dict[str, float]) -> None:
        now = time.monotonic()
        ends = self.step == self.steps
        line = bool(record) and (ends or now - self._line_at >= _LINE_SECONDS)
        if line or ends or now - self._bar_at >= _BAR_SECONDS:
            self.progress.update(self.step, {**self.last, **record}, line=line)
            self._bar_at = now
            self._line_at = now if line else self._line_at

    def _save_or_complain(self, *, must: bool) -> None:
        try:
            self.save()
        except NonFiniteError as error:
            raise self._explain(error) from error
        except WorldloomError as error:
            if must or self.config.save_errors == "stop":
                raise
            self.progress.say(f"{error} Training goes on; the last checkpoint is of step {self._saved_step}.")
            self._saved_at = time.monotonic()

    def _stop(self, signum: int) -> None:
        self._save_or_complain(must=True)
        raise InterruptedTrainingError(
            f"Stopped at step {self.step} of {self.steps}; saved in {self.run.path}. "
            "Run the same command again to go on.",
            signum,
        )

    def _explain(self, error: NonFiniteError) -> NonFiniteError:
        good = (
            f"the checkpoint of step {self._saved_step} is untouched" if self._saved_step else "nothing was saved yet"
        )
        with contextlib.suppress(WorldloomError):  # the other error is the one to hear of
            self._log.write({"kind": "stopped", "step": self.step, "why": str(error)})
        return NonFiniteError(
            f"{error} Training stopped; {good}. Try a smaller lr, precision='float32', a longer warmup, or "
            "nonfinite='skip' if single batches are to blame."
        )


__all__ = ["Trainer"]
