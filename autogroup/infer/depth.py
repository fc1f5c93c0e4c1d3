"""Depth: how many layers run before a parameter is first used, read from data flow and the nesting of modules.

What counts as one layer is decided without names and classes. A module is one layer if

1. siblings with weights of the same shapes run one after the other, as the blocks of a transformer do;
2. or else values run side by side in it and are added or put together again: a residual or an inception block;
3. or it is nested as deeply as such a block below the same child of the root: the first block of a stage, which
   has no shortcut;
4. or it holds a single weight.

All other modules are containers, and so is one that holds all the weights; their children are looked at in turn.

Parameters outside of every layer (a norm between two layers, a class token) count with the layer before them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import networkx as nx
from torch import fx

from autogroup.capture import Capture
from autogroup.capture.schema import function_name, written
from autogroup.infer.memory import view_source

_WEIGHT_OPERATORS = (
    *("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "bilinear", "_grouped_mm"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu", "embedding", "embedding_bag"),
)
_JOINS = ("add", "sub", "cat", "concat", "stack")

_START = "inputs"

_Path = tuple[str, ...]
"""Names of the modules from the root to a module; for a weight, ended by the name of the parameter."""


def depth(capture: Capture) -> dict[str, int]:
    """Count the layers that run before each parameter is first used.

    Args:
        capture: a captured graph, from a model or from a file.

    Returns:
        FQN → number of layers on the longest way from the inputs to the first use; 0 in the first layer, for
        parameters that are used before it, and for those never used. Layers that run in turn again and again
        because they are shared have the same depth.

    Example:
        >>> import torch
        >>> from autogroup.capture import capture
        >>> nn = torch.nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
        >>> depth(capture(model, (torch.zeros(3, 4),), {}))
        {'0.weight': 0, '0.bias': 0, '1.weight': 0, '1.bias': 0, '3.weight': 1, '3.bias': 1}
    """
    flow = _Flow.of(capture)
    layer_of = _layers(flow)
    before = _layers_before(flow, layer_of)
    found: dict[str, int] = {}
    for name in capture.parameters:
        uses = flow.readers[name]
        found[name] = min((before[n] - (layer_of[n] is None and before[n] > 0) for n in uses), default=0)
    return found


@dataclass
class _Flow:
    """What depends on the inputs: the operators, in order, and which parameters each of them reads."""

    sources: dict[fx.Node, list[fx.Node]] = field(default_factory=dict[fx.Node, list[fx.Node]])
    """Operator that depends on an input → those of its operands that do."""
    readers: dict[str, list[fx.Node]] = field(default_factory=lambda: defaultdict[str, list[fx.Node]](list))
    """Parameter → the first operators on its way that depend on an input as well."""
    weights: dict[fx.Node, tuple[_Path, tuple[int, ...]]] = field(
        default_factory=dict[fx.Node, tuple[_Path, tuple[int, ...]]]
    )
    """Operator that applies a weight → where it stands, and the shape of the weight."""

    @classmethod
    def of(cls, capture: Capture) -> _Flow:
        """Walk the graph once. Whoever reads memory that was written in place depends on the writer."""
        flow = cls()
        inputs = set(capture.inputs)
        own: dict[fx.Node, dict[str, fx.Node]] = {node: {name: node} for name, node in capture.parameters.items()}
        base: dict[fx.Node, fx.Node] = {}
        writer: dict[fx.Node, fx.Node] = {}
        for node in capture.graph.nodes:
            if node.op != "call_function":
                continue
            view = view_source(node)
            base[node] = base.get(view, view) if view is not None else node
            operands = list(dict.fromkeys((*node.all_input_nodes, *_writers(node, base, writer))))
            data = [n for n in operands if n in flow.sources or n in inputs]
            parameters = {name: p for n in operands if n not in flow.sources for name, p in own.get(n, {}).items()}
            if written(node):
                writer[base[node]] = node
            if not data:
                own[node] = parameters
                continue
            flow.sources[node] = [n for n in data if n not in inputs]
            for name in parameters:
                flow.readers[name].append(node)
            flow._note_weight(node, parameters)
        return flow

    def _note_weight(self, node: fx.Node, parameters: Mapping[str, fx.Node]) -> None:
        if parameters and function_name(node) in _WEIGHT_OPERATORS:
            shapes = {name: tuple(placeholder.meta["val"].shape) for name, placeholder in parameters.items()}
            weight = max(shapes, key=lambda name: len(shapes[name]))  # not its bias
            self.weights[node] = (*_module(node), weight), shapes[weight]


def _writers(node: fx.Node, base: Mapping[fx.Node, fx.Node], writer: Mapping[fx.Node, fx.Node]) -> Iterator[fx.Node]:
    """The last in-place operators on the memory that a node reads."""
    for source in node.all_input_nodes:
        last = writer.get(base.get(source, source))
        if last is not None and last is not node:
            yield last


def _module(node: fx.Node) -> _Path:
    fqn: str = node.meta.get("module", "")
    return tuple(fqn.split(".")) if fqn else ()


def _layers(flow: _Flow) -> dict[fx.Node, _Path | None]:
    """Operator → the layer it belongs to."""
    below: dict[_Path, dict[_Path, tuple[int, ...]]] = defaultdict(dict)
    for path, shape in flow.weights.values():
        for length in range(len(path) + 1):
            below[path[:length]][path] = shape
    stacks, joined = _stacks(flow, below), set(_blocks(flow))
    peers = {(path[0], len(path)) for path in stacks | joined if path}
    chosen: set[_Path] = set()

    def is_layer(path: _Path) -> bool:
        if len(below[path]) == 1 or path in stacks:
            return True
        if len(below[path]) == len(below[()]):
            return False
        return path in joined or ((path[0], len(path)) in peers and not _any_inside(path, stacks | joined))

    containers: set[_Path] = {()}
    for path in sorted(below, key=len):
        if path and path[:-1] in containers:
            (chosen if is_layer(path) else containers).add(path)
    found: dict[fx.Node, _Path | None] = {}
    for node in flow.sources:
        path = flow.weights[node][0] if node in flow.weights else _module(node)
        found[node] = next((path[:n] for n in range(len(path) + 1) if path[:n] in chosen), None)
    return found


def _any_inside(path: _Path, others: Iterable[_Path]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in others)


def _stacks(flow: _Flow, below: Mapping[_Path, Mapping[_Path, tuple[int, ...]]]) -> set[_Path]:
    """Modules with several weights whose siblings hold weights of the same shapes and run before or after them."""
    last: dict[_Path, int] = {}
    height: dict[fx.Node, int] = {}
    for node, sources in flow.sources.items():
        height[node] = max((height[n] for n in sources), default=0) + (node in flow.weights)
        if node in flow.weights:
            path = flow.weights[node][0]
            last |= {path[:n]: max(last.get(path[:n], 0), height[node]) for n in range(len(path))}
    alike: dict[tuple[object, ...], list[_Path]] = defaultdict(list)
    for path, weights in below.items():
        if len(weights) > 1 and path:
            alike[path[:-1], *sorted(weights.values())].append(path)
    return {path for group in alike.values() if 1 < len(group) == len({last[p] for p in group}) for path in group}


def _blocks(flow: _Flow) -> Iterator[_Path]:
    """The innermost module around each place where values part, pass a weight, and meet again."""
    active: nx.DiGraph[fx.Node | str] = nx.DiGraph()
    active.add_node(_START)
    for node, sources in flow.sources.items():
        before = [n for n in sources if n in active]
        if before or node in flow.weights:
            active.add_edges_from((n, node) for n in before or (_START,))
    forks = nx.immediate_dominators(active, _START)
    place = {node: i for i, node in enumerate(flow.sources)}
    spans: list[tuple[int, int, fx.Node, fx.Node]] = []
    for join, fork in forks.items():
        if not isinstance(join, fx.Node) or not isinstance(fork, fx.Node):
            continue
        if function_name(join) in _JOINS and active.in_degree(join) > 1:
            spans.append((place[join], -place[fork], fork, join))
    latest_fork = -1
    for _, minus, fork, join in sorted(spans, key=lambda span: span[:2]):
        if -minus <= latest_fork:
            continue  # another span lies inside of this one
        inside = _between(active, fork, join)
        if any(node in flow.weights for node in inside):
            latest_fork = -minus
            yield _common([_module(node) for node in inside])


def _between(graph: nx.DiGraph[fx.Node | str], fork: fx.Node, join: fx.Node) -> set[fx.Node]:
    """The operators on the ways from ``fork`` to ``join``; all ways back from ``join`` lead to ``fork``."""
    found: set[fx.Node] = set()
    stack = [join]
    while stack:
        for node in graph.predecessors(stack.pop()):
            if isinstance(node, fx.Node) and node is not fork and node not in found:
                found.add(node)
                stack.append(node)
    return found


def _common(paths: list[_Path]) -> _Path:
    shortest = min(paths, key=len)
    length = next((i for i, part in enumerate(shortest) if any(p[i] != part for p in paths)), len(shortest))
    return shortest[:length]


def _layers_before(flow: _Flow, layer_of: Mapping[fx.Node, _Path | None]) -> dict[fx.Node, int]:
    """Operator → number of layers on the longest way to it, its own not counted."""
    unit = {node: node if layer is None else layer for node, layer in layer_of.items()}
    order: nx.DiGraph[fx.Node | _Path] = nx.DiGraph()
    order.add_nodes_from(unit.values())
    order.add_edges_from((unit[n], unit[node]) for node, sources in flow.sources.items() for n in sources)
    rounds = nx.condensation(order)  # layers that feed each other, as shared ones do, count as one
    before: dict[int, int] = {}
    for number in nx.topological_sort(rounds):
        earlier = rounds.predecessors(number)
        before[number] = max((before[n] + _is_layer(rounds.nodes[n]["members"]) for n in earlier), default=0)
    number_of: Mapping[fx.Node | _Path, int] = rounds.graph["mapping"]
    return {node: before[number_of[unit[node]]] for node in flow.sources}


def _is_layer(members: set[fx.Node | _Path]) -> bool:
    return any(isinstance(member, tuple) for member in members)
