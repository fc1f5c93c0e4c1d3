"""Findings as tables, and changes against a lock file as a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autogroup.lint import Finding
from autogroup.lock import Change, LockCheck, Plan
from autogroup.render.console import make_console, plural


def print_findings(findings: Sequence[Finding], *, console: Console | None = None, file: TextIO | None = None) -> None:
    """Print one row per finding, under a line that says what to do about all of its kind.

    Args:
        findings: what ``autogroup.lint`` returned.
        console: a rich console; by default one for ``file``.
        file: where to print; standard output by default.

    Example:
        >>> finding = Finding("unused", "w", "the forward never reads it", "remove it")
        >>> print_findings([finding], console=Console(width=60))
        unused: remove it
          w  the forward never reads it
        <BLANKLINE>
        1 finding
    """
    console = console or make_console(file)
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.code, finding.advice), []).append(finding)
    for (code, advice), rows in kinds.items():
        console.print(Text.assemble((code, "bold yellow"), f": {advice}"))
        console.print(_table(rows, console.width))
        console.print()
    console.print(Text(plural(len(findings), "finding") if findings else "no findings"))


def _table(findings: Sequence[Finding], width: int) -> Padding:
    """Two columns, of which the names are folded only if they take more than half of the line."""
    table = Table.grid(padding=(0, 2, 0, 0))
    longest = max(len(finding.parameter) for finding in findings)
    table.add_column(min_width=min(longest, width // 2), overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.parameter), Text(finding.what))
    return Padding(table, (0, 0, 0, 2), expand=False)


def print_lock(check: LockCheck, label: str, *, console: Console | None = None, file: TextIO | None = None) -> None:
    """Print how a model differs from its lock file, as ``diff`` would, and what became of the file.

    Args:
        check: the file, what became of it, and the changes.
        label: how to call the model.
        console: a rich console; by default one for ``file``.
        file: where to print; standard output by default.

    Example:
        >>> was = Plan((8, 4), "linear", "variant", None, None, True)
        >>> now = Plan((8, 4), "linear", "invariant", (0,), None, True)
        >>> print_lock(LockCheck("net.lock", "updated", (Change("w", was, now),)), "net.py:build")
        --- net.lock
        +++ net.py:build
        -w  8x4 linear variant
        +w  8x4 linear invariant channel_dims=(0,)
        <BLANKLINE>
        net.lock: updated, 1 parameter differed
    """
    console = console or make_console(file)
    if check.changes:
        for line in (f"--- {check.file}", f"+++ {label}", *(line for c in check.changes for line in _diff(c)), ""):
            console.print(Text(line, style={"-": "red", "+": "green"}.get(line[:1], "")), soft_wrap=True)
    count = plural(len(check.changes), "parameter")
    summary = {
        "written": "written; commit it",
        "updated": f"updated, {count} differed",
        "matches": "the model matches it",
        "differs": f"{count} {'differs' if len(check.changes) == 1 else 'differ'}; --update-lock accepts that",
    }
    console.print(Text(f"{check.file}: {summary[check.status]}"), soft_wrap=True)


def _diff(change: Change) -> list[str]:
    """The lines of one change; a parameter that only has another name takes one line."""
    if change.renamed is not None:
        return [f" {change.name} -> {change.renamed}  {change.was}"]
    sides: tuple[tuple[str, Plan | None], ...] = (("-", change.was), ("+", change.now))
    return [f"{sign}{change.name}  {plan}" for sign, plan in sides if plan is not None]
