"""``autogroup explain``: show what led to the verdict of one parameter."""

from __future__ import annotations

import argparse

from autogroup import render
from autogroup.commands import OK
from autogroup.commands.source import analyze_source


def run(arguments: argparse.Namespace) -> int:
    """Print the path of the parameter."""
    _, report = analyze_source(arguments)
    render.print_explanation(report, arguments.parameter)
    return OK
