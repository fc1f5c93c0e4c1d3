"""docs/optimizers/properties.md has everything; whether its marks are right, only the minutes of its generator tell."""

import importlib
import re
from types import SimpleNamespace
from typing import Any

import pytest

import optimizers
from docs import make_properties
from docs.make_properties import PAGE, PROPERTIES, SUBJECTS, Cell, Recorder
from optimizers import wrappers
from tests.optimizers.rows import CASES

STALE = "run: python -m docs.make_properties"
TEXT = PAGE.read_text(encoding="utf-8")


def table(name: str) -> dict[str, list[str]]:
    """Return optimizer or wrapper → cells."""
    lines = TEXT.partition(f"## {name.capitalize()}\n")[2].partition("\n## ")[0].splitlines()
    found = {}
    for line in lines:
        match = re.match(r"\| \[(\w+)\]\(\1\.md\) \|(.*)\|$", line)
        if match:
            assert match[1] not in found
            found[match[1]] = [cell.strip() for cell in match[2].split("|")]
    return found


def test_everything_is_on_the_page() -> None:
    assert table("optimizers").keys() == {case.name for case in CASES}, STALE
    assert {name.lower() for name in table("optimizers")} == set(optimizers.list_optimizers()), STALE
    public = {name for name in wrappers.__all__ if isinstance(getattr(wrappers, name), type)}
    assert table("wrappers").keys() == public, STALE
    assert "\n".join(make_properties.legend()) in TEXT, STALE


@pytest.mark.parametrize("name", SUBJECTS)
def test_no_cell_is_empty(name: str) -> None:
    columns = sum(bool(row.tests(name)) for row in PROPERTIES)
    for subject, cells in table(name).items():
        assert len(cells) == columns, STALE
        assert all(re.fullmatch(r"✓?(?: ?\*[a-z]+\*,?)*", cell) and cell for cell in cells), subject


def test_the_sum_is_right_and_every_letter_has_its_reason() -> None:
    cells = [cell for name in SUBJECTS for row in table(name).values() for cell in row]
    green = sum(cell.startswith("✓") for cell in cells)
    assert f"**{green} of {len(cells)} cells**" in TEXT
    used = {letter for cell in cells for letter in re.findall(r"\*(\w+)\*", cell)}
    assert used == set(re.findall(r"^- \*(\w+)\*: \w", TEXT, flags=re.MULTILINE))


def test_every_reason_of_a_row_is_on_the_page() -> None:
    reasons = TEXT.partition("## Reasons\n")[2]
    missing = {reason for case in CASES for reason in case.skip.values() if f": {reason}\n" not in reasons}
    assert not missing, STALE


def test_the_tests_exist() -> None:
    assert len({row.name for row in PROPERTIES}) == len(PROPERTIES)
    for row in PROPERTIES:
        assert row.optimizers or row.wrappers
        for test in row.optimizers + row.wrappers:
            file, _, function = test.partition("[")[0].partition("::")
            module = importlib.import_module(f"tests.optimizers.{file}")
            assert not function or callable(getattr(module, function, None)), test


def item(file: str, test: str, identity: str = "", **params: Any) -> Any:
    callspec = SimpleNamespace(id=identity, params=params)
    return SimpleNamespace(
        path=PAGE.with_name(f"{file}.py"),
        originalname=test,
        name=test,
        nodeid=f"{file}::{test}[{identity}]",
        callspec=callspec,
    )


def report(test: Any, outcome: str) -> Any:
    skipped = outcome == "skipped"
    reason = ("file", 1, "Skipped: there is a reason") if skipped else None
    states = {state: outcome == state for state in ("passed", "failed", "skipped")}
    return SimpleNamespace(nodeid=test.nodeid, when="setup" if skipped else "call", longrepr=reason, **states)


def test_what_is_recorded() -> None:
    case = CASES[0]
    tests = [
        item("test_contract", "test_tensor_lr", "a", case=case),
        item("test_state", "test_copies_continue_alike", "x-pickle", case=case),
        item("test_wrappers", "test_resume_at_every_step", "SAM", name="SAM"),
        item("test_wrappers", "test_resume_at_every_step", "nested", name="Lookahead-SAM"),  # no row of its own
        item("test_math", "test_of_something_else"),
    ]
    recorder, config = Recorder(), SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: None))
    recorder.pytest_collection_modifyitems(config, kept := list(tests))  # type: ignore[arg-type]
    assert kept == tests[:3]
    for test, outcome in zip(kept, ("passed", "skipped", "failed"), strict=True):
        recorder.pytest_runtest_logreport(report(test, outcome))
    marked = {key: cell for key, cell in recorder.cells.items() if cell.passed or cell.reasons}
    assert marked == {
        ("optimizers", case.name, "tensor lr"): Cell(1),
        ("optimizers", case.name, "pickle"): Cell(0, ["there is a reason"]),
    }


def test_what_a_cell_shows() -> None:
    letters = {"one": "a", "two": "b"}
    assert make_properties.text(Cell(3), letters) == "✓"
    assert make_properties.text(Cell(3, ["two"]), letters) == "✓ *b*"
    assert make_properties.text(Cell(0, ["one", "two"]), letters) == "*a*, *b*"
