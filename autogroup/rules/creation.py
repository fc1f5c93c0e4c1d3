"""Operators that make tensors: their results scale with nothing; exact zeros are remembered."""

from __future__ import annotations

from typing import Any

import torch

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.registry import T, rule

aten = torch.ops.aten


def _zeros(ctx: Context) -> Value:
    shape = ctx.shape
    return ctx.plain(shape, torch.ones((1,) * len(shape), dtype=torch.bool))


@rule(
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.zero.default,
    always=True,
)
def zeros(ctx: Context, *args: Any, **kwargs: Any) -> Value:
    """Exactly zero, whatever the arguments."""
    return _zeros(ctx)


@rule(
    aten.full.default,
    aten.full_like.default,
    aten.new_full.default,
    always=True,
)
def full(ctx: Context, like: Any, number: Any, *args: Any, **kwargs: Any) -> Value:
    """One number everywhere."""
    return _zeros(ctx) if number == 0 else ctx.plain()


@rule(aten.fill.Scalar, always=True)
def fill_number(ctx: Context, like: Value, number: float) -> Value:
    """Overwrite with one number."""
    return full(ctx, like, number)


@rule(aten.fill.Tensor, samples=[(T((2, 3)), T(()))])
def fill(ctx: Context, like: Value, number: Value) -> Value:
    """The value of a 0-d tensor everywhere."""
    return ctx.move(number, like.shape, lambda t: t.reshape((1,) * len(like.shape)))


@rule(
    aten.ones_like.default,
    aten.new_ones.default,
    aten.empty_like.default,
    aten.new_empty.default,
    aten.rand_like.default,
    aten.randn_like.default,
    aten.randint_like.default,
    aten.bernoulli.p,
    aten.bernoulli_.float,
    aten.bernoulli_.Tensor,
    aten.normal_.default,
    aten.uniform_.default,
    aten.exponential_.default,
    aten.uniform.default,
    aten.normal_functional.default,
    aten.exponential.default,
)
def plain(ctx: Context, *args: Any, **kwargs: Any) -> Value:
    """A tensor of the shape of another, with values of its own."""
    return ctx.plain()
