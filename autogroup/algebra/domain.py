"""The abstract value: how a tensor's positions scale with the blocks of each parameter.

With respect to a parameter P, a value is ``v = h + s``. Scaling block b of P by α multiplies ``h[i]`` by a
monomial of the α's, given by *factors*: (degree d, labels L) contributes ``α[L[i]]^d``, nothing where
``L[i]`` is ``INDEPENDENT``. The *terms* s do not scale; they are known by ids, equal where s is equal.

Two such dependences exist per parameter: its use and its use under ``detach`` or ``no_grad``. The loss must be
invariant in both separately, because autograd differentiates only the first: a norm whose divisor is
detached leaves the loss unchanged but not the gradient tangent, and must not be believed.

A third kind follows how a bias moves values: ``v = r + s(P)``, where only the term depends on P. A bias whose terms
are all subtracted again, by a mean or under a softmax, is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.labels import INDEPENDENT, align

Move = Callable[[Tensor], Tensor]
"""A data movement, as a function on label tensors that have the value's number of axes."""


Use = Literal["scale", "detached", "shift"]
"""``scale``: the value is ``h + s`` with h homogeneous. ``detached``: the same, cut off from the gradient.
``shift``: the value is ``r + s`` where only s depends on the parameter, in whatever way; it has no factors."""


class Key(NamedTuple):
    """One way in which a value depends on a parameter."""

    blocks: Blocks
    use: Use

    @property
    def alive(self) -> bool:
        """Whether there is still something to find out."""
        return self.blocks.translates if self.use == "shift" else self.blocks.alive


@dataclass(frozen=True, slots=True)
class Factor:
    """``α[labels[i]]^degree`` at every position i."""

    degree: Fraction
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Dependence:
    """How a value depends on one parameter: a product of factors, plus terms that do not scale."""

    factors: tuple[Factor, ...]
    terms: Tensor | None = None

    @property
    def support(self) -> Tensor:
        """Mask of the positions that scale with the parameter."""
        mask = self.factors[0].labels != INDEPENDENT
        for factor in self.factors[1:]:
            mask = mask | (factor.labels != INDEPENDENT)
        return mask

    def move(self, fn: Move) -> Dependence:
        """Carry labels and terms along with the data."""
        factors = tuple(Factor(f.degree, fn(f.labels)) for f in self.factors)
        return Dependence(factors, None if self.terms is None else fn(self.terms))


@dataclass(frozen=True, slots=True)
class Value:
    """The abstract value of one tensor.

    Args:
        shape: shape of the tensor.
        deps: one entry per parameter whose scale the tensor still carries.
        zero: mask of positions that are exactly zero whatever the parameters, or ``None``.
        name: a number that tells values apart, used to derive ids of additive terms.
    """

    shape: tuple[int, ...]
    deps: Mapping[Key, Dependence] = field(default_factory=dict[Key, Dependence])
    zero: Tensor | None = None
    name: int = 0

    @property
    def plain(self) -> bool:
        """Whether nothing is known or needs to be known of this value."""
        return not self.deps and self.zero is None

    def move(self, shape: tuple[int, ...], fn: Move, name: int) -> Value:
        """Return the value after a data movement."""
        zero = None if self.zero is None else fn(self.zero)
        return Value(shape, kept({k: d.move(fn) for k, d in self.deps.items()}), zero, name)


def kept(deps: Mapping[Key, Dependence]) -> dict[Key, Dependence]:
    """Drop parameters that no position scales with any more."""
    return {k: d for k, d in deps.items() if k.alive and _carries(k, d)}


def _carries(key: Key, dep: Dependence) -> bool:
    if key.use == "shift":
        return dep.terms is not None and bool(dep.terms.any())
    return any(bool((f.labels != INDEPENDENT).any()) for f in dep.factors)


def normal_form(blocks: Blocks, factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Multiply factors of one parameter out: equal labels add their degrees, disjoint ones share a tensor.

    Positions where two labels agree get one factor with the summed degree (none if it is zero), and factors
    of equal degree with disjoint supports become one. The result is ordered by degree.
    """
    done: list[Factor] = []
    for factor in factors:
        labels = blocks.find(factor.labels)
        for i, other in enumerate(done):
            if _apart(labels, other.labels):
                continue
            same = (other.labels == labels) & (labels != INDEPENDENT)
            if bool(same.any()):
                done[i] = Factor(other.degree, torch.where(same, INDEPENDENT, other.labels))
                total = other.degree + factor.degree
                if total:
                    done.append(Factor(total, torch.where(same, labels, INDEPENDENT)))
                labels = torch.where(same, INDEPENDENT, labels)
        done.append(Factor(factor.degree, labels))
    merged: list[Factor] = []
    for factor in sorted((f for f in done if bool((f.labels != INDEPENDENT).any())), key=lambda f: f.degree):
        last = merged[-1] if merged else None
        if last is not None and last.degree == factor.degree:
            mine, theirs = factor.labels != INDEPENDENT, last.labels != INDEPENDENT
            if not bool(mine.all() | theirs.all()) and not bool((mine & theirs).any()):
                merged[-1] = Factor(factor.degree, torch.where(theirs, last.labels, factor.labels))
                continue
        merged.append(factor)
    return tuple(merged)


def _apart(a: Tensor, b: Tensor) -> bool:
    """Whether no label of ``a`` can be one of ``b``: a cheap test that spares comparing rows with columns."""
    return min(int(a.max()), int(b.max())) < max(_lowest(a), _lowest(b)) if a.numel() and b.numel() else True


def _lowest(labels: Tensor) -> int:
    return int(torch.where(labels == INDEPENDENT, torch.iinfo(labels.dtype).max, labels).min())


def aligned(dep: Dependence, ndim: int) -> Dependence:
    """Prepend axes of size 1 so that the dependence fits a value with ``ndim`` axes."""
    return dep.move(lambda t: align(t, ndim))
