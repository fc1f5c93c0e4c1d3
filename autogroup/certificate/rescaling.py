"""The direct test: multiply parameters by random factors and see whether the outputs change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autogroup.capture.unwrap import clean_fqn
from autogroup.certificate import twin as twins
from autogroup.symmetry import Symmetry

Factors = Mapping[str, Tensor]
"""Parameter → what it is multiplied by, broadcast over the parameter."""

_PASSES = 3


def output_changes(
    model: nn.Module,
    draws: Mapping[str, Callable[[torch.Generator], Factors]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mode: str,
    seed: int,
    tolerance: float,
) -> dict[str, float]:
    """Multiply parameters by the factors that ``draws`` gives and return the relative change of the outputs.

    All claims are rescaled at once; only if that changes the outputs is each one tried alone.
    """
    twin = twins.exact_copy(model, mode, seed)
    args, kwargs = twins.generic_inputs(args, seed + 1), twins.generic_inputs(dict(kwargs), seed + 2)
    buffers = {name: buffer.clone() for name, buffer in twin.named_buffers()}
    parameters = {clean_fqn(name): parameter for name, parameter in twin.named_parameters()}
    values = {name: parameter.data.clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(seed)

    def outputs(*scalings: Factors) -> Sequence[Tensor]:
        for name, parameter in parameters.items():
            parameter.data = values[name].clone()
            for factors in scalings:
                if name in factors:
                    parameter.data *= factors[name]
        for name, buffer in twin.named_buffers():
            buffer.data = buffers[name].clone()
        return [out.detach() for out in twins.run(twin, args, kwargs, mode, seed)]

    before = outputs()
    changes = dict.fromkeys(draws, 0.0)
    for _ in range(_PASSES):
        drawn = {name: draw(generator) for name, draw in draws.items()}
        together = _change(before, outputs(*drawn.values()))
        if together < tolerance:
            changes = {name: max(change, together) for name, change in changes.items()}
            continue
        for name in draws:
            changes[name] = max(changes[name], _change(before, outputs(drawn[name])))
    return changes


def one_copy(symmetry: Symmetry, generator: torch.Generator) -> Factors:
    """Move one random copy of a symmetry by a random α in [1/4, 4]."""
    copy = int(torch.randint(max(1, symmetry.count), (1,), generator=generator))
    alpha = 4 ** float(torch.rand(1, generator=generator) * 2 - 1)
    factors: dict[str, Tensor] = {}
    for member in symmetry.members:
        factor = torch.where(member.labels == copy, alpha ** float(member.power), 1.0).double()
        factors[member.parameter] = factors.get(member.parameter, torch.ones(())) * factor
    return factors


def every_entry(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Factors:
    """Multiply every entry of a parameter by a factor of its own in [1/4, 4]."""
    return {name: 4 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1)}


def _change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Largest change of an output entry relative to the largest entry of that output."""
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        both = torch.isfinite(a) & torch.isfinite(b)
        if bool((torch.isfinite(a) != torch.isfinite(b)).any()):
            return math.inf
        if bool(both.any()):
            worst = max(worst, float((a - b)[both].abs().max() / a[both].abs().max().clamp_min(1e-300)))
    return worst
