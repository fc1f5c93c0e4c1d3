"""``autogroup demo``: save a small model, inspect the file, train it a few steps."""

from __future__ import annotations

import argparse

from autogroup.commands import OK
from autogroup.demo import run_demo


def run(_: argparse.Namespace) -> int:
    """Run the demonstration."""
    run_demo()
    return OK
