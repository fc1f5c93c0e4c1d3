"""From the options that every command with a SOURCE takes to a model and its report."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from autogroup import api, load
from autogroup.errors import InputError
from autogroup.load import Loaded
from autogroup.report import Report


def analyze_source(arguments: argparse.Namespace) -> tuple[Loaded, Report]:
    """Load the SOURCE and analyze it as the options say.

    Raises:
        InputError: an exported program was given inputs or another mode.
        AutogroupError: whatever ``load`` and ``analyze`` raise.
    """
    loaded = load.load(arguments.source, trust=arguments.trust)
    if loaded.capture is not None:
        if arguments.inputs:
            raise InputError(f"{loaded.label}: the input sizes of an exported program are fixed; drop --input")
        if arguments.mode not in (None, loaded.capture.mode):
            raise InputError(
                f"{loaded.label}: was exported in mode {loaded.capture.mode}, which --mode cannot change: export the "
                "model again in the other mode"
            )
        return loaded, load.analyze_capture(loaded.capture)
    assert loaded.model is not None
    args, kwargs = example_inputs(loaded, arguments)
    return loaded, api.analyze(loaded.model, args, kwargs, mode=arguments.mode or "train")


def example_inputs(
    loaded: Loaded, arguments: argparse.Namespace
) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    """Return the inputs of the command line, else those that came with the model, else ``None`` to guess them."""
    if not arguments.inputs:
        return loaded.args, loaded.kwargs
    parameter = next(iter(loaded.model.parameters()), None) if loaded.model else None
    device = "cpu" if parameter is None or parameter.is_meta else str(parameter.device)
    return tuple(example(shape, dtype, device) for shape, dtype in arguments.inputs), None


def example(shape: tuple[int, ...], dtype: str, device: str) -> Tensor:
    """Make an input: random numbers, or zeros and ones where the dtype counts, which index any table.

    Example:
        >>> example((2, 2), "int64", "cpu").tolist()
        [[0, 1], [0, 1]]
    """
    kind: torch.dtype = getattr(torch, dtype)
    if kind.is_floating_point or kind.is_complex:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(device, kind)
    size = 1
    for n in shape:
        size *= n
    return torch.arange(size).remainder(2).view(shape).to(device, kind)
