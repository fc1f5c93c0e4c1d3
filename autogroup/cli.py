"""The ``autogroup`` command: argument parsing and exit codes. All that needs torch is imported when a command runs.

Exit codes: 0 fine; 1 a claim was refuted, or lint found something; 2 bad usage or unreadable input; 3 refused because
reading the file would run code; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from autogroup.commands import INTERRUPTED, OK, UNREADABLE, report_failure
from autogroup.readers.spelling import check_spelling

BROKEN_PIPE = 141

VERDICTS = ("invariant", "partial", "joint", "dead", "variant", "unknown", "unused")
"""Spelled out here so that ``--help`` needs no torch; a test holds it against ``report.VERDICTS``."""

PICTURES = ("html", "dot", "mermaid", "graphml", "json")
"""What ``graph`` writes; a test holds it against ``render.graph.FORMATS``."""

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
RULES = {
    "timm": "weight decay as timm chooses it",
    "hf": "weight decay as the Trainer of transformers chooses it",
    "names": "invariant is what has conv or downsample.0 in its name",
}
"""What ``lint --against`` knows."""

_INPUT = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")

_SOURCE = (
    "package.module:callable, file.py:callable (a module, its class, or a function returning a module, (module, "
    "args) or (module, args, kwargs)), torchvision:NAME, timm:NAME, hf:CONFIG (a config.json or its folder); or a "
    "file: .pt2 of torch.export, TorchScript, a report of report.save, a pickled module (needs --trust), or tensors "
    "(needs --arch): .safetensors, the index of several, .pt .pth .bin .ckpt, a distributed checkpoint"
)
_PATTERN = (
    "timm:'resnet*', torchvision:'*', hf:'configs/*', 'exports/*.pt2', a folder (all files in it that may be models), "
    "or a SOURCE as inspect takes it"
)
_EPILOG = (
    "exit codes: 0 fine; 1 --verify refuted a claim, or lint found something; 2 bad usage or unreadable input; "
    "3 refused because reading the file would run code stored in it. Set AUTOGROUP_TRACEBACK=1 to see where an error "
    "came from."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments after the program name; those of the process by default.

    Returns:
        An exit code as the module's docstring lists them.

    Example:
        >>> main(["inspect", "no_such_file.pt2"])
        2
    """
    # torch says so on its first import where numpy is missing; nothing here needs numpy.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    try:
        arguments = parser().parse_args(argv)
        if arguments.command is None:
            parser().print_help(sys.stderr)
            return UNREADABLE
        _survive_narrow_encodings()
        _check_source(arguments)
        code: int = _imported(arguments.command).run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse after --help, --version or a usage error
        return stop.code if isinstance(stop.code, int) else UNREADABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except Exception as error:
        return report_failure(error)
    return code


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNREADABLE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Prints the version; looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("autogroup")
        except PackageNotFoundError:
            number = "(not installed, run from its source)"
        print(f"autogroup {number}")
        parser.exit(OK)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; ``docs/cli.md`` is made from it too.

    Example:
        >>> parser().parse_args(["inspect", "net.pt2"]).sources
        ['net.pt2']
    """
    parser = _Parser(
        prog="autogroup",
        description="Find which parameters of a PyTorch model are scale-invariant, and why.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    inspect = commands.add_parser(
        "inspect",
        help="print the verdict of every parameter",
        description="Prints the verdict of every parameter; of tensors without --arch what there is. Of several "
        "sources, one that fails does not stop the others.",
        epilog=_EPILOG,
    )
    inspect.add_argument("sources", metavar="SOURCE", nargs="+", help=_SOURCE)
    _add_reading(inspect)
    inspect.add_argument("--format", choices=("table", "tree", "json", "csv"), default="table", help="default: table")
    inspect.add_argument(
        "--only", action="append", choices=VERDICTS, metavar="VERDICT", help=f"show only: {', '.join(VERDICTS)}"
    )
    inspect.add_argument("--verify", action="store_true", help="also test every claim numerically on a float64 copy")

    scan = commands.add_parser(
        "scan",
        help="print one row for each of many models",
        description="Examines models in other processes; one that fails, crashes or takes too long is a row saying so. "
        "Ctrl-C prints the rows that are done.",
        epilog=_EPILOG,
    )
    scan.add_argument("patterns", metavar="PATTERN", nargs="+", help=_PATTERN)
    _add_reading(scan)
    scan.add_argument("--verify", action="store_true", help="also test every claim numerically on a float64 copy")
    scan.add_argument(
        "--jobs", type=_positive(int), default=1, metavar="N", help="processes, each of one thread; default: 1"
    )
    scan.add_argument(
        "--timeout",
        type=_positive(float),
        default=600,
        metavar="S",
        help="seconds that one model may take; default: 600",
    )
    scan.add_argument("--format", choices=("table", "json", "csv"), default="table", help="default: table")
    scan.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write each row to FILE at once, as a line of JSON; models that are in FILE already are not repeated",
    )
    scan.add_argument("--retry", action="store_true", help="repeat the models whose row in FILE is an error")

    explain = commands.add_parser(
        "explain",
        help="show what led to the verdicts of some parameters",
        description="Shows the operators on the way from a parameter to the one that decided its verdict.",
        epilog=_EPILOG,
    )
    _add_source(explain)
    explain.add_argument(
        "parameters",
        metavar="PARAMETER",
        nargs="+",
        help="full name such as layer1.0.conv1.weight, or a pattern such as 'layer1.*.weight'",
    )

    graph = commands.add_parser(
        "graph",
        help="write a page with table, tree and graph, or the graph as DOT, Mermaid, GraphML or JSON",
        description="Writes a picture of the report. An earlier picture in FILE is replaced, any other file is not.",
        epilog=_EPILOG,
    )
    _add_source(graph)
    graph.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="out.html, .dot, .mmd, .graphml or .json; - is stdout"
    )
    graph.add_argument("--format", choices=PICTURES, help="by default what the suffix of FILE says")
    graph.add_argument("--force", action="store_true", help="replace FILE whatever is in it")

    lint = commands.add_parser(
        "lint",
        help="list parameters that do nothing, disagreements with a known rule, or what a change regrouped",
        description="Without --against and --lock: lists parameters that do nothing and operators without a rule.",
        epilog=_EPILOG,
    )
    _add_source(lint)
    lint.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    lint.add_argument("--against", choices=tuple(RULES), help="; ".join(f"{k}: {v}" for k, v in RULES.items()))
    lint.add_argument("--lock", metavar="FILE", help="compare with the plan in FILE; written if there is none yet")
    lint.add_argument("--update-lock", action="store_true", help="replace the plan in the --lock file")

    commands.add_parser(
        "demo",
        help="save a small model, inspect the file, train it a few steps",
        description="Saves a small model, inspects the file, and trains it a few steps with the groups.",
    )
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    """Add what every command that reads one model takes."""
    command.add_argument("source", metavar="SOURCE", help=_SOURCE)
    _add_reading(command)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options that say how models are read."""
    command.add_argument(
        "--input",
        action="append",
        type=parse_input,
        metavar="SHAPE[:DTYPE]",
        dest="inputs",
        help="one positional example input, e.g. 2x3x224x224 or 2x16:int64; repeat it for several; guessed if absent",
    )
    command.add_argument(
        "--arch",
        metavar="NAME",
        help="the architecture of a file of tensors: torchvision:NAME, timm:NAME, hf:CONFIG, package.module:callable "
        "or file.py:callable; its names and shapes must be those of the file",
    )
    command.add_argument("--mode", choices=("train", "eval"), help="default: train")
    command.add_argument("--trust", action="store_true", help="let code stored in a pickle file run")
    command.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show on stderr how far the work is; by default only if stderr is a terminal",
    )


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return a parser of numbers above zero."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' * (kind is int)}number above zero")
        return number

    return parse


