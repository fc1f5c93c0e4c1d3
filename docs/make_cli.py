"""Write ``cli.md`` and ``inspect.svg`` beside this file: the commands, their options, and what they print.

    python -m docs.make_cli

Everything comes from the parser of the command line, and from running it on the small model of the page.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import tempfile
from collections.abc import Container, Generator, Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from autogroup import analyze, cli
from autogroup.load import load
from autogroup.render import print_table

PAGE = Path(__file__).with_name("cli.md")
PICTURE = Path(__file__).with_name("inspect.svg")
WIDTH, PICTURE_WIDTH = 100, 88
"""Columns of the outputs on the page, and of the picture."""
SOURCE = "SOURCE"
"""What the page explains once, for all commands."""

MODEL = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)  # its bias does nothing: the next layer subtracts it again
        self.norm = nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 32, 3, bias=False)
        self.groups = nn.GroupNorm(4, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, images):
        x = self.norm(self.stem(images)).relu()
        x = self.groups(self.conv(x)).relu()
        return self.head(x.mean((2, 3)))


def build():
    return Net(), (torch.zeros(2, 3, 16, 16),)


def mlp():
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))
    return model, (torch.zeros(4, 8),)
"""
EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "inspect": (
        "inspect model.py:build --verify",
        "inspect model.py:build --format tree",
        "inspect model.py:build model.py:mlp --format csv --only dead",
    ),
    "scan": ("scan model.py:build model.py:mlp missing.pt2 --verify --jobs 2",),
    "explain": ("explain model.py:build conv.weight", "explain model.py:build 'stem.*'"),
    "graph": ("graph model.py:mlp --output - --format mermaid",),
    "lint": (
        "lint model.py:build",
        "lint model.py:build --against hf",
        "lint model.py:build --lock groups.lock",
        "lint model.py:build --lock groups.lock",
    ),
    "demo": (),
}
"""Command -> what the page shows of it."""

HEAD = """\
# Command line

Written by `python -m docs.make_cli` from the parser and from what the commands print; do not edit.

| command | |
|---|---|"""
EXIT_CODES = """
## Exit codes

| code | |
|---|---|
| 0 | fine |
| 1 | `--verify` refuted a claim, or `lint` found something |
| 2 | bad usage, or input that cannot be read |
| 3 | refused: reading the file would run code that is stored in it |
| 130 | interrupted; what was printed or written until then is whole |
| 141 | the reader of the output went away |

Of several models the largest code counts. Results go to standard output, all else to standard error.
`AUTOGROUP_TRACEBACK=1` shows where an error came from.
"""


def page() -> str:
    """Return the text of the page."""
    commands = subcommands(cli.parser())
    shared = _shared(commands)
    parts = [HEAD, *(f"| [`{name}`](#{name}) | {text} |" for name, (text, _) in commands.items())]
    parts.append(f"\nThe outputs below are of this `model.py`:\n\n```python\n{MODEL}```")
    with _folder():
        for name, (_, command) in commands.items():
            parts += _command(name, command, shared)
    reading = options(commands["inspect"][1])
    parts.append("\n## What is read\n\nAll commands with a SOURCE or a PATTERN have these options.\n")
    parts += _table([action for action in reading if action.metavar == SOURCE or action.dest in shared])
    return "\n".join([*parts, EXIT_CODES])


def picture() -> str:
    """Return ``autogroup inspect`` on the model of the page as a picture of a terminal."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=PICTURE_WIDTH,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    with _folder():
        loaded = load("model.py:build")
        assert loaded.model is not None
        report = analyze(loaded.model, getattr(loaded.content, "args", None))
    console.print(Text.assemble(("$ ", "bold green"), ("autogroup inspect model.py:build", "bold")))
    console.print(Text(loaded.label))
    print_table(report, console=console)
    return console.export_svg(
        title="autogroup inspect", theme=SVG_EXPORT_THEME, code_format=SVG_FORMAT, unique_id="autogroup"
    )


SVG_FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""A picture that fetches nothing: rich's own names a font in the web."""


# --- the parser -------------------------------------------------------------------------------------------------------


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return command -> (what it does in a few words, its parser)."""
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # pyright: ignore[reportPrivateUsage]
    words = {choice.dest: choice.help or "" for choice in action._choices_actions}  # pyright: ignore[reportPrivateUsage]
    return {name: (words[name], command) for name, command in action.choices.items()}


def options(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments and options of a command, but for ``--help``."""
    return [action for action in command._actions if action.dest != "help"]  # pyright: ignore[reportPrivateUsage]


def spelled(action: argparse.Action) -> str:
    """Return an argument or option as one writes it, e.g. ``-o FILE, --output FILE``.

    Example:
        >>> spelled(argparse.ArgumentParser().add_argument("--jobs", metavar="N"))
        '--jobs N'
    """
    value = str(action.metavar or action.dest)
    if action.metavar is None and action.choices is not None:
        value = f"{{{','.join(map(str, action.choices))}}}"
    if not action.option_strings:
        return value + "..." * (action.nargs == "+")
    return ", ".join(action.option_strings) + f" {value}" * (action.nargs != 0)


def _shared(commands: Mapping[str, tuple[str, argparse.ArgumentParser]]) -> set[str]:
    """What all commands that read models have in common."""
    found = [{action.dest for action in options(command)} for _, command in commands.values()]
    return set[str].intersection(*(names for names in found if names))


def _command(name: str, command: argparse.ArgumentParser, shared: Container[str]) -> Iterator[str]:
    """Yield the section of one command."""
    own = [action for action in options(command) if action.dest not in shared]
    needed = [spelled(action).split(", ")[-1] for action in own if action.required]
    has_options = ["[OPTION...]"] * any(action.option_strings for action in options(command))
    yield f"\n## {name}\n\n```text\n{' '.join(['autogroup', name, *has_options, *needed])}\n```\n"
    yield f"{_escaped(command.description or '')}\n"
    if own:
        yield from _table([action for action in own if action.metavar != SOURCE])
    for line in EXAMPLES[name]:
        yield f"\n```console\n$ autogroup {line}\n{output(line)}```"


def _table(actions: Iterable[argparse.Action]) -> Iterator[str]:
    yield "| | |\n|---|---|"
    for action in actions:
        yield f"| `{spelled(action)}` | {_escaped(action.help or '')} |"


def _escaped(text: str) -> str:
    """Keep Markdown from reading a pattern as emphasis."""
    return re.sub(r"([*|<])", r"\\\1", text)


# --- what the commands print ------------------------------------------------------------------------------------------


@contextmanager
def _folder() -> Generator[None]:
    """Work in a folder with the model, on a terminal of a fixed width without colour."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), patch.dict(os.environ, COLUMNS=str(WIDTH)):
        Path("model.py").write_text(MODEL, encoding="utf-8")
        yield


def output(line: str) -> str:
    """Return what a command prints, without spaces at the ends of lines and with the times masked."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        cli.main([word.strip("'") for word in line.split()])
    lines = [part.rstrip() for part in text.getvalue().splitlines()]
    if line.startswith("scan"):
        lines = [re.sub(r"\d+\.\d$", "0.0", part) for part in lines]
    return "".join(f"{re.sub(r'worst proved [^,]*', 'worst proved 0.0', part)}\n" for part in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
