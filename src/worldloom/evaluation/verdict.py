"""The figures in plain words. Every sentence is made from the figures; none is a matter of taste."""

from __future__ import annotations

from collections.abc import Sequence

from worldloom.evaluation.schema import Figure, Verdict

LEAST_ACTION_GAIN = 0.05
"""dB. A difference between true and wrong actions below this is too small for anyone to see, however sure it is."""

MOST_LOST = 0.1
"""Share of objects that may be lost while a dream still counts as believable: a median does not see them."""


def number(x: float | None, unit: str = "") -> str:
    """A number for reading: three significant digits, shares as per cent, a dash for none."""
    if x is None:
        return "–"
    if unit == "%":
        return "100 %" if x == 1 else f"{min(100 * x, 99.9):.1f} %" if x > 0.99 else f"{100 * x:.3g} %"
    text = f"{x:,.0f}" if abs(x) >= 100 else "0" if abs(x) < 5e-4 else f"{x:.3g}"
    return f"{text.replace('-', '−')} {unit}".rstrip()


def believable(curve: Sequence[float | None], limit: float) -> int:
    """How many frames from the first on stay at or under ``limit``."""
    for h, value in enumerate(curve):
        if value is None or value > limit:
            return h
    return len(curve)


def _behind(dreamed: float | None, still: float | None) -> float | None:
    """1 where standing still comes as close as the dream (within a tenth of a pixel all is close), 0 where not."""
    if dreamed is None or still is None:
        return None if dreamed is None else 0.0
    return float(dreamed > 0.1 and dreamed >= still)


def _structure_behind(ssim: Figure) -> list[float | None]:
    """By frame, 1 where the dream is surely less like the truth in structure than the last frame is: a blur has a good
    PSNR and is not what happens. 0 elsewhere."""
    curve = ssim.curve
    assert curve is not None  # as of every figure by horizon
    return [
        float(high is not None and still is not None and high < still)
        for high, still in zip(curve.high, curve.baselines["copy_last"], strict=True)
    ]


def _at(figure: Figure, horizon: str, name: str = "") -> float | None:
    values = figure.baselines.get(name) if name else figure.value
    return values.get(horizon) if isinstance(values, dict) else None


def judge(figures: dict[str, Figure], radius: float | None) -> Verdict:
    """One headline and what it rests on. ``radius``: px of a typical object, None where nothing was tracked."""
    points = []
    gain = figures["psnr_gain_db"].curve
    assert gain is not None  # figures by horizon always have their curve
    bounded = any(low is not None for low in gain.low)
    surely = gain.low if bounded else gain.value
    sharper = believable([None if v is None else -v for v in surely], -1e-9)
    ahead = min(sharper, believable(_structure_behind(figures["ssim"]), 0.0))
    total = len(gain.value)
    position = figures.get("position_error_px")
    if position is not None and radius is not None and position.curve is not None:
        near = believable(position.curve.value, radius)
        lost = figures["position_lost"].curve
        kept = believable(lost.value, MOST_LOST) if lost is not None else total
        still = position.curve.baselines["copy_last"]
        beats = believable([_behind(d, s) for d, s in zip(position.curve.value, still, strict=True)], 0.0)
        frames = min(near, kept, beats)
        size = f"one radius ({radius:.1f} px)"
        broken = "objects are off by more than " + size
        if frames == kept < near:
            broken = f"more than {number(MOST_LOST, '%')} of the objects are lost"
        elif frames == beats < near:
            broken = "standing still comes as close"
        if frames == 0:
            headline = f"Not believable for a single frame: {broken} at once."
        elif frames == total:
            headline = f"Believable for all {total} frames measured: the median position error stays under {size}."
        elif frames == near:
            headline = f"Believable for about {_frames(frames)}: the median position error stays under {size}."
        else:
            headline = f"Believable for about {_frames(frames)}: then {broken}."
        points += _object_points(figures, position)
        points.append(
            f"By PSNR it is surely better than repeating the last frame {_span(sharper, total)}."
            if sharper <= kept
            else f"PSNR alone would call it better than repeating the last frame {_span(sharper, total)}: it rewards "
            "erasing what can't be placed."
        )
    elif ahead == 0:
        worse = bounded and gain.high[0] is not None and gain.high[0] < 0
        headline = (
            f"Worse than repeating the last frame: by {number(-(gain.value[0] or 0.0), 'dB')} one frame ahead."
            if worse
            else "Not better than repeating the last frame, which comes as close to what really happens."
        )
    else:
        then = (
            ""
            if ahead == sharper
            else ": then its structure (SSIM) is farther from the truth than that of standing still"
        )
        headline = f"Better than repeating the last frame {_span(ahead, total)}{then}."
        first = _at(figures["psnr_db"], "1")
        points.append(
            f"One frame ahead: PSNR {number(first, 'dB')}, where repeating the last frame has "
            f"{number(_at(figures['psnr_db'], '1', 'copy_last'), 'dB')}."
        )
    if not bounded:
        points.append("There are no error bars: all starts come from one held-out episode. Collect more episodes.")
    if "action_gain_db" in figures:
        points.append(_action_point(figures["action_gain_db"]))
    points += _probe_points(figures)
    speed = figures.get("frames_per_second")
    if speed is not None and isinstance(speed.value, float):
        points.append(f"It dreams {number(speed.value)} frames a second, one dream alone.")
    return Verdict(headline, tuple(points))


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _span(ahead: int, total: int) -> str:
    if ahead == 0:
        return "for no frame"
    return f"for all {_frames(total)} measured" if ahead == total else f"for {_frames(ahead)}"


