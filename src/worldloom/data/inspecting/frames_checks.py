"""Problems inside one episode's frames: blank, frozen, repeated, jumping, of the wrong dtype or order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from worldloom.contract import Spec
from worldloom.data.inspecting.digest import Digest
from worldloom.data.sources import Problem

LISTED = 5
"""A kind of problem is listed at most this often; the rest are counted in one line."""
_BLANK = 1.5  # grey levels of standard deviation below which a frame shows one flat colour
_FROZEN = 30  # identical frames in a row that are worth a word while actions change
_WHOLE = 10  # frames from which an episode that never moves is an error
_FEW_PIXELS = 0.02  # a jump is at least this part of the picture's side, or of the range of brightness


def runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of each run of true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def shortened(problems: Iterable[Problem], more: Callable[[int], str]) -> list[Problem]:
    """The first few, and one line for the rest."""
    found = list(problems)
    rest = found[LISTED:]
    if not rest:
        return found
    return [*found[:LISTED], Problem(f"{len(rest)} more", more(len(rest)), rest[0].kind, rest[0].severity)]


def place(digest: Digest, first: int, last: int) -> str:
    """Where a range of frames of the sample lies."""
    a, b = digest.start + first, digest.start + last
    return f"{digest.where}, frame {a}" if a == b else f"{digest.where}, frames {a} to {b}"


def blank(digests: Sequence[Digest]) -> list[Problem]:
    """Frames of one flat colour."""
    found = []
    for d in digests:
        if d.contrast is None or d.bright is None:
            continue
        for a, b in runs(d.contrast < _BLANK):
            level = float(d.bright[a : b + 1].mean())
            what = (
                "black" if level < 8 else "white" if level > 247 else f"of one colour (brightness {level:.0f} of 255)"
            )
            found.append(
                Problem(
                    place(d, a, b),
                    f"{b - a + 1} {'frame is' if a == b else 'frames are'} {what}. Cut them out, unless the world "
                    "looks like that.",
                    "blank frames",
                    "warning",
                )
            )
    return shortened(found, lambda n: f"{n} further runs of blank frames.")


def frozen(digests: Sequence[Digest]) -> list[Problem]:
    """Pictures that stand still, for a whole episode or for long, while actions go on."""
    found = []
    for d in digests:
        same = np.array([a == b for a, b in zip(d.hashes, d.hashes[1:], strict=False)], bool)
        for a, b in runs(same):
            frames = b - a + 2
            whole = frames == d.length and frames >= _WHOLE
            if not whole and frames < _FROZEN:
                continue
            acts = None if d.action is None else d.action[max(1, a + 1) : b + 2].reshape(-1, *d.action.shape[1:])
            busy = acts is not None and len(acts) > 0 and bool((acts != acts[0]).any())
            if acts is not None and not busy and not whole:
                continue  # nothing was done, and nothing happened
            found.append(
                Problem(
                    place(d, a, b + 1),
                    f"{frames} frames in a row are identical{' while the actions change' if busy else ''}. Either "
                    "the recording hung: cut them out; or the world waits there, as games do.",
                    "frozen frames",
                    "error" if whole else "warning" if 2 * frames > d.length else "remark",
                )
            )
    return shortened(found, lambda n: f"{n} further runs of identical frames.")


def stutter(digests: Sequence[Digest]) -> list[Problem]:
    """Every k-th frame repeats the one before: recorded at a lower rate than the data claim."""
    found: dict[int, list[Digest]] = {}
    for d in digests:
        same = np.array([a == b for a, b in zip(d.hashes, d.hashes[1:], strict=False)], bool)
        if len(same) < 20:
            continue
        for k in (2, 3, 4, 5, 6):
            shares = np.array([same[r::k].mean() for r in range(k)])
            one, many = np.sort(shares)[::-1], np.sort(shares)
            if (one[0] >= 0.9 and one[1] <= 0.2) or (k > 2 and many[0] <= 0.2 and many[1] >= 0.9):
                found.setdefault(k if one[1] <= 0.2 else -k, []).append(d)
                break
    out = []
    for k, those in found.items():
        what = (
            f"every {_ordinal(k)} frame repeats the one before it: {k - 1} of {k} frames are real"
            if k > 0
            else f"only every {_ordinal(-k)} frame is new"
        )
        rate = (k - 1) / k if k > 0 else 1 / -k
        others = f" (and {len(those) - 1} further episodes)" if len(those) > 1 else ""
        out.append(
            Problem(
                f"{those[0].where}{others}",
                f"{what[0].upper()}{what[1:]}. The recording ran at {rate:.2g} times the rate the data claim: import "
                "it with the true --fps.",
                "repeated frames",
                "warning",
            )
        )
    return out


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def jumps(digests: Sequence[Digest]) -> list[Problem]:
    """Single transitions far beyond what the episode else shows."""
    found = []
    for d in digests:
        if d.change is None or d.travel is None or len(d.change) < 20:
            continue
        marked = _outliers(d.change, 5.0, _FEW_PIXELS * 255) | _outliers(d.travel, 3.5, 2 * _FEW_PIXELS)
        if 0 < marked.sum() <= max(1, 0.02 * len(marked)):
            found += [
                Problem(
                    place(d, int(t), int(t) + 1),
                    "A jump far beyond the motion around it: frames were dropped here, it is a cut, or the world does "
                    "that. If it is not the world, split the recording there.",
                    "jumps",
                    "remark",
                )
                for t in np.flatnonzero(marked)
            ]
    return shortened(found, lambda n: f"{n} further jumps.")


def _outliers(values: np.ndarray, factor: float, least: float) -> np.ndarray:
    """Entries beyond ``factor`` times the 98th percentile of the others, beyond ``least``, and alone."""
    known = np.nan_to_num(values)
    out = np.zeros(len(known), bool)
    some = known[known > 0]
    if len(some) < 11:
        return out
    # What is no outlier against the 90th percentile is none against the 98th.
    for t in np.flatnonzero(known > max(least, factor * float(np.quantile(some, 0.9)))).tolist():
        others = np.delete(known, t)
        out[t] = known[t] > factor * float(np.quantile(others[others > 0], 0.98))
    return out


def layout(spec: Spec, digests: Sequence[Digest]) -> list[Problem]:
    """Pictures whose axes or scale can't be right."""
    found = []
    for name, sensor in spec.images.items():
        channels, _, wide = sensor.shape
        if channels not in (1, 2, 3, 4):
            last = f" The last axis has {wide}: the channels stand last." if wide in (1, 3, 4) else ""
            found.append(
                Problem(
                    f"sensor {name!r}",
                    f"Pictures must be (channels, height, width), found {sensor.shape}: {channels} channels.{last} "
                    "Move the axis with np.moveaxis(x, -1, 1), and write the dataset anew.",
                    "channel order",
                )
            )
            continue
        mine = [d for d in digests if name in d.largest]
        if mine and max(d.largest[name] for d in mine) == 1:
            found.append(
                Problem(
                    f"sensor {name!r}",
                    "No pixel is brighter than 1 of 255: floats in [0, 1] were cast to uint8 without scaling, and "
                    "nearly all of the picture is lost. Multiply by 255 before casting.",
                    "wrong dtype",
                )
            )
        ratios = [d.interleaved[name] for d in mine if name in d.interleaved]
        if channels == 3 and ratios and float(np.median(ratios)) < 0.5:
            found.append(
                Problem(
                    f"sensor {name!r}",
                    "Along a row pixels resemble their third neighbour more than their first: the bytes are "
                    "(height, width, channels), merely labelled channels first. Transpose them instead of reshaping.",
                    "channel order",
                )
            )
    return found
