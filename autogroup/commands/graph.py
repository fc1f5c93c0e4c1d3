"""``autogroup graph``: write a picture of the report."""

from __future__ import annotations

import argparse
import sys

from autogroup.commands import OK
from autogroup.commands.source import analyze_source
from autogroup.errors import InputError
from autogroup.render.graph import draw, format_of, save_graph


def run(arguments: argparse.Namespace) -> int:
    """Write the picture to the file of ``-o``, or to standard output for ``-``."""
    output: str = arguments.output
    if output == "-" and arguments.format is None:
        raise InputError("-o - needs --format: standard output has no suffix to tell it from")
    format = arguments.format or format_of(output)
    loaded, report = analyze_source(arguments)
    if output == "-":
        sys.stdout.write(draw(report, format, loaded.label))
    else:
        save_graph(report, output, format=format, title=loaded.label, force=arguments.force)
        print(f"{loaded.label}: wrote {output}", file=sys.stderr)
    return OK
