"""``autogroup scan``: one row for each of many models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from autogroup.commands import INTERRUPTED, OK
from autogroup.commands.patterns import expand
from autogroup.commands.workers import Pool
from autogroup.errors import InputError
from autogroup.render.console import plural
from autogroup.render.progress import shown
from autogroup.render.rows import print_rows, rows_to_csv, rows_to_json
from autogroup.scan import Row, RowFile


def run(arguments: argparse.Namespace) -> int:
    """Examine all models that are not yet in the file of ``-o``, and print the rows of all of them."""
    file = RowFile(Path(arguments.output), _options(arguments)) if arguments.output else None
    if arguments.retry and file is None:
        raise InputError("--retry needs -o FILE: the file of the scan to go on with")
    models = expand(arguments.patterns)
    known = {} if file is None else {m: r for m, r in file.rows.items() if not (r.error and arguments.retry)}
    rows = {model: known[model] for model in models if model in known}
    interrupted = False
    try:
        _scan([model for model in models if model not in rows], rows, file, arguments)
    except KeyboardInterrupt:
        interrupted = True
    done = [rows[model] for model in models if model in rows]
    _print(done, arguments.format)
    if interrupted:
        rest = f"; the same command goes on from {file.path}" if file else ""
        print(f"autogroup: interrupted: {len(done)} of {plural(len(models), 'model')} done{rest}", file=sys.stderr)
        return INTERRUPTED
    return max((row.exit_code for row in done), default=OK)


def _scan(waiting: Sequence[str], rows: dict[str, Row], file: RowFile | None, arguments: argparse.Namespace) -> None:
    """Add the row of each waiting model to ``rows`` and to the file, and show how far that is."""
    total = len(rows) + len(waiting)
    with shown(arguments.progress, "scan") as progress, Pool(waiting, arguments) as pool:
        for row in pool.rows():
            if row is not None:
                rows[row.model] = row
                if file is not None:
                    file.append(row)
            progress(", ".join(pool.running) or "start", len(rows), total)


def _options(arguments: argparse.Namespace) -> dict[str, object]:
    """What a row depends on besides its model, as JSON gives it back."""
    inputs = ["x".join(map(str, shape)) + f":{dtype}" for shape, dtype in arguments.inputs or ()]
    return {"mode": arguments.mode, "inputs": inputs, "arch": arguments.arch, "verify": arguments.verify}


def _print(rows: Sequence[Row], form: str) -> None:
    if form == "json":
        print(rows_to_json(rows))
    elif form == "csv":
        print(rows_to_csv(rows))
    else:
        print_rows(rows)
