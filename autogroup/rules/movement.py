"""Data movement: run the operator itself on the labels.

Nothing is computed, only rearranged, so the label of an output position is the label of the input position
it was copied from. This one idea covers views, permutations, slices, splits and copies; ``assembly`` has the operators
that take positions from several tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Move, Value
from autogroup.algebra.labels import align, run_view
from autogroup.registry import T, rule
from autogroup.rules.pointwise import nonlinear

aten = torch.ops.aten
_X = T((2, 3, 4))


# --- the same positions in the same order --------------------------------------------------------------------


@rule(
    aten.contiguous.default,
    aten.clone.default,
    aten.alias.default,
    aten.lift_fresh_copy.default,
    aten.lift_fresh.default,
    aten.positive.default,
    aten.resolve_neg.default,
    samples=[(_X,)],
)
@rule(
    aten.to.dtype,
    aten.to.device,
    aten.to.dtype_layout,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
    aten.to.prim_Device,
    aten._autocast_to_reduced_precision.default,
    aten._autocast_to_full_precision.default,
)
def same(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """A copy or a cast; a cast to integers is no copy."""
    if not (ctx.out.is_floating_point() or ctx.out.is_complex()):
        return nonlinear(ctx, x)
    return ctx.move(x, x.shape, lambda t: t)


@rule(aten.detach.default)
def detach(ctx: Context, x: Value) -> Value:
    """The value stays, its gradient is cut off."""
    return ctx.detach(x)


@rule(aten.copy.default, samples=[(T((2, 3)), T((3,)))])
def copy(ctx: Context, target: Value, source: Value, non_blocking: bool = False) -> Value:
    """Overwrite: only the source counts."""
    ndim = len(target.shape)
    return ctx.move(source, target.shape, lambda t: t.reshape((1,) * (ndim - t.dim()) + tuple(t.shape)))


# --- the same order, another shape ---------------------------------------------------------------------------


@rule(aten.view.default, aten.reshape.default, aten._unsafe_view.default, samples=[(_X, [6, 4]), (_X, [2, 12])])
@rule(aten._reshape_alias.default, samples=[(_X, [6, 4], [4, 1])])
@rule(aten.flatten.using_ints, samples=[(_X, 1)])
@rule(aten.unflatten.int, samples=[(_X, 2, [2, 2])])
@rule(aten.unsqueeze.default, samples=[(_X, 1)])
@rule(aten.squeeze.dim, samples=[(T((2, 1, 3)), 1)])
@rule(aten.squeeze.dims, samples=[(T((2, 1, 3)), [1])])
@rule(aten.squeeze.default, aten.ravel.default, aten.atleast_1d.default, samples=[(T((2, 1, 3)),)])
@rule(aten.reshape_as.default, aten.view_as.default, samples=[(_X, T((6, 4)))])
def reshape(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Only axes that meet other axes are expanded."""
    return ctx.reshape(x, ctx.shape)


# --- views: strides say which axes stay constant ---------------------------------------------------------------


