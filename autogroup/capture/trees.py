"""Tensors inside nested arguments and results of any kind: find them, replace them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, nn.Module)

_OBJECT_DEPTH = 4
"""How many objects of unknown classes are looked into, one inside the other."""


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return ``tree`` with every tensor replaced; containers are rebuilt, everything else is shared.

    Args:
        function: called once per tensor, in order.
        tree: nested tuples, lists, dicts, dataclasses, mappings and anything registered as a pytree.

    Example:
        >>> import torch
        >>> map_tensors(lambda t: t + 1, {"x": [torch.zeros(1), None]})
        {'x': [tensor([1.]), None]}
    """

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor):
            return function(value)
        if isinstance(value, Mapping):
            items: Mapping[Any, Any] = value
            return {key: map_tensors(function, item) for key, item in items.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            twin = copy.copy(value)
            for field in dataclasses.fields(value):
                if hasattr(value, field.name):
                    object.__setattr__(twin, field.name, map_tensors(function, getattr(value, field.name)))
            return twin
        return value

    return pytree.tree_map(leaf, tree)


def list_tensors(tree: Any) -> list[Tensor]:
    """Return the tensors that ``map_tensors`` would replace, in the same order."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, tree)
    return found


def find_tensors(tree: Any) -> list[Tensor]:
    """Return every tensor that can be reached from a result, each object once, in a fixed order.

    Looks into containers, dataclasses, mappings and the attributes of any other object, except modules.

    Example:
        >>> import torch
        >>> [t.shape for t in find_tensors({"logits": torch.zeros(2), "loss": None})]
        [torch.Size([2])]
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def visit(value: Any, objects: int = 0) -> None:
        if isinstance(value, _PLAIN) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            for item in list(value.values()):
                visit(item, objects)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                visit(item, objects)
        elif not callable(value) and objects < _OBJECT_DEPTH:
            visit(getattr(value, "__dict__", None), objects + 1)
            for slots in (getattr(cls, "__slots__", ()) for cls in type(value).__mro__):
                for name in (slots,) if isinstance(slots, str) else slots:
                    visit(getattr(value, name, None), objects + 1)

    visit(tree)
    return found
