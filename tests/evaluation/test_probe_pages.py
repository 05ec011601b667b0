"""Every probe has its page, stands in the index with what it asks, and has its place in the report."""

from pathlib import Path

import pytest

from worldloom.evaluation.pages.report import GROUPS
from worldloom.evaluation.probes import PROBES, find_probes

DOCS = Path(__file__).parents[2] / "docs" / "probes"


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_has_a_page_and_a_place(name):
    probe = find_probes(name)[0]
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# `{name}`")
    assert "lind" in page  # what it is blind to
    runs = "with `--full`" if probe.full else "when asked by name" if probe.asked else "always"
    row = next(x for x in (DOCS / "README.md").read_text(encoding="utf-8").splitlines() if x.startswith(f"| [{name}]"))
    assert row.split(" | ")[1] == probe.about
    assert row.endswith(f"| {runs} |")
    assert any(name in names for *_, names in GROUPS)
