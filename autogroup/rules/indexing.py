"""Reading and writing at indices the analysis does not know.

Letters: r rows of a table; p positions of the index; d the other axes. Rows picked by unknown indices carry
labels per position (see ``Blocks.lookup``); elsewhere the indexed axes must scale alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Factor, Key, Value, kept, normal_form
from autogroup.algebra.labels import INDEPENDENT, Shape, broadcast
from autogroup.registry import T, rule
from autogroup.rules.pointwise import nonlinear

aten = torch.ops.aten
_INDEX = T((2, 2), "index", 3)


MAX_PICKED = 1 << 20
"""More labels than this are not made for one lookup; the axis is united instead."""


def pick(ctx: Context, x: Value, axis: int, index_shape: Shape) -> Value:
    """Replace an axis by the positions of an index: ``a r d, p -> a p d``."""
    shape = (*x.shape[:axis], *index_shape, *x.shape[axis + 1 :])
    if ctx.joint:  # rows that are looked up at unknown indices have one factor
        x = _pick_any(ctx, x, [axis])
    if all(f.labels.shape[axis] == 1 for dep in x.deps.values() for f in dep.factors) and all(
        dep.terms is None or dep.terms.shape[axis] == 1 for dep in x.deps.values()
    ):
        return ctx.move(x, shape, lambda t: t.squeeze(axis)[(slice(None),) * axis + (None,) * len(index_shape)])
    x = ctx.homogeneous(x, "is looked up at unknown indices while it carries an added term")
    positions = prod(index_shape)
    deps: dict[Key, Dependence] = {}
    for key, dep in x.deps.items():
        factors: list[Factor] = []
        for f in dep.factors:
            picked = _pick_labels(ctx, key, f.labels, axis, positions)
            lead = (1,) * len(index_shape) if picked.shape[0] == 1 else index_shape
            picked = picked.view(*lead, *picked.shape[1:])
            factors.append(
                Factor(f.degree, picked.movedim(tuple(range(len(lead))), tuple(range(axis, axis + len(lead)))))
            )
        if factors:
            deps[key] = Dependence(normal_form(key.blocks, factors))
    zero = x.zero
    if zero is not None:
        zero = zero.all(axis, keepdim=True).squeeze(axis)[(slice(None),) * axis + (None,) * len(index_shape)]
    return Value(shape, kept(deps), zero, ctx.name())


def _pick_labels(ctx: Context, key: Key, labels: Tensor, axis: int, positions: int) -> Tensor:
    """Labels with the picked positions (or size 1, if all are alike) in front of the other axes."""
    front = labels.movedim(axis, 0)
    if front.shape[0] == 1:
        return front
    rows = front.flatten(1)
    absent = rows == INDEPENDENT
    partly = absent.any(0) & ~absent.all(0)
    if bool(partly.any()):
        ctx.escape(key, rows[:, partly], "is looked up at unknown indices, and only a part of it scales")
        rows = rows.masked_fill(partly, INDEPENDENT)
    if positions * rows.shape[1] > MAX_PICKED:
        key.blocks.unite_rows(rows.T)
        return rows[:1].view(1, *front.shape[1:])
    columns = (rows != INDEPENDENT).all(0)
    picked = torch.full((positions, rows.shape[1]), INDEPENDENT)
    picked[:, columns] = key.blocks.lookup(rows[:, columns], positions)
    return picked.view(positions, *front.shape[1:])


@rule(aten.embedding.default, samples=[(T((3, 4)), _INDEX)])
def embedding(ctx: Context, weight: Value, indices: Value, *args: Any, **kwargs: Any) -> Value:
    """A table lookup: the rows of the table are its first axis.

    The padding row gets no gradient from it. It is zero in every model that uses one, so that scaling it with the
    other rows changes nothing.
    """
    return pick(ctx, weight, 0, indices.shape)


@rule(aten.index_select.default, samples=[(T((2, 3, 4)), 1, T((5,), "index", 3)), (T((3, 4)), 0, T((5,), "index", 3))])
def index_select(ctx: Context, x: Value, dim: int, index: Value) -> Value:
    """Rows along any axis."""
    return pick(ctx, x, dim % len(x.shape), index.shape or (1,))


def _pick_any(ctx: Context, x: Value, axes: Sequence[int]) -> Value:
    """Any position of a fibre: all of them must scale alike."""
    return ctx.collapse(ctx.with_constant_terms(x, axes), axes, "picking at unknown indices", average=True)


@rule(aten.gather.default, samples=[(T((2, 3)), 1, T((2, 5), "index", 3))])
@rule(aten.take_along_dim.default, samples=[(T((2, 3)), T((2, 5), "index", 3), 1)])
def gather(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """``out[i, j] = x[i, index[i, j]]``: the axis must scale alike; other axes are cut to the index's size."""
    values = [a for a in args if isinstance(a, Value)]
    dims = [a for a in args if isinstance(a, int)]
    ctx.escape_all(values, "is used as an index")
    if not dims:
        return nonlinear(ctx, x)
    picked = _pick_any(ctx, x, [dims[0] % len(x.shape)])

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
    masked = any(isinstance(n, fx.Node) and n.meta["val"].dtype in (torch.bool, torch.uint8) for n in tensors)
    if len(given) == 1 and not masked:
        return pick(ctx, x, next(d for d, i in enumerate(indices) if i is not None), given[0].shape)
    axes = [d for d, i in enumerate(indices) if i is not None]
    if masked:
        if len(given) != 1:
            return nonlinear(ctx, x)
        axes = list(range(axes[0], axes[0] + len(given[0].shape)))
    # A mask of k axes is replaced by one axis of positions; integer indices by the axes they broadcast to.
    count = 1 if masked else len(broadcast(*(i.shape for i in given)))
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    picked = _pick_any(ctx, x, axes)
    others = [d for d in range(len(x.shape)) if d not in axes]
    place = axes[0] if adjacent else 0

    def lay_out(t: Tensor) -> Tensor:
        sizes = [int(t.shape[d]) for d in others]
        return t.permute([*others, *axes]).reshape([*sizes[:place], *[1] * count, *sizes[place:]])

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
def index_put(
    ctx: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
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
