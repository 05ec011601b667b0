"""Write what ``make soak`` found into docs/reliability.md and docs/results/resilience.json; no figure is typed by hand.

``python tests/resilience/summary.py fuzz.json faults.txt``: the output of ``fuzz.py --out``, and a log of the soak run
with the lines that the fault and leak tests print (``pytest -m soak -s tests/resilience``).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- written by tests/resilience/summary.py -->", "<!-- end -->"


def faults(text: str) -> dict[str, dict[str, int]]:
    """Cases tried and errors raised, by what was written."""
    lines = re.findall(r"faults (\w+): (\d+) cases, (\d+) errors", text)
    return {name: {"cases": int(cases), "errors": int(errors)} for name, cases, errors in lines}


def leak(text: str) -> str | None:
    """What the million steps said."""
    found = re.search(r"leak: (.+)", text)
    return found[1] if found else None


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    fuzz = result["fuzz"]
    lines = [
        f"{fuzz['cases']:,} hostile files, numbers {fuzz['first']:,} on, {fuzz['seconds'] / 60:.0f} minutes, "
        f"{fuzz['failures']} failures:",
        "",
        "| loader | files | refused | read as saved | accepted | failures |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, counts in fuzz["targets"].items():
        bad = sum(counts.get(o, 0) for o in ("crash", "hang", "wrong", "memory"))
        good = [counts.get(o, 0) for o in ("refused", "same", "accepted")]
        lines.append(f"| {name} | {sum(counts.values()):,} | " + " | ".join(f"{n:,}" for n in [*good, bad]) + " |")
    if result["faults"]:
        lines += ["", "Each write operation refused in turn, in six ways:", ""]
        lines += ["| what writes | cases | came to an error |", "|---|---:|---:|"]
        lines += [f"| {n.replace('_', ' ')} | {c['cases']:,} | {c['errors']:,} |" for n, c in result["faults"].items()]
    if result["leak"]:
        lines += ["", f"The long training: {result['leak']}."]
    return "\n".join(lines)


def main(fuzz: Path, log: Path | None) -> None:
    """Rewrite the part of the page between the marks."""
    text = log.read_text(encoding="utf-8") if log is not None else ""
    result = {"fuzz": json.loads(fuzz.read_text(encoding="utf-8")), "faults": faults(text), "leak": leak(text)}
    page = DOCS / "reliability.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table(result)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    raw = DOCS / "results" / "resilience.json"
    raw.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
