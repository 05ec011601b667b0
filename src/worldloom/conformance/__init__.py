"""Does a model keep the contract? One suite for every family, and for a user's own model.

    report = worldloom.check_model(model)

Each check fails where one mechanism is missing: randomness that depends on the batch, a state that is written to, an
action that changes nothing, a later frame that leaks into an earlier one. The model need not be trained: the suite
works on a copy with slightly perturbed weights, so that layers initialised to zero can neither hide a mechanism nor
fake one.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import torch

from worldloom.conformance import dreaming, interface, training
from worldloom.conformance.bench import Bench, Failed, shake
from worldloom.contract import ContractError, WorldModel

CHECKS: dict[str, Callable[[Bench], None]] = {**interface.CHECKS, **dreaming.CHECKS, **training.CHECKS}
"""Every check by name. Each takes a bench and raises where the model breaks the contract."""


@dataclass(frozen=True)
class Check:
    """The outcome of one check."""

    name: str
    """Its name in :data:`CHECKS`."""
    passed: bool
    """Whether the model keeps this part of the contract."""
    message: str
    """What was found and what was expected; empty where it passed."""


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`check_model`."""

    model: str
    """Class of the model, or of the world."""
    checks: tuple[Check, ...]
    """One a check, in the order of :data:`CHECKS`."""

    @property
    def failures(self) -> dict[str, str]:
        """Failed check to what was wrong."""
        return {check.name: check.message for check in self.checks if not check.passed}

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failures

    def table(self) -> str:
        """The failed checks, one a row: its name, and what was wrong beside it."""
        width, rows = max(map(len, self.failures), default=0), []
        for name, message in self.failures.items():
            first, *more = textwrap.wrap(message, 100) or [""]
            rows += [f"  {name:<{width}}  {first}", *(f"  {'':<{width}}  {line}" for line in more)]
        return "\n".join(rows)

    def __str__(self) -> str:
        good = sum(check.passed for check in self.checks)
        lines = [f"{self.model}: {good} of {len(self.checks)} checks of the contract passed"]
        lines += [
            f"  {'ok  ' if c.passed else 'FAIL'} {c.name}{': ' * bool(c.message)}{c.message}" for c in self.checks
        ]
        return "\n".join(lines)


def check_model(
    model: WorldModel,
    *,
    seed: int = 0,
    frames: int = 20,
    only: tuple[str, ...] = (),
    perturb: float = 0.02,
    raise_on_failure: bool = True,
) -> Report:
    """Run the conformance suite on a copy of ``model``; the model and the global generators are left as they were.

    seed: of the random frames, controls and perturbation. frames: length of the dreams, longer than the model's memory
    where that is affordable. only: names of :data:`CHECKS`, default all. perturb: standard deviation of the noise added
    to every parameter of the copy.

    Raises :class:`ContractError` that lists every broken promise, unless ``raise_on_failure`` is false.
    """
    unknown = sorted(set(only) - set(CHECKS))
    if unknown:
        raise ContractError(f"There are no checks {unknown}. Checks: {', '.join(CHECKS)}.")
    outcomes: list[Check] = []
    device = model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        subject = copy.deepcopy(model).eval()
        shake(subject, seed, perturb)
        for name, check in CHECKS.items():
            if only and name not in only:
                continue
            try:
                check(Bench(subject, seed, frames))
                outcomes.append(Check(name, True, ""))
            except Failed as failure:
                outcomes.append(Check(name, False, str(failure)))
            except Exception as error:  # whatever a user's model raises is a finding, not a crash of the suite
                outcomes.append(Check(name, False, f"raised {type(error).__name__}: {error}"))
            subject.zero_grad(set_to_none=True)
            subject.eval()
    report = Report(type(model).__name__, tuple(outcomes))
    if raise_on_failure and not report.passed:
        raise ContractError(str(report))
    return report


__all__ = ["CHECKS", "Check", "Report", "check_model"]
