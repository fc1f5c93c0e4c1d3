"""Sums, products and powers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.registry import T, rule
from autogroup.rules.eps import is_eps, mark_eps, never_negative
from autogroup.rules.pointwise import homogeneous, name_of, nonlinear

aten = torch.ops.aten
_X, _Y = T((2, 3)), T((2, 3))


def _value(ctx: Context, x: Any) -> Value:
    return x if isinstance(x, Value) else ctx.constant(x)


# --- sums ----------------------------------------------------------------------------------------------------


@rule(aten.add.Tensor, aten.sub.Tensor, samples=[(_X, T((3,))), (_X, _Y)])
@rule(aten.add.Scalar, aten.sub.Scalar, samples=[(_X, 2.0)])
def add(ctx: Context, a: Value | float, b: Value | float, alpha: float = 1) -> Value:
    """``a ± alpha * b``."""
    if isinstance(a, Value) and is_eps(ctx.node, b):
        return ctx.move(mark_eps(a), a.shape, lambda t: t)
    if isinstance(b, Value) and is_eps(ctx.node, a):
        return ctx.move(mark_eps(b), b.shape, lambda t: t)
    right = _value(ctx, b)
    if alpha != 1:
        right = ctx.product(right, ctx.constant(alpha))
    return ctx.join(_value(ctx, a), right, subtract="sub" in str(ctx.node.target))


@rule(aten.rsub.Scalar, samples=[(_X, 2.0)])
@rule(aten.rsub.Tensor, samples=[(_X, T((3,)))])
def rsub(ctx: Context, a: Value, b: Value | float, alpha: float = 1) -> Value:
    """``b - alpha * a``."""
    left = a if alpha == 1 else ctx.product(a, ctx.constant(alpha))
    return ctx.join(_value(ctx, b), left, subtract=True)


@rule(aten.addcmul.default, aten.addcdiv.default, samples=[(T((2, 3)), T((3,)), T((3,)))])
def addcmul(ctx: Context, x: Value, a: Value, b: Value, *, value: float = 1) -> Value:
    """``x + value * a * b`` (or ``a / b``)."""
    scaled = ctx.product(a, b, divide=ctx.node.target is aten.addcdiv.default)
    return ctx.join(x, scaled if value == 1 else ctx.product(scaled, ctx.constant(value)))


@rule(aten.lerp.Scalar, samples=[(_X, T((3,)), 0.3)])
@rule(aten.lerp.Tensor, samples=[(_X, T((3,)), T((3,)))])
def lerp(ctx: Context, a: Value, b: Value, weight: Value | float) -> Value:
    """``a + weight * (b - a)``."""
    w = _value(ctx, weight)
    rest = ctx.join(ctx.constant(1.0), w, subtract=True)
    return ctx.join(ctx.product(a, rest), ctx.product(b, w))


# --- products ------------------------------------------------------------------------------------------------


@rule(aten.mul.Tensor, samples=[(_X, _Y), (T((2, 3)), T((3,)))])
@rule(aten.mul.Scalar, samples=[(_X, 2.0)])
def mul(ctx: Context, a: Value | float, b: Value | float) -> Value:
    """``a * b``."""
    return ctx.product(_value(ctx, a), _value(ctx, b))


@rule(aten.div.Tensor, samples=[(_X, T((2, 3), "positive")), (_X, T((3,), "positive"))])
@rule(aten.div.Scalar, samples=[(_X, 2.0)])
def div(ctx: Context, a: Value | float, b: Value | float) -> Value:
    """``a / b``."""
    return ctx.product(_value(ctx, a), _value(ctx, b), divide=True)


@rule(aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_mode(ctx: Context, a: Value | float, b: Value | float, *, rounding_mode: str | None = None) -> Value:
    """Rounded division is not homogeneous."""
    return div(ctx, a, b) if rounding_mode is None else nonlinear(ctx, a, b)


@rule(aten.neg.default, samples=[(_X,)])
def neg(ctx: Context, x: Value) -> Value:
    """``-x``."""
    return ctx.negate(x)


@rule(aten.glu.default, samples=[(T((2, 4)),), (T((4, 3)), 0)])
def glu(ctx: Context, x: Value, dim: int = -1) -> Value:
    """The first half times the sigmoid of the second."""
    dim %= len(x.shape)
    half = x.shape[dim] // 2
    shape = (*x.shape[:dim], half, *x.shape[dim + 1 :])

    def part(start: int) -> Value:
        return ctx.move(x, shape, lambda t: t if t.shape[dim] == 1 else t.narrow(dim, start, half))

    ctx.escape_all([part(half)], "is the gate of a GLU, which is not homogeneous")
    return ctx.product(part(0), ctx.plain(shape))


# --- powers --------------------------------------------------------------------------------------------------

_TERM = "is raised to a power while it carries an added term"


@rule(aten.pow.Tensor_Scalar, samples=[(T((2, 3), "positive"), 2), (T((2, 3), "positive"), -0.5)])
def power(ctx: Context, x: Value, exponent: float) -> Value:
    """``x ** k`` for a number k: degrees are multiplied by k."""
    if exponent == 1:
        return ctx.move(x, x.shape, lambda t: t)
    return ctx.power(x, Fraction(exponent).limit_denominator(1000), _TERM)


@rule(aten.sqrt.default, samples=[(T((2, 3), "positive"),)])
@rule(aten.rsqrt.default, samples=[(T((2, 3), "positive"),)])
@rule(aten.square.default, samples=[(_X,)])
@rule(aten.reciprocal.default, samples=[(T((2, 3), "positive"),)])
def root(ctx: Context, x: Value) -> Value:
    """Powers with a name."""
    name = name_of(ctx)
    exponent = {"sqrt": Fraction(1, 2), "rsqrt": Fraction(-1, 2), "square": Fraction(2), "reciprocal": Fraction(-1)}
    return ctx.power(x, exponent[name], _TERM)


# --- maxima and minima of two values -------------------------------------------------------------------------


@rule(aten.maximum.default, aten.minimum.default, aten.max.other, aten.min.other)
def maximum(ctx: Context, a: Value, b: Value) -> Value:
    """Homogeneous when both sides scale alike, or one is exactly zero."""
    reason = f"{name_of(ctx)} of two values of which one carries an added term"
    joined = ctx.join(ctx.homogeneous(a, reason), ctx.homogeneous(b, reason))
    return ctx.homogeneous(joined, f"{name_of(ctx)} with a value that does not scale")


@rule(aten.clamp.default, samples=[(_X, 0.0), (_X, -1.0, 1.0)])
def clamp(ctx: Context, x: Value, min: float | None = None, max: float | None = None) -> Value:
    """Homogeneous when every bound is zero; a tiny lower bound of a divisor is an eps."""
    bounds = [b for b in (min, max) if b is not None]
    if any(b != 0 for b in bounds):
        # A value that may be negative is not kept away from zero by a bound: it is replaced by it.
        if max is None and is_eps(ctx.node, min) and never_negative(ctx.node.args[0]):
            return homogeneous(ctx, mark_eps(x))
        return nonlinear(ctx, x)
    return homogeneous(ctx, x)


@rule(aten.clamp_min.default, samples=[(_X, 0.0), (_X, 0.5)])
def clamp_min(ctx: Context, x: Value, bound: float) -> Value:
    """``max(x, bound)``."""
    return clamp(ctx, x, bound)


@rule(aten.clamp_max.default, samples=[(_X, 0.0), (_X, 0.5)])
def clamp_max(ctx: Context, x: Value, bound: float) -> Value:
    """``min(x, bound)``."""
    return clamp(ctx, x, None, bound)


# --- complex numbers -----------------------------------------------------------------------------------------


@rule(
    aten.conj.default,
    aten._conj.default,
    aten.conj_physical.default,
    aten.resolve_conj.default,
    samples=[(T((2, 3), "complex"),)],
)
def conj(ctx: Context, x: Value) -> Value:
    """Keeps the scale; an added term becomes another one."""
    return ctx.homogeneous(x, "is conjugated while it carries an added term")


@rule(aten.polar.default, aten.complex.default)
def polar(ctx: Context, a: Value, b: Value) -> Value:
    """Build a complex number: followed only where nothing scales."""
    return nonlinear(ctx, a, b)
