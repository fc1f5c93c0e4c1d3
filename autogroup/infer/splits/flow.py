"""What is known on the way: which rows of a parameter a value holds, where they are read, and how values meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.domain import Dependence, Factor, Key, Value
from autogroup.algebra.labels import INDEPENDENT, align
from autogroup.infer.operators import SUMS, Reader, batch_dims, operator_of, shape_of

Labels = Mapping[int, Tensor]
"""Dim of the parameter → where its indices are in a value."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What a value holds of the parameter.

    Args:
        labels: see ``Labels``.
        placed: whether the value is an activation; until then it is the parameter itself, moved about.
        activation: the last nonlinearity on the way.
        gate: the nonlinearity whose result was multiplied with another activation: what the rows are used for.
        joined: whether the product of another weight was added, as low-rank adapters do. Only movement and scaling are
            followed from there on. A sum with anything else is a residual stream: what comes then reads the stream.
        entry: where the rows became a part of a concatenation: whatever happens then, they stay one piece.
    """

    labels: Labels
    placed: bool = False
    activation: Reader | None = None
    gate: Reader | None = None
    joined: bool = False
    entry: Reader | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Rows are read.

    Args:
        key: rows with the same keys are one piece.
        reader: what to call the reader.
        labels: which rows.
        batch: dims of the value along which the reader treats everything apart.
        weak: whether the reader is a reduction. Its result mostly comes back to scale the rows (a hand-written norm,
            squeeze and excitation), so it counts for rows without other readers only.
    """

    key: Reader
    reader: Reader
    labels: Labels
    batch: tuple[int, ...] = ()
    weak: bool = False


@dataclass(slots=True)
class Trace:
    """What became of one parameter.

    Args:
        blocks: dim of the parameter → classes of indices that some operator mixed, as a rotary embedding does.
        stops: where rows are read, in the order of the graph.
        picked: dims of which unknown indices were picked.
    """

    blocks: dict[int, Blocks]
    stops: list[Stop] = field(default_factory=list[Stop])
    picked: set[int] = field(default_factory=set[int])


Read = tuple[Reader, fx.Node, Flow]
"""An argument, the node that is given for it, and the rows that the node holds."""


def value_of(trace: Trace, shape: tuple[int, ...], labels: Labels) -> Value:
    """The labels in the form that rules take."""
    deps = {Key(trace.blocks[d], "scale"): Dependence((Factor(Fraction(1), t),)) for d, t in labels.items()}
    return Value(shape, deps)


def with_labels(flow: Flow, value: Any, *, shorten: bool = False) -> Flow | None:
    """The flow with the labels that a rule returned, or ``None`` if none are left.

    Args:
        flow: what else is known.
        value: what the rule returned.
        shorten: whether parts were put together that may be alike.
    """
    if not isinstance(value, Value) or not value.deps:
        return None
    labels = {int(key.blocks.name): dep.factors[0].labels for key, dep in value.deps.items()}
    if shorten:
        for dim, t in labels.items():
            for axis in range(t.dim()):
                first = t.narrow(axis, 0, 1)
                t = first if t.shape[axis] > 1 and bool((t == first).all()) else t
            labels[dim] = t
    return replace(flow, labels=labels)


def placed_by(flow: Flow, layout: Mapping[int, int], reader: Reader) -> Flow | None:
    """The flow after its weight was contracted: labels along the dims that remain."""
    ndim = len(shape_of(reader.node))
    order = sorted(layout, key=layout.__getitem__)
    labels: dict[int, Tensor] = {}
    for dim, t in flow.labels.items():
        if any(n > 1 and d not in layout for d, n in enumerate(t.shape)):
            continue
        sizes = [1] * ndim
        for d in order:
            sizes[layout[d]] = t.shape[d]
        rest = [d for d in range(t.dim()) if d not in layout]
        labels[dim] = t.permute([*order, *rest]).reshape(sizes)
    return replace(flow, labels=labels, placed=True) if labels else None


def merged(a: Flow, b: Flow) -> Flow:
    """What is known of a value made of two."""
    latest = max((f.activation for f in (a, b) if f.activation), key=lambda r: r.node, default=None)
    return replace(
        a,
        placed=a.placed or b.placed,
        activation=latest,
        gate=a.gate or b.gate,
        joined=a.joined or b.joined,
        entry=a.entry or b.entry,
    )


def meet(trace: Trace, node: fx.Node, a: Flow, b: Flow, ndim: int) -> Flow | None:
    """Two values met position by position; ``None`` if they hold different matrices.

    Rows that meet rows of the same set, as the halves of a head do under a rotary embedding, are of one matrix. So
    are disjoint rows in a sum without nonlinearity: nobody adds two products of one input, but rotations are
    written so. In a product, disjoint rows are a gate and what it gates.
    """
    labels: dict[int, Tensor] = {d: align(t, ndim) for d, t in (*a.labels.items(), *b.labels.items())}
    for dim in set(a.labels) & set(b.labels):
        blocks = trace.blocks[dim]
        left, right = (align(blocks.find(f.labels[dim]), ndim) for f in (a, b))
        if left.shape == right.shape and torch.equal(left, right):
            continue
        x, y = torch.broadcast_tensors(left, right)
        mixed = (x != INDEPENDENT) & (y != INDEPENDENT) & (x != y)
        if bool(mixed.any()):
            plain_sum = operator_of(node).name in SUMS and not a.activation and not b.activation
            if not plain_sum and not bool(((left != INDEPENDENT) & torch.isin(left, right)).any()):
                return None
            blocks.unite(x[mixed], y[mixed])
        labels[dim] = torch.where(left == INDEPENDENT, right, left)
    return replace(merged(a, b), labels=labels)


def stop(trace: Trace, reader: Reader, source: fx.Node, flow: Flow, *, weak: bool = False) -> None:
    """Record where rows are read; a parameter that never got into an activation is read by nobody."""
    if flow.placed:
        batch = batch_dims(reader, source)
        gate = flow.gate or (flow.activation if operator_of(reader.node).name == "mul" else None)
        trace.stops.append(Stop(flow.entry or reader, gate or reader, flow.labels, batch, weak))


def stop_all(trace: Trace, read: Sequence[Read]) -> None:
    """Record that an operator reads all that it is given."""
    for reader, source, flow in read:
        stop(trace, reader, source, flow)
