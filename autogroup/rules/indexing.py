"""Reading and writing at indices the analysis does not know.

Letters: r rows of a table; p positions of the index; d the other axes. Rows picked by unknown indices carry
labels per position (see ``Blocks.lookup``); elsewhere the indexed axes must scale alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from autogroup.algebra import Context
from autogroup.domain import Dependence, Factor, Key, Value
from autogroup.labels import INDEPENDENT, Shape
from autogroup.registry import T, rule
from autogroup.rules.pointwise import nonlinear

aten = torch.ops.aten
_INDEX = T((2, 2), "index", 3)
_PICK = "picking at unknown indices"


def pick_rows(ctx: Context, table: Value, index_shape: Shape) -> Value:
    """``r d, p -> p d``: every position gets labels of its own."""
    positions = prod(index_shape)
    rest = table.shape[1:]
    table = ctx.homogeneous(table, "is looked up while it carries an added term")
    deps: dict[Key, Dependence] = {}
    for key, dep in table.deps.items():
        factors: list[Factor] = []
        for f in dep.factors:
            if f.labels.shape[0] == 1:
                labels = f.labels.reshape((1,) * len(index_shape) + tuple(f.labels.shape[1:]))
            elif bool((f.labels == INDEPENDENT).any()):
                ctx.escape(key, f.labels, "only some rows of the table scale with it")
                continue
            else:
                picked = key.blocks.lookup(f.labels.flatten(1), positions)
                labels = picked.view(*index_shape, *f.labels.shape[1:])
            factors.append(Factor(f.degree, labels))
        if factors:
            deps[key] = Dependence(tuple(factors))
    return Value((*index_shape, *rest), deps, None, ctx.name())


@rule(aten.embedding.default, samples=[(T((3, 4)), _INDEX)])
def embedding(ctx: Context, weight: Value, indices: Value, *args: Any, **kwargs: Any) -> Value:
    """A table lookup."""
    return pick_rows(ctx, weight, indices.shape)


@rule(aten.index_select.default, samples=[(T((2, 3, 4)), 1, T((5,), "index", 3)), (T((3, 4)), 0, T((5,), "index", 3))])
def index_select(ctx: Context, x: Value, dim: int, index: Value) -> Value:
    """Rows along any axis."""
    dim %= len(x.shape)
    if dim == 0:
        return pick_rows(ctx, x, index.shape or (1,))
    return ctx.move(ctx.collapse(x, [dim], _PICK, average=True), ctx.shape, lambda t: t)


@rule(aten.gather.default, samples=[(T((2, 3)), 1, T((2, 5), "index", 3))])
@rule(aten.take_along_dim.default, samples=[(T((2, 3)), T((2, 5), "index", 3), 1)])
def gather(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """``out[i, j] = x[i, index[i, j]]``: the axis must scale alike; other axes are cut to the index's size."""
    values = [a for a in args if isinstance(a, Value)]
    dims = [a for a in args if isinstance(a, int)]
    ctx.escape_all(values, "is used as an index")
    if not dims:
        return nonlinear(ctx, x)
    picked = ctx.collapse(x, [dims[0] % len(x.shape)], _PICK, average=True)

    def cut(t: Tensor) -> Tensor:
        for d, n in enumerate(ctx.shape):
            if t.shape[d] > 1:
                t = t.narrow(d, 0, n)
        return t

    return ctx.move(picked, ctx.shape, cut)


@rule(
    aten.index.Tensor,
    samples=[
        (T((3, 4)), [T((2, 2), "index", 3)]),
        (T((2, 3, 4)), [None, T((5,), "index", 3)]),
        (T((2, 3, 4)), [None, T((5,), "index", 3), T((5,), "index", 4)]),
    ],
)
@rule(aten._unsafe_index.Tensor, samples=[(T((3, 4)), [T((2, 2), "index", 3)])])
def index(ctx: Context, x: Value, indices: Sequence[Value | None]) -> Value:
    """Advanced indexing; a boolean mask picks along all of its axes."""
    given = [i for i in indices if i is not None]
    ctx.escape_all(given, "is used as an index")
    tensors = ctx.node.args[1]
    assert isinstance(tensors, (list, tuple))
    masked = any(getattr(n, "meta", {}).get("val") is not None and n.meta["val"].dtype == torch.bool for n in tensors if n is not None)  # pyright: ignore
    if len(given) == 1 and indices[0] is not None and not masked:
        return pick_rows(ctx, x, given[0].shape)
    axes = [d for d, i in enumerate(indices) if i is not None]
    if masked:
        if len(given) != 1:
            return nonlinear(ctx, x)
        axes = list(range(axes[0], axes[0] + len(given[0].shape)))
    shape = (ctx.shape[axes[0] : len(ctx.shape) - (len(x.shape) - axes[0] - len(axes))],) if masked else ()
    count = len(shape[0]) if masked else len(torch.broadcast_shapes(*(i.shape for i in given)))
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    picked = ctx.collapse(x, axes, _PICK, average=True)
    kept = [d for d in range(len(x.shape)) if d not in axes]
    place = axes[0] if adjacent else 0

    def lay_out(t: Tensor) -> Tensor:
        sizes = [int(t.shape[d]) for d in kept]
        return t.permute([*kept, *axes]).reshape([*sizes[:place], *[1] * count, *sizes[place:]])

    return ctx.move(picked, ctx.shape, lay_out)


