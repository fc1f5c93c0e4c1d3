"""From the options that every command with a SOURCE takes to a model and its report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autogroup import load
from autogroup.capture import Capture
from autogroup.errors import InputError, LoadError
from autogroup.load import Loaded, LoadedModel, LoadedTensors
from autogroup.progress import Progress, silent
from autogroup.render.progress import shown
from autogroup.report import Report

if TYPE_CHECKING:
    from torch import Tensor

    from autogroup.certificate import Certificate


def load_source(source: str, arguments: argparse.Namespace, progress: Progress = silent) -> Loaded:
    """Load a SOURCE as the options say; warn on stderr if that ran code from a file.

    Raises:
        AutogroupError: whatever ``load`` raises.
    """
    progress("load", 0, 1)
    loaded = load.load(source, trust=arguments.trust, arch=arguments.arch)
    if loaded.warning:
        print(f"autogroup: warning: {loaded.warning}", file=sys.stderr)
    return loaded


def analyze_source(arguments: argparse.Namespace) -> tuple[Loaded, Report]:
    """Load the one SOURCE and analyze it as the options say, and show how far that is.

    Raises:
        InputError: an exported program or a report was given inputs or another mode.
        LoadError: the file has no graph.
        AutogroupError: whatever ``load`` and ``analyze`` raise.
    """
    with shown(arguments.progress, arguments.source) as progress:
        loaded = load_source(arguments.source, arguments, progress)
        return loaded, report_of(loaded, arguments, progress)


def report_of(loaded: Loaded, arguments: argparse.Namespace, progress: Progress = silent) -> Report:
    """Return the report of what was loaded; see ``analyze_source``."""
    match loaded.content:
        case Report() as report:
            if arguments.inputs or arguments.mode not in (None, report.capture.get("mode")):
                raise InputError(f"{loaded.label}: is a report, already analyzed; drop --input and --mode")
        case LoadedTensors():
            raise LoadError(f"{loaded.label}: {load.NO_GRAPH}")
        case Capture() as capture:
            if arguments.inputs:
                raise InputError(f"{loaded.label}: the input sizes of an exported program are fixed; drop --input")
            progress("analyze", 0, 1)
            report = _of_capture(loaded.label, capture, arguments.mode or "train")
        case LoadedModel(model=model):
            # Imported here, since an exported program does without: it imports the tracers.
            from autogroup import api

            args, kwargs = example_inputs(loaded, arguments)
            report = api.analyze(model, args, kwargs, mode=arguments.mode or "train", progress=progress)
    notes = [*report.capture.get("notes", ()), *loaded.notes]
    return replace(report, capture={**report.capture, "notes": notes}) if loaded.notes else report


def _of_capture(label: str, capture: Capture, mode: str) -> Report:
    try:
        return load.analyze_capture(capture, mode=mode)
    except InputError as error:
        raise InputError(f"{label}: {error}") from error


def verify(loaded: Loaded, report: Report, arguments: argparse.Namespace, progress: Progress = silent) -> Certificate:
    """Test every claim of a report on the model that it is of.

    Raises:
        LoadError: the source has no model that could run.
        AutogroupError: whatever ``certify`` raises.
    """
    if loaded.model is None:
        raise LoadError(
            f"{loaded.label}: --verify runs the model, and an exported program or a report is read without one; name "
            "the code instead, as in file.py:callable"
        )
    # Imported here: tables of files do without the model's forward and all that runs it.
    from autogroup.capture.inputs import guess_inputs, without_cache
    from autogroup.certificate import certify

    args, kwargs = example_inputs(loaded, arguments)
    if args is None and kwargs is None:
        args, kwargs, _ = guess_inputs(loaded.model)
    kwargs, _ = without_cache(loaded.model, args or (), kwargs or {})
    return certify(loaded.model, report, args, kwargs, progress=progress)


def example_inputs(
    loaded: Loaded, arguments: argparse.Namespace
) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    """Return the inputs of the command line, else those that came with the model, else ``None`` to guess them."""
    if not isinstance(loaded.content, LoadedModel):
        return None, None
    if not arguments.inputs:
        return loaded.content.args, loaded.content.kwargs
    parameter = next(iter(loaded.content.model.parameters()), None)
    device = "cpu" if parameter is None or parameter.is_meta else str(parameter.device)
    return tuple(example(shape, dtype, device) for shape, dtype in arguments.inputs), None


def example(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
    """Make an input: random numbers, or zeros and ones where the dtype counts, which index any table.

    Example:
        >>> example((2, 2), "int64", "cpu").tolist()
        [[0, 1], [0, 1]]
    """
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    if kind.is_floating_point or kind.is_complex:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(device, kind)
    size = 1
    for n in shape:
        size *= n
    return torch.arange(size).remainder(2).view(shape).to(device, kind)
