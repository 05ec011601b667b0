"""Half-life: after how many frames half of the dreams have failed. And the figures of whatever lasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from worldloom.evaluation.figures import HORIZONS
from worldloom.evaluation.metrics import psnr
from worldloom.evaluation.objects import followed
from worldloom.evaluation.probes.base import probe
from worldloom.evaluation.probes.dreams import Dreams
from worldloom.evaluation.probes.horizon import Long, best_guess, listed, long_dreams, window_length
from worldloom.evaluation.schema import Curve, Figure
from worldloom.evaluation.survival import Estimate, Lives, estimate, first_failure
from worldloom.evaluation.tracking import Tracks

PATIENCE = 3
"""Frames in a row that must be wrong: one alone may be the tracker's slip."""
SEEN = 40.0
"""dB, above which two frames count as alike: in a scene that stands still the last frame is perfect."""
DIED, EXPLODED = 0.1, 2.0
"""Motion of a window below this multiple of the least, or above this one of the most, that real windows show."""


def lasting_figures(
    dreams: Dreams,
    lives: Lives,
    until: int,
    *,
    prefix: str = "",
    title: str,
    meaning: str,
    blind_to: str,
    floor: Lives | None = None,
    ceiling: Lives | None = None,
    baselines: Mapping[str, Lives] | None = None,
) -> dict[str, Figure]:
    """Four figures of n lives within ``until`` frames, one a start of ``dreams``: ``{prefix}lasting`` (the survival
    curve), ``{prefix}median_frames``, ``{prefix}mean_frames`` and ``{prefix}censored``.

    floor, ceiling, baselines: lives of the same starts by other means.
    """

    def taken(one: Lives, groups: np.ndarray) -> Estimate:
        return estimate(one, groups, until, seed=dreams.seed)

    main = taken(lives, dreams.episodes)
    base = None if floor is None else taken(floor, dreams.episodes)
    best = None if ceiling is None else taken(ceiling, dreams.episodes)
    plain = {name: taken(x, dreams.episodes) for name, x in (baselines or {}).items()}

    def row(one: Estimate | None) -> tuple[float | None, ...] | None:
        return None if one is None else listed(one.share)

    def numbers(field: str) -> dict[str, Any]:
        def of(one: Estimate | None) -> float | None:
            return None if one is None else _finite(getattr(one, field))

        return {"floor": of(base), "ceiling": of(best), "baselines": {n: of(x) for n, x in plain.items()}}

    keys = [h for h in sorted({*HORIZONS, until}) if h <= until]

    def at(values: tuple[float | None, ...] | None) -> dict[str, float | None] | None:
        return None if values is None else {str(h): values[h - 1] for h in keys}

    shares = Curve(
        tuple(range(1, until + 1)),
        listed(main.share),
        listed(main.low),
        listed(main.high),
        row(base),
        {n: listed(x.share) for n, x in plain.items()},
        row(best),
    )
    low, high = at(shares.low) or {}, at(shares.high) or {}
    common: dict[str, Any] = {"n": len(lives), "n_of": "dreams", "seed": dreams.seed, "blind_to": blind_to}
    frames: dict[str, Any] = {"unit": "frames", "better": "higher", **common}
    censored = f"{int((~lives.failed).sum())} of {len(lives)} had not failed when last looked at"
    known = int(np.isfinite(main.share).sum())  # past it nobody is left to be looked at
    reached = (
        f" None: more than half outlast the {known} frames {'looked at' if known == until else 'that can be judged'}."
    )
    reached = "" if np.isfinite(main.median) else reached if known else " None: no frame can be judged."
    return {
        f"{prefix}lasting": Figure(
            value=at(shares.value),
            interval={h: _pair((low.get(h), high.get(h))) for h in low},
            statistic="share",
            title=title,
            unit="",
            better="higher",
            meaning=f"{meaning} By Kaplan and Meier; {censored}.",
            curve=shares,
            floor=at(shares.floor),
            ceiling=at(shares.ceiling),
            baselines={n: at(x) for n, x in shares.baselines.items()},
            **common,
        ),
        f"{prefix}median_frames": Figure(
            value=_finite(main.median),
            interval=_pair(main.median_interval),
            statistic="median",
            title=f"{title}: median",
            meaning=f"Frames by which half of the dreams have failed, by Kaplan and Meier.{reached} {meaning}",
            **frames,
            **numbers("median"),
        ),
        f"{prefix}mean_frames": Figure(
            value=_finite(main.mean),
            interval=_pair(main.mean_interval),
            statistic="mean",
            title=f"{title}: mean of {until}",
            meaning=f"Frames that a dream lasts within the {until} looked at (restricted mean, the area under the "
            f"survival curve). {meaning}",
            **frames,
            **numbers("mean"),
        ),
        f"{prefix}censored": Figure(
            value=main.censored,
            interval=None,
            statistic="share",
            title=f"{title}: not seen to fail",
            unit="",
            better="higher",
            meaning=f"Share of dreams whose end was not seen, within {until} frames or as far as the truth reaches.",
            **common,
            **numbers("censored"),
        ),
    }


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _pair(pair: tuple[float | None, float | None]) -> tuple[float, float] | None:
    low, high = pair
    known = low is not None and high is not None and np.isfinite(low) and np.isfinite(high)
    return (float(low), float(high)) if known and low is not None and high is not None else None


