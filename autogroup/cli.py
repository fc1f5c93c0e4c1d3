"""The ``autogroup`` command: argument parsing and exit codes. All that needs torch is imported when a command runs.

Exit codes: 0 fine; 1 a claim was refuted; 2 bad usage or unreadable input; 3 refused because reading the file would
run code; 130 interrupted; 141 the reader of the output went away.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from autogroup.errors import AutogroupError, InputError, LoadError, UntrustedError

if TYPE_CHECKING:
    from torch import Tensor

    from autogroup.load import Loaded
    from autogroup.report import Report

OK, FINDINGS, UNREADABLE, REFUSED, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

VERDICTS = ("invariant", "partial", "joint", "dead", "variant", "unknown", "unused")
"""Spelled out here so that ``--help`` needs no torch; a test holds it against ``report.VERDICTS``."""

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
_INPUT = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")

_SOURCE = (
    "package.module:callable, file.py:callable (a module, its class, or a function returning a module, (module, "
    "args) or (module, args, kwargs)), torchvision:NAME, timm:NAME, hf:FOLDER (with a config.json), a .pt2 file of "
    "torch.export, or a .pt/.pth file with a whole module (needs --trust)"
)
_EPILOG = (
    "exit codes: 0 fine; 1 --verify refuted a claim; 2 bad usage or unreadable input; 3 refused because reading the "
    "file would run code stored in it. Set AUTOGROUP_TRACEBACK=1 to see where an error came from."
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
        arguments = _parser().parse_args(argv)
        if not hasattr(arguments, "run"):
            _parser().print_help(sys.stderr)
            return UNREADABLE
        _survive_narrow_encodings()
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse after --help, --version or a usage error
        return stop.code if isinstance(stop.code, int) else UNREADABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if os.environ.get("AUTOGROUP_TRACEBACK"):
            raise
        _report_error(error)
        return REFUSED if isinstance(error, UntrustedError) else UNREADABLE
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="autogroup",
        description="Find which parameters of a PyTorch model are scale-invariant, and why.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    inspect = commands.add_parser("inspect", help="print the verdict of every parameter", epilog=_EPILOG)
    _add_source(inspect)
    inspect.add_argument("--format", choices=("table", "tree", "json", "csv"), default="table", help="default: table")
    inspect.add_argument(
        "--only", action="append", choices=VERDICTS, metavar="VERDICT", help=f"show only: {', '.join(VERDICTS)}"
    )
    inspect.add_argument("--verify", action="store_true", help="also test every claim numerically on a float64 copy")
    inspect.set_defaults(run=_inspect)

    explain = commands.add_parser("explain", help="show what led to the verdict of one parameter", epilog=_EPILOG)
    _add_source(explain)
    explain.add_argument("parameter", metavar="PARAMETER", help="full name, e.g. layer1.0.conv1.weight")
    explain.set_defaults(run=_explain)

    demo = commands.add_parser("demo", help="save a small model, inspect the file, train it a few steps")
    demo.set_defaults(run=_demo)
    return parser


def _add_source(command: argparse.ArgumentParser) -> None:
    """Add what every command that reads a model takes."""
    command.add_argument("source", metavar="SOURCE", help=_SOURCE)
    command.add_argument(
        "--input",
        action="append",
        type=parse_input,
        metavar="SHAPE[:DTYPE]",
        dest="inputs",
        help="one positional example input, e.g. 2x3x224x224 or 2x16:int64; repeat it for several; guessed if absent",
    )
    command.add_argument("--mode", choices=("train", "eval"), help="default: train; an exported program has its own")
    command.add_argument("--trust", action="store_true", help="let code stored in a pickle file run")


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


def _inspect(arguments: argparse.Namespace) -> int:
    from autogroup import render

    loaded, report = _analyze(arguments)
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


def _explain(arguments: argparse.Namespace) -> int:
    from autogroup import render

    _, report = _analyze(arguments)
    render.print_explanation(report, arguments.parameter)
    return OK


def _demo(_: argparse.Namespace) -> int:
    from autogroup.demo import run_demo

    run_demo()
    return OK


def _analyze(arguments: argparse.Namespace) -> tuple[Loaded, Report]:
    """Load the SOURCE and analyze it as the options say."""
    from autogroup.api import analyze
    from autogroup.load import analyze_capture, load

    loaded = load(arguments.source, trust=arguments.trust)
    if loaded.capture is not None:
        if arguments.inputs:
            raise InputError(f"{loaded.label}: the input sizes of an exported program are fixed; drop --input")
        if arguments.mode not in (None, loaded.capture.mode):
            raise InputError(
                f"{loaded.label}: was exported in mode {loaded.capture.mode}, which --mode cannot change: export the "
                "model again in the other mode"
            )
        return loaded, analyze_capture(loaded.capture)
    assert loaded.model is not None
    args, kwargs = _example_inputs(loaded, arguments)
    return loaded, analyze(loaded.model, args, kwargs, mode=arguments.mode or "train")


def _verify(loaded: Loaded, report: Report, arguments: argparse.Namespace) -> Any:
    from autogroup.capture.inputs import guess_inputs, without_cache
    from autogroup.certificate import certify

    if loaded.model is None:
        raise LoadError(
            f"{loaded.label}: --verify runs the model, and an exported program is read without its weights; name the "
            "code instead, as in file.py:callable"
        )
    args, kwargs = _example_inputs(loaded, arguments)
    if args is None and kwargs is None:
        args, kwargs, _ = guess_inputs(loaded.model)
    kwargs, _ = without_cache(loaded.model, args or (), kwargs or {})
    return certify(loaded.model, report, args, kwargs)


def _example_inputs(
    loaded: Loaded, arguments: argparse.Namespace
) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    """Return the inputs of the command line, else those that came with the model, else ``None`` to guess them."""
    if not arguments.inputs:
        return loaded.args, loaded.kwargs
    parameter = next(iter(loaded.model.parameters()), None) if loaded.model else None
    device = "cpu" if parameter is None or parameter.is_meta else str(parameter.device)
    return tuple(_example(shape, dtype, device) for shape, dtype in arguments.inputs), None


def _example(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
    """Make an input: random numbers, or zeros and ones where the dtype counts, which index any table."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    if kind.is_floating_point or kind.is_complex:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(device, kind)
    size = 1
    for n in shape:
        size *= n
    return torch.arange(size).remainder(2).view(shape).to(device, kind)


def _report_error(error: Exception) -> None:
    """Print an error in one line; one that was not raised on purpose also says what it is."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError) and "args=" in text:
        text += " (on the command line: --input SHAPE[:DTYPE])"
    if not isinstance(error, AutogroupError):
        text = f"{type(error).__name__}: {text}"
    print(f"autogroup: {text}", file=sys.stderr)


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
