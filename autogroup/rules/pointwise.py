"""Elementwise functions of one tensor: homogeneous ones keep the degree, all others need degree 0."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.capture.schema import function_name
from autogroup.registry import T, rule

aten = torch.ops.aten
_X = T((2, 3, 4))


def name_of(ctx: Context) -> str:
    """The operator's name without namespace and overload."""
    return function_name(ctx.node)


# --- f(αx) = αf(x) -----------------------------------------------------------------------------------------


@rule(aten.relu.default, aten.abs.default, samples=[(_X,)])
@rule(aten.leaky_relu.default, samples=[(_X, 0.1)])
@rule(aten.threshold.default, samples=[(_X, 0, 0)])
def homogeneous(ctx: Context, x: Value, *args: float) -> Value:
    """Positively homogeneous functions of degree 1."""
    if ctx.node.target is aten.threshold.default and any(args):
        return nonlinear(ctx, x)
    return ctx.homogeneous(x, f"{name_of(ctx)} is not homogeneous on a value with an added term")


@rule(aten.prelu.default, samples=[(T((2, 3, 4)), T((3,)))])
def prelu(ctx: Context, x: Value, slope: Value) -> Value:
    """Homogeneous in its input; the slope acts on the negative part only."""
    ctx.escape_all([slope], "PReLU applies its slope to negative values only")
    return ctx.homogeneous(x, "PReLU is not homogeneous on a value with an added term")


# --- randomness: dropout multiplies by a mask ----------------------------------------------------------------


@rule(aten.dropout.default, aten.feature_dropout.default, samples=[(_X, 0.0, True), (_X, 0.5, False)])
def dropout(ctx: Context, x: Value, p: float, train: bool) -> Value:
    """Multiply by a random mask (an added term no longer is constant), or nothing at all."""
    if not train or p == 0:
        return ctx.move(x, x.shape, lambda t: t)
    return ctx.product(x, ctx.plain(x.shape))


@rule(aten.native_dropout.default, samples=[(_X, 0.5, False)])
def native_dropout(ctx: Context, x: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    """Dropout that also returns its mask."""
    return dropout(ctx, x, p, train is not False), ctx.plain(x.shape)


# --- functions that need a value without scale ---------------------------------------------------------------

_NONLINEAR: tuple[OpOverload, ...] = (
    aten.sigmoid.default,
    aten.silu.default,
    aten.gelu.default,
    aten.tanh.default,
    aten.exp.default,
    aten.exp2.default,
    aten.expm1.default,
    aten.log.default,
    aten.log2.default,
    aten.log10.default,
    aten.log1p.default,
    aten.sin.default,
    aten.cos.default,
    aten.tan.default,
    aten.asin.default,
    aten.acos.default,
    aten.atan.default,
    aten.sinh.default,
    aten.cosh.default,
    aten.erf.default,
    aten.erfc.default,
    aten.softplus.default,
    aten.elu.default,
    aten.selu.default,
    aten.celu.default,
    aten.mish.default,
    aten.hardtanh.default,
    aten.relu6.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.hardshrink.default,
    aten.softshrink.default,
    aten.log_sigmoid.default,
    aten.logit.default,
    aten.floor.default,
    aten.ceil.default,
    aten.round.default,
    aten.trunc.default,
    aten.frac.default,
    aten.logical_not.default,
    aten.bitwise_not.default,
    aten.isnan.default,
    aten.isinf.default,
    aten.isfinite.default,
    aten.nan_to_num.default,
    aten.special_expit.default,
    aten.xlogy.Tensor,
    aten.logsumexp.default,
    aten.one_hot.default,
    aten.bucketize.Tensor,
    aten.multinomial.default,
    aten.bernoulli.default,
    aten.nonzero.default,
    aten.item.default,
    aten._local_scalar_dense.default,
    aten.is_nonzero.default,
    aten.remainder.Tensor,
    aten.remainder.Scalar,
    aten.fmod.Tensor,
    aten.fmod.Scalar,
    aten.floor_divide.default,
    aten.floor_divide.Scalar,
    aten.atan2.default,
    aten.logical_and.default,
    aten.logical_or.default,
    aten.logical_xor.default,
    aten.bitwise_and.Tensor,
    aten.bitwise_or.Tensor,
    aten.bitwise_xor.Tensor,
    aten.__and__.Tensor,
    aten.__or__.Tensor,
    aten.__and__.Scalar,
    aten.__or__.Scalar,
    aten.pow.Scalar,
    aten.pow.Tensor_Tensor,
    aten.isin.Tensor_Tensor,
    aten.searchsorted.Tensor,
    aten.histc.default,
    aten.allclose.default,
    aten.equal.default,
    aten.erfinv.default,
    # Recurrent layers: every gate is a sigmoid.
    aten.mkldnn_rnn_layer.default,
    aten.lstm.input,
    aten.lstm.data,
    aten.gru.input,
    aten.gru.data,
    aten.rnn_tanh.input,
    aten.lstm_cell.default,
    aten.gru_cell.default,
    aten.rnn_tanh_cell.default,
    aten._thnn_fused_lstm_cell.default,
    aten._thnn_fused_gru_cell.default,
)


@rule(*_NONLINEAR)
def nonlinear(ctx: Context, *args: Any, **kwargs: Any) -> Any:
    """Anything whose result changes in a general way when an argument is scaled."""
    values = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, Value)]
    ctx.escape_all(values, f"{name_of(ctx)} is not homogeneous")
    return ctx.plain_outputs()


@rule(aten.softmax.int, aten.log_softmax.int, samples=[(_X, 1)])
@rule(aten._softmax.default, aten._log_softmax.default, samples=[(_X, 1, False)])
def softmax(ctx: Context, x: Value, dim: int, *args: Any, **kwargs: Any) -> Value:
    """Not homogeneous, but blind to what is constant along its axis."""
    axis = dim % len(x.shape) if x.shape else 0
    return nonlinear(ctx, ctx.ignore_shifts(x, [axis], name_of(ctx)) if x.shape else x)


@rule(
    aten.gt.Scalar,
    aten.ge.Scalar,
    aten.lt.Scalar,
    aten.le.Scalar,
    aten.eq.Scalar,
    aten.ne.Scalar,
    samples=[(_X, 0)],
)
@rule(
    aten.gt.Tensor,
    aten.ge.Tensor,
    aten.lt.Tensor,
    aten.le.Tensor,
    aten.eq.Tensor,
    aten.ne.Tensor,
)
def compare(ctx: Context, a: Value, b: Value | float) -> Value:
    """Comparing with zero asks for the sign only; comparing with anything else asks for the scale."""
    if not isinstance(b, Value) and b == 0:
        return ctx.power(a, Fraction(0), "is compared with zero while it carries an added term")
    return nonlinear(ctx, a, b)


@rule(aten.sign.default, aten.sgn.default, samples=[(_X,)])
def sign(ctx: Context, x: Value) -> Value:
    """Degree 0."""
    return ctx.power(x, Fraction(0), "the sign of a value with an added term depends on its scale")
