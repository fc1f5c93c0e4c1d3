"""docs/operators.md is what its generator writes, and no operator of a real model is passed over."""

from __future__ import annotations

import pytest

from autogroup.registry import coverage
from docs import make_operators

MODELS, OPERATORS = make_operators.occurrences()


def test_the_page_is_up_to_date() -> None:
    written = make_operators.PAGE.read_text(encoding="utf-8")
    assert written == make_operators.page(), "run: python -m docs.make_operators"


def test_every_rule_is_on_the_page() -> None:
    page = make_operators.page()
    assert [
        name for name, _ in coverage() if f"`{name.removeprefix('aten.').removesuffix('.default')}`" not in page
    ] == []


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_of_the_zoo_is_accounted_for(name: str) -> None:
    assert 0 < OPERATORS[name] <= MODELS
    assert make_operators.account(name), f"{name} has no rule, no decomposition and no line that says why"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten.relu.default", "rule `homogeneous` of pointwise"),
        ("aten.relu_.default", "rule `homogeneous` of pointwise"),
        ("aten.arange.default", "takes no tensor"),
        ("aten._weight_norm.default", "decomposed"),
        ("aten.linalg_matrix_exp.default", None),
        ("some_python_function", None),
    ],
)
def test_what_is_said_of_an_operator(name: str, expected: str | None) -> None:
    said = make_operators.account(name)
    assert said is None if expected is None else said is not None and expected in said
