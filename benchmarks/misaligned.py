"""`python -m benchmarks.misaligned`: how often a shifted column of actions is found, and how often one that is not.

Writes docs/results/misaligned.json and .md. Needs the extra ``worldloom[envs]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import RESULTS
from benchmarks.misaligned_sets import DEVELOPMENT, FRESH, REPORTED, Set
from worldloom.contract import Control
from worldloom.data import Episode
from worldloom.data.inspecting.shift import ShiftConfig, find_shift
from worldloom.files import write_atomic, write_json

HISTORY = (
    "What was measured first: on the sets kept apart the same columns were found, and there was one false alarm: "
    "acrobot, aligned, was called shifted. The rule was then mended (a shift is claimed only where the frame's own "
    "action is told clearly less, which can only turn verdicts into 'unclear'), a step of the computation was replaced "
    "by a faster, approximate one, the sets called fresh were added, and all was measured once more."
)
TRIALS = {"aligned": 0, "early": -1, "late": 1}
"""Name to the shift that is the right answer: in an early column entry t-1 led to frame t."""


def displaced(episodes: list[Episode], control: Control, shift: int) -> list[Episode]:
    """The episodes with a column whose entry t + shift is the one that led to frame t; frames without one are cut."""
    if not shift:
        return episodes
    out = []
    for episode in episodes:
        length, cut = episode.length, abs(shift)
        if length <= 2 * cut + 2:
            continue
        frames = slice(0, length - cut) if shift < 0 else slice(cut, length)
        rows = slice(cut, length) if shift < 0 else slice(0, length - cut)
        action = episode.control["action"][rows].copy()
        action[0] = control.null().numpy()
        obs = {name: x[frames] for name, x in episode.obs.items()}
        out.append(dataclasses.replace(episode, obs=obs, control={"action": action}, truth={}, reward=None))
    return out


def measure(chosen: Set, seed: int) -> dict[str, Any]:
    """One set's verdicts, aligned and displaced both ways."""
    spec, episodes = chosen.make(seed)
    assert spec.action is not None
    row: dict[str, Any] = {"name": chosen.name, "about": chosen.about, "late_world": chosen.late}
    row |= {"episodes": len(episodes), "frames": sum(e.length for e in episodes)}
    for trial, shift in TRIALS.items():
        begin = time.process_time()
        found = find_shift(spec, displaced(episodes, spec.action, shift), ShiftConfig(seed=seed))
        row[trial] = {**found.to_json(), "seconds": round(time.process_time() - begin, 1)}
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over the sets whose worlds answer at once; those that answer late are counted apart."""
    at_once = [r for r in rows if not r["late_world"]]
    out: dict[str, Any] = {"sets": len(at_once)}
    for trial in ("early", "late"):
        out[f"{trial}_found"] = sum(r[trial]["verdict"] == "shifted" for r in at_once)
        out[f"{trial}_found_with_the_right_shift"] = sum(r[trial]["shift"] == TRIALS[trial] for r in at_once)
    out["false_alarms_on_aligned"] = sum(r["aligned"]["verdict"] == "shifted" for r in at_once)
    out["aligned_said_to_be_unclear"] = sum(r["aligned"]["verdict"] == "unclear" for r in at_once)
    out["seconds_median"] = float(np.median([r[t]["seconds"] for r in rows for t in TRIALS]))
    out["seconds_most"] = max(r[t]["seconds"] for r in rows for t in TRIALS)
    return out


def page(results: dict[str, Any]) -> str:
    lines = [
        "# Misaligned actions",
        "",
        "Written by `python -m benchmarks.misaligned`: columns of actions that stand right, one row early (entry t led "
        "to frame t+1: the most common mistake) and one row late, and what `worldloom data inspect` says of each. How "
        "it works: [inspect.md](../inspect.md).",
        "",
        f"Seed {results['seed']}, on {results['machine']}, one thread. One finding takes "
        f"{results['reported']['seconds_median']:.1f} s of processor time (median), at most "
        f"{results['reported']['seconds_most']:.1f} s.",
        "",
        HISTORY,
    ]
    titles = {
        "reported": "Sets kept apart (one of them, acrobot, led to the change told above)",
        "fresh": "Sets added after the rule was mended once (see acrobot in benchmarks/misaligned_sets.py)",
        "development": "Sets on which the method and its thresholds were chosen",
    }
    for part, title in titles.items():
        s, rows = results[part], results["rows"][part]
        n = s["sets"]
        lines += [
            "",
            f"## {title}",
            "",
            f"Early: found on {s['early_found']} of {n}, with the right shift on "
            f"{s['early_found_with_the_right_shift']}. Late: found on {s['late_found']} of {n}, with the right shift "
            f"on {s['late_found_with_the_right_shift']}. Aligned: {s['false_alarms_on_aligned']} false alarms, "
            f"{s['aligned_said_to_be_unclear']} 'can't tell'.",
            "",
            "| set | what | frames | aligned | early | late | told of entry t-1, t, t+1 (aligned) |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            said = [_said(row[trial]) for trial in TRIALS]
            told = row["aligned"]["told"]
            shares = ", ".join(f"{100 * told[k]:.1f} %" for k in ("-1", "0", "1")) if told else ""
            what = row["about"] + (" (the world itself answers a frame late; not counted)" if row["late_world"] else "")
            lines.append(f"| {row['name']} | {what} | {row['frames']:,} | {' | '.join(said)} | {shares} |")
    return "\n".join(lines) + "\n"


def _said(found: dict[str, Any]) -> str:
    return f"shifted {found['shift']:+d}" if found["verdict"] == "shifted" else str(found["verdict"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("development", "fresh", "reported"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"seed": args.seed, "rows": {}}
    results["machine"] = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    results["config"] = dataclasses.asdict(ShiftConfig(seed=args.seed))
    for part, sets in (("reported", REPORTED), ("fresh", FRESH), ("development", DEVELOPMENT)):
        if args.only not in (None, part):
            continue
        rows = results["rows"][part] = []
        for chosen in sets:
            rows.append(measure(chosen, args.seed))
            print(part, chosen.name, *(f"{t}: {_said(rows[-1][t])}" for t in TRIALS), sep="  ", flush=True)
        results[part] = summary(rows)
        print(part, results[part], flush=True)
    if args.only is None:
        write_json(RESULTS / "misaligned.json", results)
        write_atomic(RESULTS / "misaligned.md", page(results).encode())


if __name__ == "__main__":
    main()
