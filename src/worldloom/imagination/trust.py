"""How far a dream can be believed before it is dreamed: ``trust.json`` of a run, read.

A run is calibrated by the probe ``trust`` (see docs/probes/trust.md): from dreams of held-out episodes it learns a
bound that holds at all frames 1 to h at once. Here it is applied to new starts::

    trust = load_trust("runs/demo")
    bound = trust.bound(model, prompt, {"action": actions})
    print(bound.sentence(0, 2.0))  # With 90 % confidence within 2 px for the next h frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor

from worldloom.configs import ConfigError, from_json
from worldloom.contract import Segment, State, WorldloomError, WorldModel
from worldloom.files import DamagedFileError, load_tensors, read_json, tensors_hash
from worldloom.imagination.trust_motion import Motion
from worldloom.imagination.trust_signals import FROM_STATE, PARTING, Familiar, Space, features_of, look
from worldloom.models.saved import model_hash
from worldloom.shipped import resolve

FORMAT, VERSION = "worldloom-trust", 2
TRUST_FILE, TENSORS_FILE = "trust.json", "trust.safetensors"
WINSOR = 3.0
"""Standardised signals are cut to ± this before they widen a bound: further out nothing was seen. The flag is not."""


class TrustError(WorldloomError):
    """A calibration is missing, is of another model, or does not cover what was asked."""


@dataclass(frozen=True)
class Quantile:
    """By what a scale must be multiplied so that held-out dreams stay under it."""

    value: float | None
    """The multiple; null where too few episodes were left to hold the level."""
    frames: int
    """It holds up to this frame."""
    n: int
    """Dreams that it rests on."""
    episodes: int
    """Different episodes among them."""


@dataclass(frozen=True)
class Rule:
    """A bound for one kind of error: value · curve_t · exp(coefficients · z), z the standardised signals, or ``most``
    where that is less."""

    curve: tuple[float, ...]
    """c_t at frame t = 1 .. horizon, never falling, in the error's unit."""
    coefficients: tuple[float, ...]
    """One a signal."""
    most: float
    """No error is larger."""
    recorded: Quantile
    """For the actions of the data (or none)."""
    planned: Quantile | None = None
    """For actions that a planner chose in its dreams; null where that was not measured."""


