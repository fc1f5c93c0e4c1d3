"""autogroup: which parameters of a PyTorch model are scale-invariant, and the parameter groups that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Not on first use: importing the submodule later would put the module in the place of the function.
from autogroup.certify import certify
from autogroup.errors import (
    AutogroupError,
    CaptureError,
    GroupError,
    InputError,
    LoadError,
    RuleError,
    UntrustedError,
)
from autogroup.partition import Partition
from autogroup.report import ParameterReport, Relation, Report, Step

if TYPE_CHECKING:
    from autogroup.api import analyze, auto_param_groups
    from autogroup.render.table import print_table

__all__ = [
    "AutogroupError",
    "CaptureError",
    "GroupError",
    "InputError",
    "LoadError",
    "ParameterReport",
    "Partition",
    "Relation",
    "Report",
    "RuleError",
    "Step",
    "UntrustedError",
    "analyze",
    "auto_param_groups",
    "certify",
    "print_table",
]

_LAZY = {
    "analyze": "autogroup.api",
    "auto_param_groups": "autogroup.api",
    "print_table": "autogroup.render.table",
}
"""Public names whose modules are imported on first use: they pull in tracing, or rich."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'autogroup' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted({*globals(), *_LAZY})
