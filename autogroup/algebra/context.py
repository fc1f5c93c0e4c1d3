"""Context: the arithmetic of abstract values, bound to the graph node that performs it.

Rules are written with these operations only (and those of its bases in ``elementwise`` and ``operation``).
Each one either keeps a value homogeneous, merging the blocks that must then be scaled together, or lets blocks
escape with a reason in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autogroup.algebra.domain import Dependence, Factor, Key, Value, kept, normal_form
from autogroup.algebra.elementwise import Elementwise
from autogroup.algebra.labels import (
    INDEPENDENT,
    ZERO_TERM,
    Shape,
    constant_over,
    mix_nonzero,
    nonzero_terms,
    reduce_terms,
    rows_over,
)


class Context(Elementwise):
    """One operator being interpreted: the operations that rules are written with."""

    __slots__ = ()

    joint = False
    """Whether all parameters are scaled at once, by one factor per row and column; see ``JointContext``."""

    # --- reductions ------------------------------------------------------------------------------------

    def collapse(self, value: Value, axes: Sequence[int], what: str, *, average: bool = False) -> Value:
        """A homogeneous map over ``axes`` (a sum, a maximum, a norm): their blocks are united, the axes kept at size 1.

        With ``average``, a term that is constant over the axes passes unchanged. Where it varies, the result
        is one new term per fibre: right for a sum, not for an operator that picks (see ``with_constant_terms``).
        """
        shape = tuple(1 if d in axes else n for d, n in enumerate(value.shape))
        deps: dict[Key, Dependence] = {}
        for key, dep in value.deps.items():
            if not key.alive:
                continue
            factors = [Factor(f.degree, self._unite_over(key, f.labels, axes, value.zero, what)) for f in dep.factors]
            terms = dep.terms
            if terms is not None and not average:
                terms = mix_nonzero(reduce_terms(terms, axes), self.number)
            elif terms is not None:
                same = constant_over(terms, axes)
                first = rows_over(terms, axes)[0][:, 0].view(same.shape)
                terms = torch.where(same, first, mix_nonzero(reduce_terms(terms, axes), self.number))
            deps[key] = Dependence(normal_form(key.blocks, factors), nonzero_terms(terms))
        zero = None
        if value.zero is not None:
            rows, rest = rows_over(value.zero, axes)
            zero = rows.all(1).view(rest)
        return Value(shape, kept(deps), zero, self.name())

    def _unite_over(self, key: Key, labels: Tensor, axes: Sequence[int], zero: Tensor | None, what: str) -> Tensor:
        """Unite the blocks along ``axes``; blocks that lie on part of a fibre only escape."""
        if all(labels.shape[d] == 1 for d in axes) and zero is None:
            return labels
        if zero is not None:
            labels, zero = torch.broadcast_tensors(labels, zero)
        rows, rest = rows_over(labels, axes)
        scaled = rows != INDEPENDENT
        neutral = scaled if zero is None else scaled | rows_over(zero, axes)[0]
        partly = scaled.any(1) & ~neutral.all(1)
        if bool(partly.any()):
            self.escape(key, rows[partly], f"{what} takes in positions that do not scale with it")
            rows = rows.masked_fill(partly[:, None], INDEPENDENT)
        key.blocks.unite_rows(rows)
        return rows.max(1).values.view(rest)

    def with_constant_terms(self, value: Value, axes: Sequence[int]) -> Value:
        """Let blocks escape whose added term varies over ``axes``: a pick or a maximum would mix the terms up."""
        deps = dict(value.deps)
        for key, dep in value.deps.items():
            if dep.terms is not None:
                varies = ~constant_over(dep.terms, axes)
                deps[key] = self.escape_where(key, dep, varies, "picks among values with different added terms")
        return Value(value.shape, kept(deps), value.zero, value.name)

    def ignore_shifts(self, value: Value, axes: Sequence[int], what: str) -> Value:
        """An operator along ``axes`` that a term constant over them does not change: such terms are removed."""
        deps = dict(value.deps)
        for key, dep in value.deps.items():
            if key.use == "shift" and dep.terms is not None:
                self.escape_where(key, dep, ~constant_over(dep.terms, axes), "")
                if key.alive:
                    key.blocks.remove(self.blame, f"adds what {what} does not see")
                del deps[key]
        return replace(value, deps=deps)

    def normalize(self, value: Value, axes: Sequence[int], *, centered: bool, what: str) -> Value:
        """Divide by a norm over ``axes`` (after subtracting the mean, if ``centered``)."""
        for key, dep in value.deps.items():
            if not key.alive:
                continue
            if dep.terms is not None:
                if centered:
                    bad = ~constant_over(dep.terms, axes)
                    why = f"{what} does not remove an added term that varies over its axes"
                else:
                    bad = dep.terms != ZERO_TERM
                    why = f"{what} does not remove an added term"
                dep = self.escape_where(key, dep, bad, why)
            if key.use == "shift" and key.alive:
                key.blocks.remove(self.blame, f"adds what {what} subtracts again")
            for f in dep.factors:
                labels = self._unite_over(key, f.labels, axes, value.zero, what)
                key.blocks.absorb(labels, self.blame, f"is normalized by {what}")
        return self.plain(value.shape)

    # --- linear maps -----------------------------------------------------------------------------------

    def contract(
        self, a: Value, a_axes: Sequence[int], b: Value, b_axes: Sequence[int], shape: Shape, what: str
    ) -> Value:
        """A product summed over shared axes (einsum).

        ``a_axes[d]`` is the output axis that axis d of ``a`` becomes, or a negative number if it is summed over:
        the same number in both operands for the same axis.
        """
        left = self._summed(a, a_axes, len(shape), what)
        right = self._summed(b, b_axes, len(shape), what)
        # What the other operand contributes to a term varies along all of its output axes.
        return self.product(replace(left, zero=None), replace(right, zero=None)).move(shape, lambda t: t, self.name())

    def _summed(self, value: Value, axes: Sequence[int], ndim: int, what: str) -> Value:
        """Collapse the contracted axes and lay the others out along the output axes."""
        contracted = [d for d, o in enumerate(axes) if o < 0]
        value = self.collapse(value, contracted, what) if value.deps else value
        order = sorted((o, d) for d, o in enumerate(axes) if o >= 0)

        def spread(shape: Sequence[int]) -> Shape:
            sizes = [1] * ndim
            for o, d in order:
                sizes[o] = shape[d]
            return tuple(sizes)

        def lay_out(t: Tensor) -> Tensor:
            return t.permute([*(d for _, d in order), *contracted]).reshape(spread(t.shape))

        deps = {k: d.move(lay_out) for k, d in value.deps.items()}
        return Value(spread(value.shape), deps, None, self.name())