@dataclass(frozen=True)
class View:
    """What can be said from some of the signals."""

    signals: tuple[str, ...]
    """Their names, in order."""
    centre: tuple[float, ...]
    """Median of each over the fitting dreams, of its logarithm."""
    spread: tuple[float, ...]
    """Robust standard deviation of each there: (84th - 16th percentile) / 2, floored."""
    strangeness: tuple[float, ...]
    """Ascending strangeness of the other calibration dreams, with which a start's is compared."""
    weights: tuple[float, ...]
    """Weight of each of these dreams: all episodes weigh 1 together."""
    rules: dict[str, Rule]
    """By kind of error: ``position`` or ``pixels``."""

    def standard(self, signals: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, M) standardised signals."""
        raw = np.stack([signals[name] for name in self.signals], 1)
        return np.asarray((raw - np.array(self.centre)) / np.array(self.spread))

    def p_value(self, standard: np.ndarray) -> np.ndarray:
        """(B,) share of calibration dreams (and the start itself) that are as strange: uniform, or larger, for starts
        like them (conformal p-value, Vovk et al. 2005)."""
        known = np.array(self.strangeness)
        above = np.cumsum(np.array(self.weights)[::-1])[::-1]
        at = np.searchsorted(known, strangeness(standard), side="left")
        total = float(above[0])
        return np.asarray((1.0 + np.append(above, 0.0)[at]) / (round(total) + 1.0))


def strangeness(standard: np.ndarray) -> np.ndarray:
    """(B,) of standardised signals (B, M): the root of the sum of squares of those above their median."""
    return np.asarray(np.sqrt(np.square(np.maximum(standard, 0.0)).sum(1)))


def clipped(standard: np.ndarray) -> np.ndarray:
    """Signals as the rules read them."""
    return np.clip(standard, -WINSOR, WINSOR)


@dataclass(frozen=True)
class Contents:
    """What trust.json holds, format ``worldloom-trust``, version 2."""

    level: float
    """Share of new dreams that stay under their bound at all frames, at least."""
    false_alarms: float
    """Share of familiar starts that are called strange, at most."""
    camera: str
    """The sensor whose frames are measured."""
    prompt: int
    """True frames that were given."""
    horizon: int
    """H, frames that the bound covers."""
    seed: int
    """Of starts and dreams."""
    starts: str
    """Where the calibration dreams begin: in ``val``, episodes of that split, or ``fresh`` ones of the exact world."""
    actions: str
    """Which actions: ``none``, ``recorded``, or ``random`` (uniform)."""
    sampler: str
    """``deterministic`` where another seed dreams the same, else ``random``."""
    objects: str
    """How several objects make one error."""
    planned: str
    """How planned actions were chosen, or why they were not measured."""
    fitted: int
    """Dreams that curve and coefficients were fitted on."""
    views: dict[str, View]
    """``prompt``: from all signals; ``state``: from those a state alone tells."""
    hashes: dict[str, str]
    """``data`` and ``checkpoint``, as in report.json, and ``tensors``, of trust.safetensors."""
    format: str = FORMAT
    """Always ``worldloom-trust``."""
    version: int = VERSION
    """2; version 1 did not know how starts move (the signal ``motion``)."""


UNITS = {"position": "px", "pixels": "of 255"}


@dataclass(frozen=True)
class Bound:
    """What may be believed of the dreams from B starts, H frames ahead."""

    within: np.ndarray
    """(B, H) the error stays within this at all frames up to t at once; infinite where nothing is known."""
    known: np.ndarray
    """(B,) bool: whether the start is like those of the calibration. Where not, there is no bound."""
    familiar: np.ndarray
    """(B,) p-value: share of held-out starts that are at least as strange."""
    why: tuple[str, ...]
    """For each start: why it is not known; empty where it is."""
    level: float
    error: str
    """``position``: of the worst object, px. ``pixels``: root mean square, 0 to 255."""

    @property
    def unit(self) -> str:
        """Of ``within``."""
        return UNITS[self.error]

    def frames_within(self, limit: float) -> np.ndarray:
        """(B,) int: the number h of frames from the first on that all stay within ``limit``; 0 where not known."""
        return np.asarray((self.within <= limit).cumprod(1).sum(1), np.int64)

    def sentence(self, row: int, limit: float) -> str:
        """The same in words, for one start."""
        if not self.known[row]:
            return f"Not known: {self.why[row]}"
        frames = int(self.frames_within(limit)[row])
        if not frames:
            return f"With {self.level:.0%} confidence not even the next frame is within {limit:g} {self.unit}."
        ahead = "frame" if frames == 1 else f"{frames} frames"
        return f"With {self.level:.0%} confidence within {limit:g} {self.unit} for the next {ahead}."


@dataclass(frozen=True)
class Trust:
    """A run's calibration."""

    contents: Contents
    familiar: Familiar
    checked: WeakKeyDictionary[WorldModel, tuple[tuple[int, ...], bool]] = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )
    """Models whose weights were compared: how often they were written by then, and if they were the right ones."""

    def bound(
        self,
        model: WorldModel,
        start: Segment | State,
        control: Tensor | Mapping[str, Tensor] | None = None,
        *,
        actions: Literal["recorded", "planned"] = "recorded",
        error: Literal["position", "pixels"] | None = None,
        seed: int = 0,
    ) -> Bound:
        """Bound the dreams from B starts.

        start: the prompt (B, >= P, ...), of which the last P frames count; or the state after a prompt, from which
        less is known: it must have observed true frames last. control: of the frames to come, (B, T, ...); asked for
        only where dreams differ by seed. A bare tensor is the action. actions: ``planned`` where a planner chose them
        by what it dreamed: such actions seek out a model's errors. error: position where it was calibrated, unless
        given.

        Raises :class:`TrustError` where the calibration is of another model or of a longer prompt, or holds no such
        bound.
        """
        self.check(model)
        c = self.contents
        if isinstance(start, State):
            view = self._view("state")
            if not bool((start.frame >= c.prompt).all()):
                raise TrustError(f"Calibrated after {c.prompt} true frames; this state has seen fewer.")
            assert self.familiar.features is not None  # there would be no such view
            near, off = self.familiar.features.distance(features_of(model, start))
            signals = {n: np.log(np.maximum(x, 1e-6)) for n, x in zip(FROM_STATE, (near, off), strict=True)}
        else:
            view = self._view("prompt")
            if start.length < c.prompt:
                raise TrustError(f"Calibrated with prompts of {c.prompt} true frames, found {start.length}.")
            given = {"action": control} if isinstance(control, Tensor) else dict(control or {})
            recent = start.time(slice(start.length - c.prompt, None))
            if not bool(recent.valid.all()):
                raise TrustError(f"Every one of the last {c.prompt} frames of the prompt must be valid.")
            frames = min(PARTING, c.horizon) if c.sampler == "random" else 0
            signals = self.familiar.signals(look(model, recent, given, c.camera, frames, seed))
        return self.of_signals(view, signals, actions, error)

    def of_signals(
        self,
        view: View,
        signals: Mapping[str, np.ndarray],
        actions: str = "recorded",
        error: str | None = None,
        regardless: bool = False,
    ) -> Bound:
        """The bound of starts with these signals, (B,) each. regardless: of strange starts too, to measure it."""
        c = self.contents
        name = error or next(n for n in ("position", "pixels") if n in view.rules)
        if name not in view.rules:
            raise TrustError(f"No bound of the error {name!r} was calibrated here, only of {sorted(view.rules)}.")
        rule = view.rules[name]
        if actions not in ("recorded", "planned"):
            raise TrustError(f"actions is 'recorded' or 'planned', found {actions!r}.")
        quantile = rule.recorded if actions == "recorded" else rule.planned
        standard = view.standard(signals)
        familiar = view.p_value(standard)
        known = familiar > c.false_alarms
        why = ["" if ok else _strange(view, z, c.false_alarms) for ok, z in zip(known, standard, strict=True)]
        if quantile is None or quantile.value is None:
            known = np.zeros_like(known)
            reason = c.planned if actions == "planned" else "too few held-out episodes were there to calibrate on."
            why = [reason] * len(why)
        scale = np.exp(clipped(standard) @ np.array(rule.coefficients))[:, None] * np.array(rule.curve)
        within = np.full(scale.shape, math.inf)
        if quantile is not None and quantile.value is not None:
            within[:, : quantile.frames] = np.minimum(quantile.value * scale[:, : quantile.frames], rule.most)
        if not regardless:
            within[~known] = math.inf
        return Bound(within, known, familiar, tuple(why), c.level, name)

    def check(self, model: WorldModel) -> None:
        """Raise :class:`TrustError` unless the model has the weights that were calibrated. They are looked at once, and
        again where they were written since, as by training on."""
        tensors = model.state_dict()
        written = tuple(n for x in tensors.values() for n in (x.data_ptr(), 0 if x.is_inference() else x._version))
        seen, found = self.checked.get(model, ((), False))
        if seen != written:
            found = model_hash(model) == self.contents.hashes.get("checkpoint")
            self.checked[model] = written, found
        if not found:
            raise TrustError(
                "This calibration is of other weights: `worldloom evaluate RUN --probes trust` calibrates anew."
            )

    def _view(self, name: str) -> View:
        view = self.contents.views.get(name)
        if view is None:
            raise TrustError(
                f"The model told no features, so that nothing is known from a {name} alone: give a prompt."
            )
        return view