def _object_points(figures: dict[str, Figure], position: Figure) -> list[str]:
    points = []
    right = figures["object_count_ok"]
    if isinstance(right.value, float):
        interval = right.interval if isinstance(right.interval, tuple) else None
        between = f" (95 % interval {number(interval[0], '%')} to {number(interval[1], '%')})" if interval else ""
        share = number(right.value, "%")
        length = len(right.curve.value) if right.curve is not None else 0
        points.append(
            f"The number of objects is right in {share} of the frames of {length}-frame dreams{between}; elsewhere one "
            "has faded, torn or doubled."
            if right.value < 1
            else f"The number of objects is right in every frame of {length}-frame dreams{between}."
        )
    ten = "10" if _at(position, "10") is not None else "1"
    against = [f"{number(_at(position, ten), 'px')} in the dream"]
    for name, words in (("constant_velocity", "going straight on"), ("copy_last", "standing still")):
        if _at(position, ten, name) is not None:
            against.append(f"{number(_at(position, ten, name), 'px')} by {words}")
    gone = _at(figures["position_lost"], ten)
    lost = f" {number(gone, '%')} of the objects are lost there and count as the frame's diagonal." if gone else ""
    points.append(f"Position error {_frames(int(ten))} ahead: {', '.join(against)}.{lost}")
    return points


def _probe_points(figures: dict[str, Figure]) -> list[str]:
    """What the probes found, one sentence for each of the few that a reader wants first."""
    points = []
    obeyed = _plain(figures, "counterfactual/sign_right")
    if obeyed is not None:
        points.append(f"Its actions push the right way in {number(obeyed, '%')} of the cases.")
    score = _plain(figures, "physics/score")
    parts = {n: v for n in figures if n.startswith("physics/") and (v := _plain(figures, n)) is not None}
    laws = {n: v for n, v in parts.items() if n not in ("physics/score", "physics/worst")}
    if score is not None and laws:
        least = min(laws, key=lambda n: laws[n])
        title = figures[least].title.removeprefix("Score: ")
        points.append(
            f"Laws of motion: a median score of {number(score)} over {len(laws)} laws, where the world itself has 1; "
            f"the worst is {number(laws[least])}, for {title}."
        )
    for kind in ("position", "count", "picture"):
        lasting = figures.get(f"half_life/{kind}_lasting")
        if lasting is None or lasting.curve is None:
            continue
        half = _plain(figures, f"half_life/{kind}_median_frames")
        reach = sum(share is not None for share in lasting.curve.value)  # as far as any of them can be judged
        if not reach:
            continue
        failed = f"half of them have failed after {_frames(round(half or 0))}"
        lasts = f"more than half of them last for all {_frames(reach)} that could be looked at"
        points.append(f"{lasting.title}: {lasts if half is None else failed}.")
        break
    trusted = _plain(figures, "trust/frames_within")
    if trusted is not None and "trust/bound" in figures:
        words = figures["trust/frames_within"].title.lower().removeprefix("believable ")
        long = f"for {_frames(round(trusted))}" if round(trusted) else "not even for one frame"
        points.append(f"{figures['trust/bound'].title}: a new dream stays {words} {long}.")
    return points


def _plain(figures: dict[str, Figure], name: str) -> float | None:
    """The value of a figure that is one number, where it was measured."""
    found = figures[name].value if name in figures else None
    return float(found) if isinstance(found, (int, float)) else None


def _action_point(figure: Figure) -> str:
    horizon = max((int(h) for h, v in (figure.value if isinstance(figure.value, dict) else {}).items() if v), default=1)
    interval = figure.interval.get(str(horizon)) if isinstance(figure.interval, dict) else None
    value = number(_at(figure, str(horizon)), "dB")
    if interval is not None and interval[0] > LEAST_ACTION_GAIN:
        return f"It listens to its actions: the wrong ones cost {value} after {_frames(horizon)}."
    return f"It is not shown to listen to its actions: the wrong ones cost {value} after {_frames(horizon)}."
