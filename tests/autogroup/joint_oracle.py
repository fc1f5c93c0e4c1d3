"""The numeric oracle of operator rules when all arguments are scaled at once, by one factor per row and column.

``JointContext`` turns what an operator demands into equations between the log-scales of its arguments. For random
solutions of these the arguments are scaled, the operator is run, and the outputs must have grown by the forms that
the rule returned. Nothing here knows a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from autogroup.algebra.domain import Dependence, Factor, Key, Value
from autogroup.algebra.joint import JointContext
from autogroup.algebra.labels import INDEPENDENT
from autogroup.algebra.system import System
from autogroup.infer.interpret import Interpreter
from autogroup.infer.nullspace import solve

TOLERANCE = 1e-9
TRIES = 3


def check_jointly(fn: Callable[..., Any], tensors: Sequence[Tensor]) -> int:
    """Hold the rules against numbers; return how many log-scales are free.

    Raises:
        AssertionError: an output does not grow as its form says.
    """
    system = System()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(t) for t in tensors]
        graph = make_fx(lambda *ts: fn(*ts), tracing_mode="fake", pre_dispatch=True)(*fakes).graph
    places = [n for n in graph.nodes if n.op == "placeholder"]
    labels = [_labels(system, t) if t.is_floating_point() or t.is_complex() else [] for t in tensors]
    seeds: dict[fx.Node, Value] = {}
    for n, (node, own) in enumerate(zip(places, labels, strict=True)):
        if own:
            form = Dependence(tuple(Factor(Fraction(1), axis) for axis in own))
            seeds[node] = Value(tuple(tensors[n].shape), {Key(system, "scale"): form}, name=-1 - n)
    outputs = Interpreter(graph, seeds, context=JointContext).run()
    solution = solve(system, torch.arange(system.count))
    free = solution.free.unique()
    generator = torch.Generator().manual_seed(1)
    for _ in range(TRIES):
        chosen = torch.zeros(system.count, dtype=torch.float64)
        chosen[free] = torch.rand(free.numel(), generator=generator, dtype=torch.float64) * 2 - 1
        solved = torch.zeros(system.count, dtype=torch.float64)
        solved.index_add_(0, solution.variable, solution.coefficient * chosen[solution.free])
        logs = torch.cat([solved[system.roots()] * (system.roots() != INDEPENDENT), torch.zeros(1)])
        scaled = [t * sum(logs[a] for a in own).exp() if own else t for t, own in zip(tensors, labels, strict=True)]
        before, after = (pytree.tree_leaves(fn(*ts)) for ts in (tensors, scaled))
        assert len(before) == len(outputs)
        for place, (value, a, b) in enumerate(zip(outputs, before, after, strict=True)):
            _check_output(value, logs, a, b, f"output {place}")
    return free.numel()


def _labels(system: System, tensor: Tensor) -> list[Tensor]:
    """One variable per index of every axis, as the analysis has them for parameters."""
    long = [d for d, n in enumerate(tensor.shape) if n > 1]
    if not long:
        return [system.new([1] * tensor.dim())]
    shapes = [[n if i == d else 1 for i, n in enumerate(tensor.shape)] for d in long]
    return [system.new(shape, gauge=place > 0) for place, shape in enumerate(shapes)]


def _check_output(value: Value, logs: Tensor, before: Tensor, after: Tensor, where: str) -> None:
    assert tuple(before.shape) == value.shape, f"{where}: shape {value.shape}, truly {tuple(before.shape)}"
    form = torch.zeros(value.shape, dtype=torch.float64)
    for dep in value.deps.values():
        for factor in dep.factors:
            form = form + float(factor.degree) * logs[factor.labels]
    if not (before.is_floating_point() or before.is_complex()):
        assert torch.equal(before, after), f"{where} changes, though it is no number that could scale"
        return
    counts = before.isfinite() & after.isfinite()
    if value.zero is not None:
        zero = value.zero.expand(value.shape)
        assert not bool(before[zero & counts].any()), f"{where} is not zero where it is claimed to be"
        counts = counts & ~zero
    expected = (before * form.exp())[counts]
    assert torch.allclose(after[counts], expected, rtol=1e-8, atol=TOLERANCE), f"{where} does not grow as its form says"
