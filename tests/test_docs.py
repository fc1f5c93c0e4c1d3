"""Every Python block of the hand-written pages runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
GENERATED = re.compile(r"^Written by `python -m docs\.\w+`", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """The pages that a generator does not write; those it writes, it also checks."""
    found = sorted(DOCS.rglob("*.md"))
    return [path for path in found if not GENERATED.search(path.read_text(encoding="utf-8"))]


def test_generated_pages_are_told_apart() -> None:
    names = {path.name for path in pages()}
    assert "symmetries.md" in names
    assert "operators.md" not in names


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_python_blocks_run(path: Path) -> None:
    """The blocks of a page run in order in one namespace, as a reader would paste them."""
    text = path.read_text(encoding="utf-8")
    assert text.count("```python") == len(BLOCK.findall(text)), f"a block of {path.name} does not end"
    namespace: dict[str, Any] = {"__name__": path.stem}
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(1))
        # Blank lines in front make a traceback name the line of the page.
        exec(compile("\n" * line + match.group(1), path.name, "exec"), namespace)
