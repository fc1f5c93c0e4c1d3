"""`TensorList`: the tensor methods that rules use, on a column of tensors at once.

Every method does for each row what the tensor method of the same name does, with one ``torch._foreach`` call. A number
may be a float (the same in all rows) or a list of floats (one per row). There is no ``__getattr__``: a rule that needs
another method adds it here, and to the table in its test.
"""

# torch._foreach_* is the documented-by-use interface of torch.optim and has no public spelling.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false, reportArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from optimizers._math import Blocks

Number = float | list[float]


def _rows(other: TensorList | Number) -> list[Tensor] | Number:
    return other.rows if isinstance(other, TensorList) else other


class TensorList:
    """One tensor per row. Methods ending in ``_`` change the rows in place and return ``self``."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Tensor]) -> None:
        self.rows = list(rows)

    def add(self, other: TensorList | Number) -> TensorList:
        return TensorList(torch._foreach_add(self.rows, _rows(other)))

    def add_(self, other: TensorList | Number, alpha: Number = 1) -> TensorList:
        if isinstance(alpha, list) and isinstance(other, TensorList):
            other, alpha = other.mul(alpha), 1  # the kernel takes one alpha for all rows
        if isinstance(other, TensorList):
            torch._foreach_add_(self.rows, other.rows, alpha=alpha)
        else:
            torch._foreach_add_(self.rows, other)
        return self

    def sub(self, other: TensorList | Number) -> TensorList:
        return TensorList(torch._foreach_sub(self.rows, _rows(other)))

    def sub_(self, other: TensorList | Number) -> TensorList:
        torch._foreach_sub_(self.rows, _rows(other))
        return self

    def mul(self, other: TensorList | Number) -> TensorList:
        return TensorList(torch._foreach_mul(self.rows, _rows(other)))

    def mul_(self, other: TensorList | Number) -> TensorList:
        torch._foreach_mul_(self.rows, _rows(other))
        return self

    def div(self, other: TensorList | Number) -> TensorList:
        return TensorList(torch._foreach_div(self.rows, _rows(other)))

    def div_(self, other: TensorList | Number) -> TensorList:
        torch._foreach_div_(self.rows, _rows(other))
        return self

    __add__, __sub__, __mul__, __truediv__ = add, sub, mul, div
    __radd__, __rmul__ = add, mul

    def neg(self) -> TensorList:
        return TensorList(torch._foreach_neg(self.rows))

    def abs(self) -> TensorList:
        return TensorList(torch._foreach_abs(self.rows))

    def sign(self) -> TensorList:
        return TensorList(torch._foreach_sign(self.rows))

    def sin(self) -> TensorList:
        return TensorList(torch._foreach_sin(self.rows))

    def cos(self) -> TensorList:
        return TensorList(torch._foreach_cos(self.rows))

    def reciprocal(self) -> TensorList:
        return TensorList(torch._foreach_reciprocal(self.rows))

    def sigmoid(self) -> TensorList:
        return TensorList(torch._foreach_sigmoid(self.rows))

    def exp(self) -> TensorList:
        return TensorList(torch._foreach_exp(self.rows))

    def log1p(self) -> TensorList:
        return TensorList(torch._foreach_log1p(self.rows))

    def sqrt(self) -> TensorList:
        return TensorList(torch._foreach_sqrt(self.rows))

    def sqrt_(self) -> TensorList:
        torch._foreach_sqrt_(self.rows)
        return self

    def pow(self, exponent: Number) -> TensorList:
        return TensorList(torch._foreach_pow(self.rows, exponent))

    def maximum(self, other: TensorList) -> TensorList:
        return TensorList(torch._foreach_maximum(self.rows, other.rows))

    def minimum(self, other: TensorList) -> TensorList:
        return TensorList(torch._foreach_minimum(self.rows, other.rows))

    def clamp_min(self, bound: Number) -> TensorList:
        return TensorList(torch._foreach_clamp_min(self.rows, bound))

    def clamp_max(self, bound: Number) -> TensorList:
        return TensorList(torch._foreach_clamp_max(self.rows, bound))

    def lerp_(self, end: TensorList, weight: Number) -> TensorList:
        torch._foreach_lerp_(self.rows, end.rows, weight)
        return self

    def addcmul_(self, a: TensorList, b: TensorList, value: Number = 1) -> TensorList:
        torch._foreach_addcmul_(self.rows, a.rows, b.rows, value)
        return self

    def addcdiv_(self, a: TensorList, b: TensorList, value: Number = 1) -> TensorList:
        torch._foreach_addcdiv_(self.rows, a.rows, b.rows, value)
        return self

    def clone(self) -> TensorList:
        return TensorList([row.clone() for row in self.rows])

    def copy_(self, other: TensorList) -> TensorList:
        if any(hasattr(row, "placements") for row in self.rows):  # DTensor has no such foreach operator
            for row, source in zip(self.rows, other.rows, strict=True):
                row.copy_(source)
        else:
            torch._foreach_copy_(self.rows, other.rows)
        return self


class BlocksList:
    """The partitions of the rows of a `TensorList`, with the reductions of `Blocks`."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Blocks]) -> None:
        self.rows = list(rows)

    def sum(self, x: TensorList) -> TensorList:
        # No foreach kernel reduces over chosen dims, so this is one call per row.
        return TensorList([blocks.sum(row) for blocks, row in zip(self.rows, x.rows, strict=True)])

    def dot(self, a: TensorList, b: TensorList) -> TensorList:
        return self.sum(a.mul(b))

    def norm(self, x: TensorList) -> TensorList:
        return self.dot(x, x).sqrt()

    def total(self, x: TensorList) -> TensorList:
        return TensorList([blocks.total(row) for blocks, row in zip(self.rows, x.rows, strict=True)])
