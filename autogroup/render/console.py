"""The console everything is printed on, and the spelling of shapes, verdicts and counts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from autogroup.report import ParameterReport

DEFAULT_WIDTH = 120
"""Columns of a file or pipe when no terminal is attached and COLUMNS is not set."""

STYLES = {
    "invariant": "green",
    "partial": "cyan",
    "joint": "blue",
    "dead": "magenta",
    "variant": "yellow",
    "unknown": "bold red",
    "unused": "bright_black",
}

_CONTROLS = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
"""All but the end of a line; some of them move the cursor of a terminal, or rename its window."""


class PipeConsole(Console):
    """A console for text from anywhere, which lets a broken pipe reach the caller instead of ending the process."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render with a mark in place of every control character: a name from a file may hold some."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(segment.text.translate(_CONTROLS), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise the error that rich is handling."""
        self.quiet = True
        raise BrokenPipeError


def make_console(file: TextIO | None = None) -> Console:
    """Return a console for ``file`` (standard output if ``None``): no colour codes unless it is a terminal."""
    console = PipeConsole(file=file, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ and not _at_a_terminal():
        console.width = DEFAULT_WIDTH
    return console


def _at_a_terminal() -> bool:
    """Whether a terminal is attached somewhere, e.g. when the output goes through a pager."""
    for stream in (0, 1, 2):
        try:
            os.get_terminal_size(stream)
        except OSError:
            continue
        return True
    return False


def shape_text(shape: tuple[int, ...]) -> str:
    """Return ``64x3x7x7``, or ``scalar`` for a tensor without dims."""
    return "x".join(map(str, shape)) or "scalar"


def elements(shape: tuple[int, ...]) -> int:
    """Return the number of entries."""
    return math.prod(shape)


def partition_text(parameter: ParameterReport) -> str:
    """Return the partition as it prints itself, ``-`` without one."""
    return str(parameter.partition) if parameter.partition else "-"


def verdict_text(parameter: ParameterReport) -> Text:
    """Return the coloured verdict; ``*`` marks a claim that holds only up to an eps."""
    return Text(parameter.verdict + "*" * parameter.eps, style=STYLES[parameter.verdict])


def details(parameter: ParameterReport) -> str:
    """Return the reason with what the columns do not show: partners, tied names, frozen."""
    parts = [parameter.reason] if parameter.reason else []
    if parameter.partners and not any(name in parameter.reason for name in parameter.partners):
        parts.append(f"jointly with {', '.join(parameter.partners)}")
    if parameter.aliases:
        parts.append(f"tied with {', '.join(parameter.aliases)}")
    if not parameter.trainable:
        parts.append("frozen")
    return "; ".join(parts)


def tally(parameters: Iterable[ParameterReport]) -> dict[str, tuple[int, int]]:
    """Return verdict -> (parameters, elements), in the order of first use."""
    found: dict[str, tuple[int, int]] = {}
    for parameter in parameters:
        count, size = found.get(parameter.verdict, (0, 0))
        found[parameter.verdict] = (count + 1, size + elements(parameter.shape))
    return found


def plural(count: int, noun: str) -> str:
    """Return ``1 parameter`` or ``1,234 parameters``."""
    return f"{count:,} {noun}" + "s" * (count != 1)
