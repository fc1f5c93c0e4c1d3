"""The mutation run: which changes it makes, and that it tells a caught mutant from one that survives."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutants import mutants

ROOT = Path(__file__).resolve().parent.parent


def changes(*lines: str, name: str = "f", arguments: str = "p, g, m, v, h") -> set[str]:
    source = f"def {name}({arguments}):\n" + "".join(f"    {line}\n" for line in lines)
    return {mutant.new for mutant in mutants("file.py", source)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return p + g", {"return p - g"}),
        ("return -p", {"return p"}),
        ("return p.neg()", {"return p"}),
        ("return p * g", {"return p / g"}),
        ("return p ** g", {"return p * g"}),
        ("return p < g", {"return p > g"}),
        ("return p is None", {"return p is not None"}),
        ("return p and g", {"return p or g"}),
        ("return not p", {"return p"}),
        ("return 1", {"return 2"}),
        ("return 0.5", {"return 1.0"}),
        ("return True", {"return False"}),
        ("return h.one_minus_beta1", {"return h.one_minus_beta2"}),
        ("return p if h else g", {"return p if not h else g"}),
        ("return [x for x in p if x]", {"return [x for x in p if not x]"}),
        ("return p.maximum(g)", {"return p.minimum(g)"}),
        ("return h(p, g)", {"return h(g, p)"}),
        ("return h.dot(p, g)", set()),  # symmetric
        ("return h(p, value=g, strict=m)", {"return h(p, strict=m)"}),  # strict only guards
        ("raise ValueError(-1)", {"pass"}),  # the message stays
        ("p += g", {"pass"}),
        ("g = p", {"pass"}),  # the argument keeps its value
        ("x = p", set()),  # without it there is no x
        ("'''Docstring of 1 + 1.'''", set()),
    ],
)
def test_changes(line: str, expected: set[str]) -> None:
    assert changes(line) == expected


def test_an_underscore_is_dropped_where_that_shows() -> None:
    assert "m.mul_(v).add(g)" in changes("m.mul_(v).add_(g)")
    assert "m.mul(v).add_(g)" in changes("m.mul_(v).add_(g)")
    assert "return p.sqrt().mul(g)" not in changes("return p.sqrt().mul_(g)")  # a temporary
    assert "return x.mul(g)" not in changes("x = p.sqrt()", "return x.mul_(g)")  # read no more
    assert "y = x.mul(g)" in changes("x = p.sqrt()", "y = x.mul_(g)", "return x")


def test_conditions_statements_and_slots() -> None:
    assert changes("if h:", "    p()") == {"if not h:", "pass"}
    slots = changes("return p, g, m, v", name="rule")
    assert slots == {"def rule(g, p, m, v, h):", "def rule(p, m, g, v, h):", "def rule(p, g, v, m, h):"}
    assert changes("return p", name="rule") == {"def rule(g, p, m, v, h):"}  # the others are not read
    assert not changes("super().__init__(p, g)", name="__init__")


def test_one_change_each_in_the_right_function() -> None:
    source = "class A:\n    @staticmethod\n    def f(x):\n        return x + 1\n\ndef g(x):\n    return x - 1\n"
    found = mutants("file.py", source)
    assert [(mutant.function, mutant.new, mutant.line) for mutant in found] == [
        ("A.f", "return x - 1", 4),
        ("A.f", "return x + 2", 4),
        ("g", "return x + 1", 7),
        ("g", "return x - 2", 7),
    ]
    assert all(mutant.source.count("return") == 1 for mutant in found)
    assert found[0].change == "return x + 1  →  return x - 1"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")
@pytest.mark.parametrize("tests", ["test_schedules", "test_registry"])
def test_caught_and_survived(tests: str) -> None:
    """The same mutants, before the tests of their file and before tests that have nothing to do with them."""
    command = [sys.executable, "-m", "benchmarks.mutation", "--files", "schedules", "--sample", "4", "--seed", "3"]
    done = subprocess.run(
        [*command, "--tests", f"tests/optimizers/{tests}.py"], cwd=ROOT, text=True, capture_output=True
    )
    row = re.search(r"^\| all \| 4 \| (\d) \| (\d) \| 0 \|", done.stdout, re.MULTILINE)
    assert row, done.stdout + done.stderr
    caught, survived = map(int, row.groups())
    assert caught + survived == 4
    assert caught >= 2 if tests == "test_schedules" else caught == 0
    assert done.stdout.count("survived: optimizers/schedules.py:") == survived
    assert done.returncode == (1 if survived else 0)
