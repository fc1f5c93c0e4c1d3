"""Every rule against numbers, on the samples that stand beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import autogroup.rules  # noqa: F401  # fills the table
from autogroup.registry import Entry, T, coverage, lookup, rule
from tests.autogroup.rule_oracle import Abstract, check, make

ENTRIES = dict(coverage())
CLAIMLESS = {"nonlinear", "plain", "zeros", "polar", "div_mode"}
"""Rules that keep no dependence at all: there is nothing about them that numbers could refute."""

SAMPLES = [
    pytest.param(name, number, leaf, id=f"{name.removeprefix('aten.')}-{number}-{leaf}")
    for name, entry in ENTRIES.items()
    for number, sample in enumerate(entry.samples)
    for leaf, spec in enumerate(s for s in pytree.tree_leaves(list(sample)) if isinstance(s, T))
    if spec.kind in ("real", "positive", "complex")
]


def operator(name: str) -> Callable[..., Any]:
    packet, overload = name.removeprefix("aten.").rsplit(".", 1)
    return getattr(getattr(torch.ops.aten, packet), overload)


def prepare(name: str, number: int, leaf: int) -> tuple[Callable[..., Any], Tensor, list[Tensor]]:
    """The operator as a function of one of its tensors and the list of the others."""
    flat, spec = pytree.tree_flatten(list(ENTRIES[name].samples[number]))
    generator = torch.Generator().manual_seed(3)
    places = [i for i, item in enumerate(flat) if isinstance(item, T)]
    tensors = [make(flat[i], generator) for i in places]
    parameter, others = tensors[leaf], tensors[:leaf] + tensors[leaf + 1 :]

    def call(p: Tensor, *rest: Tensor) -> Any:
        filled = list(flat)
        for place, tensor in zip(places, (*rest[:leaf], p, *rest[leaf:]), strict=True):
            filled[place] = tensor
        return operator(name)(*pytree.tree_unflatten(filled, spec))

    return call, parameter, others


@pytest.mark.parametrize(("name", "number", "leaf"), SAMPLES)
def test_what_the_rule_claims_is_true(name: str, number: int, leaf: int) -> None:
    call, parameter, others = prepare(name, number, leaf)
    assert check(call, parameter, others) >= 0


@pytest.mark.parametrize(("name", "number", "leaf"), SAMPLES)
def test_what_the_rule_claims_of_a_biased_value_is_true(name: str, number: int, leaf: int) -> None:
    call, parameter, others = prepare(name, number, leaf)
    for axis in range(parameter.dim()):
        shape = [n if d == axis else 1 for d, n in enumerate(parameter.shape)]
        bias = torch.linspace(0.5, 1.5, shape[axis], dtype=torch.float64).view(shape)
        assert check(lambda p, *rest, bias=bias: call(p + bias, *rest), parameter, others) >= 0


@pytest.mark.parametrize(("name", "number", "leaf"), SAMPLES)
def test_what_the_rule_claims_of_a_partly_scaled_value_is_true(name: str, number: int, leaf: int) -> None:
    call, parameter, others = prepare(name, number, leaf)
    if parameter.dim() == 0 or parameter.is_complex():
        assert check(call, parameter, others) >= 0
        return
    for filler in (0.0, 0.7):
        for axis in range(parameter.dim()):
            cut = parameter.shape[axis] // 2
            rest_shape = [n - cut if d == axis else n for d, n in enumerate(parameter.shape)]
            fill = torch.zeros if filler == 0 else torch.ones

            def partly(p: Tensor, *rest: Tensor, axis: int = axis, cut: int = cut, fill: Any = fill, s: Any = tuple(rest_shape)) -> Any:
                return call(torch.cat([p.narrow(axis, 0, cut), fill(s, dtype=torch.float64)], axis), *rest)

            assert check(partly, parameter, others) >= 0


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e.rule.__name__ not in CLAIMLESS])
def test_every_rule_that_claims_something_has_samples_on_which_it_does(name: str) -> None:
    entry = ENTRIES[name]
    twins = [e for e in ENTRIES.values() if e.rule is entry.rule and e.samples]
    assert entry.samples or twins, f"{name} has a rule without a sample"
    if entry.samples:
        leaves = [s for s in pytree.tree_leaves(list(entry.samples[0])) if isinstance(s, T)]
        kept = 0
        for leaf, spec in enumerate(leaves):
            if spec.kind in ("real", "positive", "complex"):
                call, parameter, others = prepare(name, 0, leaf)
                kept += len(Abstract(call, parameter, others).alive)
        assert kept, f"{name} lets every block escape on its first sample"


def test_a_second_rule_for_an_overload_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aten\.relu\.default has a rule already, in rules/pointwise\.py"):
        rule(torch.ops.aten.relu.default)(lambda ctx, x: x)


def test_in_place_and_out_overloads_share_the_rule_of_their_functional_twin() -> None:
    relu, div = lookup(torch.ops.aten.relu_.default), lookup(torch.ops.aten.div.out)
    assert isinstance(relu, Entry)
    assert relu is ENTRIES["aten.relu.default"]
    assert div is ENTRIES["aten.div.Tensor"]
    assert lookup(torch.ops.aten.fft_fft.default) is None
