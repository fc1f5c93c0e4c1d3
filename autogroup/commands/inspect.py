"""``autogroup inspect``: print the verdict of every parameter, or the tensors of a file that has no graph."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autogroup import render
from autogroup.commands import FINDINGS, OK, message, report_failure
from autogroup.commands.source import load_source, report_of, verify
from autogroup.load import NO_GRAPH, LoadedTensors
from autogroup.render.progress import shown
from autogroup.render.tensors import print_tensors, tensors_to_csv, tensors_to_json
from autogroup.report import Report
from autogroup.tensors import TensorTable

if TYPE_CHECKING:
    from autogroup.certificate import Certificate


def run(arguments: argparse.Namespace) -> int:
    """Print each SOURCE in the chosen format; of several, one that fails does not stop the others."""
    sources: list[str] = arguments.sources
    several = len(sources) > 1
    output = _Output(arguments.format, arguments.only, several=several)
    worst = OK
    with output.brackets():
        for number, source in enumerate(sources, 1):
            try:
                found = _inspect(source, f"{number} of {len(sources)}, {source}" if several else source, arguments)
            except Exception as error:
                if not several:
                    raise
                worst = max(worst, report_failure(error))
                output.add_failure(source, error)
            else:
                output.add(found)
                worst = max(worst, OK if found.certificate is None or found.certificate.ok else FINDINGS)
    return worst


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to show of one SOURCE."""

    label: str
    content: Report | TensorTable
    certificate: Certificate | None = None


def _inspect(source: str, title: str, arguments: argparse.Namespace) -> _Found:
    """Load, analyze and, if asked, verify one SOURCE."""
    with shown(arguments.progress, title) as progress:
        loaded = load_source(source, arguments, progress)
        if isinstance(loaded.content, LoadedTensors) and not (arguments.verify or arguments.only):
            return _Found(loaded.label, loaded.content.tables[0])
        report = report_of(loaded, arguments, progress)
        return _Found(loaded.label, report, verify(loaded, report, arguments, progress) if arguments.verify else None)


class _Output:
    """Prints one SOURCE after the other, each as soon as it is done.

    Args:
        form: "table", "tree", "json" or "csv".
        only: verdicts to show; ``None`` for all.
        several: whether to say which SOURCE a part is of: by a heading, in an item of a list, in a column.
    """

    def __init__(self, form: str, only: Iterable[str] | None, *, several: bool) -> None:
        self.form = form
        self.only = only
        self.several = several
        self.count = 0

    @contextmanager
    def brackets(self) -> Generator[None]:
        """Make a list of the items of JSON, which is whole even if the work is interrupted."""
        if not (self.several and self.form == "json"):
            yield
            return
        print("[")
        try:
            yield
        finally:
            print("\n]" * (self.count > 0) or "]")

    def add(self, found: _Found) -> None:
        """Print a SOURCE, and on stderr what is missing or does not fit into the format."""
        if self.form == "json":
            self._add_json(found)
        elif self.form == "csv":
            self._add_csv(found)
        else:
            print(end="\n" * (self.count > 0))
            print(found.label)
            self._draw(found.content)
        self.count += 1
        if isinstance(found.content, TensorTable):
            print(f"{found.label}: {NO_GRAPH}", file=sys.stderr)
        if found.certificate and self.form == "csv":
            print(f"{found.label}: verified: {found.certificate}", file=sys.stderr)
        elif found.certificate and self.form != "json":
            print(f"verified: {found.certificate}")

    def add_failure(self, source: str, error: Exception) -> None:
        """Leave a place for a SOURCE of which there is nothing to print, where the format has one."""
        if self.form == "json":
            self._add_item(json.dumps({"source": source, "error": message(error)}, indent=1))
            self.count += 1

    def _draw(self, content: Report | TensorTable) -> None:
        if isinstance(content, TensorTable):
            print_tensors(content)
        else:
            draw = render.print_tree if self.form == "tree" else render.print_table
            draw(content, only=self.only)

    def _add_json(self, found: _Found) -> None:
        source = found.label if self.several else None
        if isinstance(found.content, TensorTable):
            self._add_item(tensors_to_json(found.content, source=source))
        else:
            certificate = found.certificate.to_dict() if found.certificate else None
            kept = render.filtered(found.content, self.only)
            self._add_item(render.to_json(kept, certificate=certificate, source=source))

    def _add_item(self, text: str) -> None:
        print(",\n" * (self.count > 0) + text, end="" if self.several else "\n")

    def _add_csv(self, found: _Found) -> None:
        source = found.label if self.several else None
        header = self.count == 0
        if isinstance(found.content, TensorTable):
            text = tensors_to_csv(found.content, source=source, header=header)
        else:
            text = render.to_csv(render.filtered(found.content, self.only), source=source, header=header)
        if text:
            print(text)
