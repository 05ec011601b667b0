"""Every loader meets hostile files. Each either loads what was saved, or says so in an error of ours.

As a script it runs cases in processes of their own, so that a crash in a C library or an endless loop is counted like
any other failure: ``python tests/resilience/fuzz.py --count 100000`` (``make soak`` does it). A case is its target and
its number; a failing one is printed and can be repeated by ``--target T --first N --count 1``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / n) for n in ("training", "data"))]

import mutate  # noqa: E402
from targets import TARGETS, WrongError  # noqa: E402

from worldloom.contract import WorldloomError  # noqa: E402

CASE_SECONDS = 30  # a case that takes longer hangs
GROWTH = 2**30  # bytes that one case may take
BATCH = 5000  # cases a process
OUTCOMES = ("refused", "same", "accepted", "crash", "hang", "wrong", "memory")
"""``accepted``: forged so well that it is another valid file. The last four are failures."""


def case_of(target: str, number: int, files: dict[str, bytes]) -> tuple[str, bytes, bool]:
    """The changed file of a case: its name, its bytes, and whether its hashes were forged."""
    rng = random.Random(f"{target}/{number}")
    kinds = TARGETS[target].files
    name = rng.choice(sorted(kinds))
    data, forged = files[name], False
    knowing = mutate.KNOWING.get(kinds[name])
    if knowing is not None and rng.random() < 0.7:
        data, forged = knowing(data, rng)
    else:
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            data = mutate.damage(data, rng)
    return name, data, forged


class Fuzzer:
    """One target, its sound files, and what its loader makes of them."""

    def __init__(self, target: str, folder: Path):
        self.target, self.kind, self.work = target, TARGETS[target], folder / "work"
        self.sound = folder / "sound"
        self.kind.make(self.sound)
        self.files = {name: (self.sound / name).read_bytes() for name in self.kind.files}
        self.expected = self.kind.load(self.sound)
        shutil.copytree(self.sound, self.work)
        self.tree = {p.relative_to(self.sound): p.read_bytes() for p in self.sound.rglob("*") if p.is_file()}

    def restore(self) -> None:
        """Put the working copy back: loaders may put damaged files aside, trainers write."""
        for path in self.work.rglob("*"):
            if path.is_file() and path.relative_to(self.work) not in self.tree:
                path.unlink()
        for name, data in self.tree.items():
            path = self.work / name
            if not path.exists() or path.stat().st_size != len(data) or path.read_bytes() != data:
                path.write_bytes(data)

    def run(self, number: int, *, alarm: bool = True) -> tuple[str, str]:
        """Outcome and what to say of it. ``alarm``: let a signal end a case that hangs."""
        name, data, forged = case_of(self.target, number, self.files)
        (self.work / name).write_bytes(data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if alarm:
            signal.signal(signal.SIGALRM, _alarm)
            signal.alarm(CASE_SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.kind.load(self.work)
            outcome, said = self.judge(found, forged)
        except WorldloomError as error:
            outcome, said = "refused", str(error)
        except _Hang:
            outcome, said = "hang", f"more than {CASE_SECONDS} s"
        except Exception as error:
            outcome, said = "crash", f"{type(error).__name__}: {error}"
        finally:
            if alarm:
                signal.alarm(0)
            self.restore()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > GROWTH and outcome in ("refused", "same", "accepted"):
            outcome, said = "memory", f"{grown >> 20} MiB more; {said}"
        return outcome, f"{name}: {said}"[:400]

    def judge(self, found: Any, forged: bool) -> tuple[str, str]:
        try:
            self.kind.compare(self.expected, found)
        except WrongError as wrong:
            if forged or not self.kind.hashed:
                return "accepted", str(wrong)
            return "wrong", str(wrong)
        return "same", ""


class _Hang(BaseException):
    pass


def _alarm(signum: int, frame: Any) -> None:
    raise _Hang


# ---------------------------------------------------------------------------------------------------------- processes


def work(target: str, first: int, count: int, folder: Path, report: Path) -> None:
    """In a process of its own: run the cases, one line of JSON each; the number of the case at hand goes first."""
    import torch

    torch.set_num_threads(1)
    os.fsync = lambda descriptor: None  # nobody cuts the power here
    soft = 24 << 30  # of addresses, far more than the memory that a case may take
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))
    fuzzer = Fuzzer(target, folder)
    with report.open("a", encoding="utf-8", buffering=1) as file:
        for number in range(first, first + count):
            file.write(f"{number}\n")
            outcome, said = fuzzer.run(number)
            file.write(json.dumps([number, outcome, said]) + "\n")


def batch(target: str, first: int, count: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """Run cases in processes; one that dies is a failure of the case that it was at, and the rest goes on."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    upto = first + count
    while first < upto:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
            report = Path(scratch) / "report"
            command = [
                sys.executable,
                __file__,
                "--target",
                target,
                "--first",
                str(first),
                "--count",
                str(upto - first),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            died = None
            with subprocess.Popen(
                [*command, "--worker", scratch], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as process:
                try:
                    _, noise = process.communicate(timeout=seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    _, noise = process.communicate()
                    died = "hang", f"no answer within {seconds:.0f} s"
            if died is None and process.returncode:
                last = noise.decode(errors="replace").strip().splitlines()[-1:] or [""]
                died = "crash", f"process ended with {process.returncode}: {last[0]}"
            lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        done, at = 0, first
        for line in lines:
            value = json.loads(line)
            if isinstance(value, int):
                at = value
                continue
            number, outcome, said = value
            counts[outcome] += 1
            done += 1
            if outcome in OUTCOMES[3:]:
                failures.append(f"{target} {number}: {outcome}: {said}")
        if died is not None:
            counts[died[0]] += 1
            failures.append(f"{target} {at}: {died[0]}: {died[1]}")
            first = at + 1
            if not lines:
                break
        else:
            first = upto
    return counts, failures


def shares(count: int) -> dict[str, int]:
    """How ``count`` cases are split over the targets."""
    total = sum(t.share for t in TARGETS.values())
    return {name: max(1, round(count * t.share / total)) for name, t in TARGETS.items()}


def main() -> int:
    """Print a line a target, then failures, then one line of JSON; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--worker", type=Path)
    parser.add_argument("--out", type=Path, help="also write the summary here")
    flags = parser.parse_args()
    if flags.worker is not None:
        work(flags.target, flags.first, flags.count, flags.worker, flags.worker / "report")
        return 0
    plan = {flags.target: flags.count} if flags.target else shares(flags.count)
    began, failures, summary = time.monotonic(), list[str](), dict[str, Any]()
    for target, count in plan.items():
        counts: Counter[str] = Counter()
        for first in range(flags.first, flags.first + count, BATCH):
            size = min(BATCH, flags.first + count - first)
            part, failed = batch(target, first, size, 120 + 2.0 * size)
            counts += part
            failures += failed
        summary[target] = dict(counts)
        print(f"{target:<14}" + "  ".join(f"{o} {counts[o]}" for o in OUTCOMES if counts[o]), flush=True)
    for line in failures:
        print(f"FAILED {line}", flush=True)
    total = sum(sum(c.values()) for c in summary.values())
    result = {"cases": total, "first": flags.first, "failures": len(failures), "targets": summary}
    result["seconds"] = round(time.monotonic() - began)
    if flags.out is not None:
        flags.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
