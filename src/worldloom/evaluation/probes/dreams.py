"""What a probe is given: dreams, what really happened, and the means to dream again, otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from worldloom.contract import Spec, WorldloomError, WorldModel
from worldloom.data.store import Dataset
from worldloom.evaluation.dreamers import Dreamer, Mode, extend
from worldloom.evaluation.exact import ExactWorld
from worldloom.evaluation.figures import by_horizon
from worldloom.evaluation.heldout import HeldOut, draw
from worldloom.evaluation.schema import Figure
from worldloom.evaluation.statistics import Statistic, bootstrap, share_interval

Made = TypeVar("Made")


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
    dreamer: Dreamer
    """Who dreams: a model, or, to test a probe, a world with a known fault."""
    held: HeldOut
    """The starts as tensors, with controls that may reach past T."""
    model: WorldModel | None = None
    """The model itself, in evaluation mode; None where no model dreams. Ask :meth:`dream` rather than it."""
    dataset: Dataset | None = None
    """Where the starts come from; None where the world was played for them."""
    world: ExactWorld | None = None
    """The exact world behind the data, where it is one of ours: plays any start under any actions."""
    trained_frames: int = 16
    """Frames of the windows that the model was trained on."""
    full: bool = False
    """Whether time matters less than figures (``--full``)."""
    extractor: str | None = None
    """The user's own feature extractor, as ``module:callable``."""
    folder: Path | None = None
    """Where the report is written, for a probe that leaves a file beside it; None where nothing is written."""
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    """See :meth:`once`."""

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def horizon(self) -> int:
        """T."""
        return next(iter(self.dreamed.values())).shape[1]

    @property
    def camera(self) -> str:
        """Name of the sensor that is measured: the model's first image."""
        return next(iter(self.spec.images))

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make()`` returns, made once for all probes of this report that ask by this key."""
        if key not in self.cache:
            self.cache[key] = make()
        found: Made = self.cache[key]
        return found

    def dream(
        self,
        control: Mapping[str, np.ndarray] | None = None,
        frames: int | None = None,
        *,
        rows: np.ndarray | slice | None = None,
        held: HeldOut | None = None,
        seed: int | None = None,
        mode: Mode = "free",
        every: int = 1,
    ) -> dict[str, np.ndarray]:
        """Dream again: image sensor name to (n', frames, *shape).

        control: the controls of the dreamed frames, name to (n', T', ...), repeated where T' < frames; the recorded
        ones where None. frames: T unless given. rows: some of the starts, all unless given. held: other starts (see
        :meth:`draw` and :meth:`ExactWorld.fresh`). seed: of the draws, that of the report unless given: the same seed
        under other controls is the same noise. mode: ``teacher`` begins every stretch of ``every`` frames from the
        true history (within the known truth); ``free`` never.
        """
        held = self.held if held is None else held
        held = held if rows is None else held.rows(rows)
        frames = self.horizon if frames is None else frames
        given: dict[str, Tensor] = dict(held.control)
        for name, x in (control or {}).items():
            given[name] = torch.from_numpy(np.array(x))
        if mode == "teacher" and frames > held.horizon:
            raise ProbeError(f"A dream led by the truth reaches {held.horizon} frames here, asked for {frames}.")
        out = self.dreamer.dream(
            held,
            extend(given, frames),
            frames,
            seed=self.seed if seed is None else seed,
            sensors=list(self.spec.images),
            mode=mode,
            every=every,
        )
        return {name: x.numpy() for name, x in out.items()}

    def draw(self, starts: int, prompt: int, horizon: int, split: str = "test", length: int = 0) -> HeldOut:
        """Other held-out starts: up to ``starts`` of them, spread over the split's episodes; see
        :func:`~worldloom.evaluation.heldout.draw`. Raises :class:`ProbeError` where there is no dataset."""
        if self.dataset is None:
            raise ProbeError("There is no dataset to draw other starts from.")
        return draw(self.dataset, starts, prompt, horizon, length, self.seed, split)

    def of(self, held: HeldOut, dreamed: Mapping[str, np.ndarray] | None = None) -> Dreams:
        """The same for other starts, dreamed now unless given."""
        dreamed = dreamed or self.dream(frames=held.horizon, held=held)
        return dataclasses.replace(gather(self.dreamer, held, dreamed, self.seed), **self._rest())

    def _rest(self) -> dict[str, Any]:
        kept = ("model", "dataset", "world", "trained_frames", "full", "extractor", "folder")
        return {name: getattr(self, name) for name in kept} | {"cache": {}}

    def figure(
        self,
        values: np.ndarray,
        *,
        title: str,
        better: Literal["lower", "higher", "neither"],
        meaning: str,
        unit: str = "",
        statistic: Statistic = "mean",
        share: bool = False,
        floor: np.ndarray | None = None,
        ceiling: np.ndarray | None = None,
        baselines: Mapping[str, np.ndarray] | None = None,
        rows: np.ndarray | None = None,
        past: bool = False,
        n_of: str = "starts",
        blind_to: str = "",
        hashes: Mapping[str, str] | None = None,
    ) -> Figure:
        """A figure with its interval of 95 %, by drawing whole episodes anew.

        values: (n,) for one number, or (n, T') for one at each of the first T' <= T frames: row i is start i.
        statistic: ``mean`` or ``median`` over the starts. share: the values are shares in [0, 1], shown as per cent.
        floor, ceiling, baselines: of the same shape: measured on the real frames, by what can't be done better, and by
        predictions that take no model.
        rows: (m,) the start of each value where there are m values and not one a start (events; say so by ``n_of``);
        floor, ceiling and baselines may then have other lengths, and no value at all gives a figure of None.
        past: values may reach past T. hashes: of what else the figure rests on, such as ``extractor``.

        Raises :class:`ProbeError` where a shape does not fit, or a value is not finite.
        """
        words: dict[str, Any] = {"title": title, "unit": unit, "better": better, "n_of": n_of, "meaning": meaning}
        words |= {"blind_to": blind_to, "hashes": dict(hashes or {})}
        arrays = {f"baselines[{k!r}]": x for k, x in (baselines or {}).items()}
        arrays |= {k: x for k, x in (("floor", floor), ("ceiling", ceiling)) if x is not None}
        if rows is not None:
            return self._events(values, rows, arrays, statistic, share, words)
        checked = {n: self._numbers(n, x, np.shape(values), past) for n, x in {"values": values, **arrays}.items()}
        _check_shares(share, checked, title)
        known = {k: checked[f"baselines[{k!r}]"] for k in baselines or {}}
        if checked["values"].ndim == 2:
            figure = by_horizon(
                checked["values"],
                self.episodes,
                self.seed,
                statistic,
                checked.get("floor"),
                known or None,
                checked.get("ceiling"),
                shares=share,
                **words,
            )
            return dataclasses.replace(figure, statistic="share") if share else figure
        return self._one(checked, self.episodes, statistic, share, words)

    def _events(
        self,
        values: np.ndarray,
        rows: np.ndarray,
        arrays: Mapping[str, np.ndarray],
        statistic: Statistic,
        share: bool,
        words: dict[str, Any],
    ) -> Figure:
        checked = {n: np.asarray(x, np.float64).reshape(-1) for n, x in {"values": values, **arrays}.items()}
        index = np.asarray(rows)
        if index.shape != checked["values"].shape or (len(index) and not (0 <= index.min() <= index.max() < len(self))):
            raise ProbeError(
                f"rows names the start (0 to {len(self) - 1}) of each of the {len(checked['values'])} values, found "
                f"shape {index.shape}."
            )
        for name, x in checked.items():
            if not np.isfinite(x).all():
                raise ProbeError(f"{name} holds NaN or infinite values at {int((~np.isfinite(x)).sum())} places.")
        _check_shares(share, checked, words["title"])
        return self._one(checked, self.episodes[index], statistic, share, words)

    def _one(
        self,
        checked: Mapping[str, np.ndarray],
        groups: np.ndarray,
        statistic: Statistic,
        share: bool,
        words: dict[str, Any],
    ) -> Figure:
        def take(x: np.ndarray) -> float | None:
            return None if not len(x) else float(np.median(x) if statistic == "median" else np.mean(x))

        values = checked["values"]
        interval = (float("nan"), float("nan"))
        if len(values) and share:
            interval = share_interval(values, groups, seed=self.seed)
        elif len(values):
            low, high = bootstrap(values, groups, statistic, seed=self.seed)
            interval = (float(low), float(high))
        names = [n for n in checked if n.startswith("baselines[")]
        return Figure(
            value=take(values),
            interval=interval if np.isfinite(interval).all() else None,
            n=len(values),
            seed=self.seed,
            statistic="share" if share else statistic,
            floor=take(checked["floor"]) if "floor" in checked else None,
            ceiling=take(checked["ceiling"]) if "ceiling" in checked else None,
            baselines={n[len("baselines['") : -len("']")]: take(checked[n]) for n in names},
            **words,
        )

    def _numbers(self, name: str, values: Any, shape: tuple[int, ...], past: bool = False) -> np.ndarray:
        found = np.asarray(values)
        if found.dtype.kind not in "fiub" or found.shape != shape or found.ndim not in (1, 2) or 0 in found.shape:
            raise ProbeError(
                f"{name} must be numbers of shape ({len(self)},) or ({len(self)}, frames), all of one shape, found "
                f"{found.dtype} {found.shape}."
            )
        if len(found) != len(self) or (found.ndim == 2 and found.shape[1] > self.horizon and not past):
            raise ProbeError(
                f"{name} must have one row for each of the {len(self)} starts, and at most {self.horizon} frames, "
                f"found shape {found.shape}."
            )
        found = found.astype(np.float64)
        if not np.isfinite(found).all():
            raise ProbeError(f"{name} holds NaN or infinite values at {int((~np.isfinite(found)).sum())} places.")
        return found


def _check_shares(share: bool, checked: Mapping[str, np.ndarray], title: str) -> None:
    if share and not all(((x >= 0) & (x <= 1)).all() for x in checked.values()):
        raise ProbeError(f"Shares lie in [0, 1], and the values of {title!r} do not.")


def gather(dreamer: Dreamer, held: HeldOut, dreamed: Mapping[str, Any], seed: int) -> Dreams:
    """Held-out starts and the dreams from them, which may be longer than what is known, as probes are given them."""

    def split(values: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        whole = {name: _read_only(x) for name, x in values.items()}
        return {n: x[:, : held.prompt] for n, x in whole.items()}, {n: x[:, held.prompt :] for n, x in whole.items()}

    shown, real = split({name: held.segment.obs[name] for name in dreamed})
    truth_shown, truth = split(held.truth)
    given = {name: x for name, x in held.control.items() if name in dreamer.spec.given}
    return Dreams(
        dreamer.spec,
        held.prompt,
        seed,
        shown,
        real,
        {name: _read_only(x)[:, : held.horizon] for name, x in dreamed.items()},
        {name: _read_only(x)[:, : held.horizon] for name, x in given.items()},
        truth,
        truth_shown,
        _read_only(held.episodes),
        dreamer,
        held,
    )


def _read_only(x: Any) -> np.ndarray:
    """A view that can't be written into: what a probe does must not change what the report shows."""
    view = np.asarray(x).view()
    view.flags.writeable = False
    return view


__all__ = ["Dreams", "ProbeError", "gather"]
