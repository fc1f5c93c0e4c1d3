"""Context: the arithmetic of abstract values, bound to the graph node that performs it.

Rules are written with these operations only. Each one either keeps a value homogeneous, merging the blocks
that must then be scaled together, or lets blocks escape with a reason in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from autogroup.domain import Dependence, Factor, Key, Move, Value, aligned, kept, normal_form
from autogroup.labels import (
    INDEPENDENT,
    MAX_TERMS,
    ZERO_TERM,
    Shape,
    add_terms,
    align,
    broadcast,
    constant_over,
    fresh_terms,
    mix,
    negate_terms,
    nonzero_terms,
    reduce_terms,
    regroup,
    rows_over,
)


@dataclass(slots=True)
class Context:
    """One operator being interpreted.

    Args:
        node: the graph node that calls the operator.
        blame: the node that absorptions and escapes are attributed to: ``node``, or the operator without a
            rule whose decomposition ``node`` is part of.
        out: ``node.meta["val"]``: the fake tensor, or tuple of them, that the operator returns.
        number: a number unlike that of any other node; names of values are derived from it.
    """

    node: fx.Node
    blame: fx.Node
    out: Any
    number: int
    _named: int = 0

    def name(self) -> int:
        """A name unlike that of any other value."""
        self._named += 1
        return (self.number << 20) + self._named

    # --- results ---------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Shape of the (first) output."""
        first = self.out[0] if isinstance(self.out, (tuple, list)) else self.out
        return tuple(first.shape)

    def plain(self, shape: Shape | None = None, zero: Tensor | None = None) -> Value:
        """A value that scales with no parameter."""
        return Value(self.shape if shape is None else shape, {}, zero, self.name())

    def constant(self, number: float) -> Value:
        """The value of a Python number."""
        zero = torch.ones((), dtype=torch.bool) if number == 0 else None
        return Value((), {}, zero, (1 << 62) | (hash(("literal", number)) & 0xFFFFFFFF))

    def escape(self, key: Key, labels: Tensor, reason: str, *, unknown: bool = False, by_term: bool = False) -> None:
        """These blocks can no longer be scaled freely; see ``Blocks.escape``."""
        key.blocks.escape(labels, self.blame, reason, unknown=unknown, by_term=by_term)

    def escape_all(self, values: Sequence[Value], reason: str, *, unknown: bool = False) -> None:
        """Every block that the values scale with is lost."""
        for value in values:
            for key, dep in value.deps.items():
                for factor in dep.factors:
                    self.escape(key, factor.labels, reason, unknown=unknown)

    def require_invariant(self, value: Value, reason: str) -> Value:
        """The operator tolerates no scale at all (a general nonlinearity)."""
        self.escape_all([value], reason)
        return self.plain()

    # --- movement --------------------------------------------------------------------------------------

    def move(self, value: Value, shape: Shape, fn: Move) -> Value:
        """Rearrange positions."""
        return value.move(shape, fn, self.name())

    def reshape(self, value: Value, shape: Shape) -> Value:
        """Reshape to another shape of the same size."""
        return self.move(value, shape, lambda t: regroup(t, value.shape, shape))

    def detach(self, value: Value) -> Value:
        """Cut every dependence off from the gradient; see ``autogroup.domain`` for why that is remembered."""
        deps: dict[Key, Dependence] = {}
        for key, dep in value.deps.items():
            cut = Key(key.blocks, live=False)
            if cut in deps:
                mixed = f"mixes a value of {key.blocks.name} with one whose gradient is cut off"
                first = self._without_terms(cut, deps[cut], mixed)
                dep = self._without_terms(key, dep, mixed)
                dep = Dependence(normal_form(key.blocks, first.factors + dep.factors))
            deps[cut] = dep
        return Value(value.shape, kept(deps), value.zero, value.name)

    # --- elementwise -----------------------------------------------------------------------------------

    def homogeneous(self, value: Value, reason: str) -> Value:
        """A map with f(αx) = αf(x), elementwise: keeps degrees, tolerates no additive term."""
        deps = {key: self._without_terms(key, dep, reason) for key, dep in value.deps.items()}
        return Value(value.shape, kept(deps), value.zero, self.name())

    def power(self, value: Value, exponent: Fraction, reason: str) -> Value:
        """``value ** exponent``: degrees are multiplied."""
        deps: dict[Key, Dependence] = {}
        for key, dep in value.deps.items():
            dep = self._without_terms(key, dep, reason)
            deps[key] = Dependence(tuple(Factor(f.degree * exponent, f.labels) for f in dep.factors))
        if exponent == 0:
            return self.plain(value.shape, value.zero)
        return Value(value.shape, kept(deps), value.zero if exponent > 0 else None, self.name())

    def negate(self, value: Value) -> Value:
        """``-value``."""
        deps = {k: replace(d, terms=negate_terms(d.terms)) for k, d in value.deps.items()}
        return Value(value.shape, deps, value.zero, value.name)

    def join(self, a: Value, b: Value, *, subtract: bool = False) -> Value:
        """``a + b`` (or ``a - b``): equal degrees unite their blocks; a value that does not scale is a term."""
        shape = broadcast(a.shape, b.shape)
        negated = self.negate(b) if subtract else b
        deps: dict[Key, Dependence] = {}
        for key in [*a.deps, *(k for k in b.deps if k not in a.deps)]:
            if not key.blocks.alive:
                continue
            if key in a.deps and key in b.deps:
                dep = self._join_both(key, a, negated, shape, negative=subtract)
            elif key in a.deps:
                dep = self._join_one(key, a.deps[key], b, shape, negative=subtract)
            else:
                dep = self._join_one(key, negated.deps[key], a, shape, negative=False)
            if dep is not None:
                deps[key] = dep
        zero = None
        if a.zero is not None and b.zero is not None:
            zero = align(a.zero, len(shape)) & align(b.zero, len(shape))
        return Value(shape, kept(deps), zero, self.name())

    def _terms_of(self, other: Value, ndim: int, *, negative: bool) -> Tensor | None:
        """Ids of a value used as an additive term; ``None`` when it varies too much to be followed."""
        ids = fresh_terms(other.name, other.shape, other.zero)
        if ids is None:
            return None
        return align(-ids if negative else ids, ndim)

    def _join_one(self, key: Key, dep: Dependence, other: Value, shape: Shape, *, negative: bool) -> Dependence | None:
        """Add a value that does not scale with the parameter."""
        ndim = len(shape)
        dep = aligned(dep, ndim)
        if other.zero is not None and bool(other.zero.all()):
            return dep
        terms = self._terms_of(other, ndim, negative=negative)
        if terms is None or _varies_everywhere(shape, terms, dep.terms):
            self._escape_dep(key, dep, "adds a value that does not scale")
            return None
        if key.blocks.first_term is None:
            key.blocks.first_term = self.blame
        # Where the scaled part is exactly zero, the sum is only the other value: labels there stay independent.
        return Dependence(dep.factors, add_terms(dep.terms, terms))

    def _join_both(self, key: Key, a: Value, b: Value, shape: Shape, *, negative: bool) -> Dependence | None:
        """Add two values that scale with the same parameter; ``negative``: ``b`` is a negated value."""
        ndim = len(shape)
        left, right = aligned(a.deps[key], ndim), aligned(b.deps[key], ndim)
        blocks = key.blocks
        both = left.support & right.support
        if [f.degree for f in left.factors] == [f.degree for f in right.factors] and all(
            not bool((both & ((f.labels == INDEPENDENT) != (g.labels == INDEPENDENT))).any())
            for f, g in zip(left.factors, right.factors, strict=True)
        ):
            factors: list[Factor] = []
            for f, g in zip(left.factors, right.factors, strict=True):
                x, y = torch.broadcast_tensors(f.labels, g.labels)
                meet = (x != INDEPENDENT) & (y != INDEPENDENT)
                blocks.unite(x[meet], y[meet])
                factors.append(Factor(f.degree, torch.where(f.labels == INDEPENDENT, g.labels, f.labels)))
        else:
            if bool(both.any()):
                reason = "adds two values that scale differently: " + _degrees(left) + " and " + _degrees(right)
                for f in (*left.factors, *right.factors):
                    self.escape(key, torch.where(both, f.labels, INDEPENDENT), reason)
            gone = [Factor(f.degree, torch.where(both, INDEPENDENT, f.labels)) for f in left.factors + right.factors]
            factors = list(normal_form(blocks, gone))
        if not factors:
            return None
        terms = add_terms(left.terms, right.terms)
        # Where only one side scales, the other side is a term, unless it is exactly zero there.
        for mine, theirs, value, sign in ((left, right, b, negative), (right, left, a, False)):
            alone = mine.support & ~theirs.support
            if value.zero is not None:
                alone = alone & ~align(value.zero, ndim)
            if bool(alone.any()):
                ids = self._terms_of(value, ndim, negative=sign)
                if ids is None or _varies_everywhere(shape, ids, terms, alone):
                    self._escape_dep(key, Dependence(tuple(factors)), "adds a value that scales only in part")
                    return None
                terms = add_terms(terms, nonzero_terms(torch.where(alone, ids, ZERO_TERM)))
        return Dependence(tuple(factors), terms)

    def product(self, a: Value, b: Value, *, divide: bool = False) -> Value:
        """``a * b`` (or ``a / b``): degrees add position by position."""
        shape = broadcast(a.shape, b.shape)
        if divide:
            b = self.power(b, Fraction(-1), "is a divisor with a term that does not scale")
        deps: dict[Key, Dependence] = {}
        for key in [*a.deps, *(k for k in b.deps if k not in a.deps)]:
            if not key.blocks.alive:
                continue
            if key in a.deps and key in b.deps:
                dep = self._product_both(key, aligned(a.deps[key], len(shape)), aligned(b.deps[key], len(shape)))
            else:
                mine, other = (a.deps[key], b) if key in a.deps else (b.deps[key], a)
                dep = self._times_plain(key, aligned(mine, len(shape)), other, shape)
            if dep is not None:
                deps[key] = dep
        zero = _any_zero(a.zero, b.zero, len(shape))
        if zero is not None:
            deps = {k: _outside(d, zero) for k, d in deps.items()}
        return Value(shape, kept(deps), zero, self.name())

    def _product_both(self, key: Key, left: Dependence, right: Dependence) -> Dependence | None:
        # A term matters where its own operand scales (it does not) and where the other one does (it would).
        reach = left.support | right.support
        if any(d.terms is not None and bool((reach & (d.terms != ZERO_TERM)).any()) for d in (left, right)):
            for dep in (left, right):
                self._escape_dep(key, dep, "multiplies two scaled values of which one carries an added term", by_term=True)
            return None
        before = (*left.factors, *right.factors)
        after = normal_form(key.blocks, before)
        self._absorb_cancelled(key, before, after)
        return Dependence(after) if after else None

    def _absorb_cancelled(self, key: Key, before: Sequence[Factor], after: Sequence[Factor]) -> None:
        """Record the blocks whose scale cancelled at some position."""
        for f in before:
            gone = key.blocks.find(f.labels)
            for left in after:
                gone = torch.where(left.labels == gone, INDEPENDENT, gone)
            if bool((gone != INDEPENDENT).any()):
                key.blocks.absorb(gone, self.blame, "is divided by a norm of itself")

    def _times_plain(self, key: Key, dep: Dependence, other: Value, shape: Shape) -> Dependence | None:
        if dep.terms is None:
            return dep
        ids = self._terms_of(other, len(shape), negative=False)
        if ids is None or _varies_everywhere(shape, ids, dep.terms):
            self._escape_dep(key, dep, "multiplies an added term by a value that varies everywhere", by_term=True)
            return None
        return Dependence(dep.factors, nonzero_terms(_scaled_terms(dep.terms, ids)))

    # --- reductions ------------------------------------------------------------------------------------

    def collapse(self, value: Value, axes: Sequence[int], what: str, *, average: bool = False) -> Value:
        """A homogeneous map over ``axes`` (a sum, a maximum, a norm): their blocks are united, the axes kept at size 1.

        With ``average``, a term that is constant over the axes passes unchanged. Where it varies, the result
        is one new term per fibre: right for a sum, not for an operator that picks (see ``with_constant_terms``).
        """
        shape = tuple(1 if d in axes else n for d, n in enumerate(value.shape))
        deps: dict[Key, Dependence] = {}
        for key, dep in value.deps.items():
            if not key.blocks.alive:
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

    def normalize(self, value: Value, axes: Sequence[int], *, centered: bool, what: str) -> Value:
        """Divide by a norm over ``axes`` (after subtracting the mean, if ``centered``)."""
        for key, dep in value.deps.items():
            if not key.blocks.alive:
                continue
            if dep.terms is not None:
                if centered:
                    bad = ~constant_over(dep.terms, axes)
                    why = f"{what} does not remove an added term that varies over its axes"
                else:
                    bad = dep.terms != ZERO_TERM
                    why = f"{what} does not remove an added term"
                dep = self.escape_where(key, dep, bad, why)
            for f in dep.factors:
                labels = self._unite_over(key, f.labels, axes, value.zero, what)
                key.blocks.absorb(labels, self.blame, f"is normalized by {what}")
        return self.plain(value.shape)

    # --- linear maps -----------------------------------------------------------------------------------

    def contract(self, a: Value, a_axes: Sequence[int], b: Value, b_axes: Sequence[int], shape: Shape, what: str) -> Value:
        """A product summed over shared axes (einsum).

        ``a_axes[d]`` is the output axis that axis d of ``a`` becomes, or -1 if it is summed over.
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

        def lay_out(t: Tensor) -> Tensor:
            sizes = [1] * ndim
            for o, d in order:
                sizes[o] = int(t.shape[d])
            return t.permute([*(d for _, d in order), *contracted]).reshape(sizes)

        sizes = [1] * ndim
        for o, d in order:
            sizes[o] = value.shape[d]
        deps = {k: d.move(lay_out) for k, d in value.deps.items()}
        return Value(tuple(sizes), deps, None, self.name())

    # --- helpers ---------------------------------------------------------------------------------------

    def _escape_dep(self, key: Key, dep: Dependence, reason: str, *, by_term: bool = False) -> None:
        for f in dep.factors:
            self.escape(key, f.labels, reason, by_term=by_term)

    def escape_where(self, key: Key, dep: Dependence, mask: Tensor, reason: str) -> Dependence:
        """Let the blocks at the masked positions escape; return the dependence without them."""
        if not bool(mask.any()):
            return dep
        rest: list[Factor] = []
        for f in dep.factors:
            self.escape(key, torch.where(mask, f.labels, INDEPENDENT), reason, by_term=True)
            rest.append(Factor(f.degree, torch.where(mask, INDEPENDENT, f.labels)))
        return Dependence(tuple(rest), dep.terms)

    def _without_terms(self, key: Key, dep: Dependence, reason: str) -> Dependence:
        if dep.terms is None:
            return dep
        return replace(self.escape_where(key, dep, dep.terms != ZERO_TERM, reason), terms=None)


def mix_nonzero(terms: Tensor, number: int) -> Tensor:
    """Derive new ids from ``terms`` and a number, keeping exact zeros."""
    return torch.where(terms == ZERO_TERM, ZERO_TERM, mix(terms, torch.tensor(number)))


def _scaled_terms(terms: Tensor, other: Tensor) -> Tensor:
    """Ids of a term multiplied by another value."""
    return torch.where((terms == ZERO_TERM) | (other == ZERO_TERM), ZERO_TERM, mix(terms, other))


def _outside(dep: Dependence, mask: Tensor) -> Dependence:
    """The dependence with the masked positions made independent."""
    return Dependence(tuple(Factor(f.degree, torch.where(mask, INDEPENDENT, f.labels)) for f in dep.factors), dep.terms)


def _any_zero(a: Tensor | None, b: Tensor | None, ndim: int) -> Tensor | None:
    masks = [align(m, ndim) for m in (a, b) if m is not None]
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] | masks[1]


def _varies_everywhere(shape: Shape, *tensors: Tensor | None) -> bool:
    """Whether a term varies along every axis, or too much to be followed: no norm would remove it."""
    sizes = broadcast(*(tuple(t.shape) for t in tensors if t is not None))
    return prod(sizes) > MAX_TERMS or (sizes != (1,) * len(sizes) and all(n == m for n, m in zip(sizes, shape, strict=True)))


def _degrees(dep: Dependence) -> str:
    return "degree " + "·".join(str(f.degree) for f in dep.factors)
