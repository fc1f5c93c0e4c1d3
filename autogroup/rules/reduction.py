"""Reductions, pooling and resampling: the axes they run over must scale alike."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import inf
from typing import Any

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Value
from autogroup.registry import T, rule
from autogroup.rules.pointwise import name_of, nonlinear

aten = torch.ops.aten
_X = T((2, 3, 4))


def axes_of(x: Value, dim: int | Sequence[int] | None) -> list[int]:
    """Normalize a dim argument; ``None`` and ``[]`` mean every axis."""
    ndim = len(x.shape)
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(ndim))
    dims = [dim] if isinstance(dim, int) else dim
    return sorted({d % ndim for d in dims}) if ndim else []


def _drop(ctx: Context, x: Value, axes: Sequence[int], keepdim: bool) -> Value:
    """Remove axes that a reduction left at size 1."""
    if keepdim:
        return x
    shape = tuple(n for d, n in enumerate(x.shape) if d not in axes)
    return ctx.move(x, shape, lambda t: t.squeeze(list(axes)) if axes else t)


def _reduce(ctx: Context, x: Value, dim: Any, keepdim: bool, *, average: bool = False) -> Value:
    axes = axes_of(x, dim)
    return _drop(ctx, ctx.collapse(x, axes, f"{name_of(ctx)} over its axes", average=average), axes, keepdim)


@rule(aten.sum.dim_IntList, aten.mean.dim, samples=[(_X, [1]), (_X, [0, 2], True)])
@rule(aten.nansum.default, samples=[(_X, [1])])
def total(ctx: Context, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """A sum; a mean keeps a constant term as it is."""
    return _reduce(ctx, x, dim, keepdim, average="mean" in str(ctx.node.target))


@rule(aten.sum.default, aten.mean.default, samples=[(_X,)])
def total_all(ctx: Context, x: Value, *, dtype: Any = None) -> Value:
    """Over every axis."""
    return total(ctx, x)


@rule(aten.amax.default, aten.amin.default, samples=[(_X, [1]), (_X, [-1], True)])
def extremum(ctx: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    """The maximum of values that scale alike scales with them; a constant term passes through."""
    return _reduce(ctx, ctx.with_constant_terms(x, axes_of(x, dim)), dim, keepdim, average=True)


@rule(aten.max.default, aten.min.default, samples=[(_X,)])
def extremum_all(ctx: Context, x: Value) -> Value:
    """Over every axis."""
    return extremum(ctx, x)


@rule(aten.max.dim, aten.min.dim, aten.median.dim, samples=[(_X, 1)])
@rule(aten.kthvalue.default, samples=[(_X, 2, 1)])
def extremum_dim(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> tuple[Value, Value]:
    """Values and the place where they stand, which does not scale."""
    rest = args[1:] if ctx.node.target is aten.kthvalue.default else args
    dim, keepdim = (*rest, False)[:2]
    out = extremum(ctx, x, dim, kwargs.get("keepdim", keepdim))
    return out, ctx.plain(out.shape)


@rule(aten.argmax.default, aten.argmin.default, samples=[(_X, 1)])
def argmax(ctx: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """The order of values that scale alike does not change."""
    extremum(ctx, x, dim, keepdim)
    return ctx.plain()


@rule(aten.sort.default, samples=[(_X, 1)])
@rule(aten.topk.default, samples=[(_X, 2, 1)])
def sort(ctx: Context, x: Value, *args: Any, **kwargs: Any) -> tuple[Value, Value]:
    """Values along an axis in order, and where they stood."""
    if ctx.node.target is aten.topk.default:
        args = args[1:]
    dim = kwargs.get("dim", args[0] if args else -1)
    one = extremum(ctx, x, dim, True)
    shape = ctx.shape
    return ctx.move(one, shape, lambda t: t), ctx.plain(shape)


@rule(aten.argsort.default, samples=[(_X, 1)])
def argsort(ctx: Context, x: Value, dim: int = -1, descending: bool = False) -> Value:
    """As ``argmax``."""
    return argmax(ctx, x, dim)


@rule(aten.cumsum.default, samples=[(_X, 1)])
def cumsum(ctx: Context, x: Value, dim: int, *, dtype: Any = None) -> Value:
    """A sum over a growing range."""
    x = ctx.homogeneous(x, "is summed up while it carries an added term")
    return ctx.move(ctx.collapse(x, axes_of(x, dim), "the running sum"), ctx.shape, lambda t: t)


@rule(aten.cummax.default, samples=[(_X, 1)])
def cummax(ctx: Context, x: Value, dim: int) -> tuple[Value, Value]:
    """A maximum over a growing range."""
    out = cumsum(ctx, x, dim)
    return out, ctx.plain(out.shape)


@rule(aten.diff.default, samples=[(_X, 1, 1)])
def diff(
    ctx: Context, x: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    """Differences of neighbours."""
    if prepend is not None or append is not None:
        return nonlinear(ctx, x, prepend, append)
    return ctx.move(cumsum(ctx, x, dim), ctx.shape, lambda t: t)


# --- norms and spreads ---------------------------------------------------------------------------------------


@rule(aten.linalg_vector_norm.default, samples=[(_X, 2, [1]), (_X, 1, [0, 2], True)])
def vector_norm(
    ctx: Context, x: Value, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """Homogeneous of degree 1 (of degree 0 for ord = 0, the number of nonzeros)."""
    if ord == 0:
        return nonlinear(ctx, x)
    return _reduce(ctx, ctx.homogeneous(x, "has its norm taken while it carries an added term"), dim, keepdim)


@rule(aten.norm.ScalarOpt_dim, samples=[(_X, 2, [1]), (_X, 2, [1], True)])
def norm_dim(ctx: Context, x: Value, p: float | None, dim: Any, keepdim: bool = False) -> Value:
    """``torch.norm`` along axes."""
    return vector_norm(ctx, x, 2 if p is None else p, dim, keepdim)


@rule(aten.norm.Scalar, samples=[(_X, 2)])
def norm_all(ctx: Context, x: Value, p: float = 2) -> Value:
    """``torch.norm`` of a whole tensor."""
    return vector_norm(ctx, x, p)


@rule(aten.linalg_norm.default, samples=[(_X, 2, [1])])
def linalg_norm(
    ctx: Context, x: Value, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    """Every matrix and vector norm is homogeneous of degree 1."""
    return vector_norm(ctx, x, ord if isinstance(ord, (int, float)) and ord not in (inf, -inf) else 2, dim, keepdim)


def _spread(ctx: Context, x: Value, dim: Any, keepdim: bool, degree: Fraction) -> Value:
    """A variance or a standard deviation: a term that is constant over the axes does not count."""
    axes = axes_of(x, dim)
    x = ctx.ignore_shifts(ctx.with_constant_terms(x, axes), axes, name_of(ctx))
    bare = Value(x.shape, {k: Dependence(d.factors) for k, d in x.deps.items()}, x.zero, x.name)
    return _drop(ctx, ctx.power(ctx.collapse(bare, axes, name_of(ctx)), degree, ""), axes, keepdim)


_SPREAD_DEGREE = {"var": Fraction(2), "std": Fraction(1)}


@rule(aten.var.correction, aten.std.correction, samples=[(_X, [1])])
def spread_correction(
    ctx: Context, x: Value, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> Value:
    """``var`` and ``std`` with a correction."""
    return _spread(ctx, x, dim, keepdim, _SPREAD_DEGREE[name_of(ctx)])


@rule(aten.var.dim, aten.std.dim, samples=[(_X, [1], True), (_X, [0, 2], False, True)])
def spread_dim(ctx: Context, x: Value, dim: Any, unbiased: bool = True, keepdim: bool = False) -> Value:
    """``var`` and ``std`` along axes."""
    return _spread(ctx, x, dim, keepdim, _SPREAD_DEGREE[name_of(ctx)])


@rule(aten.var.default, aten.std.default, samples=[(_X,)])
def spread_all(ctx: Context, x: Value, unbiased: bool = True) -> Value:
    """``var`` and ``std`` of a whole tensor."""
    return _spread(ctx, x, None, False, _SPREAD_DEGREE[name_of(ctx)])


@rule(aten.var_mean.correction, aten.std_mean.correction, samples=[(_X, [1])])
def spread_mean_correction(
    ctx: Context, x: Value, dim: Any = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Value, Value]:
    """Spread and mean together."""
    degree = _SPREAD_DEGREE[name_of(ctx).removesuffix("_mean")]
    return _spread(ctx, x, dim, keepdim, degree), _reduce(ctx, x, dim, keepdim, average=True)


@rule(aten.var_mean.dim, aten.std_mean.dim, samples=[(_X, [1])])
def spread_mean_dim(
    ctx: Context, x: Value, dim: Any, unbiased: bool = True, keepdim: bool = False
) -> tuple[Value, Value]:
    """Spread and mean together, with the older signature."""
    return spread_mean_correction(ctx, x, dim, keepdim=keepdim)


# --- pooling and resampling ----------------------------------------------------------------------------------


def _windows(ctx: Context, x: Value, space: int, *, keeps_constants: bool) -> Value:
    """Any window over the last ``space`` axes."""
    axes = list(range(len(x.shape) - space, len(x.shape)))
    if not keeps_constants:
        x = ctx.homogeneous(x, f"{name_of(ctx)} does not keep an added term constant")
    else:
        x = ctx.with_constant_terms(x, axes)
    return ctx.move(ctx.collapse(x, axes, name_of(ctx), average=True), ctx.shape, lambda t: t)


@rule(aten.adaptive_avg_pool1d.default, samples=[(T((2, 3, 6)), 2)])
@rule(aten.adaptive_avg_pool2d.default, samples=[(T((2, 3, 6, 6)), [2, 1])])
@rule(aten.adaptive_avg_pool3d.default, samples=[(T((1, 3, 4, 4, 4)), [1, 1, 1])])
@rule(aten.upsample_nearest1d.vec, samples=[(T((2, 3, 4)), None, [2.0])])
@rule(
    aten.upsample_nearest2d.vec,
    samples=[(T((2, 3, 4, 4)), None, [2.0, 2.0])],
)
@rule(
    aten.upsample_bilinear2d.vec,
    aten.upsample_bicubic2d.vec,
    aten._upsample_bilinear2d_aa.vec,
    aten._upsample_bicubic2d_aa.vec,
    samples=[(T((2, 3, 4, 4)), None, False, [2.0, 2.0])],
)
@rule(aten.upsample_linear1d.vec, samples=[(T((2, 3, 4)), None, False, [2.0])])
@rule(aten.upsample_trilinear3d.vec, samples=[(T((1, 2, 3, 3, 3)), None, False, [2.0, 2.0, 2.0])])
@rule(aten.upsample_nearest3d.vec, samples=[(T((1, 2, 3, 3, 3)), None, [2.0, 2.0, 2.0])])
def resample(ctx: Context, x: Value, size: Any, *args: Any) -> Value:
    """Averages with weights that sum to one."""
    space = next(k for k in (1, 2, 3) if f"{k}d" in str(ctx.node.target))
    return _windows(ctx, x, space, keeps_constants=True)


@rule(aten.avg_pool1d.default, samples=[(T((2, 3, 6)), [2]), (T((2, 3, 6)), [3], [2], [1])])
@rule(aten.avg_pool2d.default, samples=[(T((2, 3, 6, 6)), [2, 2]), (T((2, 3, 5, 5)), [3, 3], [2, 2], [1, 1])])
@rule(aten.avg_pool3d.default, samples=[(T((1, 2, 4, 4, 4)), [2, 2, 2])])
def avg_pool(
    ctx: Context,
    x: Value,
    kernel: Sequence[int],
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """An average; counted padding dilutes a constant term at the border."""
    padded = any(padding) if isinstance(padding, (list, tuple)) else bool(padding)
    constant = (not padded or not count_include_pad) and divisor_override is None
    return _windows(ctx, x, len(kernel), keeps_constants=constant)


@rule(aten.max_pool1d.default, samples=[(T((2, 3, 6)), [2])])
@rule(aten.max_pool2d.default, samples=[(T((2, 3, 6, 6)), [3, 3], [2, 2], [1, 1])])
@rule(aten.max_pool3d.default, samples=[(T((1, 2, 4, 4, 4)), [2, 2, 2])])
def max_pool(ctx: Context, x: Value, kernel: Sequence[int], *args: Any) -> Value:
    """A maximum; padding is -inf and never wins."""
    return _windows(ctx, x, len(kernel), keeps_constants=True)


@rule(aten.adaptive_max_pool1d.default, samples=[(T((2, 3, 6)), [2])])
@rule(aten.adaptive_max_pool2d.default, samples=[(T((2, 3, 6, 6)), [2, 2])])
@rule(aten.max_pool2d_with_indices.default, samples=[(T((2, 3, 6, 6)), [2, 2])])
def max_pool_indices(ctx: Context, x: Value, size: Sequence[int], *args: Any) -> tuple[Value, Value]:
    """A maximum and its place."""
    out = _windows(ctx, x, len(size), keeps_constants=True)
    return out, ctx.plain(out.shape)