@probe(
    name="half_life",
    about="After how many frames have half of the dreams failed, when they run to ten times the training length?",
)
def half_life(dreams: Dreams) -> dict[str, Figure]:
    """See docs/probes/half_life.md."""
    long = long_dreams(dreams)
    if "position" in long.dreams.truth:
        return _objects(long)
    return _pictures(long)


def _objects(long: Long) -> dict[str, Figure]:
    dreams = long.dreams
    found, position = followed(dreams), dreams.truth["position"]
    objects = position.shape[2]
    right = np.stack([t.count == objects for t in found.real])
    count = first_failure(np.stack([t.count != objects for t in found.dreamed]), right, PATIENCE)
    out = lasting_figures(
        dreams, count, dreams.horizon, prefix="count_", title="Dreams with the right number of objects",
        floor=first_failure(~right, None, PATIENCE),
        meaning=f"A dream fails at the first of {PATIENCE} frames in a row with another number of objects than the "
        "truth; true frames that the tracker itself miscounts are not held against it.",
        blind_to="One object that vanishes while another appears; objects in the wrong place.",
    )  # fmt: skip
    real, dreamed = (positions(part, objects) for part in (found.real, found.dreamed))
    judged = np.isfinite(real).all((2, 3))

    def near(where: np.ndarray) -> Lives:
        gap = np.sqrt(np.square(where - position).sum(-1)) / found.radius[:, None]
        return first_failure((np.nan_to_num(gap, nan=np.inf) > 1).any(-1), judged, PATIENCE)

    guess = best_guess(dreams)
    return out | lasting_figures(
        dreams, near(dreamed), dreams.horizon, prefix="position_", title="Dreams with every object within its radius",
        meaning=f"A dream fails at the first of {PATIENCE} frames in a row with an object lost or off by more than its "
        "radius. The ceiling is the exact world, begun where the tracker sees its objects in the prompt.",
        blind_to="Whether what follows the failure is another possible future or nonsense (see fidelity and drift).",
        floor=near(real),
        ceiling=None if guess is None else near(guess),
        baselines={"copy_last": near(np.broadcast_to(dreams.truth_shown["position"][:, -1:], position.shape))},
    )  # fmt: skip


def positions(tracks: list[Tracks], objects: int) -> np.ndarray:
    """(n, T, K, 2) px of the world's own objects; NaN where not seen."""
    return np.stack([t.position[:, :objects] for t in tracks])


def _pictures(long: Long) -> dict[str, Figure]:
    dreams, camera = long.dreams, long.dreams.camera
    real, last = torch.from_numpy(dreams.real[camera].copy()), torch.from_numpy(dreams.shown[camera][:, -1:].copy())
    dreamed = torch.from_numpy(long.frames[:, : dreams.horizon])
    behind = psnr(real, dreamed, SEEN) < psnr(real, last.expand_as(real), SEEN)
    out = lasting_figures(
        dreams, first_failure(behind.numpy(), None, PATIENCE), dreams.horizon, prefix="picture_",
        title="Dreams ahead of the last frame",
        meaning=f"A dream fails at the first of {PATIENCE} frames in a row whose PSNR lies below that of repeating the "
        f"prompt's last frame; above {SEEN:g} dB all is alike.",
        blind_to="Small things that matter, and what comes after the last true frame.",
        floor=first_failure(np.zeros(behind.shape, bool)),
    )  # fmt: skip
    length = min(window_length(long), min(dreams.horizon, long.reference.horizon) - 1)  # steps lie between frames
    usual = sliding(motion(long.reference.segment.obs[camera][:, dreams.prompt :].numpy()), length)
    range_ = (DIED * float(usual.min()), EXPLODED * float(usual.max()))
    still = "" if range_[0] > 0 else " Real windows may stand still here, so that death can't be told."
    return out | lasting_figures(
        dreams, _moving(long.frames, length, range_), long.length, prefix="motion_", title="Dreams that move as usual",
        meaning=f"A dream fails with the first {length} frames whose mean change from frame to frame is under "
        f"{DIED:g} of the least or over {EXPLODED:g} of the most that real windows show.{still}",
        blind_to="What it is that moves.",
        floor=_moving(dreams.real[camera], length, range_),
    )  # fmt: skip


def motion(frames: np.ndarray) -> np.ndarray:
    """(n, T - 1) mean absolute change, 0 to 255, from each frame (n, T, C, H, W) uint8 to the next."""
    out = np.empty((len(frames), frames.shape[1] - 1))
    for i, clip in enumerate(frames):
        out[i] = np.abs(np.diff(clip.astype(np.int16), axis=0)).mean((1, 2, 3))
    return out


def sliding(values: np.ndarray, length: int) -> np.ndarray:
    """(n, T - length + 1) means over every stretch of ``length`` of the T values."""
    total = np.cumsum(np.concatenate([np.zeros((len(values), 1)), values], 1), 1)
    means: np.ndarray = (total[:, length:] - total[:, :-length]) / length
    return means


def _moving(frames: np.ndarray, length: int, usual: tuple[float, float]) -> Lives:
    """A life ends with the first frame of the first stretch whose motion is unusual."""
    means = sliding(motion(frames), length)
    wrong = (means < usual[0]) | (means > usual[1])
    ends = first_failure(wrong)
    # a stretch that begins with value t changes frame t + 2, counted from 1; one that never ends was seen throughout
    return Lives(np.where(ends.failed, ends.frame + 1, frames.shape[1]), ends.failed)
