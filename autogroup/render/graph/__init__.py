"""Pictures of a report: a page for the browser, DOT, Mermaid, and the graph itself as networkx, GraphML and JSON."""

from autogroup.render.graph.formats import FORMATS, draw, format_of, save_graph
from autogroup.render.graph.network import to_networkx

__all__ = ["FORMATS", "draw", "format_of", "save_graph", "to_networkx"]