@rule(aten.permute.default, samples=[(_X, [2, 0, 1])])
@rule(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default, samples=[(_X, 0, 2)])
@rule(aten.movedim.int, samples=[(_X, 0, 2)])
@rule(aten.movedim.intlist, samples=[(_X, [0, 1], [2, 0])])
@rule(aten.t.default, aten.numpy_T.default, samples=[(T((2, 3)),)])
@rule(aten.mT.default, aten.adjoint.default, samples=[(_X,)])
@rule(aten.expand.default, aten.broadcast_to.default, samples=[(T((3, 1)), [2, 3, 4])])
@rule(aten.slice.Tensor, samples=[(_X, 1, 1, 3), (_X, 2, 0, 4, 2)])
@rule(aten.narrow.default, samples=[(_X, 1, 1, 2)])
@rule(aten.select.int, samples=[(_X, 1, 2)])
@rule(aten.diagonal.default, samples=[(T((3, 3)),)])
@rule(aten.unfold.default, samples=[(_X, 2, 2, 1)])
@rule(aten.split.Tensor, samples=[(T((4, 3)), 2)])
@rule(aten.split.sizes, aten.split_with_sizes.default, samples=[(T((4, 3)), [1, 3])])
@rule(aten.chunk.default, samples=[(T((4, 3)), 2)])
@rule(aten.tensor_split.sections, samples=[(T((4, 3)), 3)])
@rule(aten.unbind.int, samples=[(_X, 1)])
@rule(aten.rot90.default, samples=[(_X, 1, [1, 2])])
@rule(aten.pixel_shuffle.default, samples=[(T((1, 8, 2, 2)), 2)])
@rule(aten.pixel_unshuffle.default, samples=[(T((1, 2, 4, 4)), 2)])
@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default, samples=[(T((1, 6, 2, 2)), 3)])
def rearrange(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> Any:
    """One input, positions copied from it."""
    op = ctx.node.target
    assert isinstance(op, OpOverload)
    if isinstance(ctx.out, (tuple, list)):

        def part(i: int) -> Move:
            return lambda t: run_view(lambda u: op(u, *args, **kwargs)[i], t, x.shape)

        return tuple(ctx.move(x, tuple(out.shape), part(i)) for i, out in enumerate(ctx.out))
    return ctx.move(x, ctx.shape, lambda t: run_view(lambda u: op(u, *args, **kwargs), t, x.shape))


@rule(aten.tril.default, aten.triu.default, samples=[(T((3, 3)),)])
def triangle(ctx: Context, x: Value, diagonal: int = 0) -> Value:
    """A product with a mask of ones and zeros."""
    return ctx.product(x, ctx.plain(x.shape))


# --- copies: axes along which the labels are constant stay constant --------------------------------------------


@rule(aten.flip.default, samples=[(_X, [1])])
@rule(aten.fliplr.default, samples=[(_X,)])
@rule(aten.roll.default, samples=[(_X, [1], [2]), (_X, [1])])
def permute_along(ctx: Context, x: Value, *args: Any) -> Value:
    """Reorder positions along some axes."""
    op = ctx.node.target
    assert isinstance(op, OpOverload)
    dims = args[-1] if op is aten.flip.default or (len(args) > 1 and args[1]) else range(len(x.shape))
    touched = {d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims)}

    def moved(t: Tensor) -> Tensor:
        if all(t.shape[d] == 1 for d in touched):
            return t
        return op(t.expand([n if d in touched else int(t.shape[d]) for d, n in enumerate(x.shape)]), *args)

    return ctx.move(x, x.shape, moved)


@rule(aten.repeat.default, samples=[(_X, [2, 1, 1]), (_X, [2, 1, 1, 3])])
@rule(aten.tile.default, samples=[(_X, [2])])
def repeat(ctx: Context, x: Value, times: Sequence[int]) -> Value:
    """Copies side by side along each axis."""
    times = [1] * (len(ctx.shape) - len(times)) + list(times)

    def copied(t: Tensor) -> Tensor:
        t = align(t, len(ctx.shape))
        sizes = (1,) * (len(ctx.shape) - len(x.shape)) + x.shape
        varying = [d for d, n in enumerate(t.shape) if n > 1]
        t = t.expand([sizes[d] if d in varying else 1 for d in range(len(sizes))])
        return t.repeat([times[d] if d in varying else 1 for d in range(len(sizes))])

    return ctx.move(x, ctx.shape, copied)


@rule(aten.repeat_interleave.self_int, samples=[(_X, 2, 1)])
def repeat_interleave(ctx: Context, x: Value, repeats: int, dim: int | None = None, **kwargs: Any) -> Value:
    """Each position several times in a row."""
    if dim is None:
        x, dim = ctx.reshape(x, (prod(x.shape),)), 0
    return ctx.move(x, ctx.shape, lambda t: t if t.shape[dim] == 1 else t.repeat_interleave(repeats, dim))


@rule(aten.expand_as.default, samples=[(T((3, 1)), T((2, 3, 4)))])
def expand_as(ctx: Context, x: Value, other: Value) -> Value:
    """Expand to the shape of another tensor."""
    return ctx.move(x, ctx.shape, lambda t: t.reshape((1,) * (len(ctx.shape) - t.dim()) + tuple(t.shape)))


# --- complex pairs -------------------------------------------------------------------------------------------


@rule(aten.view_as_complex.default, samples=[(T((3, 2)),)])
def view_as_complex(ctx: Context, x: Value) -> Value:
    """Two reals that scale alike make a complex number that scales with them."""
    x = ctx.homogeneous(x, "is read as complex numbers while it carries an added term")
    pair = ctx.collapse(x, [len(x.shape) - 1], "a complex number")
    return ctx.move(pair, ctx.shape, lambda t: t.squeeze(-1))


@rule(aten.view_as_real.default, samples=[(T((3,), "complex"),)])
def view_as_real(ctx: Context, x: Value) -> Value:
    """Real and imaginary part scale alike."""
    x = ctx.homogeneous(x, "is split into real and imaginary part while it carries an added term")
    return ctx.move(x, ctx.shape, lambda t: t.unsqueeze(-1))


@rule(aten.real.default, aten.imag.default, samples=[(T((3,), "complex"),)])
def real(ctx: Context, x: Value) -> Value:
    """One part of a complex number."""
    x = ctx.homogeneous(x, "is split into real and imaginary part while it carries an added term")
    return ctx.move(x, x.shape, lambda t: t)
