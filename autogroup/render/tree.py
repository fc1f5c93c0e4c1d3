"""The report as a tree of modules; neighbours that look alike all the way down are shown once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from autogroup.render.console import STYLES, make_console, plural, tally, verdict_text
from autogroup.render.modules import Module, module_tree, parameter_cells, span
from autogroup.render.table import summary
from autogroup.report import VERDICTS, Report


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
    root = module_tree(report.parameters.values() if only is None else report.only(only))
    tree = Tree(_heading("(model)", root), guide_style="bright_black")
    _grow(tree, root)
    console.print(tree)
    for line in summary(report):
        console.print(Text(line))


def _grow(branch: Tree, module: Module) -> None:
    for name, parameter in module.parameters.items():
        shape, partition, _ = parameter_cells(parameter)
        leaf = Text.assemble(name, "  ", (shape, "dim"), f"  {partition}" if parameter.partition else "", "  ")
        branch.add(leaf.append_text(verdict_text(parameter)))
    for run in module.runs():
        first = next(iter(run.values()))
        _grow(branch.add(_heading(span(list(run)), first, copies=len(run))), first)


def _heading(name: str, module: Module, copies: int = 1) -> Text:
    counts = tally(module.everything())
    text = Text.assemble((name, "bold"), "  ")
    if copies > 1:
        text.append(f"{copies} alike, each ")
    text.append(f"{plural(sum(n for n, _ in counts.values()), 'parameter')}: ", style="dim")
    parts = [(f"{counts[v][0]} {v}", STYLES[v]) for v in VERDICTS if v in counts]
    for index, part in enumerate(parts):
        text.append(", " * (index > 0)).append(*part)
    return text
