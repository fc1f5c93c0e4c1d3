"""Each method of the list facade does what the tensor method of the same name does, row by row."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimizers._foreach import BlocksList, TensorList
from optimizers._math import resolve

ROWS, TENSORS = "rows", "tensors"
# method → the kinds of its positional arguments: another list, or a number (one for all rows, or one per row)
METHODS: dict[str, tuple[str, ...]] = {
    "neg": (),
    "abs": (),
    "sign": (),
    "sin": (),
    "cos": (),
    "reciprocal": (),
    "sigmoid": (),
    "exp": (),
    "log1p": (),
    "sqrt": (),
    "sqrt_": (),
    "clone": (),
    "add": ("any",),
    "add_": ("any",),
    "sub": ("any",),
    "sub_": ("any",),
    "mul": ("any",),
    "mul_": ("any",),
    "div": ("any",),
    "div_": ("any",),
    "__add__": ("any",),
    "__sub__": ("any",),
    "__mul__": ("any",),
    "__truediv__": ("any",),
    "__radd__": ("number",),
    "__rmul__": ("number",),
    "pow": ("number",),
    "maximum": ("list",),
    "minimum": ("list",),
    "clamp_min": ("number",),
    "clamp_max": ("number",),
    "lerp_": ("list", "number"),
    "addcmul_": ("list", "list"),
    "addcdiv_": ("list", "list"),
    "copy_": ("list",),
}
KEYWORDS = {"add_": "alpha", "addcmul_": "value", "addcdiv_": "value"}


def test_no_method_is_untested() -> None:
    own = {name for name, _ in inspect.getmembers(TensorList, inspect.isfunction) if name != "__init__"}
    assert own == METHODS.keys()


def rows(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator) + 0.5 for shape in ((3, 2), (4,), (), (2, 1, 5))]


@pytest.mark.parametrize("name", METHODS)
@given(
    kind=st.sampled_from(["one", "each", "list"]),
    seed=st.integers(0, 99),
    number=st.floats(-2, 2, width=32),
    kw=st.booleans(),
)
def test_method(name: str, kind: str, seed: int, number: float, kw: bool) -> None:
    each = [number + 0.25 * i for i in range(4)]
    numbers: Any = number if kind == "one" else each
    lists: list[Any] = []  # what the facade gets
    single: list[list[Any]] = []  # what each row gets
    for i, argument in enumerate(METHODS[name]):
        if argument == "list" or (argument == "any" and kind == "list"):
            other = rows(seed + 100 * (i + 1))
            lists.append(TensorList(other))
            single.append(list(other))
        else:
            lists.append(numbers)
            single.append([number] * 4 if kind == "one" else each)
    keywords: dict[str, Any] = {}
    if name in KEYWORDS and kw and (name != "add_" or kind == "list"):
        keywords = {KEYWORDS[name]: each if seed % 2 else number}
    got, want = TensorList(rows(seed)), rows(seed)
    result = getattr(got, name)(*lists, **keywords)
    for i, row in enumerate(want):
        own = {key: value[i] if isinstance(value, list) else value for key, value in keywords.items()}
        expected = getattr(row, name)(*(arguments[i] for arguments in single), **own)
        torch.testing.assert_close(result.rows[i], expected, equal_nan=True)
        torch.testing.assert_close(got.rows[i], row, equal_nan=True)  # the same side effect, or none
    if name.endswith("_") and not name.startswith("__"):
        assert result is got
    else:
        assert all(a is not b for a, b in zip(result.rows, got.rows, strict=True))


def test_blocks_list_reduces_row_by_row() -> None:
    a, b = rows(0), rows(1)
    blocks = [resolve(tuple(x.shape), dims, None) for x, dims in zip(a, [(0,), (), None, (2,)], strict=True)]
    got = BlocksList(blocks).dot(TensorList(a), TensorList(b))
    for row, x, y, one in zip(got.rows, a, b, blocks, strict=True):
        torch.testing.assert_close(row, one.dot(x, y))
    total = BlocksList(blocks).sum(TensorList(a))
    assert [tuple(x.shape) for x in total.rows] == [one.shape for one in blocks]


def test_numbers_of_the_whole_model_are_0d_tensors() -> None:
    number = torch.tensor(0.75)
    for method in ("mul", "div", "mul_", "div_"):
        got = getattr(TensorList(rows(0)), method)(number)
        for row, x in zip(got.rows, rows(0), strict=True):
            torch.testing.assert_close(row, getattr(x, method)(number))
