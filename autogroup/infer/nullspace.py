"""The null space of a sparse homogeneous system: which variables are free, and what the others are in terms of them.

Models give systems of up to millions of variables, but almost all equations are easy: two variables are equal, or a
variable occurs in one equation only and is solved by it. What is left, a small core, is eliminated exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autogroup.algebra.labels import INDEPENDENT
from autogroup.algebra.system import Equations, System

MAX_CORE = 20_000
"""Equations of the core beyond this are not eliminated: their variables are set to zero, which loses symmetries."""


ZERO = 1e-9
"""Degrees are small rationals, so a smaller coefficient is a rounding error."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Every variable as a combination of free ones: ``x[variable] = Σ coefficient · x[free]``.

    Three vectors of one length, sorted by variable; a free variable is itself times one.
    """

    variable: Tensor
    free: Tensor
    coefficient: Tensor


def solve(system: System, rank: Tensor) -> Solution:
    """Solve the equations of a system.

    Args:
        system: the equations; variables may still be united here.
        rank: int64 per variable: of the variables of an equation, one of the highest rank is expressed in the
            others, so that those of low rank stay free.

    Returns:
        The representative of every class of equal variables in terms of the free ones.
    """
    variables, coefficients = _simplified(system)
    rounds: list[_Round] = []
    while variables.shape[0]:
        pivot = _lonely(variables, rank)
        solved = pivot >= 0
        if not bool(solved.any()):
            break
        rounds.append(_Round.of(variables[solved], coefficients[solved], pivot[solved]))
        variables, coefficients = variables[~solved], coefficients[~solved]
    core = _eliminate(variables, coefficients, rank) if variables.shape[0] <= MAX_CORE else None
    return _expand(system, rounds, core, variables)


# --- simplification -----------------------------------------------------------------------------------------


def _simplified(system: System) -> tuple[Tensor, Tensor]:
    """Unite what equations of two terms say is equal, until only longer equations are left."""
    variables, coefficients = _stacked(system.equations)
    while True:
        variables = system.find(variables)
        variables, coefficients = _collected(variables, coefficients)
        terms = (variables != INDEPENDENT).sum(1)
        single = variables[terms == 1].amax(1)
        two = (terms == 2) & (coefficients.sum(1) == 0)
        pair = variables[two].sort(1, descending=True).values[:, :2]
        followed = _follow(system, variables[(terms == 2) & ~two], coefficients[(terms == 2) & ~two])
        if not single.numel() and not pair.numel() and not followed:
            break
        system.unite(single, torch.tensor(INDEPENDENT))
        if pair.numel():
            system.unite(pair[:, 0], pair[:, 1])
        keep = (terms > 1) & ~two
        variables, coefficients = variables[keep], coefficients[keep]
    keep = terms > 1
    return _without_repeats(variables[keep], coefficients[keep])


def _follow(system: System, variables: Tensor, coefficients: Tensor) -> bool:
    """Unite the partners of a variable in equations like ``x + y = 0`` and ``x + z = 0``; return whether any were."""
    if variables.shape[0] < 2:
        return False
    x, y = variables[:, 0], variables[:, 1]  # the others are absent; x has the coefficient 1
    ratios, ratio = torch.unique(coefficients[:, 1], return_inverse=True)
    found = False
    for key, partner in ((x, y), (y, x)):
        key = key * ratios.numel() + ratio
        order = key.argsort()
        same = key[order][1:] == key[order][:-1]
        a, b = partner[order][1:][same], partner[order][:-1][same]
        found = found or bool((system.find(a) != system.find(b)).any())
        system.unite(a, b)
    return found


def _without_repeats(variables: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Drop rows that occur twice. Sorting by a hash brings them together; only equal neighbours are dropped."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(1 << 62, (2, variables.shape[1]), generator=generator)
    order = ((variables * weights[0] + coefficients.view(torch.int64) * weights[1]).sum(1)).argsort()
    variables, coefficients = variables[order], coefficients[order]
    same = (variables[1:] == variables[:-1]).all(1) & (coefficients[1:] == coefficients[:-1]).all(1)
    first = torch.cat([torch.ones(min(1, order.numel()), dtype=torch.bool), ~same])
    return variables[first], coefficients[first]


def _stacked(equations: Sequence[Equations]) -> tuple[Tensor, Tensor]:
    """All equations as two matrices, padded with ``INDEPENDENT`` and zero."""
    width = max((len(e.coefficients) for e in equations), default=1)
    variables, coefficients = [torch.zeros(0, width, dtype=torch.int64)], [torch.zeros(0, width, dtype=torch.float64)]
    for e in equations:
        rows, terms = e.variables.shape
        variables.append(torch.cat([e.variables, torch.full((rows, width - terms), INDEPENDENT)], dim=1))
        numbers = torch.tensor([float(c) for c in e.coefficients] + [0.0] * (width - terms), dtype=torch.float64)
        coefficients.append(numbers.expand(rows, width))
    return torch.cat(variables), torch.cat(coefficients)


def _collected(variables: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the coefficients of a variable that occurs twice in a row, and drop what cancels."""
    variables, order = variables.sort(1)
    coefficients = coefficients.gather(1, order)
    for k in range(1, variables.shape[1]):
        same = variables[:, k] == variables[:, k - 1]
        moved = torch.where(same, coefficients[:, k - 1], 0.0)
        coefficients[:, k] += moved
        coefficients[:, k - 1] -= moved
    gone = (coefficients.abs() < ZERO) | (variables == INDEPENDENT)
    variables = torch.where(gone, INDEPENDENT, variables)
    coefficients = torch.where(gone, 0.0, coefficients)
    # A row and its negative are one equation: the first variable gets a positive coefficient.
    order = variables.argsort(dim=1, descending=True, stable=True)
    variables, coefficients = variables.gather(1, order), coefficients.gather(1, order)
    lead = coefficients[:, :1]
    return variables, torch.where(lead == 0, coefficients, coefficients / torch.where(lead == 0, 1.0, lead))


