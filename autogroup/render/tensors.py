"""The tensors of a file without a graph: a table on the console, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json

from rich.table import Table
from rich.text import Text

from autogroup.render.console import make_console, plural, shape_text
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


def tensors_to_json(table: TensorTable) -> str:
    """Return the table as JSON.

    Example:
        >>> json.loads(tensors_to_json(TensorTable("safetensors", ())))["totals"]
        {'tensors': 0, 'elements': 0, 'bytes': 0}
    """
    return json.dumps(table.to_dict(), indent=1)


def tensors_to_csv(table: TensorTable) -> str:
    """Return one line per tensor under a line of column names.

    Example:
        >>> tensors_to_csv(TensorTable("safetensors", ()))
        'name,shape,dtype,bytes'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", "shape", "dtype", "bytes"))
    writer.writerows((t.name, shape_text(t.shape), t.dtype, t.bytes) for t in table.tensors)
    return text.getvalue().rstrip("\n")
