"""Report -> networkx: modules, parameters, norms and symmetries as nodes, what holds between them as edges."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import networkx as nx

from autogroup.render.console import elements, partition_text, shape_text
from autogroup.render.explain import split_text
from autogroup.render.graph.text import shareable, short_operator
from autogroup.render.modules import Module, module_tree
from autogroup.report import ParameterReport, Relation, Report

if TYPE_CHECKING:
    Network = nx.MultiDiGraph[str]

MARK = "autogroup graph"
"""Stands near the start of every picture, so that one can be told from other files."""

ROOT = "model"
"""Key of the node of the whole model."""

Norm = tuple[str, str, str]
"""Module, operator and source line: one module may normalize at several places."""


def to_networkx(report: Report) -> Network:
    """Return a report as a graph; all attributes are strings, numbers or booleans, which every file format can hold.

    Nodes, by their attribute ``kind``:

    - ``"module"``: ``name`` (FQN), ``label`` (its last part). The key is ``"module:" + name``, and ``"model"`` for
      the root.
    - ``"parameter"``: ``name``, ``label``, ``shape`` (``"64x3x7x7"``), ``elements``, ``verdict``, ``reason``,
      ``partition`` (as in einops, ``"-"`` without one), ``role``, ``depth``, ``trainable``, ``eps``; ``aliases``,
      ``partners`` and ``splits`` are joined with ``"; "``. The key is ``"parameter:" + name``.
    - ``"norm"``: ``name`` (FQN of the module in which a scale is absorbed), ``label``, ``operator``, ``line``. The
      key is ``"norm:" + name``, and ``"norm 2:" + name`` for the second place in the same module.
    - ``"symmetry"`` of several parameters: ``label`` (``"joint scale"`` or ``"rescale"``), ``count`` (independent
      copies), ``eps``. The key is ``"symmetry:"`` and a number.

    Edges, by their attribute ``kind``:

    - ``"contains"``: module to module, parameter or norm.
    - ``"absorbed_by"``: parameter to norm, with ``operator`` and ``line`` (``file.py:12``).
    - ``"moved_by"``: parameter to symmetry, with ``power`` (of the factor α) and ``part`` (which entries are moved).

    Args:
        report: what ``analyze`` returned.

    Returns:
        A new ``networkx.MultiDiGraph``, with its nodes in model order.

    Example:
        >>> weight = ParameterReport("conv.weight", (8, 3), "invariant", "is normalized", norms=("norm",))
        >>> relation = Relation("conv.weight", "norm", "aten.rms_norm.default", "nets.py:12")
        >>> graph = to_networkx(Report({"conv.weight": weight}, (relation,)))
        >>> [(a, b) for a, b, kind in graph.edges(data="kind") if kind == "absorbed_by"]
        [('parameter:conv.weight', 'norm:norm')]
    """
    graph: Network = nx.MultiDiGraph(generator=MARK)
    norms = norm_keys(report)
    root = module_tree(report.parameters.values())
    inside: dict[str, list[Norm]] = {}
    for norm in norms:
        root.descend(norm[0].split(".") if norm[0] else ())
        inside.setdefault(norm[0], []).append(norm)
    _add_module(graph, ROOT, "(model)", root, norms, inside)
    for relation in report.relations:
        where = {"operator": relation.operator, "line": shareable(relation.source)}
        graph.add_edge(f"parameter:{relation.parameter}", norms[norm_of(relation)], kind="absorbed_by", **where)
    for number, symmetry in enumerate(s for s in report.symmetries if len(s.parameters) > 1):
        key = f"symmetry:{number}"
        graph.add_node(key, kind="symmetry", label=symmetry.kind, count=symmetry.count, eps=symmetry.eps)
        for member in symmetry.members:
            part = str(member).removeprefix(member.parameter)
            graph.add_edge(f"parameter:{member.parameter}", key, kind="moved_by", power=str(member.power), part=part)
    return graph


def norm_of(relation: Relation) -> Norm:
    """Return the norm that a relation leads to."""
    return relation.norm, relation.operator, relation.source


def norm_keys(report: Report) -> dict[Norm, str]:
    """Return the norms of a report in the order of their first relation, each with the key of its node."""
    keys: dict[Norm, str] = {}
    seen = Counter[str]()
    for norm in dict.fromkeys(map(norm_of, report.relations)):
        module = norm[0]
        seen[module] += 1
        keys[norm] = f"norm:{module}" if seen[module] == 1 else f"norm {seen[module]}:{module}"
    return keys


def _add_module(
    graph: Network, key: str, label: str, module: Module, norms: dict[Norm, str], inside: dict[str, list[Norm]]
) -> None:
    """Add a module, what is in it, and the edges to it.

    ``norms`` has the key of each norm; ``inside`` has the norms of each module that is not added yet.
    """
    graph.add_node(key, kind="module", name=module.name, label=label)
    for last, parameter in module.parameters.items():
        graph.add_node(f"parameter:{parameter.name}", label=last, **_attributes(parameter))
        graph.add_edge(key, f"parameter:{parameter.name}", kind="contains")
    for norm in inside.pop(module.name, ()):
        _, operator, line = norm
        where = {"operator": operator, "line": shareable(line)}
        graph.add_node(norms[norm], kind="norm", name=module.name, label=short_operator(operator), **where)
        graph.add_edge(key, norms[norm], kind="contains")
    for last, child in module.children.items():
        _add_module(graph, f"module:{child.name}", last, child, norms, inside)
        graph.add_edge(key, f"module:{child.name}", kind="contains")


def _attributes(parameter: ParameterReport) -> dict[str, Any]:
    return {
        "kind": "parameter",
        "name": parameter.name,
        "shape": shape_text(parameter.shape),
        "elements": elements(parameter.shape),
        "verdict": parameter.verdict,
        "reason": parameter.reason,
        "partition": partition_text(parameter),
        "role": " and ".join(parameter.roles),
        "depth": parameter.depth,
        "trainable": parameter.trainable,
        "eps": parameter.eps,
        "aliases": "; ".join(parameter.aliases),
        "partners": "; ".join(parameter.partners),
        "splits": "; ".join(map(split_text, parameter.splits)),
    }
