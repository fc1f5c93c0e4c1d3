"""Dead code elimination that knows what an in-place operator writes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from autogroup.capture.schema import aliased, storage_of, written


def remove_dead_code(graph: fx.Graph) -> None:
    """Erase every node that no output depends on.

    An in-place operator stays if anything later reads memory it may have written, through any view. Reads of
    a tensor's value into Python (``.item()``) stay as well: the rest of the graph may depend on the number
    without an edge that shows it.

    Args:
        graph: changed in place; placeholders always stay.

    Example:
        >>> gm = fx.symbolic_trace(lambda x: (x + 1, x + 2)[0])
        >>> remove_dead_code(gm.graph)
        >>> sum(node.op == "call_function" for node in gm.graph.nodes)
        1
    """
    memory = _Memory(graph)
    read_later: set[int] = set()
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        writes = (memory.of(target) for target in written(node))
        if (
            node.op in ("placeholder", "output")
            or any(user in live for user in node.users)
            or any(where in read_later for where in writes)
            or _reads_value(node)
        ):
            live.add(node)
            read_later.update(map(memory.of, node.all_input_nodes))
    for node in reversed(graph.nodes):
        if node not in live:
            graph.erase_node(node)


class _Memory:
    """Union-find over nodes: two nodes share a number if they may alias."""

    def __init__(self, graph: fx.Graph) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}
        self._number: dict[fx.Node, int] = {}
        owner: dict[int, fx.Node] = {}
        for number, node in enumerate(graph.nodes):
            self._number[node] = number
            for source in _may_share(node):
                self._unite(node, source)
            for storage in _storages(node.meta.get("val")):
                self._unite(node, owner.setdefault(storage, node))

    def of(self, node: fx.Node) -> int:
        """Return the number of the memory that ``node`` lives in."""
        return self._number[self._root(node)]

    def _root(self, node: fx.Node) -> fx.Node:
        while (up := self._parent.get(node, node)) is not node:
            self._parent[node] = self._parent.get(up, up)
            node = up
        return node

    def _unite(self, a: fx.Node, b: fx.Node) -> None:
        self._parent[self._root(a)] = self._root(b)


def _storages(value: Any) -> Iterator[int]:
    if isinstance(value, Tensor):
        if value.layout is torch.strided:
            yield storage_of(value)
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from _storages(item)


def _may_share(node: fx.Node) -> list[fx.Node]:
    """Inputs whose memory the result of ``node`` may share: all of them for ``getitem`` and foreign functions."""
    return aliased(node) if isinstance(node.target, OpOverload) else node.all_input_nodes


def _reads_value(node: fx.Node) -> bool:
    return isinstance(node.target, OpOverload) and torch.Tag.data_dependent_output in node.target.tags
