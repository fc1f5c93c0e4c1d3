"""What an operator's name and schema and a tensor's storage tell: which memory is shared, and which is written.

The only place that reads torch's private ``_schema`` and ``_cdata``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Argument, Tensor, fx
from torch._ops import OpOverload


def operator_name(node: fx.Node) -> str:
    """``aten.add_.Tensor`` as ``add_``, a Python function by its own name, any other node by its kind."""
    if node.op != "call_function":
        return node.op
    if isinstance(node.target, OpOverload):
        return str(node.target).removeprefix("aten.").partition(".")[0]
    return getattr(node.target, "__name__", str(node.target))


def function_name(node: fx.Node) -> str:
    """The same without the underscore of in-place operators: ``aten.add_.Tensor`` as ``add``."""
    return operator_name(node).rstrip("_")


def schema_arguments(op: OpOverload) -> list[Argument]:
    """Return the arguments of an overload, in order."""
    return op._schema.arguments  # pyright: ignore[reportPrivateUsage]


def storage_of(tensor: Tensor) -> int:
    """A number that tensors share exactly if they share memory; also fake tensors have one."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def aliased(node: fx.Node) -> list[fx.Node]:
    """Inputs whose memory the result may share."""
    return list(_marked(node, written_only=False))


def written(node: fx.Node) -> list[fx.Node]:
    """Inputs that an in-place or ``out=`` operator overwrites."""
    return list(_marked(node, written_only=True))


def written_placeholders(graph: fx.Graph) -> set[fx.Node]:
    """Placeholders whose memory an operator of the graph may write to, through whatever views."""
    base: dict[fx.Node, set[fx.Node]] = {}
    found: set[fx.Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes if operator_name(node) == "getitem" else aliased(node)
        base[node] = {node} if node.op == "placeholder" else set[fx.Node]().union(*(base[s] for s in sources))
        for target in written(node):
            found |= base[target]
    return found


def _marked(node: fx.Node, *, written_only: bool) -> Iterator[fx.Node]:
    """Inputs that the schema marks as aliased, or as written to."""
    if not isinstance(node.target, OpOverload):
        return
    for position, argument in enumerate(schema_arguments(node.target)):
        alias = argument.alias_info
        if alias is None or (written_only and not alias.is_write):
            continue
        by_position = not argument.kwarg_only and position < len(node.args)
        value: Any = node.args[position] if by_position else node.kwargs.get(argument.name)
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, fx.Node):
                yield item
