"""The walk: where the rows of one parameter go, operator by operator, until something reads them.

Each dim of the parameter is followed on its own, by labels (see ``autogroup.algebra.labels``): the index along that
dim which a position comes from. Movement carries labels along. A contraction sums some dims of the weight over and
lays the others out on an activation. There the walk goes on through whatever keeps rows apart, or mixes only rows
that belong together anyway, and stops at the operators that read them.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import map_arg

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.context import Context
from autogroup.algebra.labels import align
from autogroup.capture import Capture
from autogroup.infer.operators import (
    GROUPED,
    SUMS,
    Operator,
    Reader,
    argument,
    bias_dim,
    operands,
    operator_of,
    shape_of,
    weight_layout,
)
from autogroup.infer.splits.flow import (
    Flow,
    Read,
    Trace,
    meet,
    merged,
    placed_by,
    stop,
    stop_all,
    value_of,
    with_labels,
)
from autogroup.registry import lookup

MAX_LABELS = 1 << 18
"""A value with more labels than this (rows spread over the pixels of an image) is followed no further."""

_GLUES = ("cat", "concat", "concatenate", "stack")

Result = Flow | tuple[Flow | None, ...] | None


class Walk:
    """Follows parameters through a captured graph.

    Args:
        capture: the graph.
    """

    def __init__(self, capture: Capture) -> None:
        self._nodes = list(capture.graph.nodes)
        self._order = {node: i for i, node in enumerate(self._nodes)}
        self._constants = capture.constants
        self._operands: dict[fx.Node, list[tuple[Reader, fx.Node]]] = {}

    def trace(self, parameter: fx.Node) -> Trace:
        """Follow one parameter.

        Args:
            parameter: its placeholder.
        """
        shape = shape_of(parameter)
        trace = Trace({d: _blocks(d, shape) for d in range(len(shape)) if _is_told_apart(parameter, d)})
        flows: dict[fx.Node, Result] = {parameter: Flow({d: b.grid for d, b in trace.blocks.items()})}
        waiting = sorted({self._order[user] for user in parameter.users})
        while waiting:
            node = self._nodes[heapq.heappop(waiting)]
            if node in flows:
                continue
            flows[node] = found = self._step(node, flows, trace)
            if found is not None:
                for user in node.users:
                    heapq.heappush(waiting, self._order[user])
        return trace

    def _step(self, node: fx.Node, flows: Mapping[fx.Node, Result], trace: Trace) -> Result:
        """The flow out of an operator; ``None`` where the walk stops."""
        operator = operator_of(node)
        if operator.name == "getitem":
            parts, place = flows[node.all_input_nodes[0]], node.args[1]
            return parts[place] if isinstance(parts, tuple) and isinstance(place, int) else None
        given = self._operands.get(node)
        if given is None:
            given = self._operands[node] = operands(node)
        read = [(r, source, flow) for r, source in given if isinstance(flow := flows.get(source), Flow)]
        kind = operator.kind
        if (
            operator.written
            and kind != "creation"
            and (kind != "pointwise" or [r.argument for r, _, _ in read] != [operator.written])
        ):
            kind = "other"  # what else may read the memory that is written to is not followed
        if kind == "pointwise":
            return self._pointwise(node, operator, read, trace)
        if kind == "movement":
            return self._movement(node, read, trace)
        if kind == "lookup":
            return self._lookup(node, read, trace)
        if kind == "creation":
            return None  # only the shape is read
        if kind == "contraction" or kind == "norm":
            return self._contraction_or_norm(read, trace, norm=kind == "norm")
        if kind == "glu":
            return self._glu(node, read, trace)
        for reader, source, flow in read:
            stop(trace, reader, source, flow, weak=kind == "reduction")
        return None

    # --- families of operators -------------------------------------------------------------------------------

    def _pointwise(self, node: fx.Node, operator: Operator, read: Sequence[Read], trace: Trace) -> Result:
        """Rows stay where they are; several operands may hold rows that meet."""
        shape = shape_of(node)
        if not isinstance(node.meta.get("val"), Tensor) or not _is_number(node):
            return stop_all(trace, read)
        flow = read[0][2]
        for _, _, other in read[1:]:
            met = meet(trace, node, flow, other, len(shape))
            if met is None:
                return stop_all(trace, read)
            flow = met
        placed = flow.placed or shape != shape_of(read[0][1])
        if placed and not flow.placed and (len(flow.labels) > 1 or operator.name != "add"):
            return None  # a table that is added to activations, or a gain: no weight and no bias
        if flow.placed:
            mine = {source for _, source, _ in read}
            strangers = [s for _, s in self._operands[node] if s not in mine and shape_of(s) == shape]
            sums = bool(strangers) and operator.name in SUMS
            if (flow.joined and (sums or not operator.linear)) or (sums and not all(map(_is_product, strangers))):
                return stop_all(trace, read)
            gate = flow.gate or (flow.activation if strangers and operator.name == "mul" else None)
            activation = flow.activation if operator.linear else read[0][0]
            flow = replace(flow, activation=activation, gate=gate, joined=flow.joined or sums)
        return replace(flow, labels={d: align(t, len(shape)) for d, t in flow.labels.items()}, placed=placed)

    def _movement(self, node: fx.Node, read: Sequence[Read], trace: Trace) -> Result:
        """Run the rule of the operator on the labels."""
        flows = {source: flow for _, source, flow in read}
        assert isinstance(node.target, OpOverload)
        entry = lookup(node.target)
        assert entry is not None
        glued = operator_of(node).name in _GLUES
        strangers = [s for _, s in self._operands[node] if s not in flows and prod(shape_of(s))] if glued else []
        if strangers and all(_lies_along(trace, flow, node) for flow in flows.values()):
            return stop_all(trace, read)

        def value(source: fx.Node) -> Any:
            return value_of(trace, shape_of(source), flows[source].labels if source in flows else {})

        args, kwargs = map_arg((node.args, dict(node.kwargs)), value)
        moved = entry.rule(Context(node, node, node.meta.get("val"), 1), *args, **kwargs)
        flow = read[0][2]
        for _, _, other in read[1:]:
            flow = merged(flow, other)
        if strangers and flow.placed and flow.entry is None:
            flow = replace(flow, entry=read[0][0])
        if isinstance(moved, tuple):
            return tuple(with_labels(flow, part) for part in moved)
        found = with_labels(flow, moved, shorten=glued)
        if found is not None and sum(t.numel() for t in found.labels.values()) > MAX_LABELS:
            return stop_all(trace, read)
        return found

    def _lookup(self, node: fx.Node, read: Sequence[Read], trace: Trace) -> Result:
        """Picking at known indices is movement; at unknown ones, the dims that are picked from are given up."""
        reader, source, flow = read[0]
        if len(read) > 1 or reader.argument not in ("self", "weight"):
            return stop_all(trace, read)
        index = self._known_index(node)
        if index is not None:
            shape = shape_of(source)
            return replace(flow, labels={d: t.expand(shape)[index] for d, t in flow.labels.items()})
        if flow.placed or operator_of(node).name != "index":
            # Tokens that are picked from an activation, or a table of embeddings.
            return stop_all(trace, read) if flow.placed else None
        given = node.args[1]
        assert isinstance(given, list | tuple)
        dims = [d for d, i in enumerate(given) if i is not None]
        gone = {d for d, t in flow.labels.items() if any(t.shape[a] > 1 for a in dims)}
        kept = {d: t for d, t in flow.labels.items() if d not in gone}
        picks = given[dims[0]]
        if len(dims) != 1 or len(kept) < 2 or not isinstance(picks, fx.Node) or picks.meta["val"].dtype is torch.bool:
            return None
        trace.picked |= gone
        count = len(shape_of(node)) - len(shape_of(source)) + 1
        place = dims[0]

        def lay_out(t: Tensor) -> Tensor:
            return t.reshape(*t.shape[:place], *[1] * count, *t.shape[place + 1 :])

        return replace(flow, labels={d: lay_out(t) for d, t in kept.items()})

    def _known_index(self, node: fx.Node) -> tuple[Any, ...] | None:
        """The indices of ``x[:, [-2]]``, if the model's code gives them as numbers."""
        given = node.args[1]
        if operator_of(node).name != "index" or not isinstance(given, list | tuple):
            return None
        found: list[Any] = []
        for item in given:
            while isinstance(item, fx.Node) and operator_of(item).kind == "movement" and len(item.all_input_nodes) == 1:
                item = item.all_input_nodes[0]
            if item is None:
                found.append(slice(None))
            elif isinstance(item, fx.Node) and item.op == "get_attr" and item.target in self._constants:
                found.append(self._constants[str(item.target)])
            else:
                return None
        return tuple(found)

    def _contraction_or_norm(self, read: Sequence[Read], trace: Trace, *, norm: bool) -> Result:
        """A weight or a bias is laid out on the activation; rows that are in the activation already are read here."""
        found: Flow | None = None
        for reader, source, flow in read:
            if flow.placed:
                if norm and not flow.joined and shape_of(reader.node) == shape_of(source):
                    return flow
                stop(trace, reader, source, flow)
            elif norm:
                return flow if reader.argument == "input" else None  # a weight that is normalized before its use
            elif (dim := bias_dim(reader)) is not None:
                found = placed_by(flow, {len(shape_of(source)) - 1: dim}, reader)
            elif layout := weight_layout(reader, source):
                if operator_of(reader.node).name == GROUPED:
                    trace.picked |= {d for d, t in flow.labels.items() if t.shape[0] > 1}
                found = placed_by(flow, layout, reader)
        return found

    def _glu(self, node: fx.Node, read: Sequence[Read], trace: Trace) -> Result:
        """One half times the sigmoid of the other."""
        reader, source, flow = read[0]
        dim = argument(node, "dim", -1)
        assert isinstance(dim, int)
        for part in (0, 1):
            labels = {d: t if t.shape[dim] == 1 else t.chunk(2, dim)[part] for d, t in flow.labels.items()}
            stop(trace, reader._replace(part=part), source, replace(flow, labels=labels))
        return None


