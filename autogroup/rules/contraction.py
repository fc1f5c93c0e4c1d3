"""Linear maps written as einsum: degrees add, contracted axes unite.

Letters: n, m leading axes; i contracted; o output features. A negative number marks a contracted axis, the same one
in both operands where they are summed over together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.registry import T, rule

aten = torch.ops.aten
_SUM = "the sum over input features"


@rule(aten.linear.default, samples=[(T((2, 3)), T((4, 3)), T((4,))), (T((2, 5, 3)), T((4, 3)))])
def linear(ctx: Context, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """``n i, o i -> n o``, then the bias is added along o."""
    lead = list(range(len(x.shape) - 1))
    if len(weight.shape) == 1:
        out = ctx.contract(x, [*lead, -1], weight, [-1], ctx.shape, _SUM)
    else:
        out = ctx.contract(x, [*lead, -1], weight, [len(lead), -1], ctx.shape, _SUM)
    return out if bias is None else ctx.join(out, bias)


@rule(aten.matmul.default, samples=[(T((2, 4, 3)), T((2, 3, 5))), (T((4, 3)), T((2, 3, 5))), (T((3,)), T((3, 5)))])
@rule(aten.mm.default, samples=[(T((4, 3)), T((3, 5)))])
@rule(aten.bmm.default, samples=[(T((2, 4, 3)), T((2, 3, 5)))])
@rule(aten.mv.default, samples=[(T((4, 3)), T((3,)))])
@rule(aten.dot.default, aten.inner.default, samples=[(T((3,)), T((3,)))])
def matmul(ctx: Context, a: Value, b: Value) -> Value:
    """``… n i, … i m -> … n m`` with the usual meaning of 1-D operands."""
    ndim = len(ctx.shape)
    a_cols, b_rows = len(a.shape) > 1, len(b.shape) > 1
    lead = ndim - a_cols - b_rows
    a_axes = [*range(lead - max(len(a.shape) - 2, 0), lead), *([lead] if a_cols else []), -1]
    b_axes = [*range(lead - max(len(b.shape) - 2, 0), lead), -1, *([ndim - 1] if b_rows else [])]
    return ctx.contract(a, a_axes, b, b_axes, ctx.shape, _SUM)


@rule(aten.addmm.default, samples=[(T((5,)), T((4, 3)), T((3, 5)))])
@rule(aten.baddbmm.default, samples=[(T((5,)), T((2, 4, 3)), T((2, 3, 5)))])
@rule(aten.addbmm.default, samples=[(T((5,)), T((2, 4, 3)), T((2, 3, 5)))])
@rule(aten.addmv.default, samples=[(T((1,)), T((4, 3)), T((3,)))])
def addmm(ctx: Context, bias: Value, a: Value, b: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    """``beta * bias + alpha * a @ b``."""
    if len(a.shape) == 3 and len(ctx.shape) == 2:
        out = ctx.contract(a, [-1, 0, -2], b, [-1, -2, 1], ctx.shape, _SUM)
    else:
        out = matmul(ctx, a, b)
    if alpha != 1:
        out = ctx.product(out, ctx.constant(alpha))
    return ctx.join(out, ctx.product(bias, ctx.constant(beta)) if beta != 1 else bias)


@rule(aten.outer.default, samples=[(T((3,)), T((4,)))])
def outer(ctx: Context, a: Value, b: Value) -> Value:
    """``n, m -> n m``."""
    return ctx.contract(a, [0], b, [1], ctx.shape, _SUM)


@rule(
    aten.einsum.default,
    samples=[("bhid,bhjd->bhij", [T((2, 3, 4, 5)), T((2, 3, 6, 5))]), ("...i,oi->...o", [T((2, 4, 3)), T((5, 3))])],
)
def einsum(ctx: Context, equation: str, operands: Sequence[Value], *, path: Sequence[int] | None = None) -> Value:
    """Contract from left to right, keeping the letters that later operands or the output still need."""
    del path  # the order of contraction changes the cost, not the result
    terms, output = _letters(equation, [len(v.shape) for v in operands])
    left, letters = operands[0], terms[0]
    for k in range(1, len(operands)):
        later = set(output).union(*terms[k + 1 :])
        kept = list(dict.fromkeys(c for c in letters + terms[k] if c in later))
        sizes = dict(zip(letters, left.shape, strict=True))
        for c, n in zip(terms[k], operands[k].shape, strict=True):
            sizes[c] = max(n, sizes.get(c, 1))
        gone = [c for c in dict.fromkeys(letters + terms[k]) if c not in later]
        place = {c: d for d, c in enumerate(kept)} | {c: -1 - n for n, c in enumerate(gone)}
        left = ctx.contract(
            left,
            [place[c] for c in letters],
            operands[k],
            [place[c] for c in terms[k]],
            tuple(sizes[c] for c in kept),
            _SUM,
        )
        letters = kept
    summed = [d for d, c in enumerate(letters) if c not in output]
    left = ctx.collapse(left, summed, _SUM) if summed else left
    order = [letters.index(c) for c in output] + summed
    return ctx.move(
        left, ctx.shape, lambda t: t.permute(order).flatten(len(output)).squeeze(-1) if summed else t.permute(order)
    )


def _letters(equation: str, ndims: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """Parse an equation; the axes of an ellipsis become letters of their own."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms: list[list[str]] = []
    dots = 0
    for term, ndim in zip(inputs.split(","), ndims, strict=True):
        count = ndim - len(term.replace("...", "")) if "..." in term else 0
        dots = max(dots, count)
        terms.append(_spread(term, count))
    if arrow:
        return terms, _spread(output, dots)
    flat = [c for t in terms for c in t]
    free = sorted(c for c in set(flat) if flat.count(c) == 1 and not c.startswith("."))
    return terms, [*_spread("...", dots), *free]


def _spread(term: str, count: int) -> list[str]:
    """The letters of a term, with ``...`` replaced by ``count`` right-aligned ellipsis letters."""
    head, dots, tail = term.partition("...")
    return [*head, *(f".{i}" for i in range(count, 0, -1) if dots), *tail]


@rule(aten.bilinear.default, samples=[(T((2, 3)), T((2, 4)), T((5, 3, 4)), T((5,)))])
def bilinear(ctx: Context, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    """``n i, o i j, n j -> n o``."""
    lead = len(x.shape) - 1
    shape = (*x.shape[:-1], weight.shape[0], weight.shape[2])
    half = ctx.contract(x, [*range(lead), -1], weight, [lead, -1, lead + 1], shape, _SUM)
    out = ctx.contract(half, [*range(lead + 1), -1], y, [*range(lead), -1], ctx.shape, _SUM)
    return out if bias is None else ctx.join(out, bias)


@rule(aten._fft_c2c.default, samples=[(T((2, 3, 4), "complex"), [1, 2], 0, True)])
@rule(aten._fft_r2c.default, samples=[(T((2, 3, 4)), [2], 0, True)])
@rule(aten._fft_c2r.default, samples=[(T((2, 3, 3), "complex"), [2], 0, 4)])
def fourier(ctx: Context, x: Value, dim: Sequence[int], *args: int) -> Value:
    """Fourier transforms: every output sums over the transformed axes."""
    del args  # how the result is normalized and which half of it is kept
    x = ctx.homogeneous(x, "is Fourier transformed while it carries an added term")
    return ctx.move(ctx.collapse(x, [d % len(x.shape) for d in dim], "the Fourier sum"), ctx.shape, lambda t: t)
