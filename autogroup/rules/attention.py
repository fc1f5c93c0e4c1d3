"""Attention: a softmax over scores that must not scale, then a weighted sum of the values.

Letters: b batch and heads; q queries; k keys; d head channels.
"""

from __future__ import annotations

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.registry import T, rule

aten = torch.ops.aten


@rule(
    aten.scaled_dot_product_attention.default,
    samples=[(T((2, 3, 4, 5)), T((2, 3, 6, 5)), T((2, 3, 6, 5)))],
)
def scaled_dot_product_attention(
    ctx: Context,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """``softmax(q kᵀ) v``."""
    lead = len(ctx.shape) - 2
    if enable_gqa:
        key, value = (_repeat_heads(ctx, v, query.shape[-3]) for v in (key, value))
    _scores(ctx, query, key, lead)
    if attn_mask is not None:
        ctx.escape_all([attn_mask], "the attention mask goes through a softmax")
    probabilities = ctx.plain((*ctx.shape[:-2], query.shape[-2], value.shape[-2]))
    return ctx.contract(
        probabilities,
        [*range(lead), lead, -1],
        value,
        [*range(lead - (len(value.shape) - 2), lead), -1, lead + 1],
        ctx.shape,
        "the sum over keys",
    )


def _repeat_heads(ctx: Context, x: Value, heads: int) -> Value:
    """Grouped queries: each key or value head serves several query heads."""
    repeat = heads // x.shape[-3]
    if repeat == 1:
        return x
    shape = (*x.shape[:-3], heads, *x.shape[-2:])
    return ctx.move(x, shape, lambda t: t if t.shape[-3] == 1 else t.repeat_interleave(repeat, -3))


def _scores(ctx: Context, query: Value, key: Value, lead: int) -> None:
    """The softmax over keys tolerates no scale; it does not see what is the same for all keys, as a key bias is."""
    shape = (*ctx.shape[:-2], query.shape[-2], key.shape[-2])
    q_axes = [*range(lead - (len(query.shape) - 2), lead), lead, -1]
    k_axes = [*range(lead - (len(key.shape) - 2), lead), lead + 1, -1]
    scores = ctx.contract(query, q_axes, key, k_axes, shape, "the scores")
    ctx.escape_all(
        [ctx.ignore_shifts(scores, [lead + 1], "the softmax over keys")], "the attention scores go through a softmax"
    )
