"""System: linear equations between the log-scales of all parameters.

Every row, column or entry of a parameter that may be scaled has a variable: the logarithm of its factor. A value
of the graph scales with a *form*, a sum ``Σ degree · x[labels]`` over some factors. Wherever an operator
demands that forms be equal, or zero, that is one linear equation; what is left free in the end are the symmetries.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.domain import Factor, normal_form
from autogroup.algebra.labels import INDEPENDENT, broadcast

MAX_ROWS = 1 << 24
"""Instead of more equations than this for one operator, its variables are set to zero, which loses symmetries."""


class Equations(NamedTuple):
    """Rows ``Σ_k coefficients[k] · x[variables[n, k]] = 0``; ``INDEPENDENT`` stands for no variable."""

    coefficients: tuple[Fraction, ...]
    variables: Tensor


class System(Blocks):
    """The variables of all parameters together, which of them are equal, and all other equations.

    Equations between two variables, or that set one to zero, are solved at once by uniting labels (zero is
    ``INDEPENDENT``); the rest is kept for ``autogroup.infer.nullspace``.
    """

    def __init__(self) -> None:
        super().__init__("", (), torch.arange(0))
        self.alive = True
        self.equations: list[Equations] = []
        """Those that uniting labels did not solve."""
        self.eps_labels: list[Tensor] = []
        self._gauges: list[tuple[int, int]] = []
        """Ranges of variables whose gauge is left, in order."""

    def new(self, shape: Sequence[int], *, gauge: bool = False) -> Tensor:
        """Return a tensor of new variables.

        Args:
            shape: its shape.
            gauge: whether a number may be added to all of them at no cost, because it can be taken from the
                variables of another axis of the same parameter.
        """
        labels = self.grow(prod(shape))
        if gauge:
            self._gauges.append((self.count - labels.numel(), self.count))
        return labels.view(tuple(shape))

    def mark_eps(self, labels: Tensor) -> None:
        """Record that what is claimed of these variables holds up to an eps."""
        self.eps_labels.append(labels.reshape(-1))

    def require_zero(self, factors: Iterable[Factor], where: Tensor | None = None) -> None:
        """Demand that a form is zero, at every position or where the mask says so."""
        *parts, last = _parts(normal_form(self, tuple(factors))) or [()]
        # Parts that vary along different axes can only add up to zero if each is constant.
        for part in parts:
            last = (*last, *self._constant(part))
        if last:
            self._add(last, _projected(where, last) if not parts else None)

    def require_constant(
        self, factors: Sequence[Factor], axes: Sequence[int], where: Tensor | None = None, *, summed: bool = False
    ) -> tuple[Factor, ...]:
        """Demand that a form is constant along axes; return it with these axes cut to size 1.

        Args:
            factors: the form.
            axes: the axes.
            where: mask of the positions that count; elsewhere the value is zero and scales with anything.
            summed: the axes are summed over with a parameter, whose gauge may be spent.
        """
        kept: list[Factor] = []
        for part in _parts(normal_form(self, tuple(factors))):
            mask = _projected(where, part)
            shape = broadcast(*(tuple(f.labels.shape) for f in part), *([] if mask is None else [tuple(mask.shape)]))
            if all(shape[d] == 1 for d in axes):
                kept += part
            elif summed and self._spend_gauge(part, axes, shape):
                self._add(part, mask)
            elif len(part) == 1 and mask is None:
                kept += self._first(part[0], axes)
            else:
                free = tuple(1 if d in axes else n for d, n in enumerate(shape))
                total = Factor(Fraction(1), self.new(free))
                self._add((*part, Factor(Fraction(-1), total.labels)), mask)
                kept.append(total)
        return normal_form(self, kept)

    def fold(self, factors: Sequence[Factor]) -> tuple[Factor, ...]:
        """Give a form of many factors a name of its own: one new variable per position of each part."""
        single = [f for f in factors if f.labels.numel() == 1]
        parts = _parts([f for f in factors if f.labels.numel() > 1])
        return tuple(self._named(part) for part in (single, *parts) if part)

    def _named(self, part: Sequence[Factor]) -> Factor:
        if len(part) == 1:
            return part[0]
        total = Factor(Fraction(1), self.new(broadcast(*(tuple(f.labels.shape) for f in part))))
        self._add((*part, Factor(Fraction(-1), total.labels)), None)
        return total

    def _constant(self, part: Sequence[Factor]) -> tuple[Factor, ...]:
        return self.require_constant(part, range(part[0].labels.dim()))

    def _first(self, factor: Factor, axes: Sequence[int]) -> tuple[Factor, ...]:
        labels = factor.labels
        for d in axes:
            labels = labels.narrow(d, 0, 1)
        self.unite(factor.labels, labels)
        return (Factor(factor.degree, labels),)

    def _spend_gauge(self, part: Sequence[Factor], axes: Sequence[int], shape: Sequence[int]) -> bool:
        """Use up the freedom of one factor to make the sum of a part zero, if it is one number."""
        if any(n > 1 for d, n in enumerate(shape) if d not in axes):
            return False
        for factor in part:
            low, high = int(factor.labels.min()), int(factor.labels.max())
            place = bisect(self._gauges, (low, self.count)) - 1
            if place >= 0 and self._gauges[place][0] <= low and high < self._gauges[place][1]:
                del self._gauges[place]
                return True
        return False

    def _add(self, factors: Sequence[Factor], where: Tensor | None) -> None:
        """Add the equations that a form is zero, one per position."""
        if prod(broadcast(*(tuple(f.labels.shape) for f in factors))) > MAX_ROWS:
            for f in factors:
                self.unite(f.labels, torch.tensor(INDEPENDENT))
            return
        rows = torch.broadcast_tensors(*(self.find(f.labels) for f in factors))
        mask = None if where is None else where.expand(rows[0].shape).reshape(-1)
        variables = torch.stack([r.reshape(-1) if mask is None else r.reshape(-1)[mask] for r in rows], dim=1)
        if variables.shape[0] > 1:  # runs of channels that share their variables give the same equation
            differs = (variables[1:] != variables[:-1]).any(1)
            variables = torch.cat([variables[:1], variables[1:][differs]])
        degrees = tuple(f.degree for f in factors)
        if len(degrees) == 1:
            self.unite(variables[:, 0], torch.tensor(INDEPENDENT))
        elif len(degrees) == 2 and degrees[0] == -degrees[1]:
            self.unite(variables[:, 0], variables[:, 1])
        elif variables.numel():
            self.equations.append(Equations(degrees, variables))


def _parts(factors: Sequence[Factor]) -> list[tuple[Factor, ...]]:
    """Cut a form into parts that share no axis along which they vary."""
    parts: list[tuple[set[int], list[Factor]]] = []
    for factor in factors:
        axes = {d for d, n in enumerate(factor.labels.shape) if n > 1}
        joined = [p for p in parts if p[0] & axes]
        parts = [p for p in parts if not p[0] & axes]
        parts.append((axes.union(*(p[0] for p in joined)), [f for p in joined for f in p[1]] + [factor]))
    return [tuple(p[1]) for p in parts]


def _projected(where: Tensor | None, part: Sequence[Factor]) -> Tensor | None:
    """The mask over the axes along which a part varies: does the form count anywhere on the others?"""
    if where is None:
        return None
    still = [d for d in range(where.dim()) if where.shape[d] > 1 and all(f.labels.shape[d] == 1 for f in part)]
    mask = where.any(dim=still, keepdim=True) if still else where
    return None if bool(mask.all()) else mask
