"""``autogroup explain``: show what led to the verdicts of some parameters."""

from __future__ import annotations

import argparse

from autogroup import render
from autogroup.commands import OK
from autogroup.commands.source import analyze_source


def run(arguments: argparse.Namespace) -> int:
    """Print the path of each parameter."""
    _, report = analyze_source(arguments)
    for number, parameter in enumerate(render.find_parameters(report, arguments.parameters)):
        print(end="\n" * (number > 0))
        render.print_explanation(report, parameter.name)
    return OK
