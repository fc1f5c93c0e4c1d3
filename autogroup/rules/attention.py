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
    for operand in (query, key):
        ctx.escape_all([operand], "the attention scores go through a softmax")
    if attn_mask is not None:
        ctx.escape_all([attn_mask], "the attention mask goes through a softmax")
    lead = len(ctx.shape) - 2
    if enable_gqa and value.shape[-3] != query.shape[-3]:
        repeat = query.shape[-3] // value.shape[-3]
        shape = (*value.shape[:-3], query.shape[-3], *value.shape[-2:])
        value = ctx.move(value, shape, lambda t: t if t.shape[-3] == 1 else t.repeat_interleave(repeat, -3))
    probabilities = ctx.plain((*ctx.shape[:-2], query.shape[-2], value.shape[-2]))
    return ctx.contract(
        probabilities,
        [*range(lead), lead, -1],
        value,
        [*range(lead - (len(value.shape) - 2), lead), -1, lead + 1],
        ctx.shape,
        "the sum over keys",
    )
