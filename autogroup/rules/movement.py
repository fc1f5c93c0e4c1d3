"""Data movement: run the operator itself on the labels.

Nothing is computed, only rearranged, so the label of an output position is the label of the input position
it was copied from. This one idea covers views, permutations, slices, splits, concatenations and padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Factor, Key, Move, Value, kept, normal_form
from autogroup.algebra.labels import INDEPENDENT, ZERO_TERM, align, run_view, squash
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


# --- several inputs ------------------------------------------------------------------------------------------


@rule(aten.cat.default, samples=[([T((2, 3)), T((2, 2))], 1)], always=True)
@rule(aten.concat.default, aten.concatenate.default, samples=[([T((2, 3)), T((2, 2))], 1)], always=True)
def cat(ctx: Context, parts: Sequence[Value], dim: int = 0) -> Value:
    """Each part keeps its own labels; what one part scales with, the others are independent of."""
    parts = [p for p in parts if p.shape != (0,)]
    ndim = len(ctx.shape)
    dim %= ndim
    return _glue(ctx, parts, dim)


@rule(aten.stack.default, samples=[([T((2, 3)), T((2, 3))], 1)], always=True)
def stack(ctx: Context, parts: Sequence[Value], dim: int = 0) -> Value:
    """Concatenation along a new axis."""
    dim %= len(ctx.shape)
    shape = (*ctx.shape[:dim], 1, *ctx.shape[dim + 1 :])
    return _glue(ctx, [ctx.reshape(p, shape) for p in parts], dim)


def _glue(ctx: Context, parts: Sequence[Value], dim: int) -> Value:
    if all(p.plain for p in parts):
        return ctx.plain()
    ndim = len(ctx.shape)

    def join(tensors: Sequence[Tensor]) -> Tensor:
        """Concatenate along ``dim``, letting every other axis stay at size 1 where it is for all."""
        sizes = [max(int(t.shape[d]) for t in tensors) for d in range(ndim)]
        spread: list[Tensor] = []
        for t, p in zip(tensors, parts, strict=True):
            sizes[dim] = p.shape[dim]
            spread.append(t.expand(sizes))
        return torch.cat(spread, dim)

    blank = torch.full((1,) * ndim, INDEPENDENT)
    deps: dict[Key, Dependence] = {}
    for key in dict.fromkeys(k for p in parts for k in p.deps):
        found = [p.deps.get(key) for p in parts]
        factors: list[Factor] = []
        for i, dep in enumerate(found):
            for f in dep.factors if dep else ():
                labels = [f.labels if j == i else blank for j in range(len(parts))]
                factors.append(Factor(f.degree, join(labels)))
        terms = None
        if any(dep is not None and dep.terms is not None for dep in found):
            none = torch.full((1,) * ndim, ZERO_TERM)
            terms = join([none if dep is None or dep.terms is None else dep.terms for dep in found])
        deps[key] = Dependence(normal_form(key.blocks, factors), terms)
    zero = None
    if any(p.zero is not None for p in parts):
        no = torch.zeros((1,) * ndim, dtype=torch.bool)
        zero = join([no if p.zero is None else p.zero for p in parts])
    return Value(ctx.shape, kept(deps), zero, ctx.name())


@rule(aten.constant_pad_nd.default, samples=[(_X, [1, 2]), (_X, [1, 1], 2.0)])
def constant_pad(ctx: Context, x: Value, pad: Sequence[int], value: float = 0) -> Value:
    """Padding with zeros keeps the rest; any other number is a part that does not scale."""
    padded = [len(x.shape) - 1 - i // 2 for i, n in enumerate(pad) if n]

    def spread(t: Tensor, fill: int) -> Tensor:
        sizes = [n if d in padded else int(t.shape[d]) for d, n in enumerate(x.shape)]
        return squash(aten.constant_pad_nd.default(t.expand(sizes), list(pad), fill))

    deps = {
        key: Dependence(
            tuple(Factor(f.degree, spread(f.labels, INDEPENDENT)) for f in dep.factors),
            None if dep.terms is None else spread(dep.terms, ZERO_TERM),
        )
        for key, dep in x.deps.items()
    }
    zero = None
    if value == 0:
        inside = torch.zeros((1,) * len(x.shape), dtype=torch.bool) if x.zero is None else x.zero
        zero = spread(inside.to(torch.int64), 1).bool()
    return Value(ctx.shape, kept(deps), zero, ctx.name())


@rule(
    aten.pad.default,
    samples=[(_X, [1, 2]), (_X, [1, 1], "reflect"), (_X, [1, 1], "replicate"), (_X, [1, 1], "circular")],
)
def pad(ctx: Context, x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Every mode but ``constant`` copies positions of the input."""
    if mode == "constant":
        return constant_pad(ctx, x, pad, value or 0)

    def copied(t: Tensor) -> Tensor:
        # The padding kernels know no integers; doubles hold labels and, bit by bit, term ids.
        place = torch.arange(t.expand(x.shape).numel(), dtype=torch.float64).view(x.shape)
        index = torch.nn.functional.pad(place, list(pad), mode=mode).to(torch.int64)
        return t.expand(x.shape).reshape(-1)[index]

    if all(t.shape[-1 - d] == 1 for d in range(len(pad) // 2) for t in _tensors(x)):
        return ctx.move(x, ctx.shape, lambda t: t)
    return ctx.move(x, ctx.shape, copied)


def _tensors(x: Value) -> list[Tensor]:
    """Every label, term and zero tensor of a value."""
    found = [] if x.zero is None else [x.zero]
    for dep in x.deps.values():
        found += [f.labels for f in dep.factors] + ([] if dep.terms is None else [dep.terms])
    return found


@rule(aten.as_strided.default, samples=[(_X, [5, 4], [4, 1]), (_X, [3, 2, 2], [8, 2, 1])])
def as_strided(ctx: Context, x: Value, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> Any:
    """Positions by their place in memory, followed where the input fills its memory in order.

    An explicit offset counts from the start of the storage, which the input need not share: it is given up.
    """
    source = ctx.node.args[0]
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    inside = isinstance(source, fx.Node) and source.meta["val"].is_contiguous() and last < prod(x.shape)
    if not inside or offset is not None:
        return nonlinear(ctx, x)
    place = torch.arange(prod(x.shape)).as_strided(size, stride)
    return ctx.move(x, ctx.shape, lambda t: t.expand(x.shape).reshape(-1)[place])


@rule(aten.im2col.default, samples=[(T((1, 2, 4, 4)), [2, 2], [1, 1], [0, 0], [1, 1])])
def im2col(ctx: Context, x: Value, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """``n c h w -> n (c k) l``: patches are copies; labels that vary over space are united first."""
    x = ctx.homogeneous(x, "is cut into patches while it carries an added term") if any(padding) else x
    flat = ctx.collapse(ctx.with_constant_terms(x, [2, 3]), [2, 3], "the patch", average=True)
    count = ctx.shape[1] // x.shape[1]

    def copied(t: Tensor) -> Tensor:
        lead = t.reshape(t.shape[0], t.shape[1], 1)
        return lead if t.shape[1] == 1 else lead.repeat_interleave(count, 1)

    return ctx.move(flat, ctx.shape, copied)


@rule(aten.meshgrid.indexing, samples=[([T((2,)), T((3,))], {"indexing": "ij"})])
@rule(aten.meshgrid.default)
def meshgrid(ctx: Context, tensors: Sequence[Value], **kwargs: Any) -> tuple[Value, ...]:
    """Coordinates: expanded copies of 1-D inputs."""

    def along(d: int) -> Any:
        sizes = [-1 if i == d else 1 for i in range(len(tensors))]
        return lambda t: t.reshape(sizes)

    if kwargs.get("indexing", "ij") != "ij":
        ctx.escape_all(tensors, "meshgrid with xy indexing is not followed")
        return tuple(ctx.plain(tuple(o.shape)) for o in ctx.out)
    return tuple(ctx.move(t, tuple(ctx.out[d].shape), along(d)) for d, t in enumerate(tensors))


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


# --- overwriting a part --------------------------------------------------------------------------------------


@rule(aten.slice_scatter.default, samples=[(T((4, 3)), T((2, 3)), 0, 1, 3)], always=True)
@rule(aten.select_scatter.default, samples=[(T((4, 3)), T((3,)), 0, 1)], always=True)
@rule(aten.diagonal_scatter.default, samples=[(T((3, 3)), T((3,)))], always=True)
def scatter_part(ctx: Context, base: Value, part: Value, *args: Any, **kwargs: Any) -> Value:
    """Write ``part`` into a view of ``base``."""
    view = {
        "slice_scatter": aten.slice.Tensor,
        "select_scatter": aten.select.int,
        "diagonal_scatter": aten.diagonal.default,
    }
    op = view[str(ctx.node.target).removeprefix("aten.").partition(".")[0]]
    return overwrite(ctx, base, part, lambda t: op(t, *args, **kwargs))


def overwrite(ctx: Context, base: Value, part: Value, view: Any) -> Value:
    """The value of ``base`` after ``part`` was written through ``view`` of it."""
    if base.plain and part.plain:
        return ctx.plain(base.shape)

    def write(old: Tensor, new: Tensor) -> Tensor:
        out = old.expand(base.shape).clone()
        view(out).copy_(new)
        return out

    ndim = len(base.shape)
    blank, none = torch.full((1,) * ndim, INDEPENDENT), torch.full((1,) * ndim, ZERO_TERM)
    small_blank, small_none = torch.tensor(INDEPENDENT), torch.tensor(ZERO_TERM)
    deps: dict[Key, Dependence] = {}
    for key in dict.fromkeys([*base.deps, *part.deps]):
        old, new = base.deps.get(key), part.deps.get(key)
        factors = [Factor(f.degree, write(f.labels, small_blank)) for f in (old.factors if old else ())]
        factors += [Factor(f.degree, write(blank, f.labels)) for f in (new.factors if new else ())]
        terms = None
        if (old and old.terms is not None) or (new and new.terms is not None):
            terms = write(
                none if old is None or old.terms is None else old.terms,
                small_none if new is None or new.terms is None else new.terms,
            )
        deps[key] = Dependence(normal_form(key.blocks, factors), terms)
    zero = None
    if base.zero is not None or part.zero is not None:
        no = torch.tensor(False)
        zero = write(no.view((1,) * ndim) if base.zero is None else base.zero, no if part.zero is None else part.zero)
    return Value(base.shape, kept(deps), zero, ctx.name())
