"""The rows of a scan: a table on the console, JSON, CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autogroup.render.console import STYLES, make_console, plural
from autogroup.render.data import csv_text
from autogroup.report import VERDICTS
from autogroup.scan import Row

CLAIMS = ("proved", "refuted", "undecided")
_GAP = 2


def print_rows(rows: Sequence[Row], *, console: Console | None = None, file: TextIO | None = None) -> None:
    """Print one line per model, under it why there is no report if there is none, and the totals.

    Args:
        rows: one per model; a verdict that occurs in none of them gets no column.
        console: a rich console; by default one for ``file``.
        file: where to print; standard output by default.

    Example:
        >>> rows = [Row("a.pt2", 2, {"dead": 1, "variant": 1}, 12, 3, None, 0.5), Row("b.pt2", error="is empty")]
        >>> print_rows(rows, console=Console(width=70))
        model  parameters  dead  variant  elements  covered  seconds
        a.pt2           2     1        1        12   25.0 %      0.5
        b.pt2           -     -        -         -        -      0.0
            is empty
        <BLANKLINE>
        2 models, 1 without a report: 2 parameters, 12 elements, 25.0 % of them covered
    """
    console = console or make_console(file)
    columns = _columns(rows)
    cells = [_cells(row, columns) for row in rows]
    head = ("model", *columns)
    widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
    room = console.width - sum(widths[1:]) - _GAP * len(widths)
    widths[0] = min(widths[0], max(room, 0))

    def print_line(line: Sequence[Text]) -> None:
        if line[0].cell_len > widths[0]:
            # A name too long for its column gets lines of its own above the numbers.
            console.print(line[0], overflow="fold")
            line = (Text(), *line[1:])
        console.print(_grid(line, widths))

    print_line([Text(word, style="bold") for word in head])
    for row, line in zip(rows, cells, strict=True):
        print_line([Text(text, style=_style(row, name)) for text, name in zip(line, head, strict=True)])
        if row.error:
            console.print(Padding(Text(row.error, style="red"), (0, 0, 0, 4), expand=False))
    console.print(end="\n" * bool(rows))
    console.print(Text(_totals(rows)))


def rows_to_json(rows: Sequence[Row]) -> str:
    """Return a list with an object per model.

    Example:
        >>> json.loads(rows_to_json([Row("a.pt2", error="is empty", exit_code=2)]))[0]["error"]
        'is empty'
    """
    return json.dumps([asdict(row) for row in rows], indent=1)


def rows_to_csv(rows: Sequence[Row]) -> str:
    """Return one line per model under a line of column names: all verdicts, and what the certificate says.

    Example:
        >>> print(rows_to_csv([Row("a.pt2", 1, {"dead": 1}, 4, 4)]).splitlines()[1])
        a.pt2,1,0,0,0,1,0,0,0,4,4,,,,0.0,,0
    """
    columns = ("model", "parameters", *VERDICTS, "elements", "covered", *CLAIMS, "seconds", "error", "exit_code")
    return csv_text(columns, map(_flat, rows))


def _flat(row: Row) -> dict[str, Any]:
    data = asdict(row)
    counts = {} if row.error else {verdict: row.verdicts.get(verdict, 0) for verdict in VERDICTS}
    known = {key: value for key, value in data.items() if key not in ("verdicts", "claims")}
    if row.error:
        known = {key: value for key, value in known.items() if key not in ("parameters", "elements", "covered")}
    return known | counts | dict(row.claims or {})


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns after the model."""
    verdicts = [verdict for verdict in VERDICTS if any(row.verdicts.get(verdict) for row in rows)]
    claims = [claim for claim in CLAIMS if any(row.claims and (claim == "proved" or row.claims[claim]) for row in rows)]
    return ("parameters", *verdicts, "elements", "covered", *claims, "seconds")


def _cells(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    """The texts of a line; ``-`` where nothing is known."""
    known = {"seconds": f"{row.seconds:.1f}"}
    if not row.error:
        known |= {"parameters": f"{row.parameters:,}", "elements": f"{row.elements:,}"}
        known |= {"covered": _percent(row.covered, row.elements)}
        known |= {verdict: f"{row.verdicts.get(verdict, 0):,}" for verdict in VERDICTS}
    known |= {claim: f"{count:,}" for claim, count in (row.claims or {}).items()}
    return (row.model, *(known.get(column, "-") for column in columns))


def _style(row: Row, column: str) -> str:
    """Colour what there is any of."""
    if row.claims and column == "refuted":
        return "bold red" * bool(row.claims[column])
    return STYLES.get(column, "") * bool(row.verdicts.get(column))


def _grid(cells: Sequence[Text], widths: Sequence[int]) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for number, width in enumerate(widths):
        grid.add_column(width=width, overflow="fold", justify="right" if number else "left")
    grid.add_row(*cells)
    return grid


def _totals(rows: Sequence[Row]) -> str:
    failed = sum(bool(row.error) for row in rows)
    elements, covered = sum(row.elements for row in rows), sum(row.covered for row in rows)
    head = plural(len(rows), "model") + (f", {failed} without a report" if failed else "")
    counts = f"{plural(sum(row.parameters for row in rows), 'parameter')}, {plural(elements, 'element')}"
    return f"{head}: {counts}, {_percent(covered, elements)} of them covered" if elements else head


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
