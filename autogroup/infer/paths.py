"""Paths: the way from a parameter to the operator that decided its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import networkx as nx
from torch import fx

from autogroup.capture.schema import operator_name
from autogroup.report import Step


class Paths:
    """Shortest paths in a captured graph.

    Args:
        graph: the graph.
        hidden_edges: (writer, reader) pairs that in-place operators create without an edge in the graph.
    """

    def __init__(self, graph: fx.Graph, hidden_edges: Sequence[tuple[fx.Node, fx.Node]]) -> None:
        self._graph = graph
        self._hidden = hidden_edges

    @cached_property
    def _network(self) -> nx.DiGraph[fx.Node]:
        network: nx.DiGraph[fx.Node] = nx.DiGraph()
        network.add_nodes_from(self._graph.nodes)
        network.add_edges_from((source, node) for node in self._graph.nodes for source in node.all_input_nodes)
        network.add_edges_from(self._hidden)
        return network

    def steps(self, source: fx.Node, target: fx.Node, note: str) -> tuple[Step, ...]:
        """The operators between a parameter's placeholder and ``target``, the last one with a note."""
        if source is target:
            return ()
        try:
            nodes = nx.bidirectional_shortest_path(self._network, source, target)[1:]
        except nx.NetworkXNoPath:
            nodes = [target]
        return tuple(step(node, note if node is target else "") for node in nodes)


def step(node: fx.Node, note: str = "") -> Step:
    """One node in words."""
    operator = "output" if node.op == "output" else str(node.target)
    return Step(operator, node.meta.get("module", ""), node.meta.get("source", ""), note)


def short_name(node: fx.Node) -> str:
    """``aten.batch_norm.default`` as ``batch_norm``."""
    return "the output" if node.op == "output" else operator_name(node)


def place(node: fx.Node) -> str:
    """The module in which an operator runs, or the operator itself in a functional model."""
    return node.meta.get("module", "") or short_name(node)


def located(node: fx.Node) -> str:
    """An operator and where it stands: ``relu in layer1.0.relu``, or ``relu at model.py:12`` in the root module."""
    module, source = node.meta.get("module", ""), node.meta.get("source", "")
    where = f" in {module}" if module else f" at {source}" if source else ""
    return short_name(node) + where
