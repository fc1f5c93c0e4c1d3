"""The report as a tree of modules; neighbours that look alike all the way down are shown once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import TextIO

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from autogroup.render.console import STYLES, make_console, partition_text, plural, shape_text, tally, verdict_text
from autogroup.render.table import summary
from autogroup.report import VERDICTS, ParameterReport, Report


@dataclass
class _Module:
    """A module: its parameters by last name, its children by last name."""

    parameters: dict[str, ParameterReport] = field(default_factory=dict[str, ParameterReport])
    children: dict[str, _Module] = field(default_factory=dict[str, "_Module"])

    def everything(self) -> list[ParameterReport]:
        """All parameters below this module."""
        below = [p for child in self.children.values() for p in child.everything()]
        return [*self.parameters.values(), *below]

    def look(self) -> tuple[object, ...]:
        """What is printed of this module without its own name; equal looks are shown once."""
        own = tuple((name, *_cells(p)) for name, p in self.parameters.items())
        return own, tuple((name, child.look()) for name, child in self.children.items())


def print_tree(
    report: Report, *, console: Console | None = None, only: Iterable[str] | None = None, file: TextIO | None = None
) -> None:
    """Print modules as branches and parameters as leaves, with counts per module and a summary.

    Args:
        report: what ``analyze`` returned.
        console: a rich console; by default one for ``file``.
        only: verdicts to show; the summary always counts all parameters.
        file: where to print; standard output by default.

    Example:
        >>> from autogroup.report import ParameterReport
        >>> report = Report({"fc.bias": ParameterReport("fc.bias", (3,), "unused", "never read")})
        >>> print_tree(report, console=Console(width=60))
        (model)  1 parameter: 1 unused
        └── fc  1 parameter: 1 unused
            └── bias  3  unused
        1 parameter, 3 elements: 1 unused (3)
    """
    console = console or make_console(file)
    root = _Module()
    for parameter in report.parameters.values() if only is None else report.only(only):
        *path, last = parameter.name.split(".")
        module = root
        for name in path:
            module = module.children.setdefault(name, _Module())
        module.parameters[last] = parameter
    tree = Tree(_heading("(model)", root), guide_style="bright_black")
    _grow(tree, root)
    console.print(tree)
    for line in summary(report):
        console.print(Text(line))


def _grow(branch: Tree, module: _Module) -> None:
    for name, parameter in module.parameters.items():
        shape, partition, _ = _cells(parameter)
        leaf = Text.assemble(name, "  ", (shape, "dim"), f"  {partition}" if parameter.partition else "", "  ")
        branch.add(leaf.append_text(verdict_text(parameter)))
    for _, run in groupby(module.children.items(), key=lambda item: item[1].look()):
        alike = list(run)
        names = [name for name, _ in alike]
        _grow(branch.add(_heading(_span(names), alike[0][1], copies=len(names))), alike[0][1])


def _cells(parameter: ParameterReport) -> tuple[str, str, str]:
    return shape_text(parameter.shape), partition_text(parameter), verdict_text(parameter).plain


def _span(names: list[str]) -> str:
    """Return ``0-11`` for consecutive numbers, else the names one by one."""
    if len(names) > 2 and all(n.isdecimal() for n in names):
        first = int(names[0])
        if [str(first + i) for i in range(len(names))] == names:
            return f"{names[0]}-{names[-1]}"
    return ", ".join(names)


def _heading(name: str, module: _Module, copies: int = 1) -> Text:
    counts = tally(module.everything())
    text = Text.assemble((name, "bold"), "  ")
    if copies > 1:
        text.append(f"{copies} alike, each ")
    text.append(f"{plural(sum(n for n, _ in counts.values()), 'parameter')}: ", style="dim")
    parts = [(f"{counts[v][0]} {v}", STYLES[v]) for v in VERDICTS if v in counts]
    for index, part in enumerate(parts):
        text.append(", " * (index > 0)).append(*part)
    return text
