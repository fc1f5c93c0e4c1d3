"""Blocks against a dense partition, for every shape, every choice of dims and every way to store the tensor."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimizers._math import Blocks, resolve, spread
from optimizers._slots import Slot
from optimizers._whole import global_norm, inverse_rms
from tests.optimizers.oracles.blocks import block_size, inner, labels


@st.composite
def partitions(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...] | None, int | None]:
    shape = tuple(draw(st.lists(st.integers(1, 6), max_size=4)))
    ndim = max(len(shape), 1)
    dims = draw(
        st.none() | st.permutations(range(ndim)).flatmap(lambda order: st.integers(0, ndim).map(lambda n: order[:n]))
    )
    if dims is None:
        return shape, None, None
    signs = draw(st.lists(st.booleans(), min_size=len(dims), max_size=len(dims)))
    dims = tuple(dim - ndim if negative else dim for dim, negative in zip(dims, signs, strict=True))
    length = (shape or (1,))[dims[0]] if dims else 0
    divisors = [n for n in range(1, length + 1) if length % n == 0]
    return shape, dims, draw(st.none() | st.sampled_from(divisors)) if dims else None


@given(partitions(), st.permutations(range(4)))
def test_dot_is_the_dense_inner_product(partition: Any, order: list[int]) -> None:
    shape, dims, groups = partition
    a, b = np.random.default_rng(0).normal(size=(2, *shape))
    blocks, label = resolve(shape, dims, groups), labels(shape, dims, groups)
    want = inner(np.atleast_1d(a), np.atleast_1d(b), label)
    x, y = torch.tensor(a), torch.tensor(b)
    order = [dim for dim in order if dim < len(shape)]
    x = x.permute(order).contiguous().permute(list(np.argsort(order))) if order else x  # other strides
    got = blocks.dot(x, y)
    torch.testing.assert_close(got.expand(x.shape), torch.tensor(want[label].reshape(shape)))
    packed = blocks.pack(got)
    assert tuple(packed.shape) == blocks.shape
    torch.testing.assert_close(packed.ravel(), torch.tensor(want).ravel())
    torch.testing.assert_close(blocks.unpack(packed), got)
    assert blocks.size == block_size(label)
    assert blocks.elementwise == (blocks.size == 1)


@given(partitions())
def test_spread_keeps_the_sum_of_each_block(partition: Any) -> None:
    shape, dims, groups = partition
    blocks = resolve(shape, dims, groups)
    values = torch.rand(blocks.shape, dtype=torch.float64)
    shared = spread(values, shape)
    assert shared.shape == shape
    torch.testing.assert_close(blocks.pack(blocks.sum(shared)), values)


@given(partitions(), st.sampled_from([None, (), (0,)]))
def test_fit_regroups_sums(partition: Any, old: tuple[int, ...] | None) -> None:
    shape, dims, groups = partition
    before, after = resolve(shape, old, None), resolve(shape, dims, groups)
    p = torch.zeros(shape, dtype=torch.float64)
    value = torch.rand(before.shape, dtype=torch.float64)
    got = Slot(shape="block").fit(value, p, after)
    assert tuple(got.shape) == after.shape
    torch.testing.assert_close(got.sum(), value.sum())


@pytest.mark.parametrize(
    ("shape", "dims"), [((), (0,)), ((), ()), ((3,), (0,)), ((1, 1), ()), ((0, 3), (0,)), ((3, 0), (0,))]
)
def test_nothing_to_group_is_elementwise(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    assert resolve(shape, dims, None) == Blocks((), None, 1, shape)


@pytest.mark.parametrize(
    ("shape", "dims", "groups", "message"),
    [
        ((), (1,), None, r"must lie in \[-1, 0\]"),
        ((4, 3), (0, 0), None, "twice"),
        ((4, 3), (0, -2), None, "twice"),
        ((4, 3), (0,), 3, "divide dim 0"),
        ((), (0,), 2, "divide dim 0"),
        ((4, 3), (1, 0), 2, "divide dim 1"),
        ((4, 3), (), 2, "needs a dim"),
        ((4, 3), None, 2, "needs a dim"),
    ],
)
def test_what_does_not_fit_is_refused(shape: Any, dims: Any, groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(shape, dims, groups)


def test_one_piece_is_no_cut() -> None:
    assert resolve((4, 3, 2), (0, 1), 1) == resolve((4, 3, 2), (1,), None)
    assert resolve((4, 3, 2), (0, 1), 4) == resolve((4, 3, 2), (0, 1), None)


def test_numbers_of_one_tensor_and_of_none() -> None:
    x = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert global_norm([x]) == 5.0
    assert inverse_rms([x * x], [4.0]) == 1 / 50**0.5
    assert inverse_rms([torch.zeros(3)], [1.0]) == 0.0
    assert global_norm([]) == inverse_rms([], []) == 0.0


def test_half_precision_is_summed_in_float32() -> None:
    assert global_norm([torch.full((3,), 300.0, dtype=torch.float16)] * 4).dtype == torch.float32
    assert global_norm([torch.full((4,), 40000.0, dtype=torch.float16)]) == 80000.0
