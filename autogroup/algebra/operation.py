"""Operation: one operator being interpreted. What it returns, what it rearranges, what it lets escape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from autogroup.algebra.domain import Dependence, Factor, Key, Move, Value, kept, normal_form
from autogroup.algebra.labels import INDEPENDENT, ZERO_TERM, Shape, regroup


@dataclass(slots=True)
class Operation:
    """The base of ``Context``.

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

    def plain_outputs(self) -> Any:
        """What the operator returns, a tensor or a tuple of them, none of which scales with any parameter."""
        if isinstance(self.out, (tuple, list)):
            return tuple(self.plain(tuple(o.shape)) if isinstance(o, Tensor) else o for o in self.out)
        return self.plain(tuple(self.out.shape) if isinstance(self.out, Tensor) else ())

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
                self._lose_shift(key)
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
        """Cut every dependence off from the gradient; see ``autogroup.algebra.domain`` for why that is remembered."""
        deps: dict[Key, Dependence] = {}
        for key, dep in value.deps.items():
            cut = key if key.use == "shift" else Key(key.blocks, "detached")
            if cut in deps:
                mixed = f"mixes a value of {key.blocks.name} with one whose gradient is cut off"
                first = self._without_terms(cut, deps[cut], mixed)
                dep = self._without_terms(key, dep, mixed)
                dep = Dependence(normal_form(key.blocks, first.factors + dep.factors))
            deps[cut] = dep
        return Value(value.shape, kept(deps), value.zero, value.name)

    # --- what is lost ------------------------------------------------------------------------------------

    def _escape_dep(self, key: Key, dep: Dependence, reason: str, *, by_term: bool = False) -> None:
        self._lose_shift(key)
        for f in dep.factors:
            self.escape(key, f.labels, reason, by_term=by_term)

    def _lose_shift(self, key: Key) -> None:
        """What this operator does with the parameter's term is not a translation: the parameter is not dead."""
        if key.use == "shift":
            key.blocks.translates = False

    def escape_where(self, key: Key, dep: Dependence, mask: Tensor, reason: str) -> Dependence:
        """Let the blocks at the masked positions escape; return the dependence without them."""
        if not bool(mask.any()):
            return dep
        self._lose_shift(key)
        rest: list[Factor] = []
        for f in dep.factors:
            self.escape(key, torch.where(mask, f.labels, INDEPENDENT), reason, by_term=True)
            rest.append(Factor(f.degree, torch.where(mask, INDEPENDENT, f.labels)))
        return Dependence(tuple(rest), dep.terms)

    def _without_terms(self, key: Key, dep: Dependence, reason: str) -> Dependence:
        if dep.terms is None:
            return dep
        return replace(self.escape_where(key, dep, dep.terms != ZERO_TERM, reason), terms=None)
