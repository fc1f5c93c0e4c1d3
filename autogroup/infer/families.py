"""From the null space to symmetries that people can read: one per pattern, with a copy per channel or head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from autogroup.algebra.labels import INDEPENDENT
from autogroup.algebra.system import System
from autogroup.infer.nullspace import Solution
from autogroup.partition import OUTSIDE
from autogroup.symmetry import Kind, Member, Symmetry


@dataclass(frozen=True, slots=True)
class Axis:
    """The variables of one axis of one parameter: one per index along ``dim``, or per run of equally many indices."""

    parameter: str
    shape: tuple[int, ...]
    dim: int
    labels: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Lay one value per variable out along the dim, with size 1 on all others."""
        size = self.shape[self.dim] if self.shape else 1
        full = values[torch.arange(size) * values.numel() // size]
        return full.view([size if d == self.dim else 1 for d in range(len(self.shape))])


@dataclass(frozen=True, slots=True)
class _Moves:
    """What the free variables do: variable ``free[n]`` moves ``index[n]`` of axis ``axis[n]`` by ``power[n]``."""

    free: Tensor
    axis: Tensor
    index: Tensor
    power: Tensor

    def of(self, mask: Tensor) -> _Moves:
        return _Moves(self.free[mask], self.axis[mask], self.index[mask], self.power[mask])


def families(system: System, solution: Solution, axes: Sequence[Axis]) -> list[Symmetry]:
    """Group the basis vectors of the null space into symmetries that do the same to different channels.

    Args:
        system: the solved system.
        solution: every variable in terms of the free ones.
        axes: the axes of the parameters.
    """
    moves = _moves(system, solution, axes)
    if not moves.free.numel():
        return []
    marked = system.find(torch.cat([*system.eps_labels, torch.zeros(0, dtype=torch.int64)])).unique()
    up_to_eps = solution.free[torch.isin(solution.variable, marked)].unique()
    powers, power = torch.unique(moves.power.round(decimals=6), return_inverse=True)
    columns, column = torch.unique(moves.axis * powers.numel() + power, return_inverse=True)
    what = [(axes[c // powers.numel()], float(powers[c % powers.numel()])) for c in columns.tolist()]
    family = _family_of(moves.free, column)
    shapes = {a.parameter: a.shape for a in axes}
    found: list[Symmetry] = []
    order = family.argsort(stable=True)
    _, sizes = torch.unique_consecutive(family[order], return_counts=True)
    for places in order.split(sizes.tolist()):
        eps = bool(torch.isin(moves.free[places], up_to_eps).any())
        symmetry = _symmetry(moves.of(places), column[places], what, shapes, eps)
        if symmetry is not None:
            found.append(symmetry)
    return found


def _moves(system: System, solution: Solution, axes: Sequence[Axis]) -> _Moves:
    """Follow every index of every axis to the free variables that move it."""
    lengths = torch.bincount(solution.variable, minlength=system.count)
    starts = lengths.cumsum(0) - lengths
    axis = torch.cat([torch.full((a.labels.numel(),), n) for n, a in enumerate(axes)] or [torch.zeros(0).long()])
    index = torch.cat([torch.arange(a.labels.numel()) for a in axes] or [torch.zeros(0).long()])
    root = system.find(torch.cat([a.labels for a in axes] or [torch.zeros(0).long()]))
    axis, index, root = (t[root != INDEPENDENT] for t in (axis, index, root))
    count = lengths[root]
    owner = torch.repeat_interleave(torch.arange(root.numel()), count)
    place = starts[root][owner] + torch.arange(owner.numel()) - (count.cumsum(0) - count)[owner]
    return _Moves(solution.free[place], axis[owner], index[owner], solution.coefficient[place])


def _family_of(free: Tensor, column: Tensor) -> Tensor:
    """A number per move, equal for free variables that move the same axes by the same powers."""
    width = int(column.max()) + 1
    pairs = torch.unique(free * width + column)
    code = torch.randint(1 << 62, (width,), generator=torch.Generator().manual_seed(0))
    signature = torch.zeros(int(free.max()) + 1, dtype=torch.int64)
    signature.index_add_(0, pairs // width, code[pairs % width])
    return signature[free]


def _symmetry(
    moves: _Moves,
    column: Tensor,
    what: Sequence[tuple[Axis, float]],
    shapes: Mapping[str, tuple[int, ...]],
    eps: bool,
) -> Symmetry | None:
    """One family of free variables as a symmetry with a copy for each of them.

    Args:
        moves: what they do.
        column: for each move, which axis and power of ``what`` it is.
        what: axes and powers.
        shapes: shapes of all parameters, in model order.
        eps: whether it holds up to an eps only.
    """
    names, copy = torch.unique(moves.free, return_inverse=True)
    members: list[Member] = []
    whole: dict[str, Fraction] = {}
    for c in column.unique().tolist():
        axis, power = what[c][0], Fraction(what[c][1]).limit_denominator(1000)
        here = column == c
        labels = torch.full((axis.labels.numel(),), OUTSIDE)
        labels[moves.index[here]] = copy[here]
        if int((labels != OUTSIDE).sum()) != int(here.sum()):
            return None  # one index moves with several copies: no partition
        if names.numel() == 1 and bool((labels != OUTSIDE).all()):
            whole[axis.parameter] = whole.get(axis.parameter, Fraction(0)) + power
            continue
        members.append(Member(axis.parameter, power, axis.shape, axis.spread(labels)))
    for name, power in whole.items():
        members.append(Member(name, power, shapes[name], torch.zeros([1] * len(shapes[name]), dtype=torch.int64)))
    return symmetry_of(members, names.numel(), list(shapes), eps=eps)


def symmetry_of(members: Sequence[Member], count: int, names: Sequence[str], *, eps: bool = False) -> Symmetry | None:
    """Bring members to their normal form: in the order of ``names``, the first with power 1; ``None`` without any."""
    place = {name: n for n, name in enumerate(names)}
    ordered = sorted((m for m in members if m.power), key=lambda m: place[m.parameter])
    if not ordered:
        return None
    first = ordered[0].power
    scaled = tuple(ordered if first == 1 else (replace(m, power=m.power / first) for m in ordered))
    return Symmetry(_kind(scaled), scaled, count, eps)


def _kind(members: Sequence[Member]) -> Kind:
    if len(members) == 1:
        return "scale"
    return "joint scale" if all(m.power == 1 for m in members) else "rescale"
