"""Convolutions: an einsum over groups and input channels, with a window over space.

Letters: n batch; g groups; i channels in per group; o channels out per group; s, k space and kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Key, Value
from autogroup.registry import T, rule

aten = torch.ops.aten
_SUM = "the convolution's sum"


@dataclass(frozen=True, slots=True)
class Window:
    """What the rules need to know of a kernel: how it moves over space, and whether it meets padding."""

    pointwise: bool
    padded: bool


def _ints(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def _window(weight: Value, stride: Any, padding: Any) -> Window:
    kernel = list(weight.shape[2:])
    single = all(k == 1 for k in kernel)
    padded = padding == "same" and not single
    if not isinstance(padding, str):
        padded = any(_ints(padding, len(kernel)))
    return Window(single and not padded and all(s == 1 for s in _ints(stride, len(kernel))), padded)


def _unbatched(ctx: Context, x: Value, weight: Value) -> Value:
    """Give an input without a batch axis one of size 1."""
    return x if len(x.shape) == len(weight.shape) else ctx.reshape(x, (1, *x.shape))


def _convolve(
    ctx: Context, x: Value, w: Value, bias: Value | None, window: Window, groups: int, shape: tuple[int, ...]
) -> Value:
    """Contract ``n g i s, g o i k -> n g o s`` where ``w`` is given as [g, o, i, k…]."""
    space = len(shape) - 2
    split = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    x = _over_space(ctx, ctx.reshape(x, split), window, first=3)
    full = (shape[0], groups, shape[1] // groups, *shape[2:])
    x_axes = [0, 1, -1, *range(3, 3 + space)]
    w_axes = [1, 2, -1, *range(-2, -2 - space, -1)]
    out = ctx.reshape(ctx.contract(x, x_axes, _flat_kernel(ctx, w), w_axes, full, _SUM), shape)
    if bias is not None:
        out = ctx.join(out, ctx.reshape(bias, (bias.shape[0], *[1] * space)))
    return out


def _flat_kernel(ctx: Context, w: Value) -> Value:
    """A kernel with terms of its own meets every window differently: its blocks are lost."""
    return ctx.homogeneous(w, "is added to a kernel part that does not scale")


def _over_space(ctx: Context, x: Value, window: Window, first: int) -> Value:
    """Unite what one window may touch; a term must be constant over space and meet no padding."""
    if window.pointwise or not x.deps:
        return x
    axes = list(range(first, len(x.shape)))
    deps: dict[Key, Dependence] = {}
    for key, dep in x.deps.items():
        if dep.terms is not None and (window.padded or any(dep.terms.shape[d] > 1 for d in axes)):
            ctx.escape_all(
                [Value(x.shape, {key: dep})],
                "has an added term that the padded or moving window does not keep constant",
            )
            continue
        deps[key] = dep
    kept = Value(x.shape, deps, x.zero, x.name)
    # Padding is exact zero, so only the parts that scale matter here.
    return ctx.collapse(kept, axes, _SUM, average=True)


@rule(
    aten.conv1d.default,
    samples=[(T((2, 4, 7)), T((6, 2, 3)), T((6,)), [1], [0], [1], 2), (T((4, 7)), T((6, 4, 1)), T((6,)))],
)
@rule(aten.conv1d.padding, samples=[(T((2, 4, 7)), T((6, 4, 3)), None, [1], "same")])
@rule(
    aten.conv2d.default,
    samples=[
        (T((2, 4, 5, 5)), T((6, 4, 3, 3)), T((6,)), [2, 2], [1, 1]),
        (T((2, 4, 5, 5)), T((4, 1, 3, 3)), T((4,)), [1, 1], [0, 0], [1, 1], 4),
        (T((2, 4, 3, 3)), T((6, 4, 1, 1)), T((6,))),
    ],
)
@rule(aten.conv2d.padding, samples=[(T((2, 4, 5, 5)), T((6, 4, 3, 3)), None, [1, 1], "valid")])
@rule(aten.conv3d.default, samples=[(T((2, 2, 3, 3, 3)), T((3, 2, 2, 2, 2)), T((3,)))])
@rule(aten.conv3d.padding, samples=[(T((2, 2, 3, 3, 3)), T((3, 2, 2, 2, 2)), T((3,)), [1, 1, 1], "same")])
def conv(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Weights are [g o, i, k…]: one block per output channel to begin with."""
    del dilation  # it moves the taps of the kernel, not what they are multiplied with
    window = _window(weight, stride, padding)
    batched = _unbatched(ctx, x, weight)
    shape = ctx.shape if batched is x else (1, *ctx.shape)
    out_channels, in_channels = weight.shape[:2]
    w = ctx.reshape(weight, (groups, out_channels // groups, in_channels, *weight.shape[2:]))
    out = _convolve(ctx, batched, w, bias, window, groups, shape)
    return out if batched is x else ctx.reshape(out, ctx.shape)


@rule(aten.conv_transpose1d.default, samples=[(T((2, 4, 5)), T((4, 3, 2)), T((6,)), [2], [0], [0], 2)])
@rule(aten.conv_transpose2d.input, samples=[(T((2, 4, 3, 3)), T((4, 3, 2, 2)), T((3,)), [2, 2])])
@rule(aten.conv_transpose3d.input, samples=[(T((1, 2, 2, 2, 2)), T((2, 3, 2, 2, 2)), T((3,)), [2, 2, 2])])
def conv_transpose(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Weights are [g i, o, k…]: the block dim is 1. Output positions see different taps, so no term survives."""
    del output_padding, dilation
    window = _window(weight, stride, padding)
    if not window.pointwise:
        window = Window(pointwise=False, padded=True)
    batched = _unbatched(ctx, x, weight)
    shape = ctx.shape if batched is x else (1, *ctx.shape)
    in_channels, out_channels = weight.shape[:2]
    split = ctx.reshape(weight, (groups, in_channels // groups, out_channels, *weight.shape[2:]))
    w = ctx.move(split, (groups, out_channels, in_channels // groups, *weight.shape[2:]), lambda t: t.transpose(1, 2))
    out = _convolve(ctx, batched, w, bias, window, groups, shape)
    return out if batched is x else ctx.reshape(out, ctx.shape)


@rule(aten.convolution.default, samples=[(T((2, 4, 7)), T((6, 2, 3)), T((6,)), [1], [0], [1], False, [0], 2)])
def convolution(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """The general form that decompositions use."""
    if transposed:
        return conv_transpose(ctx, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(ctx, x, weight, bias, stride, padding, dilation, groups)