# --- choosing between two values -------------------------------------------------------------------------------


def choose(ctx: Context, a: Value, b: Value) -> Value:
    """Position by position one of two values, it is not known which: both must scale alike, or be zero."""
    reason = "is mixed with a value that does not scale"
    a, b = ctx.homogeneous(a, reason), ctx.homogeneous(b, reason)
    return ctx.homogeneous(ctx.join(a, b), reason)


@rule(aten.where.self, samples=[(T((2, 3), "bool"), T((2, 3)), T((2, 3)))])
@rule(aten.where.ScalarOther, samples=[(T((2, 3), "bool"), T((2, 3)), 0.0)])
@rule(aten.where.ScalarSelf, samples=[(T((2, 3), "bool"), 0.0, T((2, 3)))])
@rule(aten.where.Scalar)
def where(ctx: Context, condition: Value, a: Value | float, b: Value | float) -> Value:
    """``a`` or ``b``."""
    ctx.escape_all([condition], "is used as a condition")
    left, right = (v if isinstance(v, Value) else ctx.constant(v) for v in (a, b))
    out = choose(ctx, left, right)
    return Value(ctx.shape, _aligned(out, len(ctx.shape)).deps, None, ctx.name())


def _aligned(value: Value, ndim: int) -> Value:
    return value.move(value.shape, lambda t: t.reshape((1,) * (ndim - t.dim()) + tuple(t.shape)), value.name)


@rule(aten.masked_fill.Scalar, samples=[(T((2, 3)), T((2, 3), "bool"), 0.0)])
@rule(aten.masked_fill.Tensor, samples=[(T((2, 3)), T((2, 3), "bool"), T(()))])
def masked_fill(ctx: Context, x: Value, mask: Value, number: Value | float) -> Value:
    """``number`` where the mask says so."""
    ctx.escape_all([mask], "is used as a mask")
    return choose(ctx, x, number if isinstance(number, Value) else ctx.constant(number))


@rule(aten.index_put.default, samples=[(T((4, 3)), [T((2,), "index", 4)], T((2, 3)))])
@rule(aten._unsafe_index_put.default)
def index_put(ctx: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False) -> Value:
    """Write or add at unknown positions: both tensors must scale alike as wholes."""
    ctx.escape_all([i for i in indices if i is not None], "is used as an index")
    return _scatter(ctx, x, values)


@rule(aten.scatter.src, aten.scatter_add.default, samples=[(T((4, 3)), 0, T((2, 3), "index", 4), T((2, 3)))])
@rule(aten.index_add.default, aten.index_copy.default, samples=[(T((4, 3)), 0, T((2,), "index", 2), T((2, 3)))])
def scatter(ctx: Context, x: Value, dim: int, idx: Value, source: Value, *, alpha: float = 1) -> Value:
    """As ``index_put``, along one axis."""
    ctx.escape_all([idx], "is used as an index")
    return _scatter(ctx, x, source)


@rule(aten.scatter.value, samples=[(T((4, 3)), 0, T((2, 3), "index", 4), 0.0)])
def scatter_value(ctx: Context, x: Value, dim: int, idx: Value, number: float) -> Value:
    """Write a number at unknown positions."""
    ctx.escape_all([idx], "is used as an index")
    return choose(ctx, x, ctx.constant(number))


def _scatter(ctx: Context, x: Value, source: Value) -> Value:
    whole = ctx.collapse(
        ctx.homogeneous(source, "is scattered while it carries an added term"),
        range(len(source.shape)),
        "writing at unknown indices",
    )
    single = ctx.move(whole, (), lambda t: t.reshape(()))
    return choose(ctx, x, Value((), single.deps, None if source.zero is None else single.zero, single.name))
