"""`python -m benchmarks.results NAME RUN`: keep a run's report as docs/results/NAME.json and .md."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.__main__ import RESULTS
from worldloom.files import read_json, write_atomic, write_json
from worldloom.shipped import resolve


def page(name: str, report: dict[str, Any], config: dict[str, Any]) -> str:
    """The report's figures as one table."""
    setting, data = report["setting"], report["data"]
    lines = [
        f"# {name}",
        "",
        f"{report['verdict']['headline']}",
        "",
        f"{setting['starts']} starts in {data['episodes_used']} of {data['episodes']} episodes of the {data['split']} "
        f"split, {setting['prompt']} prompt frames, seed {setting['seed']}, on {setting['device']} with "
        f"{setting['threads']} threads; 95 % intervals over episodes. Model {report['run']['model_sha256'][:12]}, "
        f"{report['run']['parameters']:,} parameters, training seed {config['train']['seed']}, "
        f"{config['resolved']['steps']} steps in {config['resolved']['precision']}; "
        f"torch {report['versions']['torch']}.",
        "",
        "| figure | horizon | value | interval | n |",
        "|---|---|---|---|---|",
    ]
    for figure in report["details"]:
        value, interval, n = report[figure], report[f"{figure}_interval"], report[f"{figure}_n"]
        by = value if isinstance(value, dict) else {"": value}
        for horizon, x in by.items():
            span = interval[horizon] if isinstance(interval, dict) else interval
            text = f"{span[0]:.4g} to {span[1]:.4g}" if span else ""
            lines.append(f"| `{figure}` | {horizon} | {'not measured' if x is None else f'{x:.4g}'} | {text} | {n} |")
    lines += [f"\n{note}" for note in report["notes"]]
    lines += [f"\n`{name}` is not measured here: {why}" for name, why in report["unmeasured"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    name, run = sys.argv[1], resolve(sys.argv[2])
    report = read_json(run / "report.json", sealed=True)
    report["versions"].pop("platform")  # of this machine's kernel, which no figure depends on
    write_json(RESULTS / f"{name}.json", report)
    write_atomic(RESULTS / f"{name}.md", page(name, report, read_json(run / "config.json", sealed=True)).encode())


if __name__ == "__main__":
    main()
