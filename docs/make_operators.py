"""Write ``operators.md`` beside this file: the rule of every operator, and what the models of the zoo call.

    python -m docs.make_operators

The counts are those of ``tests/zoo/ops.json``: the number of models in whose graph an operator occurs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch._ops import OpOverload

import autogroup.rules
from autogroup.capture.schema import schema_arguments
from autogroup.infer.lowering import recipe
from autogroup.registry import coverage, lookup

PAGE = Path(__file__).with_name("operators.md")
OPERATORS = Path(__file__).parents[1] / "tests" / "zoo" / "ops.json"

PYTHON_FUNCTIONS = {
    "getitem": "picks one result of an operator that returns several",
    "_set_grad_enabled": "switches gradients on and off; the capture marks the operators in between",
    "_enter_autocast": "changes dtypes only",
    "_exit_autocast": "changes dtypes only",
}
"""What a graph calls besides ATen overloads, and why it needs no rule."""

HEAD = """\
# Operators

Written by `python -m docs.make_operators`; do not edit. Names are ATen overloads without the leading `aten.`; one
without an overload is the `default` one. An in-place or `out=` overload has the rule of its functional twin and is not
listed. An operator that has neither a rule nor a decomposition in torch makes the verdict of what reaches it `unknown`;
`CONTRIBUTING.md` tells how to add a rule.
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([HEAD, *_rules(), *_zoo()])


def account(name: str) -> str | None:
    """Say in a few words what the analysis does with an operator.

    Args:
        name: an ATen overload as graphs print it, e.g. ``aten.relu_.default``, or the name of a Python function.

    Returns:
        The family and name of its rule, or why it needs none; ``None`` if its results are ``unknown``.
    """
    if not name.startswith("aten."):
        return PYTHON_FUNCTIONS.get(name)
    _, packet, overload = name.split(".")
    op: OpOverload = getattr(getattr(torch.ops.aten, packet), overload)
    entry = lookup(op)
    if entry is not None:
        return f"rule `{entry.rule.__name__}` of {entry.family}"
    if not any("Tensor" in str(argument.type) for argument in schema_arguments(op)):
        return "takes no tensor, so nothing can scale"
    return "decomposed by torch" if recipe(op) else None


def occurrences() -> tuple[int, Mapping[str, int]]:
    """Return the number of models, and operator → number of models in whose graph it occurs."""
    data = json.loads(OPERATORS.read_text(encoding="utf-8"))
    return data["models"], data["operators"]


def _rules() -> Iterator[str]:
    """A table per file of ``autogroup/rules``: one row per rule with the operators it is registered for."""
    families: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, entry in coverage():
        doc = (entry.rule.__doc__ or "").strip().splitlines()[0]
        families.setdefault(entry.family, {}).setdefault((entry.rule.__name__, doc), []).append(_short(name))
    yield f"## Rules\n\n{sum(1 for _ in coverage())} operators have a rule.\n"
    for family, rules in sorted(families.items()):
        module = getattr(autogroup.rules, family)
        yield f"### {family}\n\n{module.__doc__.strip().splitlines()[0]}\n"
        yield "| rule | operators | what it does |\n|---|---|---|"
        for (rule, doc), names in sorted(rules.items()):
            yield f"| `{rule}` | {', '.join(f'`{name}`' for name in names)} | {_cell(doc)} |"
        yield ""


def _zoo() -> Iterator[str]:
    """A table of the operators that real models call, the most frequent first."""
    models, operators = occurrences()
    yield f"## Operators of {models} models\n"
    yield "In how many models of torchvision, timm and transformers an operator occurs, and what becomes of it.\n"
    yield "| operator | models | handled by |\n|---|---|---|"
    for name, count in operators.items():
        yield f"| `{_short(name)}` | {count} | {account(name) or 'no rule: `unknown`'} |"
    yield ""


def _short(name: str) -> str:
    return name.removeprefix("aten.").removesuffix(".default")


def _cell(text: str) -> str:
    """Fit a line of a docstring into a cell of a Markdown table."""
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