def _strange(view: View, standard: np.ndarray, alarms: float) -> str:
    worst = view.signals[int(np.argmax(standard))]
    return (
        f"the start is stranger than {1 - alarms:.0%} of held-out ones (most of all by {worst!r}), and a bound learnt "
        "from those does not hold for it."
    )


def load_trust(run: str | Path) -> Trust:
    """Read the calibration in a run's (or a report's) folder, or of a shipped model by its name.

    Raises :class:`TrustError` where there is none, and :class:`~worldloom.files.DamagedFileError` where it is damaged.
    """
    folder = resolve(run)
    file = folder / TRUST_FILE
    if not file.exists():
        raise TrustError(
            f"{folder} holds no {TRUST_FILE}: nobody has measured how far it can be trusted. "
            "`worldloom evaluate RUN --probes trust` does, where the data hold enough held-out episodes."
        )
    found = read_json(file, sealed=True)
    named = (found.get("format"), found.get("version")) if isinstance(found, Mapping) else None
    if named != (FORMAT, VERSION):
        raise TrustError(
            f"{file} is no {FORMAT} of version {VERSION}, which this version of worldloom reads; found {named}. "
            "`worldloom evaluate RUN --probes trust` calibrates anew."
        )
    try:
        contents = from_json(Contents, found, str(file))
    except ConfigError as error:
        raise DamagedFileError(f"{file} does not fit together ({error}). Calibrate anew.") from error
    tensors, meta = load_tensors(folder / TENSORS_FILE)
    if tensors_hash(tensors, meta) != contents.hashes.get("tensors"):
        raise DamagedFileError(f"{folder / TENSORS_FILE} does not belong to {TRUST_FILE} beside it. Calibrate anew.")
    try:
        return Trust(contents, unpack(tensors))
    except (KeyError, ValueError) as error:
        raise DamagedFileError(f"{folder / TENSORS_FILE} does not fit together ({error}). Calibrate anew.") from error


PARTS = ("mean", "axes", "spread", "points")


def pack(familiar: Familiar) -> dict[str, Any]:
    """Name to array, float32 and the background uint8, for trust.safetensors."""
    spaces = {"features": familiar.features, "pictures": familiar.pictures}
    out = {
        f"{name}.{part}": np.ascontiguousarray(getattr(space, part), np.float32)
        for name, space in spaces.items()
        if space is not None
        for part in PARTS
    }
    if (motion := familiar.motion) is not None:
        out["motion.background"] = np.ascontiguousarray(motion.background)
        out["motion.points"] = np.ascontiguousarray(motion.points, np.float32)
    return out


def unpack(tensors: Mapping[str, Tensor]) -> Familiar:
    """The inverse of :func:`pack`."""

    def space(name: str) -> Space:
        return Space(*(tensors[f"{name}.{part}"].cpu().double().numpy() for part in PARTS))

    motion = None
    if "motion.background" in tensors:
        motion = Motion(tensors["motion.background"].cpu().numpy(), tensors["motion.points"].cpu().double().numpy())
    return Familiar(space("features") if "features.mean" in tensors else None, space("pictures"), motion)


__all__ = ["Bound", "Contents", "Quantile", "Rule", "Trust", "TrustError", "View", "load_trust"]
