"""Operators without a rule are replaced by the operators they are made of, if torch knows them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # pyright: ignore[reportPrivateUsage]


@cache
def _table() -> dict[Any, Any]:
    from torch._decomp import core_aten_decompositions  # slow to import, and few graphs need it

    return dict(core_aten_decompositions())


def recipe(op: OpOverload) -> Any:
    """Return torch's function that consists of simpler operators than ``op`` does; ``None`` if there is none."""
    return _table().get(op) or (op.decompose if op.has_kernel_for_dispatch_key(_COMPOSITE) else None)


def decomposition(node: fx.Node) -> fx.Graph | None:
    """Trace what the operator of ``node`` consists of.

    Returns:
        A graph whose placeholders are the tensors among the node's arguments, in order; ``None`` if torch has
        no decomposition for the operator, or it does not run on these arguments.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import, and few graphs need it

    op = node.target
    parts = recipe(op) if isinstance(op, OpOverload) else None
    if parts is None:
        return None
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    values = [leaf.meta.get("val") if isinstance(leaf, fx.Node) else leaf for leaf in leaves]
    places = [i for i, value in enumerate(values) if isinstance(value, Tensor)]

    def call(*tensors: Tensor) -> Any:
        filled = list(values)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return parts(*args, **kwargs)

    try:
        graph = make_fx(call, tracing_mode="fake")(*(values[i] for i in places)).graph
    except Exception:  # whatever a decomposition raises on arguments it was not made for
        return None
    graph.eliminate_dead_code()
    return None if any(inner.target is op for inner in graph.nodes) else graph
