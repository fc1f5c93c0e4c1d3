"""DOT for Graphviz and Mermaid for Markdown: modules as frames, parameters in the colour of their verdict, norms.

Symmetries of several parameters are left out: a set of n parameters is n lines, which no layout survives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autogroup.render.graph.network import MARK, ROOT
from autogroup.render.graph.text import printable, short_operator

if TYPE_CHECKING:
    from autogroup.render.graph.network import Network

COLOURS = {
    "invariant": "#009e73",
    "partial": "#56b4e9",
    "joint": "#0072b2",
    "dead": "#cc79a7",
    "variant": "#e69f00",
    "unknown": "#d55e00",
    "unused": "#999999",
}
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""


def to_dot(graph: Network) -> str:
    r"""Return a graph of ``to_networkx`` in the language of Graphviz.

    Example:
        >>> from autogroup.render.graph.network import to_networkx
        >>> from autogroup.report import ParameterReport, Report
        >>> print(to_dot(to_networkx(Report({"w": ParameterReport("w", (2, 3), "unused", "never read")}))))
        // autogroup graph
        digraph model {
          rankdir=LR
          node [fontname="sans-serif" fontsize=10 shape=box style="rounded,filled" color="#00000033"]
          edge [fontname="sans-serif" fontsize=8 color="#777777"]
          graph [fontname="sans-serif" fontsize=10 style=rounded color="#bbbbbb"]
          n1 [label="w\n2x3" fillcolor="#999999" tooltip="w: unused, never read"]
        }
    """
    numbers = {key: number for number, key in enumerate(graph)}
    lines = [
        f"// {MARK}",
        "digraph model {",
        "  rankdir=LR",
        '  node [fontname="sans-serif" fontsize=10 shape=box style="rounded,filled" color="#00000033"]',
        '  edge [fontname="sans-serif" fontsize=8 color="#777777"]',
        '  graph [fontname="sans-serif" fontsize=10 style=rounded color="#bbbbbb"]',
    ]

    def add(module: str, indent: str) -> None:
        for key, node in _inside(graph, module):
            if node["kind"] == "module":
                lines.append(f"{indent}subgraph cluster_{numbers[key]} {{")
                lines.append(f"{indent}  label={_dot(node['label'])}")
                add(key, indent + "  ")
                lines.append(f"{indent}}}")
            elif node["kind"] == "parameter":
                label = _dot(node["label"], node["shape"])
                tip = _dot(f"{node['name']}: {node['verdict']}, {node['reason']}")
                colour = COLOURS[node["verdict"]]
                lines.append(f'{indent}n{numbers[key]} [label={label} fillcolor="{colour}" tooltip={tip}]')
            else:
                look = 'shape=ellipse style=filled fillcolor="#eeeeee"'
                lines.append(
                    f"{indent}n{numbers[key]} [label={_dot(node['label'])} {look} tooltip={_dot(node['line'])}]"
                )

    add(ROOT, "  ")
    for start, end, operator in _absorbed(graph):
        lines.append(f"  n{numbers[start]} -> n{numbers[end]} [label={_dot(operator)}]")
    return "\n".join([*lines, "}"])


def to_mermaid(graph: Network) -> str:
    """Return a graph of ``to_networkx`` as a Mermaid flowchart.

    Example:
        >>> from autogroup.render.graph.network import to_networkx
        >>> from autogroup.report import ParameterReport, Report
        >>> print(to_mermaid(to_networkx(Report({"w": ParameterReport("w", (2, 3), "unused", "never read")}))))
        %% autogroup graph
        flowchart LR
          n1["w<br/>2x3"]:::unused
          classDef unused fill:#999999,stroke:#00000033,color:#000
    """
    numbers = {key: number for number, key in enumerate(graph)}
    lines = [f"%% {MARK}", "flowchart LR"]

    def add(module: str, indent: str) -> None:
        for key, node in _inside(graph, module):
            if node["kind"] == "module":
                lines.append(f'{indent}subgraph m{numbers[key]} ["{_mermaid(node["label"])}"]')
                add(key, indent + "  ")
                lines.append(f"{indent}end")
            elif node["kind"] == "parameter":
                label = f"{_mermaid(node['label'])}<br/>{_mermaid(node['shape'])}"
                lines.append(f'{indent}n{numbers[key]}["{label}"]:::{node["verdict"]}')
            else:
                lines.append(f'{indent}n{numbers[key]}(["{_mermaid(node["label"])}"])')

    add(ROOT, "  ")
    for start, end, operator in _absorbed(graph):
        lines.append(f'  n{numbers[start]} -->|"{_mermaid(operator)}"| n{numbers[end]}')
    verdicts = {node.get("verdict") for _, node in graph.nodes(data=True)}
    for verdict in COLOURS:
        if verdict in verdicts:
            lines.append(f"  classDef {verdict} fill:{COLOURS[verdict]},stroke:#00000033,color:#000")
    return "\n".join(lines)


def _inside(graph: Network, module: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a module contains itself."""
    for key in graph.successors(module):
        yield key, graph.nodes[key]


def _absorbed(graph: Network) -> Iterator[tuple[str, str, str]]:
    """Parameter, norm and operator of every relation."""
    for start, end, edge in graph.edges(data=True):
        if edge["kind"] == "absorbed_by":
            yield start, end, short_operator(edge["operator"])


def _dot(*lines: str) -> str:
    r"""Return a quoted string of one or more lines; Graphviz reads backslashes, quotes and HTML entities in it.

    Example:
        >>> print(_dot('a "b" &lt;', "2x3"))
        "a \"b\" &amp;lt;\n2x3"
    """
    escaped = (printable(t).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for t in lines)
    return '"' + "\\n".join(escaped) + '"'


def _mermaid(text: str) -> str:
    """Return text for a quoted label, which must not be empty; what might mean something becomes a character code.

    Example:
        >>> _mermaid('norm.weight "#1"')
        'norm.weight #34;#35;1#34;'
    """
    return "".join(c if c.isalnum() or c in " ._-/()" else f"#{ord(c)};" for c in printable(text)) or " "
