"""Further figures from the dreams of a report: a user's own probes, and the door for ours.

A probe is a function of :class:`Dreams` that returns figures. ``worldloom evaluate RUN --probes my_probes:blur`` or
``evaluate(run, probes=[blur])`` runs it; its figures stand in report.json and report.html as ``blur/NAME``.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from worldloom.configs import ConfigError, from_json
from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.evaluation.figures import by_horizon
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.schema import FLAT, Figure
from worldloom.evaluation.statistics import Statistic, bootstrap, share_interval
from worldloom.plugins import load, one_line, place

PROBES: dict[str, tuple[str, str]] = {}
"""Probe name to (module, function) of those that come with the library. Loaded when they are asked for."""


class ProbeError(WorldloomError):
    """A probe can't be found, does not fit the run, failed, or returned something else than figures."""


@dataclass(frozen=True)
class Dreams:
    """What a probe is given: n dreams of T frames, and what really happened.

    Row i of every array belongs to start i; frame t of ``real``, ``dreamed``, ``control`` and ``truth`` is the t-th
    after the prompt. All are numpy arrays, and not to be written into.
    """

    spec: Spec
    """What the model shows and is given; ``spec.fps`` frames a second."""
    prompt: int
    """P, true frames shown before each dream."""
    seed: int
    """Seed of starts, dreams and intervals: draw from ``np.random.default_rng(dreams.seed)``."""
    shown: dict[str, np.ndarray]
    """Sensor name to (n, P, *shape): the prompt."""
    real: dict[str, np.ndarray]
    """Sensor name to (n, T, *shape): what really followed; images uint8."""
    dreamed: dict[str, np.ndarray]
    """Sensor name to (n, T, *shape): what was dreamed, with the same controls."""
    control: dict[str, np.ndarray]
    """Control name to (n, T, *shape): what was given; ``control["action"][:, t]`` led to frame t."""
    truth: dict[str, np.ndarray]
    """Exact state behind the real frames, name to (n, T, ...); empty where the data do not tell."""
    truth_shown: dict[str, np.ndarray]
    """The same behind the prompt, (n, P, ...)."""
    episodes: np.ndarray
    """(n,) number of the episode of each start. Starts of one episode are not independent."""
    model: WorldModel
    """The model itself, in evaluation mode, for probes that dream on their own."""

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def horizon(self) -> int:
        """T."""
        return next(iter(self.dreamed.values())).shape[1]

    def figure(
        self,
        values: np.ndarray,
        *,
        title: str,
        better: Literal["lower", "higher"],
        meaning: str,
        unit: str = "",
        statistic: Statistic = "mean",
        share: bool = False,
        floor: np.ndarray | None = None,
        baselines: Mapping[str, np.ndarray] | None = None,
        n_of: str = "starts",
        blind_to: str = "",
    ) -> Figure:
        """A figure with its interval of 95 %, by drawing whole episodes anew.

        values: (n,) for one number, or (n, T') for one at each of the first T' <= T frames: row i is start i.
        statistic: ``mean`` or ``median`` over the starts. share: the values are shares in [0, 1], shown as per cent.
        floor, baselines: of the same shape, measured on the real frames, and by predictions that take no model.

        Raises :class:`ProbeError` where a shape does not fit, or a value is not finite.
        """
        arrays = {"values": values, **{f"baselines[{k!r}]": x for k, x in (baselines or {}).items()}}
        arrays |= {} if floor is None else {"floor": floor}
        checked = {name: self._numbers(name, x, np.shape(values)) for name, x in arrays.items()}
        if share and not all(((x >= 0) & (x <= 1)).all() for x in checked.values()):
            raise ProbeError(f"Shares lie in [0, 1], and the values of {title!r} do not.")
        rows, known = checked["values"], {k: checked[f"baselines[{k!r}]"] for k in baselines or {}}
        words: dict[str, Any] = {"title": title, "unit": unit, "better": better, "n_of": n_of, "meaning": meaning}
        words["blind_to"] = blind_to
        take = np.median if statistic == "median" else np.mean
        if rows.ndim == 2:
            figure = by_horizon(
                rows, self.episodes, self.seed, statistic, checked.get("floor"), known or None, shares=share, **words
            )
            return dataclasses.replace(figure, statistic="share") if share else figure
        if share:
            interval = share_interval(rows, self.episodes, seed=self.seed)
        else:
            low, high = bootstrap(rows, self.episodes, statistic, seed=self.seed)
            interval = (float(low), float(high))
        return Figure(
            value=float(take(rows)),
            interval=interval if np.isfinite(interval).all() else None,
            n=len(rows),
            seed=self.seed,
            statistic="share" if share else statistic,
            floor=None if floor is None else float(take(checked["floor"])),
            baselines={name: float(take(x)) for name, x in known.items()},
            **words,
        )

    def _numbers(self, name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        found = np.asarray(values)
        if found.dtype.kind not in "fiub" or found.shape != shape or found.ndim not in (1, 2) or 0 in found.shape:
            raise ProbeError(
                f"{name} must be numbers of shape ({len(self)},) or ({len(self)}, frames), all of one shape, found "
                f"{found.dtype} {found.shape}."
            )
        if len(found) != len(self) or (found.ndim == 2 and found.shape[1] > self.horizon):
            raise ProbeError(
                f"{name} must have one row for each of the {len(self)} starts, and at most {self.horizon} frames, "
                f"found shape {found.shape}."
            )
        found = found.astype(np.float64)
        if not np.isfinite(found).all():
            raise ProbeError(f"{name} holds NaN or infinite values at {int((~np.isfinite(found)).sum())} places.")
        return found


ProbeFunction: TypeAlias = Callable[[Dreams], Mapping[str, Figure]]


@dataclass(frozen=True)
class Probe:
    """A function of :class:`Dreams`, its name, and what it can't do without. :func:`probe` makes one."""

    name: str
    """Its figures stand in the report as ``name/...``."""
    run: ProbeFunction
    """Measures."""
    truth: tuple[str, ...] = ()
    """Exact states that the data must hold, such as ``position``."""
    capabilities: tuple[str, ...] = ()
    """Optional parts of the contract that the model must have, such as ``reward``."""
    sensors: tuple[str, ...] = ()
    """Sensors that the model must dream."""
    actions: bool = False
    """Whether the world must take actions."""

    def lacks(self, model: WorldModel, truth: Iterable[str]) -> str:
        """What it misses in this model and these data, for a sentence; empty where it can run."""
        known = set(truth)
        missing = [
            f"the truth {n!r} in the data (they hold {sorted(known) or 'none'})" for n in self.truth if n not in known
        ]
        missing += [f"a model with the capability {n!r}" for n in self.capabilities if n not in model.capabilities]
        missing += [f"the sensor {n!r}" for n in self.sensors if n not in model.spec.shown]
        missing += ["actions"] if self.actions and model.spec.action is None else []
        return " and ".join(missing)

    def measure(self, dreams: Dreams) -> dict[str, Figure]:
        """Its figures by their full names. Raises :class:`ProbeError` that names the probe, whatever goes wrong."""
        try:
            found = self.run(dreams)
        except WorldloomError as error:
            raise ProbeError(f"The probe {self.name!r} failed: {error}") from error
        except Exception as error:
            said = f"{type(error).__name__}: {one_line(error)}{place(error)}"
            raise ProbeError(f"The probe {self.name!r} failed: {said}") from error
        return self._checked(found)

    def _checked(self, found: Any) -> dict[str, Figure]:
        if not isinstance(found, Mapping) or not found:
            raise ProbeError(
                f"The probe {self.name!r} must return a dictionary of figures by name (dreams.figure makes one), found "
                f"{'an empty one' if isinstance(found, Mapping) else type(found).__name__}."
            )
        named = {f"{self.name}/{name}": figure for name, figure in found.items()}
        for name, figure in named.items():
            if not re.fullmatch(r"\w+/[A-Za-z]\w*", name):
                raise ProbeError(
                    f"The probe {self.name!r} must name its figures by letters, digits and _, found {name!r}."
                )
            if not isinstance(figure, Figure):
                raise ProbeError(
                    f"The probe {self.name!r} must return figures, as dreams.figure makes them; {name!r} is a "
                    f"{type(figure).__name__}."
                )
            try:  # what is in the report can be read again
                from_json(Figure, json.loads(json.dumps(dataclasses.asdict(figure), allow_nan=False)), name)
            except (ConfigError, TypeError, ValueError) as error:
                raise ProbeError(f"The probe {self.name!r} returned a figure that is none: {error}") from error
        keys = [n if key == "value" else f"{n}_{key}" for n in named for key in FLAT]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise ProbeError(
                f"The probe {self.name!r} returned figures that would write {twice} twice into report.json: rename one."
            )
        return named


def probe(
    run: ProbeFunction | None = None,
    *,
    name: str | None = None,
    truth: Sequence[str] = (),
    capabilities: Sequence[str] = (),
    sensors: Sequence[str] = (),
    actions: bool = False,
) -> Any:
    """Make a :class:`Probe` of a function, and say what it needs::

        @worldloom.probe(truth=("position",))
        def drift(dreams): ...

    A function without needs is a probe as it is.
    """

    def wrap(function: ProbeFunction) -> Probe:
        own = name or str(getattr(function, "__name__", type(function).__name__))
        return Probe(own, function, tuple(truth), tuple(capabilities), tuple(sensors), actions)

    return wrap if run is None else wrap(run)


def find_probes(given: str | Sequence[str | Probe | ProbeFunction]) -> list[Probe]:
    """Probes by name (of ours, or ``module:function`` of the user's; commas part several), or given as they are."""
    found: list[Probe] = []
    for one in [given] if isinstance(given, str) else given:
        if isinstance(one, str):
            found += [_named(name.strip()) for name in one.split(",") if name.strip()]
        else:
            found.append(_made(one, str(getattr(one, "__name__", type(one).__name__))))
    names = [p.name for p in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ProbeError(f"Several probes are named {twice}: their figures would take each other's place. Rename one.")
    return found


def _named(name: str) -> Probe:
    if ":" in name:
        return _made(load(name, ProbeError), name)
    if name not in PROBES:
        near = difflib.get_close_matches(name, PROBES, 1)
        ours = f"Probes: {', '.join(PROBES)}. " if PROBES else ""
        hint = f"Did you mean {near[0]!r}? " if near else ours
        raise ProbeError(f"There is no probe {name!r}. {hint}Your own is named as module:function.")
    return dataclasses.replace(_made(load(":".join(PROBES[name]), ProbeError), name), name=name)


def _made(one: Any, label: str) -> Probe:
    if isinstance(one, Probe):
        made = one
    elif isinstance(one, type) or not callable(one):
        raise ProbeError(f"{label} is a {type(one).__name__}, not a function of the dreams that returns figures.")
    else:
        made = probe(one)
    if not re.fullmatch(r"[A-Za-z]\w*", made.name):
        raise ProbeError(f"A probe is named by letters, digits and _, found {made.name!r}: give probe(name=...).")
    return made


def for_probes(model: WorldModel, held: HeldOut, dreamed: Mapping[str, Tensor], seed: int) -> Dreams:
    """What the probes are given: held-out starts and the dreams from them, which may be longer than what is known."""

    def split(values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        whole = {name: _read_only(x) for name, x in values.items()}
        return {n: x[:, : held.prompt] for n, x in whole.items()}, {n: x[:, held.prompt :] for n, x in whole.items()}

    shown, real = split({name: held.segment.obs[name] for name in dreamed})
    truth_shown, truth = split(held.truth)
    given = {name: x for name, x in held.control.items() if name in model.spec.given}
    return Dreams(
        model.spec,
        held.prompt,
        seed,
        shown,
        real,
        {name: _read_only(x)[:, : held.horizon] for name, x in dreamed.items()},
        {name: _read_only(x)[:, : held.horizon] for name, x in given.items()},
        truth,
        truth_shown,
        _read_only(held.episodes),
        model,
    )


def _read_only(x: Any) -> np.ndarray:
    """A view that can't be written into: what a probe does must not change what the report shows."""
    view = np.asarray(x).view()
    view.flags.writeable = False
    return view


@dataclass
class Probed:
    """What the probes of one report found."""

    figures: dict[str, Figure] = field(default_factory=dict)
    """By full name."""
    failures: list[str] = field(default_factory=list)
    """One sentence a probe that failed."""


def measure_all(probes: Sequence[Probe], dreams: Dreams, say: Callable[[str], None]) -> Probed:
    """Run every probe; one that fails does not take the others' figures with it."""
    out = Probed()
    for one in probes:
        say(f"Probe {one.name}")
        try:
            out.figures |= one.measure(dreams)
        except ProbeError as error:
            out.failures.append(str(error))
    return out


__all__ = ["PROBES", "Dreams", "Probe", "ProbeError", "find_probes", "for_probes", "measure_all", "probe"]
