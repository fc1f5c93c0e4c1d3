"""JointContext: the operations that rules are written with, for all parameters scaled at once.

Where ``Context`` asks for each parameter alone whether an operator lets its scale through, here every value
scales with a form in the log-scales of all parameters, and what an operator demands becomes equations. Nothing
escapes: a form that must be zero is one more equation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autogroup.algebra.context import Context
from autogroup.algebra.domain import Dependence, Factor, Key, Value, aligned, kept, normal_form
from autogroup.algebra.labels import INDEPENDENT, Shape, align
from autogroup.algebra.system import System

MAX_FACTORS = 6
"""A form of more factors than this is given a name of its own."""


class JointContext(Context):
    """One operator being interpreted on values that scale with every parameter at once."""

    __slots__ = ()

    joint = True

    # --- what must not scale -----------------------------------------------------------------------------

    def escape_all(self, values: Sequence[Value], reason: str, *, unknown: bool = False) -> None:
        """The operator tolerates no scale: the form is zero."""
        for value in values:
            for key, dep in value.deps.items():
                _system(key).require_zero(dep.factors, _nonzero(value.zero, dep))

    def escape(self, key: Key, labels: Tensor, reason: str, *, unknown: bool = False, by_term: bool = False) -> None:
        """These variables are zero."""
        key.blocks.unite(labels, torch.tensor(INDEPENDENT))

    def detach(self, value: Value) -> Value:
        """A symmetry of the loss is one of its gradient only if nothing that is cut off scales."""
        self.escape_all([value], "is cut off from the gradient")
        return Value(value.shape, {}, value.zero, value.name)

    # --- sums and products ---------------------------------------------------------------------------------

    def join(self, a: Value, b: Value, *, subtract: bool = False) -> Value:
        """``a ± b``: both scale alike wherever neither is exactly zero."""
        ndim = max(len(a.shape), len(b.shape))
        zeros = [None if v.zero is None else align(v.zero, ndim) for v in (a, b)]
        forms = [_form(v, ndim) for v in (a, b)]
        joined = super().join(replace(a, deps={}), replace(b, deps={}), subtract=subtract)
        keys = list(dict.fromkeys((*a.deps, *b.deps)))
        if not keys or (all(z is not None and bool(z.all()) for z in zeros)):
            return joined
        (key,), (left, right) = keys, forms
        if zeros[0] is not None and bool(zeros[0].all()):
            return replace(joined, deps=kept({key: Dependence(right)}))
        if zeros[1] is not None and bool(zeros[1].all()):
            return replace(joined, deps=kept({key: Dependence(left)}))
        masks = [z for z in zeros if z is not None]
        both = None if not masks else ~masks[0] if len(masks) == 1 else ~(masks[0] | masks[1])
        _system(key).require_zero((*left, *(Factor(-f.degree, f.labels) for f in right)), both)
        if zeros[0] is not None:
            # Where both count they are equal now, so that the form of a value without zeros does for all positions.
            left = right if zeros[1] is None else (*_only(left, ~zeros[0]), *_only(right, zeros[0]))
        return replace(joined, deps=kept({key: Dependence(normal_form(key.blocks, left))}))

    def product(self, a: Value, b: Value, *, divide: bool = False) -> Value:
        """``a * b`` (or ``a / b``): the forms are added, and may be anything where the product is zero."""
        zeros = [v.zero for v in ((a,) if divide else (a, b)) if v.zero is not None]
        out = super().product(replace(a, zero=None), replace(b, zero=None), divide=divide)
        masks = [align(z, len(out.shape)) for z in zeros]
        return replace(out, zero=None if not masks else masks[0] if len(masks) == 1 else masks[0] | masks[1])

    def _product_both(self, key: Key, left: Dependence, right: Dependence) -> Dependence | None:
        factors = normal_form(key.blocks, (*left.factors, *right.factors))
        if len(factors) > MAX_FACTORS:
            factors = _system(key).fold(factors)
        return Dependence(factors) if factors else None

    # --- along axes ----------------------------------------------------------------------------------------

    def collapse(
        self, value: Value, axes: Sequence[int], what: str, *, average: bool = False, summed: bool = False
    ) -> Value:
        """A homogeneous map over ``axes``: the form is constant along them, except at exact zeros."""
        shape = tuple(1 if d in axes else n for d, n in enumerate(value.shape))
        deps = {
            key: Dependence(_system(key).require_constant(dep.factors, axes, _nonzero(value.zero, dep), summed=summed))
            for key, dep in value.deps.items()
        }
        zero = None if value.zero is None else value.zero.all(dim=list(axes), keepdim=True) if axes else value.zero
        return Value(shape, kept(deps), zero, self.name())

    def normalize(self, value: Value, axes: Sequence[int], *, centered: bool, what: str) -> Value:
        """The scale of a fibre is divided out."""
        self.collapse(value, axes, what)
        return self.plain(value.shape)

    def contract(
        self, a: Value, a_axes: Sequence[int], b: Value, b_axes: Sequence[int], shape: Shape, what: str
    ) -> Value:
        """A product summed over shared axes: only the scale of the product must be constant along them."""
        ndim, summed = len(shape), -min(0, *a_axes, *b_axes)
        product = self.product(_laid_out(a, a_axes, ndim, ndim + summed), _laid_out(b, b_axes, ndim, ndim + summed))
        axes = list(range(ndim, ndim + summed))
        out = self.collapse(product, axes, what, summed=True)
        return replace(self.move(out, shape, lambda t: t.squeeze(axes)), zero=None)


def _system(key: Key) -> System:
    assert isinstance(key.blocks, System)
    return key.blocks


def _form(value: Value, ndim: int) -> tuple[Factor, ...]:
    return next((aligned(dep, ndim).factors for dep in value.deps.values()), ())


def _nonzero(zero: Tensor | None, dep: Dependence) -> Tensor | None:
    return None if zero is None else ~align(zero, dep.factors[0].labels.dim())


def _only(factors: Sequence[Factor], mask: Tensor) -> tuple[Factor, ...]:
    return tuple(Factor(f.degree, torch.where(mask, f.labels, INDEPENDENT)) for f in factors)


def _laid_out(value: Value, axes: Sequence[int], ndim: int, total: int) -> Value:
    """Give every axis its place among the output axes, then the summed ones; all others have size 1."""
    place = [o if o >= 0 else ndim - 1 - o for o in axes]
    order = sorted(range(len(place)), key=place.__getitem__)

    def spread(sizes: Sequence[int]) -> Shape:
        out = [1] * total
        for d in order:
            out[place[d]] = sizes[d]
        return tuple(out)

    def lay_out(t: Tensor) -> Tensor:
        return t.permute(order).reshape(spread(t.shape))

    deps: Mapping[Key, Dependence] = {k: d.move(lay_out) for k, d in value.deps.items()}
    return Value(spread(value.shape), deps, None if value.zero is None else lay_out(value.zero), value.name)
