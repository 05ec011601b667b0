"""Problems of actions, rewards, lengths and of episodes among each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from worldloom.contract import Spec
from worldloom.data.inspecting.digest import Digest
from worldloom.data.inspecting.frames_checks import shortened
from worldloom.data.sources import Problem

_FEW_FRAMES = 2000
_FEWEST_EPISODES = 3  # with fewer, validation or test has none
_LOPSIDED = 0.95
_OUT_OF_PROPORTION = 1000.0
_TINY = 0.1  # of the median length
_STRIDE = 8  # every so many frames one is looked for in the other episodes, and this many must agree
_ALIKE, _MOVED = 2, 8  # grey levels of a thumbnail's cell: the same; clearly another
_FEWEST_RUNS = 4  # runs in which something moves, without which nothing is said
_COPIED = 0.5  # share of an episode that must be found in another


def finite(digests: Sequence[Digest]) -> list[Problem]:
    """NaN and infinite values."""
    found = []
    for d in digests:
        for what, first, last, count in d.notfinite:
            span = f"frame {first}" if first == last else f"frames {first} to {last}"
            found.append(
                Problem(
                    f"{d.where}, {span}",
                    f"In {count} of these frames {what} holds NaN or infinite values. Mend or leave out the recording: "
                    "one of them spoils the whole model.",
                    "not finite",
                )
            )
    return shortened(found, lambda n: f"{n} further runs with NaN or infinite values.")


def lengths(all_lengths: Sequence[int], names: Sequence[str]) -> list[Problem]:
    """Episodes too short to learn from."""
    if not len(all_lengths):
        return []
    median = float(np.median(all_lengths))
    found = [
        Problem(
            name,
            f"An episode of {n} frame{'s' * (n != 1)} has no transition to learn from. Leave it out.",
            "too short",
            "warning",
        )
        for n, name in zip(all_lengths, names, strict=True)
        if n < 2
    ]
    tiny = [
        Problem(
            name,
            f"{n} frames, where half of the episodes have {median:.0f} or more. Cut off by mistake?",
            "much shorter",
            "remark",
        )
        for n, name in zip(all_lengths, names, strict=True)
        if 2 <= n < _TINY * median
    ]
    return shortened(found, lambda n: f"{n} further episodes of one frame.") + shortened(
        tiny, lambda n: f"{n} further episodes are much shorter than the rest."
    )


def amounts(episodes: int, frames: int | None, splits: dict[str, int]) -> list[Problem]:
    """Too little to train, validate and test."""
    found = []
    if episodes < _FEWEST_EPISODES or (splits and not all(splits.values())):
        found.append(
            Problem(
                "the whole",
                f"{episodes} episode{'s' * (episodes != 1)}: with fewer than {_FEWEST_EPISODES} there is none to "
                "validate or test on. Collect more, or cut long recordings with a smaller --length.",
                "too few episodes",
                "warning",
            )
        )
    if frames is not None and frames < _FEW_FRAMES:
        found.append(
            Problem(
                "the whole",
                f"{frames:,} frames are few: a model will remember rather than understand. Tens of thousands are "
                "a good beginning.",
                "too few frames",
                "remark",
            )
        )
    return found


def actions(spec: Spec, digests: Sequence[Digest]) -> list[Problem]:
    """Actions that hold no information, or are out of proportion."""
    control = spec.action
    given = [d.action[1 if d.start == 0 else 0 :] for d in digests if d.action is not None]
    if control is None or not given or not sum(map(len, given)):
        return []
    every = np.concatenate(given)
    if control.kind == "discrete":
        return _choices(np.bincount(every[(every >= 0) & (every < control.n)], minlength=control.n), control.names)
    if control.kind != "continuous":
        return []
    every = every[np.isfinite(every).all(1)].astype(np.float64)
    if not len(every):
        return []
    names = control.names or tuple(map(str, range(control.shape[0])))
    spread = every.std(0)
    still = spread <= 1e-6 * np.maximum(1e-6, np.abs(every).max(0))
    if still.all():
        return [_constant(f"All {len(every):,} actions are the same")]
    found = [
        Problem(
            f"action {names[i]!r}",
            f"This entry is {every[0, i]:g} in every frame: it says nothing. Leave the column out.",
            "constant action entry",
            "warning",
        )
        for i in np.flatnonzero(still)
    ]
    moving = np.flatnonzero(~still)
    low, high = moving[spread[moving].argmin()], moving[spread[moving].argmax()]
    if spread[high] > _OUT_OF_PROPORTION * spread[low]:
        found.append(
            Problem(
                f"action {names[high]!r}",
                f"It varies by {spread[high]:.3g}, {names[low]!r} by {spread[low]:.3g}: beside it the model won't see "
                "the smaller one. Bring all entries to about the same size, [-1, 1] say.",
                "out of proportion",
                "warning",
            )
        )
    return found


def _constant(what: str) -> Problem:
    return Problem(
        "action",
        f"{what}: a model can't learn what they do. Were they recorded? Without them this is plain video "
        "(--actions none).",
        "constant actions",
        "warning",
    )


def _choices(counts: np.ndarray, names: tuple[str, ...]) -> list[Problem]:
    total, names = int(counts.sum()), names or tuple(map(str, range(len(counts))))
    if not total:
        return []
    most = int(counts.argmax())
    if counts[most] == total:
        return [_constant(f"Every action is {names[most]!r}")] if len(counts) > 1 else []
    found = []
    if counts[most] > _LOPSIDED * total:
        found.append(
            Problem(
                "action",
                f"{100 * counts[most] / total:.1f} % of the actions are {names[most]!r}: the others are too rare to be "
                "learnt well. Collect with a policy that tries them.",
                "unbalanced actions",
                "warning",
            )
        )
    never = [names[i] for i in np.flatnonzero(counts == 0)]
    if never:
        listed = ", ".join(map(repr, never[:8])) + (f" and {len(never) - 8} more" if len(never) > 8 else "")
        what = f"Never taken (in the sample): {listed}. What they do can't be learnt."
        found.append(Problem("action", what, "unused actions", "remark"))
    return found


def rewards(digests: Sequence[Digest], ends_known: bool) -> list[Problem]:
    """Rewards that are missing or say nothing, and ends that are unknown."""
    found = []
    given = [d.reward for d in digests if d.reward is not None]
    if not given:
        what = "There are no rewards: a model will dream, but can't be planned with."
        found.append(Problem("reward", what, "no rewards", "remark"))
    elif not any(np.nan_to_num(r[1:]).any() for r in given):
        what = "All rewards (in the sample) are zero: a model will learn just that."
        found.append(Problem("reward", what, "zero rewards", "remark"))
    if not ends_known:
        found.append(
            Problem(
                "terminal",
                "It is not known whether episodes truly ended or were cut: a model won't learn ends.",
                "unknown ends",
                "remark",
            )
        )
    return found


# ---------------------------------------------------------------------------------------- among each other


def duplicates(digests: Sequence[Digest]) -> list[Problem]:
    """Episodes that are equal, or in large part nearly so; across splits that is a leak."""
    same: dict[tuple[bytes, ...], list[Digest]] = defaultdict(list)
    for d in digests:
        if d.length > 1 and len(set(d.hashes)) > 1:
            same[tuple(d.hashes)].append(d)
    found, known = [], set()
    for those in same.values():
        for a, b in pairwise(those):
            known |= {(id(a), id(b)), (id(b), id(a))}
            found.append(_copy(a, b, "All frames are equal, one by one"))
    for a, b, share in _near(digests):
        if (id(a), id(b)) not in known:
            known |= {(id(a), id(b)), (id(b), id(a))}
            found.append(_copy(a, b, f"{100 * share:.0f} % of the frames are nearly equal, in order"))
    found.sort(key=lambda p: p.kind != "leak between splits")
    return shortened([p for p in found if p.kind.startswith("leak")], lambda n: f"{n} further pairs.") + shortened(
        [p for p in found if not p.kind.startswith("leak")], lambda n: f"{n} further pairs of equal episodes."
    )


def _copy(a: Digest, b: Digest, what: str) -> Problem:
    where = f"{a.where} and {b.where}"
    if a.split and b.split and a.split != b.split:
        return Problem(
            where,
            f"{what}, but one is in {a.split!r} and the other in {b.split!r}: figures measured there will flatter the "
            "model. Leave one of them out.",
            "leak between splits",
        )
    return Problem(where, f"{what}: the same recording, twice. Leave one of them out.", "duplicates", "warning")


def _near(digests: Sequence[Digest]) -> list[tuple[Digest, Digest, float]]:
    """Pairs of which one's frames lie, in order, to a large part in the other: found by thumbnails."""
    mine = [d for d in digests if d.thumbs is not None and d.length >= 2 * _STRIDE]
    if len(mine) < 2:
        return []
    flat = np.concatenate([d.thumbs for d in mine if d.thumbs is not None]).astype(np.float32)
    mean = flat.mean(0)
    ends = np.cumsum([d.length for d in mine])
    begins = ends - [d.length for d in mine]
    owner = np.repeat(np.arange(len(mine)), [d.length for d in mine])
    anchors, needed = [], Counter[int]()
    for i, d in enumerate(mine):
        for t in range(0, d.length - _STRIDE, _STRIDE):
            run = flat[begins[i] + t : begins[i] + t + _STRIDE]
            if np.abs(run[-1] - run[0]).max() >= _MOVED:  # what stands still is like anything
                anchors.append(begins[i] + t)
                needed[i] += 1
    hits: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    centred = flat - mean
    norms = (centred**2).sum(1)
    close = flat.shape[1] * 1.0  # mean squared difference of one level
    for part in np.array_split(np.array(anchors, np.int64), max(1, len(anchors) // 256)) if anchors else ():
        distance = norms[part][:, None] + norms[None] - 2 * centred[part] @ centred.T
        rows, columns = np.nonzero(distance < close)
        first, other = part[rows], columns
        fits = (owner[first] != owner[other]) & (other + _STRIDE <= ends[owner[other]])
        for ahead in (0, _STRIDE - 1, _STRIDE // 2):  # most pairs part soon: look at few frames before looking at all
            first, other = first[fits], other[fits]
            fits = np.abs(flat[first + ahead] - flat[other + ahead]).max(1, initial=0) <= _ALIKE
        for anchor, there in zip(first[fits].tolist(), other[fits].tolist(), strict=True):
            i, j = int(owner[anchor]), int(owner[there])
            at, to = anchor - int(begins[i]), there - int(begins[j])
            alike = np.abs(flat[anchor : anchor + _STRIDE] - flat[there : there + _STRIDE]).max() <= _ALIKE
            if alike and _same_actions(mine[i], mine[j], at, to):
                hits[i, j][to - at] += 1
    # A copy has one delay throughout (two either way, for frames lost on the way); chance meetings have many.
    shares = {
        pair: max(sum(delays[k + n] for n in range(-2, 3)) for k in delays) / needed[pair[0]]
        for pair, delays in hits.items()
    }
    return [
        (mine[i], mine[j], share)
        for (i, j), share in shares.items()
        if needed[i] >= _FEWEST_RUNS
        and share >= _COPIED
        and (i < j or shares.get((j, i), 0) < _COPIED or needed[j] < _FEWEST_RUNS)
    ]


def _same_actions(a: Digest, b: Digest, at: int, there: int) -> bool:
    """Whether the actions inside two runs of frames are equal, where both are known."""
    if a.action is None or b.action is None:
        return True
    x, y = a.action[at + 1 : at + _STRIDE], b.action[there + 1 : there + _STRIDE]
    return bool(np.isclose(x, y, atol=1e-3).all())


def recordings(digests: Sequence[Digest]) -> list[Problem]:
    """Pieces of one recording in several splits."""
    parts: dict[str, set[str]] = defaultdict(set)
    for d in digests:
        if d.recording and d.split:
            parts[d.recording].add(d.split)
    torn = sorted(name for name, found in parts.items() if len(found) > 1)
    if not torn:
        return []
    return [
        Problem(
            torn[0] + (f" and {len(torn) - 1} further recordings" if len(torn) > 1 else ""),
            "Pieces of one recording lie in several splits: scenes look alike in training and test, so figures are "
            "somewhat rosy. Import with a larger --length, or test on another recording.",
            "one recording in several splits",
            "remark",
        )
    ]
