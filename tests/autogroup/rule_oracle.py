"""The numeric oracle of operator rules: scale one block, run the operator, compare with what the rule said.

For an abstract output with factors (degree d, labels L) and terms s, multiplying block b by α must give
``α^d h + s`` at the positions that L gives to b, and change nothing elsewhere. Nothing here knows a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.domain import Dependence, Factor, Key, Value
from autogroup.algebra.labels import INDEPENDENT, ZERO_TERM, fresh_terms
from autogroup.infer.interpret import Interpreter
from autogroup.registry import T

ALPHAS = (1.7, 0.6)
TOLERANCE = 1e-9


def make(leaf: T, generator: torch.Generator) -> Tensor:
    """A generic tensor of the kind a sample asks for."""
    if leaf.kind == "index":
        return torch.randint(leaf.high, leaf.shape, generator=generator)
    if leaf.kind == "bool":
        return torch.rand(leaf.shape, generator=generator) < 0.5
    if leaf.kind == "complex":
        return torch.randn(leaf.shape, generator=generator, dtype=torch.complex128)
    values = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
    return values.abs() + 0.1 if leaf.kind == "positive" else values


class Abstract:
    """What the rules say of ``fn(parameter, *others)``."""

    def __init__(self, fn: Callable[..., Any], parameter: Tensor, others: Sequence[Tensor]) -> None:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fakes = [mode.from_tensor(t) for t in (parameter, *others)]
            graph = make_fx(lambda *ts: fn(*ts), tracing_mode="fake", pre_dispatch=True)(*fakes).graph
        shape = tuple(parameter.shape)
        self.blocks = Blocks("p", shape, torch.arange(parameter.numel()).view(shape))
        self.key = Key(self.blocks, "scale")
        place = next(n for n in graph.nodes if n.op == "placeholder")
        self.shift = Key(self.blocks, "shift")
        self.blocks.translates = True
        scales = Dependence((Factor(Fraction(1), self.blocks.grid),))
        moves = Dependence((), fresh_terms(1, shape))
        seed = Value(shape, {self.key: scales, self.shift: moves}, name=-1)
        interpreter = Interpreter(graph, {place: seed})
        self.outputs = interpreter.run()
        self.unknown = interpreter.unknown_ops
        self.ids, _, self.escaped = self.blocks.settle()

    @property
    def alive(self) -> list[int]:
        """Blocks about which something is claimed."""
        return sorted(set(self.ids[~self.escaped].tolist()))


def check(fn: Callable[..., Any], parameter: Tensor, others: Sequence[Tensor]) -> int:
    """Hold the rules against numbers; return how many blocks survived.

    Raises:
        AssertionError: a claim is false; names the output, the block and the worst position.
    """
    said = Abstract(fn, parameter, others)

    def run(block: int, alpha: float) -> list[Tensor]:
        ones = torch.ones((), dtype=torch.float64)
        scaled = torch.where(said.ids == block, alpha * ones, ones) * parameter
        leaves = pytree.tree_leaves(fn(scaled.to(parameter.dtype), *others))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    check_translation(said, fn, parameter, others)
    for block in said.alive:
        base, first, second = run(block, 1.0), run(block, ALPHAS[0]), run(block, ALPHAS[1])
        assert len(base) == len(said.outputs)
        for out, (value, b, f, s) in enumerate(zip(said.outputs, base, first, second, strict=True)):
            if b.dtype in (torch.bool, torch.int64):
                assert torch.equal(b, f), f"output {out} is not invariant in block {block}"
                continue
            _check_output(value, said, block, b, f, s, f"output {out}, block {block}")
    return len(said.alive)


def check_translation(said: Abstract, fn: Callable[..., Any], parameter: Tensor, others: Sequence[Tensor]) -> None:
    """Move the parameter by anything: outputs may only move by their terms, equal where the ids are equal."""
    if not said.blocks.translates or not parameter.numel():
        return
    step = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4), dtype=parameter.dtype)
    before, after = (pytree.tree_leaves(fn(p, *others)) for p in (parameter, parameter + 0.3 * step))
    for out, (value, a, b) in enumerate(zip(said.outputs, before, after, strict=True)):
        if not (a.is_floating_point() or a.is_complex()):
            assert torch.equal(a, b), f"output {out} changes under a translation"
            continue
        dep = value.deps.get(said.shift)
        terms = torch.zeros((), dtype=torch.int64) if dep is None or dep.terms is None else dep.terms
        terms, moved = terms.expand(value.shape), torch.where(a.isfinite() & b.isfinite(), b - a, 0)
        for number in terms.unique().tolist():
            same = moved[terms == number]
            center = torch.zeros(()) if number == ZERO_TERM else same[0]
            assert bool(((same - center).abs() < 1e-9).all()), f"output {out} moves otherwise than its terms say"


def _check_output(
    value: Value, said: Abstract, block: int, base: Tensor, first: Tensor, second: Tensor, where: str
) -> None:
    # Labels beyond the parameter's own belong to positions of a lookup: the rule does not say which row stands
    # there, so only the verdict can be held against numbers (see the small networks with embeddings).
    # Zero divided by zero is outside every claim.
    assert tuple(base.shape) == value.shape, f"{where}: shape {value.shape}, truly {tuple(base.shape)}"
    dep = value.deps.get(said.key)
    degree = torch.zeros(value.shape, dtype=torch.float64)
    terms = torch.zeros(value.shape, dtype=torch.int64)
    if dep is not None:
        for factor in dep.factors:
            labels = said.blocks.find(factor.labels).expand(value.shape)
            degree += torch.where(labels == block, float(factor.degree), 0.0)
            live = labels != INDEPENDENT
            if dep.terms is not None:
                terms = torch.where(live, dep.terms.expand(value.shape), terms)
    virtual = torch.zeros(value.shape, dtype=torch.bool)
    for factor in dep.factors if dep is not None else ():
        virtual = virtual | (factor.labels >= said.blocks.grid.numel())
    skip = virtual.expand(value.shape) | ~base.isfinite() | ~first.isfinite()
    degree, base, first, second, terms = (t[~skip] for t in (degree, base, first, second, terms))
    if not base.numel():
        return
    scale = max(1.0, float(base.abs().max()))
    grown = [ALPHAS[i] ** degree - 1 for i in (0, 1)]
    # α^d h + s: eliminate h, so that no s has to be known.
    error = ((first - base) * grown[1] - (second - base) * grown[0]).abs() / scale
    assert float(error.max()) < TOLERANCE, f"{where}: does not grow as claimed"
    still = degree == 0
    assert torch.allclose(first[still], base[still], rtol=TOLERANCE, atol=TOLERANCE), (
        f"{where}: changes where it must not"
    )
    pure = ~still & (terms == ZERO_TERM)
    factor = (ALPHAS[0] ** degree).to(base.dtype)
    assert torch.allclose(first[pure], (factor * base)[pure], rtol=1e-8, atol=TOLERANCE), (
        f"{where}: has a term that is not claimed"
    )
    _check_terms(terms, ~still, base - (first - base) / torch.where(still, 1.0, grown[0]), where)
    if value.zero is not None:
        zeros = base[value.zero.expand(value.shape)[~skip]]
        assert not bool(zeros.any()), f"{where}: is not zero where it is claimed to be"


def _check_terms(terms: Tensor, scaled: Tensor, values: Tensor, where: str) -> None:
    """Equal ids must mean equal terms."""
    for number in terms[scaled].unique().tolist():
        same = values[scaled & (terms == number)]
        spread = (same - same[0]).abs().max()
        assert float(spread) < 1e-7, f"{where}: one id for terms that differ by {float(spread):.1e}"