def parse_input(text: str) -> tuple[tuple[int, ...], str]:
    """Parse ``SHAPE[:DTYPE]``.

    Raises:
        argparse.ArgumentTypeError: the text is of another form or the dtype is unknown.

    Example:
        >>> parse_input("2x16:int64")
        ((2, 16), 'int64')
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 2x3x224x224 or 2x16:int64")
    dtype = match[2] or "float32"
    if dtype not in DTYPES:
        raise argparse.ArgumentTypeError(f"{text!r} has the unknown dtype {dtype!r}; known are {', '.join(DTYPES)}")
    return tuple(int(size) for size in match[1].split("x")), dtype


def _imported(command: str) -> ModuleType:
    """Import what runs a command, with torch; what stays anyway is no garbage to look for, then or later."""
    first = "torch" not in sys.modules
    if first:
        gc.disable()
    try:
        return import_module(f"autogroup.commands.{command}")
    finally:
        if first:
            gc.freeze()
            gc.enable()


def _check_source(arguments: argparse.Namespace) -> None:
    """Answer at once if the only SOURCE is no file and no name: what comes next imports torch."""
    sources = arguments.sources if "sources" in arguments else [arguments.source] if "source" in arguments else []
    if len(sources) == 1:
        check_spelling(sources[0])


def _survive_narrow_encodings() -> None:
    """Escape what the terminal cannot spell instead of failing half way through the output."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit does not fail as well."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
