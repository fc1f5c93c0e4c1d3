"""Attention: a softmax over scores that must not scale, then a weighted sum of the values.

Letters: b batch and heads; q queries; k keys; d head channels.
"""

from __future__ import annotations

from dataclasses import replace

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
    _scores(ctx, query, key, lead)
    if attn_mask is not None:
        ctx.escape_all([attn_mask], "the attention mask goes through a softmax")
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


def _scores(ctx: Context, query: Value, key: Value, lead: int) -> None:
    """The softmax over keys tolerates no scale; it does not see what is the same for all keys, as a key bias is."""
    reason = "the attention scores go through a softmax"
    scales = [replace(v, deps={k: d for k, d in v.deps.items() if k.use != "shift"}) for v in (query, key)]
    ctx.escape_all(scales, reason)
    moved = [replace(v, deps={k: d for k, d in v.deps.items() if k.use == "shift"}) for v in (query, key)]
    if len(query.shape) != len(key.shape) or query.shape[:lead] != key.shape[:lead]:
        ctx.escape_all(moved, reason)
        return
    axes = list(range(lead))
    shape = (*ctx.shape[:-2], query.shape[-2], key.shape[-2])
    scores = ctx.contract(moved[0], [*axes, lead, -1], moved[1], [*axes, lead + 1, -1], shape, "the scores")
    ctx.escape_all([ctx.ignore_shifts(scores, [lead + 1], "the softmax over keys")], reason)
