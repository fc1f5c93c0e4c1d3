"""Every rule against numbers when all of its arguments are scaled at once; the samples are those of single ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autogroup.algebra.joint import JointContext
from autogroup.registry import T
from tests.autogroup.joint_oracle import check_jointly
from tests.autogroup.rule_oracle import make
from tests.autogroup.test_rules import ENTRIES, WITH_EXACT_ZEROS, operator

SAMPLES = [
    pytest.param(name, number, id=f"{name.removeprefix('aten.')}-{number}")
    for name, entry in ENTRIES.items()
    for number, sample in enumerate(entry.samples)
    if any(isinstance(s, T) for s in pytree.tree_leaves(list(sample)))
]
each_sample = pytest.mark.parametrize(("name", "number"), SAMPLES)


def prepare(name: str, number: int) -> tuple[Any, list[Tensor]]:
    """The operator as a function of all of its tensors."""
    sample = list(ENTRIES[name].samples[number])
    kwargs = sample.pop() if isinstance(sample[-1], dict) else {}
    flat, spec = pytree.tree_flatten(sample)
    generator = torch.Generator().manual_seed(3)
    places = [i for i, item in enumerate(flat) if isinstance(item, T)]

    def call(*tensors: Tensor) -> Any:
        filled = list(flat)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        return operator(name)(*pytree.tree_unflatten(filled, spec), **kwargs)

    return call, [make(flat[i], generator) for i in places]


@each_sample
def test_what_the_rule_claims_of_all_arguments_is_true(name: str, number: int) -> None:
    call, tensors = prepare(name, number)
    assert check_jointly(call, tensors) >= 0


@each_sample
@pytest.mark.parametrize("filler", [0.0, 0.7])
def test_what_the_rule_claims_of_padded_arguments_is_true(name: str, number: int, filler: float) -> None:
    """A part of each argument is a constant: exactly zero, which scales with anything, or not."""
    call, tensors = prepare(name, number)
    for place, tensor in enumerate(tensors):
        if not tensor.is_floating_point() or not tensor.dim():
            continue
        for axis in range(tensor.dim()):
            cut = tensor.shape[axis] // 2
            rest = tensor.narrow(axis, cut, tensor.shape[axis] - cut)
            rest = filler * torch.linspace(1, 2, rest.numel(), dtype=tensor.dtype).view(rest.shape)
            zeros = filler == 0

            def padded(*ts: Tensor, place: int = place, axis: int = axis, rest: Tensor = rest, z: bool = zeros) -> Any:
                fill = torch.zeros(rest.shape, dtype=rest.dtype) if z else rest
                return call(*ts[:place], torch.cat([ts[place], fill], axis), *ts[place + 1 :])

            part = tensor.narrow(axis, 0, cut).clone()
            assert check_jointly(padded, [*tensors[:place], part, *tensors[place + 1 :]]) >= 0


@pytest.mark.parametrize("name", WITH_EXACT_ZEROS)
def test_what_the_rule_claims_beside_exact_zeros_is_true(name: str) -> None:
    parameter = make(T((2, 3)), torch.Generator().manual_seed(3))
    assert check_jointly(WITH_EXACT_ZEROS[name], [parameter]) > 0


@pytest.mark.parametrize(
    ("name", "number", "free"),
    [
        ("aten.linear.default", 1, 3 + 4 + 2 + 5),  # columns follow the features, whose axis they share
        ("aten.mul.Tensor", 0, 2 * (2 + 3)),
        ("aten.relu.default", 0, 2 + 3 + 4),
        ("aten.layer_norm.default", 0, 2 + 3 + 1 + 5),
        ("aten.sigmoid.default", 0, 1),  # rows up and columns down by one number, which is no change
    ],
)
def test_how_much_freedom_is_left(name: str, number: int, free: int) -> None:
    """The rules lose nothing that they need not lose."""
    call, tensors = prepare(name, number) if ENTRIES[name].samples else (operator(name), [torch.randn(2, 3).double()])
    assert check_jointly(call, tensors) == free


def test_a_rule_that_claims_too_much_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JointContext, "escape_all", lambda *args, **kwargs: None)
    with pytest.raises(AssertionError, match="does not grow as its form says"):
        check_jointly(torch.sigmoid, [torch.randn(2, 3).double()])
