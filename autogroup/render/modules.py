"""The tree of modules that the names of parameters span, and which neighbours in it look alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from autogroup.render.console import partition_text, shape_text, verdict_text
from autogroup.report import ParameterReport


@dataclass
class Module:
    """A module: its FQN, its parameters by last name, its children by last name."""

    name: str = ""
    parameters: dict[str, ParameterReport] = field(default_factory=dict[str, ParameterReport])
    children: dict[str, Module] = field(default_factory=dict[str, "Module"])

    def everything(self) -> list[ParameterReport]:
        """All parameters below this module."""
        below = [p for child in self.children.values() for p in child.everything()]
        return [*self.parameters.values(), *below]

    def look(self) -> tuple[object, ...]:
        """What is shown of this module without its own name; equal looks are shown once."""
        own = tuple((name, *parameter_cells(p)) for name, p in self.parameters.items())
        return own, tuple((name, child.look()) for name, child in self.children.items())

    def runs(self) -> list[dict[str, Module]]:
        """Its children by last name, neighbours that look alike together."""
        return [dict(run) for _, run in groupby(self.children.items(), key=lambda item: item[1].look())]

    def descend(self, path: Iterable[str]) -> Module:
        """Return the module below this one at a path of last names, made where there is none."""
        module = self
        for last in path:
            name = f"{module.name}.{last}" if module is not self or self.name else last
            module = module.children.setdefault(last, Module(name))
        return module


def module_tree(parameters: Iterable[ParameterReport]) -> Module:
    """Return the root of the tree of modules that hold these parameters.

    Example:
        >>> root = module_tree([ParameterReport("fc.bias", (3,), "unused", "never read")])
        >>> root.children["fc"].name, list(root.children["fc"].parameters)
        ('fc', ['bias'])
    """
    root = Module()
    for parameter in parameters:
        *path, last = parameter.name.split(".")
        root.descend(path).parameters[last] = parameter
    return root


def parameter_cells(parameter: ParameterReport) -> tuple[str, str, str]:
    """Return what a tree shows of a parameter beside its name: shape, partition, verdict."""
    return shape_text(parameter.shape), partition_text(parameter), verdict_text(parameter).plain


def span(names: list[str]) -> str:
    """Return ``0-11`` for consecutive numbers, else the names one by one.

    Example:
        >>> span(["0", "1", "2"]), span(["query", "key"])
        ('0-2', 'query, key')
    """
    if len(names) > 2 and all(n.isdecimal() for n in names):
        first = int(names[0])
        if [str(first + i) for i in range(len(names))] == names:
            return f"{names[0]}-{names[-1]}"
    return ", ".join(names)