# --- elimination --------------------------------------------------------------------------------------------


def _lonely(variables: Tensor, rank: Tensor) -> Tensor:
    """Column of the highest ranking variable of each row that occurs in no other row, or -1."""
    present = variables != INDEPENDENT
    counts = torch.bincount(variables[present], minlength=rank.numel())
    score = torch.where(present & (counts[variables] == 1), rank[variables] + 1, 0)
    best = score.max(1)
    return torch.where(best.values > 0, best.indices, -1)


@dataclass(frozen=True, slots=True)
class _Round:
    """Equations solved together: ``pivot[n] = Σ_k coefficients[n, k] · variables[n, k]``."""

    pivot: Tensor
    variables: Tensor
    coefficients: Tensor

    @classmethod
    def of(cls, variables: Tensor, coefficients: Tensor, column: Tensor) -> _Round:
        """Solve each row for the variable in its column."""
        column = column[:, None]
        pivot, divisor = variables.gather(1, column), coefficients.gather(1, column)
        others = variables.scatter(1, column, INDEPENDENT)
        return cls(pivot[:, 0], others, -(coefficients / divisor).scatter(1, column, 0.0))


_Row = dict[int, float]


def _eliminate(variables: Tensor, coefficients: Tensor, rank: Tensor) -> dict[int, _Row]:
    """Gauss-Jordan elimination: pivot → its expression in variables that are no pivots."""
    present = variables.unique()
    ranks = dict(zip(present.tolist(), rank[present].tolist(), strict=True))
    solved: dict[int, _Row] = {}
    readers: dict[int, set[int]] = {}
    """Variable → pivots whose expressions have had it."""
    for ids, numbers in zip(variables.tolist(), coefficients.tolist(), strict=True):
        row: _Row = {}
        for v, c in zip(ids, numbers, strict=True):
            if v != INDEPENDENT:
                _add(row, solved.get(v, {v: 1.0}), c)
        if not row:
            continue
        pivot = max(row, key=lambda v: (ranks[v], v))
        lead = row.pop(pivot)
        row = {v: -c / lead for v, c in row.items()}
        owners = [other for other in readers.pop(pivot, ()) if pivot in solved[other]]
        for other in owners:
            _add(solved[other], row, solved[other].pop(pivot))
        solved[pivot] = row
        for v in row:
            readers.setdefault(v, set()).update([*owners, pivot])
    return solved


