"""Write ``optimizers/properties.md`` beside this file: which test shows what of which optimizer and wrapper.

    python -m docs.make_properties

It runs those tests, which takes some minutes, and writes nothing if one of them fails or if a cell has none.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from docs.property_list import PROPERTIES, Property
from tests.optimizers import rows, wrapped

PAGE = Path(__file__).parent / "optimizers" / "properties.md"
TESTS = Path(__file__).parents[1] / "tests" / "optimizers"


SUBJECTS: Mapping[str, list[str]] = {
    "optimizers": sorted((case.name for case in rows.CASES), key=str.lower),
    "wrappers": sorted(wrapped.CASES, key=str.lower),
}
"""What has a row, by table."""

FUNCTIONS = {
    "agc": "AGC",
    "centralize_gradient": "GradientCentralization",
    "normalize_gradient": "GradientNormalization",
    "norm_loss": "NormLoss",
}
"""The functions that recorded cases test in place of the wrappers that apply them."""


@dataclass
class Cell:
    """What came of the tests of one property and one optimizer or wrapper."""

    passed: int = 0
    reasons: list[str] = field(default_factory=list[str])

    def add_reason(self, reason: str) -> None:
        """Note why a test was left out, once."""
        if reason not in self.reasons:
            self.reasons.append(reason)


Cells = Mapping[tuple[str, str, str], Cell]
"""By table, optimizer or wrapper, property."""


class Recorder:
    """A pytest plugin: keeps the tests that a property names, and records what comes of them."""

    def __init__(self) -> None:
        keys = ((table, name, x.name) for table in SUBJECTS for name, x in product(SUBJECTS[table], PROPERTIES))
        self.cells = {key: Cell() for key in keys}
        self._where: dict[str, list[Cell]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Find the cells of each test."""
        for item in items:
            self._where[item.nodeid] = list(self._cells_of(item))
        config.hook.pytest_deselected(items=[item for item in items if not self._where[item.nodeid]])
        items[:] = [item for item in items if self._where[item.nodeid]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test that passed or was left out. Those that fail show in the exit code."""
        for cell in self._where[report.nodeid]:
            cell.passed += report.passed and report.when == "call"
            if report.skipped and isinstance(report.longrepr, tuple):
                cell.add_reason(report.longrepr[2].removeprefix("Skipped: "))

    def _cells_of(self, item: pytest.Item) -> Iterator[Cell]:
        subject = subject_of(getattr(item, "callspec", None))
        for table, row in product(SUBJECTS, PROPERTIES):
            if subject in SUBJECTS[table] and any(matches(item, test) for test in row.tests(table)):
                yield self.cells[table, subject, row.name]


def subject_of(callspec: Any) -> str | None:
    """Return which optimizer or wrapper a test is about, if its parameters say so."""
    params: Mapping[str, Any] = callspec.params if callspec is not None else {}
    if "case" in params:
        return params["case"].name
    if "golden" in params:
        golden = params["golden"]
        adaptive = golden["algorithm"] == "SAM" and golden["kwargs"].get("adaptive", False)
        return "ASAM" if adaptive else FUNCTIONS.get(golden["algorithm"], golden["algorithm"])
    return params.get("name")


def matches(item: pytest.Item, test: str) -> bool:
    """Return whether a property's entry names this test."""
    name, _, pattern = test.removesuffix("]").partition("[")
    file, _, function = name.partition("::")
    callspec = getattr(item, "callspec", None)
    return (
        item.path.stem == file
        and function in ("", getattr(item, "originalname", item.name))
        and (not pattern or (callspec is not None and fnmatchcase(callspec.id, pattern)))
    )


def run() -> Cells:
    """Run the tests.

    Raises:
        SystemExit: a test failed, or a cell has neither a test nor a reason.
    """
    files = {test.partition("::")[0] for row in PROPERTIES for table in SUBJECTS for test in row.tests(table)}
    recorder = Recorder()
    paths = [str(TESTS / f"{file}.py") for file in sorted(files)]
    code = pytest.main([*paths, "-q", "-r", "fE", "-p", "no:cacheprovider"], plugins=[recorder])
    empty = [
        key
        for row in PROPERTIES
        for key, cell in recorder.cells.items()
        if key[2] == row.name and row.tests(key[0]) and not cell.passed and not cell.reasons
    ]
    if code or empty:
        sys.exit(f"nothing written: pytest returned {code!r}; cells without a test: {empty}")
    return recorder.cells


# --- the page ---------------------------------------------------------------------------------------------------------

HEAD = """\
# What is tested of every optimizer and wrapper

Written by `python -m docs.make_properties`, which runs these tests; do not edit. A check mark means that all tests of
the property passed for this optimizer, with all of its configurations on all of its paths. A letter gives the reason
why a test was left out: after a check mark some, without one all of them.
"""


def page(cells: Cells) -> str:
    """Return the text of the page."""
    reasons = {reason for cell in cells.values() for reason in cell.reasons}
    letters = dict(zip(sorted(reasons), footnote_letters(), strict=False))
    done = [cell for (table, _, name), cell in cells.items() if by_name(name).tests(table)]
    green = sum(cell.passed > 0 for cell in done)
    parts = [HEAD, f"**{green} of {len(done)} cells** have a check mark; the others have a reason.\n", *legend()]
    for table in SUBJECTS:
        parts += [f"## {table.capitalize()}\n", *rows_of(table, cells, letters), ""]
    parts.append("## Reasons\n")
    parts += [f"- *{letter}*: {reason}" for reason, letter in letters.items()]
    return "\n".join(parts) + "\n"


def by_name(name: str) -> Property:
    """Return a property by its name."""
    return next(row for row in PROPERTIES if row.name == name)


def footnote_letters() -> Iterator[str]:
    """Yield a, b, …, z, aa, ab, …."""
    for length in count(1):
        yield from map("".join, product(string.ascii_lowercase, repeat=length))


def legend() -> Iterator[str]:
    """Yield the table of the properties: what each means, and which tests show it."""
    yield "## Properties\n"
    yield "| | property | what it means | tests of optimizers | tests of wrappers |\n|---|---|---|---|---|"
    for number, row in enumerate(PROPERTIES, 1):
        yield f"| {number} | {row.name} | {row.meaning} | {links(row.optimizers)} | {links(row.wrappers)} |"
    yield ""


def links(tests: Iterable[str]) -> str:
    """Return links to the files of tests."""
    found: list[str] = []
    for test in tests:
        file, _, function = test.partition("::")
        found.append(f"[`{function.removeprefix('test_') or file}`](../../tests/optimizers/{file}.py)")
    return ", ".join(found)


def rows_of(table: str, cells: Cells, letters: Mapping[str, str]) -> Iterator[str]:
    """Yield the table of optimizers or of wrappers."""
    columns = [(number, row.name) for number, row in enumerate(PROPERTIES, 1) if row.tests(table)]
    yield f"| | {' | '.join(str(number) for number, _ in columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name in SUBJECTS[table]:
        texts = [text(cells[table, name, column], letters) for _, column in columns]
        yield f"| [{name}]({name}.md) | {' | '.join(texts)} |"


def text(cell: Cell, letters: Mapping[str, str]) -> str:
    """Return what a cell shows."""
    notes = ", ".join(f"*{letters[reason]}*" for reason in cell.reasons)
    return " ".join(["✓"] * (cell.passed > 0) + [notes] * bool(notes))


if __name__ == "__main__":
    PAGE.write_text(page(run()), encoding="utf-8")
