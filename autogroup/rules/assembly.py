"""Tensors put together from parts: concatenation, padding, patches, and writing into a part of another tensor.

As in ``movement``, the label of a position is that of the position it was copied from; what is new here is that
positions come from several tensors, or from nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Factor, Key, Value, kept, normal_form
from autogroup.algebra.labels import INDEPENDENT, ZERO_TERM, squash
from autogroup.capture.schema import operator_name
from autogroup.registry import T, rule
from autogroup.rules.pointwise import nonlinear

aten = torch.ops.aten
_X = T((2, 3, 4))


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

    def labelled(labels: Tensor) -> Tensor:
        # Zeros scale with anything: where all parameters are followed at once, labels need not be cut there.
        constant = all(labels.shape[d] == 1 for d in padded)
        return labels if ctx.joint and value == 0 and constant else spread(labels, INDEPENDENT)

    deps = {
        key: Dependence(
            tuple(Factor(f.degree, labelled(f.labels)) for f in dep.factors),
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
    op = view[operator_name(ctx.node)]
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