def _add(row: _Row, other: _Row, factor: float) -> None:
    """``row += factor · other``, without zeros."""
    for v, c in other.items():
        total = row.get(v, 0.0) + factor * c
        if abs(total) > ZERO:
            row[v] = total
        else:
            row.pop(v, None)


# --- back substitution ----------------------------------------------------------------------------------------


def _expand(system: System, rounds: Sequence[_Round], core: dict[int, _Row] | None, left: Tensor) -> Solution:
    """Express every variable in the free ones, the rounds that were solved last first."""
    count = system.count
    bound = torch.zeros(count, dtype=torch.bool)
    for r in rounds:
        bound[r.pivot] = True
    if core is None:
        bound[left[left != INDEPENDENT]] = True  # zero: no expression at all
    else:
        bound[list(core)] = True
    free = (~bound & (system.roots() == torch.arange(count))).nonzero().flatten()
    table = _Table(count)
    table.append(free, free, torch.ones(free.numel(), dtype=torch.float64))
    rows = [(p, v, c) for p, row in (core or {}).items() for v, c in row.items()]
    if rows:
        pivots, others, numbers = zip(*rows, strict=True)
        table.append(torch.tensor(pivots), torch.tensor(others), torch.tensor(numbers, dtype=torch.float64))
    for r in reversed(rounds):
        wide = r.pivot[:, None].expand_as(r.variables)
        inside = r.variables != INDEPENDENT
        table.substitute(wide[inside], r.variables[inside], r.coefficients[inside])
    return table.solution()


class _Table:
    """Expressions of variables, those of one variable in one run."""

    def __init__(self, count: int) -> None:
        self._start = torch.zeros(count, dtype=torch.int64)
        self._length = torch.zeros(count, dtype=torch.int64)
        self._variable = torch.zeros(0, dtype=torch.int64)
        self._free = torch.zeros(0, dtype=torch.int64)
        self._coefficient = torch.zeros(0, dtype=torch.float64)

    def append(self, variable: Tensor, free: Tensor, coefficient: Tensor) -> None:
        """Add expressions of new variables, as one term per entry."""
        order = variable.argsort(stable=True)
        variable, free, coefficient = variable[order], free[order], coefficient[order]
        names, lengths = torch.unique_consecutive(variable, return_counts=True)
        self._start[names] = self._variable.numel() + lengths.cumsum(0) - lengths
        self._length[names] = lengths
        self._variable = torch.cat([self._variable, variable])
        self._free = torch.cat([self._free, free])
        self._coefficient = torch.cat([self._coefficient, coefficient])

    def substitute(self, pivot: Tensor, variable: Tensor, coefficient: Tensor) -> None:
        """Add ``pivot = Σ coefficient · variable`` with the variables' own expressions put in."""
        lengths = self._length[variable]
        owner = torch.repeat_interleave(torch.arange(variable.numel()), lengths)
        offset = torch.arange(owner.numel()) - (lengths.cumsum(0) - lengths)[owner]
        place = self._start[variable][owner] + offset
        count = self._start.numel()
        keys, index = torch.unique(pivot[owner] * count + self._free[place], return_inverse=True)
        values = coefficient[owner] * self._coefficient[place]
        total = torch.zeros(keys.numel(), dtype=torch.float64).index_add_(0, index, values)
        keys, total = keys[total.abs() > ZERO], total[total.abs() > ZERO]
        self.append(keys // count, keys % count, total)

    def solution(self) -> Solution:
        """Everything that was added."""
        order = self._variable.argsort(stable=True)
        return Solution(self._variable[order], self._free[order], self._coefficient[order])
