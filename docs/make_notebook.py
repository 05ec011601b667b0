"""Makes docs/tutorial.ipynb from docs/tutorial.md, so that there is one text to keep true.

    python docs/make_notebook.py

A Python block is a cell; one that begins with ``# NAME.py`` writes that file; a ``py`` block is shown and not run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent


def notebook(page: str) -> nbformat.NotebookNode:
    """The notebook of a page."""
    cells = []
    for i, part in enumerate(re.split(r"```python\n(.*?)```\n", page, flags=re.S)):
        if i % 2 == 0:
            text = part.strip()
            if text:
                cells.append(new_markdown_cell(text, id=f"text-{i}"))
            continue
        file = re.match(r"# (\w+\.py)\n", part)
        code = f"%%writefile {file[1]}\n{part[file.end() :]}" if file else part
        cells.append(new_code_cell(code.strip(), id=f"code-{i}"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


def text(page: Path = HERE / "tutorial.md") -> str:
    """The notebook's file."""
    return nbformat.writes(notebook(page.read_text(encoding="utf-8"))) + "\n"


if __name__ == "__main__":
    (HERE / "tutorial.ipynb").write_text(text(), encoding="utf-8")
    sys.exit(0)
