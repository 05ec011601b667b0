"""The clips that distances compare: dreams of some starts, and the true frames of others.

Dreams share their prompts with the frames that truly followed, so that the two are no independent samples. The dreams
of starts A are therefore compared with what truly followed starts B, in other episodes; the floor compares what truly
followed A with the same. A perfect model's dreams have the floor as their distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldloom.contract import WorldloomError
from worldloom.evaluation.distances.embedded import trained
from worldloom.evaluation.distances.extractors import (
    Calibrated,
    Embedded,
    Extractor,
    ExtractorError,
    Own,
    features,
)
from worldloom.evaluation.distances.random3d import Random3D
from worldloom.evaluation.distances.state import State
from worldloom.evaluation.heldout import HeldOut
from worldloom.evaluation.probes.base import NotMeasurableError
from worldloom.evaluation.probes.dreams import Dreams

CLIPS, FULL_CLIPS = 256, 1024
"""Clips on each side, by default and with ``--full``."""
FRAMES, LEAST_FRAMES = 16, 8
"""Frames of a clip, all of them dreamed; fewer, down to the second, where episodes are short."""
LEARNT, LEARNT_SEED = 128, 5_000_011
"""Clips that extractors are calibrated on, and what is added to the seed for them."""


@dataclass(frozen=True)
class Clips:
    """Clips (n, T, C, H, W) uint8 on each side."""

    dreamed: np.ndarray
    """Dreams of starts A."""
    followed: np.ndarray
    """What truly followed starts A."""
    real: np.ndarray
    """What truly followed starts B."""
    still: np.ndarray
    """(n, C, H, W) the last frames of the prompts of starts A."""
    episodes: np.ndarray
    """(n,) of starts A."""
    others: np.ndarray
    """(n,) of starts B: none of those of A."""
    learnt: np.ndarray
    """True clips that are compared with nothing: extractors are calibrated on them."""
    position: np.ndarray | None
    """(n', T, K, 2) px, true positions of objects in ``learnt``; None where the data do not tell."""

    def __len__(self) -> int:
        return len(self.dreamed)

    @property
    def frames(self) -> int:
        """T."""
        return self.dreamed.shape[1]

    @property
    def independent(self) -> int:
        """Episodes on the side that has fewer."""
        return min(len(np.unique(self.episodes)), len(np.unique(self.others)))


@dataclass(frozen=True)
class Features:
    """(n, d) of the clips of the same name, by one extractor."""

    dreamed: np.ndarray
    followed: np.ndarray
    real: np.ndarray
    hash: str
    """Of the extractor, its calibration included."""


def clips(dreams: Dreams) -> Clips:
    """The clips of a report: 256 on each side, 1,024 with ``--full``; of fresh episodes, one each, where the exact
    world can be played, else windows of the test split. Made once a report.

    Raises :class:`NotMeasurableError` where there are no other starts, or the episodes are too short.
    """
    return dreams.once("clips", lambda: _make(dreams, FULL_CLIPS if dreams.full else CLIPS))


def _make(dreams: Dreams, count: int) -> Clips:
    if dreams.world is not None:
        both = dreams.world.fresh(2 * count, dreams.prompt, FRAMES, dreams.seed)
        learnt = dreams.world.fresh(LEARNT, dreams.prompt, FRAMES, dreams.seed + LEARNT_SEED)
        a, b = both.rows(slice(0, count)), both.rows(slice(count, 2 * count))
    elif dreams.dataset is not None:
        try:
            both = dreams.draw(2 * count, dreams.prompt, FRAMES)
            learnt = dreams.draw(LEARNT, dreams.prompt, both.horizon, split="train")
        except WorldloomError as error:
            raise NotMeasurableError(f"There are no clips to compare: {error}") from error
        a, b = _halves(both, dreams.seed)
        if not len(b.episodes):
            raise NotMeasurableError(
                "Distances compare dreams from some held-out episodes with other true ones; all starts come from one "
                "episode. Collect more episodes."
            )
    else:
        raise NotMeasurableError("Distances need other starts: a dataset or the exact world behind it. Found neither.")
    frames = min(both.horizon, learnt.horizon)
    if frames < LEAST_FRAMES:
        raise NotMeasurableError(
            f"Distances compare clips of {FRAMES} frames after a prompt of {dreams.prompt}, and of {LEAST_FRAMES} at "
            f"least; found episodes that leave {frames}. Give longer episodes or a shorter prompt."
        )
    camera = dreams.camera
    later = slice(dreams.prompt, dreams.prompt + frames)
    true = [held.segment.obs[camera].numpy() for held in (a, b, learnt)]
    position = learnt.truth.get("position")
    known = position is not None and position.ndim == 4 and bool(np.isfinite(position).all())
    return Clips(
        dreams.dream(frames=frames, held=a)[camera],
        true[0][:, later],
        true[1][:, later],
        true[0][:, dreams.prompt - 1],
        a.episodes,
        b.episodes,
        true[2][:, later],
        position[:, later] if position is not None and known else None,
    )


def _halves(both: HeldOut, seed: int) -> tuple[HeldOut, HeldOut]:
    """Starts of some episodes and of the others: about half of the starts each, then cut to equally many."""
    numbers, counts = np.unique(both.episodes, return_counts=True)
    order = np.random.default_rng((seed, 17)).permutation(len(numbers))
    order = order[np.argsort(-counts[order], kind="stable")]
    sides: list[list[int]] = [[], []]
    total = [0, 0]
    for k in order.tolist():
        side = int(total[1] < total[0])
        sides[side].append(int(numbers[k]))
        total[side] += int(counts[k])
    a, b = (np.flatnonzero(np.isin(both.episodes, some)) for some in sides)
    n = min(len(a), len(b))
    thin = [rows[np.linspace(0, len(rows) - 1, n).round().astype(int)] if n else rows[:0] for rows in (a, b)]
    return both.rows(thin[0]), both.rows(thin[1])


def enough(found: Clips, what: str, least: int, episodes: int) -> None:
    """Raises :class:`NotMeasurableError` where there are fewer clips or episodes on a side than that."""
    if len(found) < least or found.independent < episodes:
        raise NotMeasurableError(
            f"{what} needs at least {least} held-out clips of {episodes} different episodes on each side; found "
            f"{len(found)} of {found.independent}. Collect more episodes."
        )


def left_out(dreams: Dreams) -> dict[str, str]:
    """Extractors that apply and could not be used in this report, by name, and why. Each is told in the report."""
    return dreams.once("extractors left out", dict)


def extractors(dreams: Dreams, found: Clips) -> list[Extractor]:
    """Those that apply: the user's own, ``state`` where true positions are known and the tracker finds the objects
    there, ``embedded`` and ``random3d``."""
    trained()  # a damaged installation is told before the work
    made: list[Extractor] = [] if dreams.extractor is None else [Own(dreams.extractor)]
    if found.position is not None:
        try:
            state = State.of(found.learnt, found.position)
            made.append(Calibrated(state, found.learnt, state.least))
        except WorldloomError as error:
            left_out(dreams)["state"] = str(error)
    made += [Calibrated(own, found.learnt) for own in (Embedded(), Random3D())]
    return made


def measured(dreams: Dreams) -> dict[str, Features]:
    """Extractor's name to the features of this report's clips. Made once a report. One of the user's that fails is
    :func:`left_out`, and takes ours not with it."""

    def make() -> dict[str, Features]:
        found = clips(dreams)
        out: dict[str, Features] = {}
        for one in extractors(dreams, found):
            try:
                dreamed, followed, real = (features(one, x) for x in (found.dreamed, found.followed, found.real))
            except ExtractorError as error:
                if not isinstance(one, Own):
                    raise
                left_out(dreams)[one.name] = str(error)
                continue
            out[one.name] = Features(dreamed, followed, real, one.hash)
        return out

    return dreams.once("features", make)


__all__ = ["Clips", "Features", "clips", "enough", "extractors", "left_out", "measured"]
