"""``autogroup inspect``: print the verdict of every parameter, or the tensors of a file that has no graph."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from autogroup import render
from autogroup.commands import FINDINGS, OK
from autogroup.commands.source import example_inputs, load_source, report_of
from autogroup.errors import LoadError
from autogroup.load import NO_GRAPH, Loaded, LoadedTensors
from autogroup.render.tensors import print_tensors, tensors_to_csv, tensors_to_json
from autogroup.report import Report
from autogroup.tensors import TensorTable

if TYPE_CHECKING:
    from autogroup.certificate import Certificate


def run(arguments: argparse.Namespace) -> int:
    """Print the report in the chosen format; with ``--verify`` test it."""
    loaded = load_source(arguments)
    if isinstance(loaded.content, LoadedTensors) and not (arguments.verify or arguments.only):
        return _show_tensors(loaded.label, loaded.content.tables[0], arguments.format)
    report = report_of(loaded, arguments)
    certificate = _verify(loaded, report, arguments) if arguments.verify else None
    shown = render.filtered(report, arguments.only)
    if arguments.format == "json":
        print(render.to_json(shown, certificate=certificate.to_dict() if certificate else None))
    elif arguments.format == "csv":
        print(render.to_csv(shown))
    else:
        print(loaded.label)
        draw = render.print_tree if arguments.format == "tree" else render.print_table
        draw(report, only=arguments.only)
    if certificate and arguments.format != "json":
        print(f"verified: {certificate}", file=sys.stderr if arguments.format == "csv" else sys.stdout)
    return OK if certificate is None or certificate.ok else FINDINGS


def _show_tensors(label: str, table: TensorTable, form: str) -> int:
    """Print what is known without an architecture, and say what is not."""
    if form == "json":
        print(tensors_to_json(table))
    elif form == "csv":
        print(tensors_to_csv(table))
    else:
        print(label)
        print_tensors(table)
    print(f"{label}: {NO_GRAPH}", file=sys.stderr)
    return OK


def _verify(loaded: Loaded, report: Report, arguments: argparse.Namespace) -> Certificate:
    if loaded.model is None:
        raise LoadError(
            f"{loaded.label}: --verify runs the model, and an exported program or a report is read without one; name "
            "the code instead, as in file.py:callable"
        )
    # Imported here: tables of files do without the model's forward and all that runs it.
    from autogroup.capture.inputs import guess_inputs, without_cache
    from autogroup.certificate import certify

    args, kwargs = example_inputs(loaded, arguments)
    if args is None and kwargs is None:
        args, kwargs, _ = guess_inputs(loaded.model)
    kwargs, _ = without_cache(loaded.model, args or (), kwargs or {})
    return certify(loaded.model, report, args, kwargs)
