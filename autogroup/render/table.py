"""The report as a table: six columns where there is room, a compact list where there is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autogroup.render.console import (
    details,
    make_console,
    partition_text,
    plural,
    shape_text,
    tally,
    verdict_text,
)
from autogroup.report import VERDICTS, ParameterReport, Report

WIDE = 120
"""From this many columns on every parameter is one row of a six-column table."""
_GAP = 2
_NARROWEST_NAME = 16


def print_table(
    report: Report, *, console: Console | None = None, only: Iterable[str] | None = None, file: TextIO | None = None
) -> None:
    """Print one entry per parameter and a summary.

    Args:
        report: what ``analyze`` returned.
        console: a rich console; by default one for ``file``.
        only: verdicts to show; the summary always counts all parameters.
        file: where to print; standard output by default.

    Example:
        >>> from autogroup.report import ParameterReport
        >>> print_table(Report({"w": ParameterReport("w", (2, 3), "unused", "never read")}), console=Console(width=60))
        parameter                                    shape  partition  verdict
        w                                            2x3    -          unused
            never read
        <BLANKLINE>
        1 parameter, 6 elements: 1 unused (6)
    """
    console = console or make_console(file)
    shown = list(report.parameters.values() if only is None else report.only(only))
    if shown and console.width >= WIDE:
        _print_wide(shown, console)
    elif shown:
        _print_list(shown, console)
    hidden = len(report.parameters) - len(shown)
    for line in summary(report):
        console.print(Text(line))
    if hidden:
        console.print(Text(f"shown: {len(shown)} of {plural(len(report.parameters), 'parameter')}"))


def summary(report: Report) -> list[str]:
    """Return the lines under the table: counts per verdict, symmetries, capture, unknown operators, eps."""
    counts = tally(report.parameters.values())
    total = sum(size for _, size in counts.values())
    head = f"{plural(len(report.parameters), 'parameter')}, {plural(total, 'element')}"
    verdicts = [f"{counts[v][0]} {v} ({counts[v][1]:,})" for v in VERDICTS if v in counts]
    lines = [f"{head}: {', '.join(verdicts)}" if verdicts else head]
    several = Counter(s.kind for s in report.symmetries if s.kind != "scale")
    if several:
        listed = ", ".join(f"{n} {kind}" for kind, n in sorted(several.items()))
        lines.append(f"symmetries of several parameters: {listed} (see explain)")
    if "method" in report.capture:
        mode = f", mode {report.capture['mode']}" if "mode" in report.capture else ""
        lines.append(f"captured with {report.capture['method']}{mode}")
    if "inputs" in report.capture:
        lines.append(f"inputs {report.capture['inputs']}")
    lines += [f"note: {note}" for note in report.capture.get("notes", ())]
    if report.unknown_ops:
        named = [f"{name} ({count})" for name, count in report.unknown_ops.items()]
        lines.append(f"operators without a rule: {', '.join(named)}")
    marked = sum(p.eps for p in report.parameters.values())
    if marked:
        lines.append(f"* {plural(marked, 'claim')} up to an eps written in the model's own code")
    return lines


def _print_wide(parameters: list[ParameterReport], console: Console) -> None:
    """Print one row per parameter with its norm and reason beside it."""
    rows = [
        (
            Text(p.name),
            Text(shape_text(p.shape)),
            Text(partition_text(p)),
            Text(", ".join(p.norms) or "-"),
            verdict_text(p),
            Text(details(p)),
        )
        for p in parameters
    ]
    head = _bold("parameter", "shape", "partition", "norm", "verdict", "reason")
    name, shape, partition, norm, verdict, _ = (max(row[i].cell_len for row in (head, *rows)) for i in range(6))
    partition = min(partition, 24)
    free = console.width - shape - partition - verdict - _GAP * 5
    name = min(name, max(20, free * 2 // 5))
    norm = min(norm, max(12, free // 4))
    widths = [name, shape, partition, norm, verdict, max(12, free - name - norm)]
    console.print(_grid((head, *rows), widths))
    console.print()


def _print_list(parameters: list[ParameterReport], console: Console) -> None:
    """Print two lines per parameter; neighbours with the same norm and reason share the second one."""
    rows = [(Text(p.name), Text(shape_text(p.shape)), Text(partition_text(p)), verdict_text(p)) for p in parameters]
    head = _bold("parameter", "shape", "partition", "verdict")
    shape, partition, verdict = (max(row[i].cell_len for row in (head, *rows)) for i in range(1, 4))
    partition = min(partition, max(9, console.width // 4))
    name = console.width - shape - partition - verdict - _GAP * 3
    stacked = name < _NARROWEST_NAME
    widths = [2, shape, console.width - shape - verdict - 2 - _GAP * 3] if stacked else [name, shape, partition]
    widths.append(verdict)

    def print_row(row: tuple[Text, ...]) -> None:
        if stacked or row[0].cell_len > name:
            # A name too long for its column gets lines of its own above the other cells.
            console.print(row[0], overflow="fold")
            row = (Text(), *row[1:])
        console.print(_grid((row,), widths))

    print_row(head)
    pairs = zip(parameters, rows, strict=True)
    for line, group in groupby(pairs, key=lambda pair: _second_line(pair[0])):
        for _, row in group:
            print_row(row)
        if line:
            console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4), expand=False))
    console.print()


def _bold(*words: str) -> tuple[Text, ...]:
    return tuple(Text(word, style="bold") for word in words)


def _grid(rows: Sequence[tuple[Text, ...]], widths: list[int]) -> Table:
    """Lay rows out in columns of exactly these widths, folding what is longer: no cell is ever cut."""
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        grid.add_column(width=width, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _second_line(parameter: ParameterReport) -> str:
    norms = ", ".join(parameter.norms)
    reason = details(parameter)
    missing = [norm for norm in parameter.norms if norm not in reason]
    return f"{norms}: {reason}" if missing and reason else reason or norms
