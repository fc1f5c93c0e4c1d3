"""The tensors of a file without a graph: a table on the console, JSON, CSV."""

from __future__ import annotations

import json

from rich.table import Table
from rich.text import Text

from autogroup.render.console import elements, make_console, plural, shape_text
from autogroup.render.data import COLUMNS, csv_text
from autogroup.tensors import TensorTable


def print_tensors(table: TensorTable) -> None:
    """Print one row per tensor, then the totals and the notes."""
    console = make_console()
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(overflow="fold")
    grid.add_column(justify="right")
    grid.add_row(*(Text(word, style="bold") for word in ("tensor", "shape", "dtype", "bytes")))
    for tensor in table.tensors:
        cells = (tensor.name, shape_text(tensor.shape), tensor.dtype, f"{tensor.bytes:,}")
        grid.add_row(*map(Text, cells))
    console.print(grid)
    console.print()
    totals = (plural(len(table.tensors), "tensor"), plural(table.elements, "element"), plural(table.bytes, "byte"))
    console.print(Text(f"{table.kind}: {', '.join(totals)}"))
    for note in table.notes:
        console.print(Text(f"note: {note}"))


def tensors_to_json(table: TensorTable, *, source: str | None = None) -> str:
    """Return the table as JSON; a source is added under a key of its own.

    Example:
        >>> json.loads(tensors_to_json(TensorTable("safetensors", ())))["totals"]
        {'tensors': 0, 'elements': 0, 'bytes': 0}
    """
    return json.dumps(({} if source is None else {"source": source}) | table.to_dict(), indent=1)


def tensors_to_csv(table: TensorTable, *, source: str | None = None, header: bool = True) -> str:
    """Return one line per tensor under a line of column names; among those of reports with their columns.

    Args:
        table: the tensors.
        source: ``None``, or what fills the first column where the lines of several reports and files follow.
        header: whether the names of the columns come first.

    Example:
        >>> tensors_to_csv(TensorTable("safetensors", ()))
        'name,shape,dtype,bytes'
    """
    rows = [{"name": t.name, "shape": shape_text(t.shape), "dtype": t.dtype, "bytes": t.bytes} for t in table.tensors]
    if source is None:
        return csv_text(("name", "shape", "dtype", "bytes"), rows, header=header)
    rows = [{"name": t.name, "shape": shape_text(t.shape), "elements": elements(t.shape)} for t in table.tensors]
    return csv_text(COLUMNS, rows, source=source, header=header)
