"""Every rule against numbers, on the samples that stand beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import autogroup.rules  # fills the table
from autogroup.registry import Entry, T, coverage, lookup, rule
from tests.autogroup.rule_oracle import Abstract, check, make

ENTRIES = dict(coverage())
CLAIMLESS = {"nonlinear", "plain", "zeros", "full", "fill_number", "polar", "div_mode", "detach", "softmax"}
"""Rules that keep no dependence the oracle looks at: there is nothing about them that numbers could refute."""

aten = torch.ops.aten
_ROWS = torch.tensor([2, 0])
_MASK = torch.tensor([[True, False, True], [False, True, True]])

WITH_EXACT_ZEROS: dict[str, Callable[[Tensor], Tensor]] = {
    "where.self": lambda p: aten.where.self(_MASK, p, torch.zeros_like(p)),
    "masked_fill.Tensor": lambda p: aten.masked_fill.Tensor(p, _MASK, aten.zeros([], dtype=torch.float64)),
    "maximum.default": lambda p: aten.maximum.default(p, 2 * p),
    "minimum.default": lambda p: aten.minimum.default(p, torch.zeros_like(p)),
    "max.other": lambda p: aten.max.other(p, -p),
    "min.other": lambda p: aten.min.other(p, torch.zeros_like(p)),
    "index_put.default": lambda p: aten.index_put.default(aten.zeros([4, 3], dtype=p.dtype), [_ROWS], p),
    "index_add.default": lambda p: aten.index_add.default(aten.zeros([4, 3], dtype=p.dtype), 0, _ROWS, p),
    "index_copy.default": lambda p: aten.index_copy.default(aten.zeros([4, 3], dtype=p.dtype), 0, _ROWS, p),
    "scatter.src": lambda p: aten.scatter.src(aten.zeros([4, 3], dtype=p.dtype), 0, _ROWS[:, None].expand(2, 3), p),
    "scatter_add.default": lambda p: aten.scatter_add.default(
        aten.zeros([4, 3], dtype=p.dtype), 0, _ROWS[:, None].expand(2, 3), p
    ),
}
"""Operators that claim something only beside exact zeros or values that scale alike, which samples cannot say."""

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
    sample = list(ENTRIES[name].samples[number])
    kwargs = sample.pop() if isinstance(sample[-1], dict) else {}
    flat, spec = pytree.tree_flatten(sample)
    generator = torch.Generator().manual_seed(3)
    places = [i for i, item in enumerate(flat) if isinstance(item, T)]
    tensors = [make(flat[i], generator) for i in places]
    parameter, others = tensors[leaf], tensors[:leaf] + tensors[leaf + 1 :]

    def call(p: Tensor, *rest: Tensor) -> Any:
        filled = list(flat)
        for place, tensor in zip(places, (*rest[:leaf], p, *rest[leaf:]), strict=True):
            filled[place] = tensor
        return operator(name)(*pytree.tree_unflatten(filled, spec), **kwargs)

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

            def partly(
                p: Tensor, *rest: Tensor, axis: int = axis, cut: int = cut, fill: Any = fill, s: Any = tuple(rest_shape)
            ) -> Any:
                return call(torch.cat([p.narrow(axis, 0, cut), fill(s, dtype=torch.float64)], axis), *rest)

            assert check(partly, parameter, others) >= 0


@pytest.mark.parametrize("name", WITH_EXACT_ZEROS)
def test_what_the_rule_claims_beside_exact_zeros_is_true(name: str) -> None:
    parameter = make(T((2, 3)), torch.Generator().manual_seed(3))
    assert check(WITH_EXACT_ZEROS[name], parameter, []) > 0


@pytest.mark.parametrize(
    "name",
    [
        n
        for n, e in ENTRIES.items()
        if e.rule.__name__ not in CLAIMLESS and n.removeprefix("aten.") not in WITH_EXACT_ZEROS
    ],
)
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


_VALUES = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

BLIND: dict[str, Callable[[Tensor], Any]] = {
    "softmax": lambda p: aten.softmax.int(_VALUES + p, 1),
    "log_softmax": lambda p: aten.log_softmax.int(_VALUES + p, 1),
    "_softmax": lambda p: aten._softmax.default(_VALUES + p, 1, False),
    "var": lambda p: aten.var.dim(_VALUES + p, [1]),
    "std": lambda p: aten.std.correction(_VALUES + p, [1]),
    "layer_norm": lambda p: aten.layer_norm.default((_VALUES + p).mT, [3], None, None, 0.0),
    "instance_norm": lambda p: aten.instance_norm.default(
        (_VALUES + p).mT, None, None, None, None, True, 0.1, 0.0, False
    ),
    "mean subtracted": lambda p: (x := _VALUES + p) - x.mean(1, keepdim=True),
    "attention keys": lambda p: aten.scaled_dot_product_attention.default(_VALUES, _VALUES + p.mT, _VALUES),
}
"""Operators that do not see what is the same along axis 1."""


@pytest.mark.parametrize("name", BLIND)
def test_a_term_that_is_the_same_along_the_axis_is_removed(name: str) -> None:
    parameter = make(T((2, 1, 4)), torch.Generator().manual_seed(3))
    if name == "attention keys":
        parameter = make(T((2, 4, 1)), torch.Generator().manual_seed(3))
    said = Abstract(BLIND[name], parameter, [])
    assert said.blocks.translates
    assert all(said.shift not in value.deps for value in said.outputs)
    assert check(BLIND[name], parameter, []) >= 0


@pytest.mark.parametrize("name", BLIND)
def test_a_term_that_varies_along_the_axis_is_not_removed(name: str) -> None:
    shape = (2, 4, 3) if name == "attention keys" else (2, 3, 4)
    parameter = make(T(shape), torch.Generator().manual_seed(3))
    said = Abstract(BLIND[name], parameter, [])
    assert not said.blocks.translates or any(said.shift in value.deps for value in said.outputs)
    assert check(BLIND[name], parameter, []) >= 0


def test_a_second_rule_for_an_overload_is_refused() -> None:
    with pytest.raises(ValueError, match=r"aten\.relu\.default has a rule already, in rules/pointwise\.py"):
        rule(torch.ops.aten.relu.default)(lambda ctx, x: x)


def test_in_place_and_out_overloads_share_the_rule_of_their_functional_twin() -> None:
    relu, div = lookup(torch.ops.aten.relu_.default), lookup(torch.ops.aten.div.out)
    assert isinstance(relu, Entry)
    assert relu is ENTRIES["aten.relu.default"]
    assert div is ENTRIES["aten.div.Tensor"]
    assert lookup(torch.ops.aten.fft_fft.default) is None


class Divided(torch.nn.Module):
    """A linear layer divided by a bounded function of itself."""

    def __init__(self, divisor: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(3, 4, bias=False)
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y / self.divisor(y)


@pytest.mark.parametrize(
    ("divisor", "verdict"),
    [
        (lambda y: y.norm(dim=-1, keepdim=True).clamp(min=1e-6), "invariant"),
        (lambda y: y.abs().sum(-1, keepdim=True).clamp_min(1e-6), "invariant"),
        (lambda y: (y * y).mean(-1, keepdim=True).clamp_min(1e-6).sqrt(), "invariant"),
        (lambda y: y.norm(dim=-1, keepdim=True) + 1e-6, "invariant"),
        # A negative sum is replaced by the bound, which does not scale.
        (lambda y: y.sum(-1, keepdim=True).clamp(min=1e-6), "variant"),
        # Too large to be an eps.
        (lambda y: y.norm(dim=-1, keepdim=True) + 0.1, "variant"),
        # The gradient does not see the norm.
        (lambda y: y.norm(dim=-1, keepdim=True).detach(), "variant"),
    ],
)
def test_an_eps_only_keeps_a_divisor_from_zero(divisor: Callable[[Tensor], Tensor], verdict: str) -> None:
    report = autogroup.analyze(Divided(divisor), torch.zeros(5, 3)).parameters["fc.weight"]
    assert report.verdict == verdict
    assert report.eps == (verdict == "invariant")


def test_an_eps_that_does_something_else_too_is_none() -> None:
    def forward(module: torch.nn.Linear, x: Tensor) -> Tensor:
        y = module(x)
        norm = y.norm(dim=-1, keepdim=True) + 1e-6
        return torch.cat([y / norm, norm], -1)

    model = torch.nn.Linear(3, 4, bias=False)
    wrapped = torch.nn.Module()
    wrapped.fc = model
    wrapped.forward = lambda x: forward(model, x)
    assert autogroup.analyze(wrapped, torch.zeros(5, 3)).parameters["fc.weight"].verdict == "variant"
