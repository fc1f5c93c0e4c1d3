"""The formats of pictures: which suffix means which, how each is written, and safely onto the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import networkx as nx

from autogroup.errors import AutogroupError
from autogroup.render.graph.charts import to_dot, to_mermaid
from autogroup.render.graph.html import to_html
from autogroup.render.graph.network import MARK, to_networkx
from autogroup.render.graph.text import printable
from autogroup.report import Report

if TYPE_CHECKING:
    from autogroup.render.graph.network import Network

Format = Literal["html", "dot", "mermaid", "graphml", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".graphml": "graphml",
    ".json": "json",
}
_HEAD = 16_384
"""Bytes at the start of a file within which ``MARK`` stands."""


def draw(report: Report, format: Format, title: str = "model") -> str:
    """Return a picture of a report as text.

    Args:
        report: what ``analyze`` returned.
        format: ``html`` (one page that needs nothing else), ``dot``, ``mermaid``, ``graphml`` or ``json`` (the
            node-link data of networkx).
        title: the heading of the page.

    Raises:
        AutogroupError: there is no such format.

    Example:
        >>> data = json.loads(draw(Report({}), "json"))
        >>> nx.node_link_graph(data, edges="edges").nodes["model"]["kind"]
        'module'
    """
    if format == "html":
        return to_html(report, title)
    graph = to_networkx(report)
    if format == "dot":
        return to_dot(graph) + "\n"
    if format == "mermaid":
        return to_mermaid(graph) + "\n"
    if format == "graphml":
        return _to_graphml(graph)
    if format == "json":
        return json.dumps(nx.node_link_data(graph, edges="edges"), indent=1) + "\n"
    raise AutogroupError(f"there is no picture format {format!r}; known are {', '.join(FORMATS)}")


def format_of(path: str | Path) -> Format:
    """Return the format that the suffix of a file stands for.

    Raises:
        AutogroupError: it stands for none.

    Example:
        >>> format_of("net.mmd")
        'mermaid'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise AutogroupError(f"{path}: the suffix names no picture format; known are {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def save_graph(
    report: Report, path: str | Path, *, format: Format | None = None, title: str = "model", force: bool = False
) -> None:
    """Write a picture of a report to a file, all of it or nothing.

    Args:
        report: what ``analyze`` returned.
        path: where to; an earlier picture there is replaced.
        format: as in ``draw``; by default what the suffix stands for.
        title: the heading of the page.
        force: replace a file that is no picture of autogroup too.

    Raises:
        AutogroupError: the suffix names no format, another file is in the way, or it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_graph(Report({}), folder / "net.dot")
        >>> (folder / "net.dot").read_text().splitlines()[0]
        '// autogroup graph'
    """
    path = Path(path)
    format = format or format_of(path)
    try:
        path = path.resolve()  # a link stays a link
        if path.is_file() and not force:
            with path.open("rb") as file:
                start = file.read(_HEAD)
            if start and MARK.encode() not in start:
                raise AutogroupError(
                    f"{path}: exists and is no picture that autogroup wrote; name another file, or replace it with "
                    "force (--force)"
                )
        _write(path, draw(report, format, title))
    except OSError as error:
        raise AutogroupError(f"{path}: cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    """Write by renaming, so that nobody sees half a file; what is no regular file, such as a pipe, is written to."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _to_graphml(graph: Network) -> str:
    """XML cannot hold all characters, not even escaped, so those that cannot be printed are spelled."""

    def clean(attributes: dict[str, Any]) -> dict[str, Any]:
        return {key: printable(value) if isinstance(value, str) else value for key, value in attributes.items()}

    spelled: Network = nx.MultiDiGraph(**graph.graph)
    spelled.add_nodes_from((printable(key), clean(node)) for key, node in graph.nodes(data=True))
    spelled.add_edges_from((printable(a), printable(b), clean(edge)) for a, b, edge in graph.edges(data=True))
    lines = "\n".join(nx.generate_graphml(spelled))
    return f'<?xml version="1.0" encoding="utf-8"?>\n<!-- {MARK} -->\n{lines}\n'
