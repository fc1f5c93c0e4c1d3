"""Memory: which nodes share storage, so that an in-place write is seen by every later reader.

A captured graph keeps ``x[:, 1:].copy_(y)`` and ``bias[a:b].zero_()`` as the model wrote them. Values are
therefore kept per storage: a write through a view goes to the base, and a view read after a write is derived
from the base anew.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import map_aggregate

from autogroup.algebra.domain import Value
from autogroup.capture.schema import aliased, storage_of, written


@dataclass(slots=True)
class _Cell:
    """One storage: its current value, who wrote it last, and how often it was written."""

    value: Value
    writer: fx.Node
    version: int = 0


@dataclass(slots=True)
class _Place:
    """Where a node's value lives: a chain of view nodes from the base, and the version it was read at."""

    cell: _Cell
    chain: tuple[fx.Node, ...]
    value: Value
    version: int


Replay = Callable[[fx.Node, Value], Value]
"""Applies one view node to another value of its input."""


_SOURCE = "view_source"


def view_source(node: fx.Node) -> fx.Node | None:
    """The input whose storage the result shares, by the operator's schema and the fake tensors' storages."""
    if _SOURCE not in node.meta:  # several analyses ask, and the answer may cost a run of the operator
        node.meta[_SOURCE] = _view_source(node)
    return node.meta[_SOURCE]


def _view_source(node: fx.Node) -> fx.Node | None:
    targets = written(node)
    if targets:
        return targets[0]
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        return None
    if not isinstance(node.target, OpOverload):
        return source if node.target is operator.getitem else None
    mine, theirs = _first_tensor(node), _first_tensor(source)
    if source not in aliased(node) or mine is None or theirs is None:
        return None
    # A reshape may be a view or a copy. Fake tensors know, unless the graph's values were made one by one.
    return source if storage_of(mine) == storage_of(theirs) or _is_view_when_run(node, theirs) else None


def _is_view_when_run(node: fx.Node, source: Tensor) -> bool:
    """Run the operator once more on its fake input and see whether memory is shared."""

    def here(argument: Any) -> Any:
        if isinstance(argument, torch.device) and source.device.type == "meta":
            return source.device  # a graph from a file has no device of its own
        return argument.meta.get("val") if isinstance(argument, fx.Node) else argument

    args, kwargs = map_aggregate((node.args[1:], dict(node.kwargs)), here)
    operation: Callable[..., Any] = node.target  # pyright: ignore[reportAssignmentType]
    with getattr(source, "fake_mode", None) or nullcontext():
        again = operation(source, *args, **kwargs)
    first = again[0] if isinstance(again, (tuple, list)) else again
    return storage_of(first) == storage_of(source)


def _first_tensor(node: fx.Node) -> Tensor | None:
    value = node.meta.get("val")
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


class Memory:
    """The values of all nodes.

    Args:
        replay: evaluates a view node on another value of its input.
        store: writes a value through a chain of view nodes into a base value.
    """

    def __init__(self, replay: Replay, store: Callable[[Value, Value, tuple[fx.Node, ...]], Value]) -> None:
        self._replay = replay
        self._store = store
        self._places: dict[fx.Node, _Place] = {}
        self.hidden_edges: list[tuple[fx.Node, fx.Node]] = []

    def define(self, node: fx.Node, value: Value) -> None:
        """Give a node the value it computed."""
        source = view_source(node)
        place = self._places.get(source) if source is not None else None
        if place is None or (node.target is operator.getitem and not place.chain):
            cell = _Cell(value, node)
            self._places[node] = _Place(cell, (), value, 0)
        elif written(node):
            self._write(node, place, value)
        else:
            self._places[node] = _Place(place.cell, (*place.chain, node), value, place.cell.version)

    def _write(self, node: fx.Node, place: _Place, value: Value) -> None:
        cell = place.cell
        if place.chain:
            self.hidden_edges.append((cell.writer, node))
            cell.value = self._store(cell.value, value, place.chain)
        else:
            cell.value = value
        cell.version += 1
        cell.writer = node
        self._places[node] = _Place(cell, place.chain, value, cell.version)

    def read(self, node: fx.Node, reader: fx.Node) -> Value:
        """The value a node has now."""
        place = self._places[node]
        if place.version != place.cell.version:
            value = place.cell.value
            for view in place.chain:
                value = self._replay(view, value)
            place.value, place.version = value, place.cell.version
            self.hidden_edges.append((place.cell.writer, reader))
        return place.value
