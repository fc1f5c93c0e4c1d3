"""Arithmetic position by position: powers, sums and products of abstract values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from autogroup.algebra.domain import Dependence, Factor, Key, Value, aligned, kept, normal_form
from autogroup.algebra.labels import (
    INDEPENDENT,
    MAX_TERMS,
    ZERO_TERM,
    Shape,
    add_terms,
    align,
    broadcast,
    fresh_terms,
    mix,
    negate_terms,
    nonzero_terms,
)
from autogroup.algebra.operation import Operation


class Elementwise(Operation):
    """Operators on tensors of one shape, after broadcasting."""

    __slots__ = ()

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
            if not key.alive:
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
        if key.use == "shift":
            return dep  # what does not move with the parameter may be anything
        if other.zero is not None and bool(other.zero.all()):
            return dep
        terms = self._terms_of(other, ndim, negative=negative)
        if terms is None or _varies_everywhere(shape, terms, dep.terms):
            self._escape_dep(key, dep, "is added to a value that does not scale")
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
        if key.use == "shift":
            terms = add_terms(left.terms, right.terms)
            if terms is None:
                blocks.remove(self.blame, "adds what is subtracted again")
            return Dependence((), terms)
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
                reason = "is added to a value that scales differently: " + _degrees(left) + " and " + _degrees(right)
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
                    self._escape_dep(key, Dependence(tuple(factors)), "is added to a value that scales only in part")
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
            if not key.alive:
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
        if key.use == "shift":
            self._lose_shift(key)
            return None
        # A term matters where its own operand scales (it does not) and where the other one does (it would).
        reach = left.support | right.support
        if any(d.terms is not None and bool((reach & (d.terms != ZERO_TERM)).any()) for d in (left, right)):
            for dep in (left, right):
                self._escape_dep(
                    key, dep, "multiplies two scaled values of which one carries an added term", by_term=True
                )
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
    return prod(sizes) > MAX_TERMS or (
        sizes != (1,) * len(sizes) and all(n == m for n, m in zip(sizes, shape, strict=True))
    )


def _degrees(dep: Dependence) -> str:
    return "degree " + "·".join(str(f.degree) for f in dep.factors)
