"""Normalizations: along a fibre either all positions scale alike, and the scale is gone, or it is lost.

Letters: n batch; c channels; s space; g groups. The affine part is an ordinary product and sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.registry import T, rule

aten = torch.ops.aten


def _affine(ctx: Context, x: Value, weight: Value | None, bias: Value | None, shape: tuple[int, ...]) -> Value:
    """``x * weight + bias`` with both reshaped to ``shape``."""
    if weight is not None:
        x = ctx.product(x, ctx.reshape(weight, shape))
    return x if bias is None else ctx.join(x, ctx.reshape(bias, shape))


def _per_channel(x: Value) -> tuple[int, ...]:
    return (x.shape[1], *[1] * (len(x.shape) - 2))


@rule(
    aten.batch_norm.default,
    samples=[
        (T((4, 3, 5)), T((3,)), T((3,)), T((3,)), T((3,), "positive"), True, 0.1, 0.0, False),
        (T((4, 3)), T((3,)), T((3,)), T((3,)), T((3,), "positive"), False, 0.1, 0.0, False),
    ],
)
def batch_norm(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Training: normalize over n and s. Evaluation: an affine map with fixed statistics."""
    channel = _per_channel(x)
    if training or running_mean is None or running_var is None:
        axes = [d for d in range(len(x.shape)) if d != 1]
        out = ctx.normalize(x, axes, centered=True, what="batch_norm")
    else:
        out = ctx.join(x, ctx.reshape(running_mean, channel), subtract=True)
        root = ctx.require_invariant(running_var, "is a running variance")
        out = ctx.product(out, Value(channel, {}, None, root.name))
    return _affine(ctx, out, weight, bias, channel)


@rule(
    aten.instance_norm.default,
    samples=[(T((2, 3, 5)), T((3,)), T((3,)), None, None, True, 0.1, 0.0, False)],
)
def instance_norm(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalize over s for every n and c."""
    if not use_input_stats:
        return batch_norm(ctx, x, weight, bias, running_mean, running_var, False)
    out = ctx.normalize(x, range(2, len(x.shape)), centered=True, what="instance_norm")
    return _affine(ctx, out, weight, bias, _per_channel(x))


@rule(aten.group_norm.default, samples=[(T((2, 6, 4)), 3, T((6,)), T((6,)), 0.0)])
def group_norm(
    ctx: Context,
    x: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """``n (g c) s``: normalize over c and s."""
    split = ctx.reshape(x, (x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))
    out = ctx.normalize(split, range(2, len(split.shape)), centered=True, what="group_norm")
    return _affine(ctx, Value(x.shape, {}, None, out.name), weight, bias, _per_channel(x))


@rule(
    aten.layer_norm.default,
    samples=[(T((2, 3, 5)), [5], T((5,)), T((5,)), 0.0), (T((2, 3, 5)), [3, 5], None, None, 0.0)],
)
def layer_norm(
    ctx: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    """Normalize over the last axes."""
    axes = range(len(x.shape) - len(normalized_shape), len(x.shape))
    out = ctx.normalize(x, axes, centered=True, what="layer_norm")
    return _affine(ctx, out, weight, bias, tuple(normalized_shape))


@rule(aten.rms_norm.default, samples=[(T((2, 3, 5)), [5], T((5,)), 0.0)])
def rms_norm(
    ctx: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    """Normalize over the last axes without subtracting a mean: no added term is removed."""
    axes = range(len(x.shape) - len(normalized_shape), len(x.shape))
    out = ctx.normalize(x, axes, centered=False, what="rms_norm")
    return _affine(ctx, out, weight, None, tuple(normalized_shape))


@rule(aten.cosine_similarity.default, samples=[(T((2, 5)), T((3, 2, 5)), -1, 0.0)])
def cosine_similarity(ctx: Context, a: Value, b: Value, dim: int = 1, eps: float = 1e-8) -> Value:
    """Both vectors are normalized over ``dim``."""
    ndim = max(len(a.shape), len(b.shape))
    axis = dim % ndim
    for v in (a, b):
        own = axis - (ndim - len(v.shape))
        if own < 0 or v.shape[own] == 1:
            # Broadcast along the normalized axis: a rare call, given up.
            ctx.escape_all([v], "is broadcast along the axis of a cosine similarity")
        else:
            ctx.normalize(v, [own], centered=False, what="cosine_similarity")
    return ctx.plain()
