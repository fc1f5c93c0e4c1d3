"""How a report is shown: a table, a tree, an explanation, JSON, CSV. The only package that imports rich."""

from autogroup.render.data import filtered, to_csv, to_json
from autogroup.render.explain import find_parameter, find_parameters, print_explanation
from autogroup.render.table import print_table
from autogroup.render.tree import print_tree

__all__ = [
    "filtered",
    "find_parameter",
    "find_parameters",
    "print_explanation",
    "print_table",
    "print_tree",
    "to_csv",
    "to_json",
]
