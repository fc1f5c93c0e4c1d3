"""All rescaling symmetries of a network: the null space of what its operators demand of the log-scales.

Each axis of each parameter has one variable per index; an entry's log-scale is the sum over its axes. The rules run
once more with ``JointContext``, which turns them into equations; every solution is a symmetry of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor, fx

from autogroup.algebra.domain import Dependence, Factor, Key, Value
from autogroup.algebra.joint import JointContext
from autogroup.algebra.system import System
from autogroup.capture import Capture
from autogroup.infer.families import Axis, families, symmetry_of
from autogroup.infer.initial import constant_zeros, zero_value
from autogroup.infer.interpret import Interpreter
from autogroup.infer.joint import joint_sums
from autogroup.infer.nullspace import solve
from autogroup.partition import Partition
from autogroup.report import ParameterReport
from autogroup.symmetry import Symmetry, scale_symmetry

MAX_VARIABLES = 1 << 20
"""A row or column has a log-scale of its own as long as there are no more of them in the whole model."""


def symmetries(capture: Capture, parameters: Mapping[str, ParameterReport]) -> tuple[Symmetry, ...]:
    """Return a basis of the rescalings that leave the loss unchanged.

    Args:
        capture: the captured graph.
        parameters: what is known of single parameters: their own invariances come first and are divided out of
            the others; a dead bias counts as zero.
    """
    system = System()
    axes, seeds = _seeds(system, capture, parameters)
    interpreter = Interpreter(capture.graph, seeds, assumed_sizes=capture.method == "symbolic", context=JointContext)
    interpreter.escape_outputs(interpreter.run())
    basis = families(system, solve(system, _rank(system, axes)), axes)
    alone = {name: p.partition for name, p in parameters.items() if p.partition is not None}
    names = list(parameters)
    found = [s for s in (_without(s, alone, names) for s in basis) if s is not None]
    found += joint_sums(found, names)
    single = [scale_symmetry(name, partition, eps=parameters[name].eps) for name, partition in alone.items()]
    first = {name: n for n, name in enumerate(names)}
    unique = {(s.kind, s.members): s for s in sorted(found, key=lambda s: (first[s.parameters[0]], len(s.members)))}
    return (*single, *unique.values())


def _without(symmetry: Symmetry, alone: Mapping[str, Partition], names: Sequence[str]) -> Symmetry | None:
    """Drop the members that may be scaled back on their own."""
    members = [m for m in symmetry.members if m.parameter not in alone or not alone[m.parameter].refines(m.partition)]
    if len(members) < len(symmetry.members) and len({m.parameter for m in members}) < 2:
        return None  # what is left are rows that nothing depends on
    return symmetry_of(members, symmetry.count, names, eps=symmetry.eps)


def _seeds(
    system: System, capture: Capture, parameters: Mapping[str, ParameterReport]
) -> tuple[list[Axis], dict[fx.Node, Value]]:
    """One variable per index of every axis of every parameter that the loss depends on.

    Models with very many rows and columns get one per run of neighbouring indices: fewer symmetries, all of them true.
    """
    axes: list[Axis] = []
    seeds = constant_zeros(capture)
    longest = _longest_axis([parameters[name].shape for name in capture.parameters])
    for number, (name, node) in enumerate(capture.parameters.items()):
        shape, verdict = parameters[name].shape, parameters[name].verdict
        if verdict == "unused":
            continue
        if verdict == "dead" and parameters[name].partition is None:
            seeds[node] = zero_value(node)
            continue
        own: list[Axis] = []
        for d in _long_dims(shape) or [0]:
            labels = system.new([min(shape[d] if shape else 1, longest)], gauge=bool(own))
            own.append(Axis(name, shape, d, labels))
        factors = tuple(Factor(Fraction(1), axis.spread(axis.labels)) for axis in own)
        seeds[node] = Value(shape, {Key(system, "scale"): Dependence(factors)}, name=-1 - number)
        axes += own
    return axes, seeds


def _long_dims(shape: tuple[int, ...]) -> list[int]:
    return [d for d, n in enumerate(shape) if n > 1]


def _longest_axis(shapes: Sequence[tuple[int, ...]]) -> int:
    """The largest power of two that keeps the number of variables within bounds, if each axis has no more."""
    sizes = [shape[d] for shape in shapes for d in _long_dims(shape)]
    longest = 1 << 62
    while longest > 1 and sum(min(n, longest) for n in sizes) > MAX_VARIABLES:
        longest = min(longest, 1 << max(sizes).bit_length()) // 2
    return longest


def _rank(system: System, axes: Sequence[Axis]) -> Tensor:
    """Rank of the variables: auxiliary ones are expressed first, then those of later axes, then later parameters."""
    rank = torch.full((system.count,), 1 << 40, dtype=torch.int64)
    for place, axis in enumerate(axes):
        rank[axis.labels] = ((1 << 20) if axis.dim else 0) + place
    return rank
