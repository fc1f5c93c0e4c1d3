"""``autogroup inspect``: print the verdict of every parameter."""

from __future__ import annotations

import argparse
import sys

from autogroup import render
from autogroup.capture.inputs import guess_inputs, without_cache
from autogroup.certificate import Certificate, certify
from autogroup.commands import FINDINGS, OK
from autogroup.commands.source import analyze_source, example_inputs
from autogroup.errors import LoadError
from autogroup.load import Loaded
from autogroup.report import Report


def run(arguments: argparse.Namespace) -> int:
    """Print the report in the chosen format; with ``--verify`` test it."""
    loaded, report = analyze_source(arguments)
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


def _verify(loaded: Loaded, report: Report, arguments: argparse.Namespace) -> Certificate:
    if loaded.model is None:
        raise LoadError(
            f"{loaded.label}: --verify runs the model, and an exported program is read without its weights; name the "
            "code instead, as in file.py:callable"
        )
    args, kwargs = example_inputs(loaded, arguments)
    if args is None and kwargs is None:
        args, kwargs, _ = guess_inputs(loaded.model)
    kwargs, _ = without_cache(loaded.model, args or (), kwargs or {})
    return certify(loaded.model, report, args, kwargs)