def _is_told_apart(parameter: fx.Node, dim: int) -> bool:
    """Whether indices along a dim may go different ways; an axis that every reader sums over is not followed."""
    if shape_of(parameter)[dim] == 1:
        return False
    readers = [r for user in parameter.users for r, s in operands(user) if s is parameter]
    layouts = [weight_layout(reader, parameter) for reader in readers if operator_of(reader.node).name != GROUPED]
    return len(layouts) < len(readers) or not all(layouts) or any(dim in layout for layout in layouts)


def _blocks(dim: int, shape: tuple[int, ...]) -> Blocks:
    """One block per index of a dim."""
    sizes = [n if d == dim else 1 for d, n in enumerate(shape)]
    return Blocks(str(dim), shape, torch.arange(shape[dim]).view(sizes))


def _is_number(node: fx.Node) -> bool:
    """Whether the result has a gradient; comparisons do not."""
    dtype = node.meta["val"].dtype
    return dtype.is_floating_point or dtype.is_complex


def _is_product(node: fx.Node) -> bool:
    """Whether a value is the product of a weight, at most scaled and moved about."""
    while operator_of(node).kind == "movement" or (operator_of(node).linear and len(node.all_input_nodes) == 1):
        node = node.all_input_nodes[0]
    return operator_of(node).kind == "contraction"


def _lies_along(trace: Trace, flow: Flow, node: fx.Node) -> bool:
    """Whether all indices lie along the very axis of a concatenation: it puts feature maps side by side."""
    axis = argument(node, "dim", 0)
    assert isinstance(axis, int)
    return flow.placed and all(
        t.dim() == len(shape_of(node)) and t.shape[axis] == t.numel() == trace.blocks[d].count
        for d, t in flow.labels.items()
    )
