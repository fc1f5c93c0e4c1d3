"""Blocks: the entries of one parameter, which of them must be scaled together, and what became of them.

A union-find over block ids, with two marks per block: *absorbed* (a normalization removed its scale) and
*escaped* (its scale met an operator or an output that does not allow it). A block whose final class was
absorbed and never escaped is scale-invariant.

Beside its scale, the translation of a small parameter is followed: as long as ``translates`` holds, every value
that depends on it is a value without it plus a known term. If all such terms are subtracted again, it is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from autogroup.algebra.classes import Classes
from autogroup.algebra.labels import INDEPENDENT

EventKind = Literal["absorbed", "escaped", "unknown"]


@dataclass(frozen=True, slots=True)
class Event:
    """An operator that decided the fate of some blocks, and why."""

    kind: EventKind
    node: fx.Node
    reason: str
    term: fx.Node | None = None
    """The operator that added the term in the way, if one did."""


class Blocks(Classes):
    """The blocks of one parameter and what became of them.

    Args:
        name: FQN of the parameter.
        shape: its shape.
        grid: block id of every entry, with size 1 on axes whose entries are merged from the start.
    """

    def __init__(self, name: str, shape: tuple[int, ...], grid: Tensor) -> None:
        self.name = name
        self.shape = shape
        self.grid = grid
        self.eps = False
        self.events: list[Event] = []
        self.first_term: fx.Node | None = None
        self.translates = False
        self.removals: list[Event] = []
        count = grid.numel()
        super().__init__(count)
        self._absorbed = torch.zeros(count, dtype=torch.bool)
        self._escaped = torch.zeros(count, dtype=torch.bool)
        self._lookups: list[tuple[Tensor, Tensor]] = []
        self.alive = count > 0

    def unite_rows(self, rows: Tensor) -> None:
        """Merge, within each row of a [rest, fibre] matrix, all labels that are not ``INDEPENDENT``."""
        rows = rows[(rows != INDEPENDENT).any(1)]
        if rows.shape[0] and rows.shape[1] > 1:
            first = rows.max(1, keepdim=True).values
            self.unite(torch.where(rows == INDEPENDENT, first, rows), first)

    def absorb(self, labels: Tensor, node: fx.Node, reason: str) -> None:
        """Record that ``node`` removed the scale of these blocks."""
        self._mark(self._absorbed, labels, Event("absorbed", node, reason))

    def escape(
        self, labels: Tensor, node: fx.Node, reason: str, *, unknown: bool = False, by_term: bool = False
    ) -> None:
        """Record that the scale of these blocks changes what ``node`` computes otherwise than by a factor.

        Args:
            labels: the blocks.
            node: the operator.
            reason: why, in words.
            unknown: the operator has no rule.
            by_term: only a term that was added before stands in the way.
        """
        term = self.first_term if by_term else None
        self._mark(self._escaped, labels, Event("unknown" if unknown else "escaped", node, reason, term))
        self.alive = not bool(self._escaped.all())

    def mark_eps(self, labels: Tensor) -> None:
        """Record that what is claimed of these blocks holds up to an eps."""
        del labels  # one mark for the whole parameter is enough
        self.eps = True

    def remove(self, node: fx.Node, reason: str) -> None:
        """Record that ``node`` subtracts again what the parameter had added."""
        self.removals.append(Event("absorbed", node, reason))

    def _mark(self, marks: Tensor, labels: Tensor, event: Event) -> None:
        ids = labels[labels != INDEPENDENT]
        if ids.numel():
            marks[ids] = True
            self.events.append(event)

    def lookup(self, table: Tensor, positions: int) -> Tensor:
        """Return [positions, columns] labels of rows picked from a [rows, columns] table by unknown indices.

        Nothing is known of the indices, so every position gets blocks of its own; what happens to one of
        them happens to all rows (see ``settle``). Two positions may hold the same row: that makes the
        labels finer than the truth, which can lose a claim but never invent one.
        """
        picked = self.grow(positions * table.shape[1]).view(positions, table.shape[1])
        clear = torch.zeros(picked.numel(), dtype=torch.bool)
        self._absorbed, self._escaped = torch.cat([self._absorbed, clear]), torch.cat([self._escaped, clear])
        self._lookups.append((table, picked))
        return picked

    def settle(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for the parameter's grid: block ids, and masks of absorbed and of escaped entries."""
        for table, picked in reversed(self._lookups):  # a lookup may read the result of an earlier one
            self._settle_lookup(table, picked)
        grid = self.grid
        return self.find(grid), self._per_class(self._absorbed)[grid], self._per_class(self._escaped)[grid]

    def _per_class(self, marks: Tensor) -> Tensor:
        """Give every block the mark of any block of its class."""
        root = self.roots()
        return torch.zeros_like(marks).scatter_reduce_(0, root, marks, "amax")[root]

    def _settle_lookup(self, table: Tensor, picked: Tensor) -> None:
        """Carry over to every row of the table what happened at the positions of one lookup."""
        for marks in (self._absorbed, self._escaped):
            marks[table] |= self._per_class(marks)[picked].any(0)
        # A class that holds two positions, or a position and a fixed entry, holds every row.
        classes = self.roots()
        position = torch.full_like(classes, -2)
        position[picked] = torch.arange(picked.shape[0])[:, None]
        low = torch.full_like(classes, picked.shape[0]).scatter_reduce_(0, classes, position, "amin")
        high = torch.full_like(classes, -2).scatter_reduce_(0, classes, position, "amax")
        mixed = (low != high)[self.find(picked)].any(0)
        for column in range(picked.shape[1]):
            here = self.find(picked[:, column])
            together = (self.find(picked) == here[:, None]).any(0).nonzero().flatten()
            self.unite(table[:, together], table[:, column : column + 1])
            if bool(mixed[column]):
                self.unite(table[:, column], here[:1])
                self.unite(here, here[:1])
