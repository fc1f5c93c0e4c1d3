"""autogroup: which parameters of a PyTorch model are scale-invariant, and the parameter groups that follow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autogroup.api import analyze as analyze
    from autogroup.api import auto_param_groups as auto_param_groups
    from autogroup.certificate import certify as certify
    from autogroup.errors import AutogroupError as AutogroupError
    from autogroup.errors import CaptureError as CaptureError
    from autogroup.errors import GroupError as GroupError
    from autogroup.errors import InputError as InputError
    from autogroup.errors import LoadError as LoadError
    from autogroup.errors import RuleError as RuleError
    from autogroup.errors import UntrustedError as UntrustedError
    from autogroup.partition import Partition as Partition
    from autogroup.render.graph.formats import save_graph as save_graph
    from autogroup.render.graph.network import to_networkx as to_networkx
    from autogroup.render.table import print_table as print_table
    from autogroup.report import ParameterReport as ParameterReport
    from autogroup.report import Relation as Relation
    from autogroup.report import Report as Report
    from autogroup.report import Split as Split
    from autogroup.report import Step as Step
    from autogroup.symmetry import Member as Member
    from autogroup.symmetry import Symmetry as Symmetry

_HOME = {
    "analyze": "api",
    "auto_param_groups": "api",
    "certify": "certificate",
    "AutogroupError": "errors",
    "CaptureError": "errors",
    "GroupError": "errors",
    "InputError": "errors",
    "LoadError": "errors",
    "RuleError": "errors",
    "UntrustedError": "errors",
    "Partition": "partition",
    "save_graph": "render.graph.formats",
    "to_networkx": "render.graph.network",
    "print_table": "render.table",
    "ParameterReport": "report",
    "Relation": "report",
    "Report": "report",
    "Split": "report",
    "Step": "report",
    "Member": "symmetry",
    "Symmetry": "symmetry",
}
"""Public name → its module. All are imported on first use, so that ``autogroup --help`` need not import torch."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'autogroup' has no attribute {name!r}")
    value = getattr(import_module(f"autogroup.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too."""
    return sorted({*globals(), *_HOME})
