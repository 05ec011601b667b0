"""From held-out dreams to ``trust.json``: which errors are usual, and how strange a start may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from worldloom.configs import to_json
from worldloom.evaluation.probes import Dreams, NotMeasurableError
from worldloom.evaluation.trust.conformal import conformal_quantile, fit_scale, group_weights, least_groups, scores
from worldloom.evaluation.trust.planned import Plans, planned_dreams
from worldloom.evaluation.trust.signals import Measured, measured
from worldloom.evaluation.trust.starts import CALIBRATION, calibration_starts, training_prompts
from worldloom.files import save_tensors, sweep, tensors_hash, write_json
from worldloom.imagination.trust import (
    TENSORS_FILE,
    TRUST_FILE,
    Contents,
    Quantile,
    Rule,
    Trust,
    View,
    clipped,
    pack,
    strangeness,
    unpack,
)
from worldloom.imagination.trust_signals import FROM_STATE, Familiar, features_after
from worldloom.models.saved import model_hash

LEVEL = 0.9
"""Share of new dreams that shall stay under their bound."""
FALSE_ALARMS = 0.1
"""Share of familiar starts that may be called strange."""
FITTING = 1 / 2
"""Share of the calibration episodes that curve and coefficients are fitted on: with fewer the curve's tail is a guess,
which costs width, and with more the coverage of one calibration strays further from the level."""
REFERENCE = 256
"""Training starts that others are compared with."""
LEAST = {"position": 0.05, "pixels": 0.5}
"""Errors (px; grey levels) that are none: what the tracker and rounding cost."""
SPREAD = 0.05
"""A signal, a logarithm, spreads by 5 % at least."""


def calibrate(dreams: Dreams, count: int, plans: Plans | None = None, level: float = LEVEL) -> tuple[Trust, Measured]:
    """Calibrate on ``count`` held-out dreams as long as those of the report, and on ``plans`` for a planner's actions.

    Returns the calibration and what was measured of the dreams that its quantile rests on. Raises
    :class:`NotMeasurableError` where there are too few held-out episodes.
    """
    held, source = calibration_starts(dreams, count, level)
    own = dreams.of(held)
    familiar = _familiar(dreams)
    sampler = _sampler(own)
    found = measured(own, familiar, held.horizon, sampler)
    fitting = _fitting(found.groups, level, dreams.seed)
    fit, rest = found.rows(np.flatnonzero(fitting)), found.rows(np.flatnonzero(~fitting))
    names = tuple(found.signals)
    most = {"position": math.hypot(*dreams.spec.images[dreams.camera].shape[-2:]), "pixels": 255.0}
    views = {"prompt": _view(fit, rest, names, level, most)}
    if all(name in names for name in FROM_STATE):
        views["state"] = _view(fit, rest, FROM_STATE, level, most)
    contents = Contents(
        level=level,
        false_alarms=FALSE_ALARMS,
        camera=dreams.camera,
        prompt=dreams.prompt,
        horizon=held.horizon,
        seed=dreams.seed,
        starts=source,
        actions="none" if dreams.spec.action is None else "recorded" if source == "val" else "random",
        sampler=sampler,
        objects="the worst object; a lost one counts as the frame's diagonal" if "position" in found.error else "none",
        planned="actions that a planner chose were not measured.",
        fitted=len(fit.groups),
        views=views,
        hashes=_hashes(dreams) | {"tensors": tensors_hash(_tensors(familiar), {})},
    )
    trust = Trust(contents, familiar)
    return _with_plans(trust, dreams, own, np.flatnonzero(~fitting), plans), rest


def _familiar(dreams: Dreams) -> Familiar:
    """Training starts, rounded as they are stored, so that a reader finds the same signals."""
    held = training_prompts(dreams, REFERENCE)
    prompt = held.segment.time(slice(0, held.prompt))
    features = None if dreams.model is None else features_after(dreams.model, prompt, dreams.seed)
    exact = Familiar.fit(features, prompt.obs[dreams.camera].numpy())
    return unpack(_tensors(exact))


def _tensors(familiar: Familiar) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(x) for name, x in pack(familiar).items()}


def _fitting(groups: np.ndarray, level: float, seed: int) -> np.ndarray:
    """(n,) bool: dreams of the episodes to fit on. Whole episodes, and no more than leave enough for the level."""
    episodes = np.unique(groups)
    share = min(round(FITTING * len(episodes)), len(episodes) - least_groups(level))
    drawn = np.random.default_rng((seed, 3)).permutation(episodes)[: max(share, 1)]
    return np.isin(groups, drawn)


def _view(fit: Measured, rest: Measured, names: tuple[str, ...], level: float, most: Mapping[str, float]) -> View:
    """Fit on one part of the dreams, and take the quantiles on the other."""
    raw = np.stack([fit.signals[name] for name in names], 1)
    low, centre, high = np.percentile(raw, [16, 50, 84], axis=0)
    spread = np.maximum((high - low) / 2, SPREAD)
    view = View(names, tuple(centre.tolist()), tuple(spread.tolist()), (), (), {})
    inner, outer = view.standard(fit.signals), view.standard(rest.signals)
    strange = strangeness(outer)
    order = np.argsort(strange, kind="stable")
    weights, episodes = group_weights(rest.groups)
    rules = {}
    for kind, error in fit.error.items():
        scale = fit_scale(error, clipped(inner), level, LEAST[kind])
        values = scores(np.maximum(rest.error[kind], LEAST[kind]), scale(clipped(outer)))
        q = conformal_quantile(values, rest.groups, level)
        quantile = Quantile(q if np.isfinite(q) else None, error.shape[1], len(values), episodes)
        rules[kind] = Rule(tuple(scale.curve.tolist()), tuple(scale.coefficients.tolist()), most[kind], quantile)
    return replace(
        view, strangeness=tuple(strange[order].tolist()), weights=tuple(weights[order].tolist()), rules=rules
    )


def _with_plans(trust: Trust, dreams: Dreams, own: Dreams, rows: np.ndarray, plans: Plans | None) -> Trust:
    """The same with quantiles of their own for actions that a planner chose."""
    contents = trust.contents
    if plans is None:
        return trust
    try:
        there = planned_dreams(own, rows[: plans.calibration], plans, draws=CALIBRATION)
        done = measured(there, trust.familiar, contents.horizon, contents.sampler)
    except NotMeasurableError as reason:
        return Trust(replace(contents, planned=str(reason)), trust.familiar)
    views = {}
    for name, view in contents.views.items():
        rules = {}
        for kind, rule in view.rules.items():
            error = done.error[kind]
            scale = np.exp(clipped(view.standard(done.signals)) @ np.array(rule.coefficients))[:, None]
            scale = scale * np.array(rule.curve)[: error.shape[1]]
            values = scores(np.maximum(error, LEAST[kind]), scale)
            q = conformal_quantile(values, done.groups, contents.level)
            count = len(np.unique(done.groups))
            found = Quantile(q if np.isfinite(q) else None, error.shape[1], len(values), count)
            rules[kind] = replace(rule, planned=found)
        views[name] = replace(view, rules=rules)
    return Trust(replace(contents, views=views, planned=plans.words), trust.familiar)


def _sampler(dreams: Dreams) -> str:
    """Whether another seed dreams otherwise."""
    few, frames = slice(0, min(4, len(dreams))), min(4, dreams.horizon)
    one, other = (dreams.dream(frames=frames, rows=few, seed=dreams.seed + k)[dreams.camera] for k in (2, 3))
    return "deterministic" if np.array_equal(one, other) else "random"


def _hashes(dreams: Dreams) -> dict[str, str]:
    found = {}
    if dreams.dataset is not None:
        found["data"] = dreams.dataset.fingerprint
    if dreams.model is not None:
        found["checkpoint"] = model_hash(dreams.model)
    return found


def save_trust(trust: Trust, folder: Path) -> None:
    """Write trust.safetensors and then trust.json, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (TENSORS_FILE, TRUST_FILE):
        sweep(folder, name)
    save_tensors(folder / TENSORS_FILE, _tensors(trust.familiar), {})
    write_json(folder / TRUST_FILE, to_json(trust.contents), sealed=True)


__all__ = ["FALSE_ALARMS", "LEVEL", "calibrate", "save_trust"]
