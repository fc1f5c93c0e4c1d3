"""What inference starts with: the first labelling of each parameter, and buffers that are zero.

A labelling is as fine as can matter and as coarse as is certain.

A weight of [28672, 8192] has 235 million entries, but the linear layer that reads it sums over its second
axis, so its entries can only ever be scaled row by row. This pass walks the weight-side part of the graph
backwards, from the sums that read a weight to the weight, and finds the axes that all readers unite.
Starting coarser is always sound; starting finer than this would only cost time.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from autogroup.algebra.domain import Value
from autogroup.algebra.labels import regroup, run_view
from autogroup.capture import Capture
from autogroup.capture.schema import operator_name
from autogroup.errors import CaptureError

SMALL = 4096
"""Parameters with at most this many entries start with one block per entry."""
MAX_BLOCKS = 1 << 26
"""A number for each takes half a gigabyte."""

_CONV = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "reshape_as", "view_as")
_VIEWS = ("permute", "transpose", "t", "mT", "numpy_T", "swapaxes", "movedim", "expand")
_SAME = ("to", "_to_copy", "clone", "contiguous", "alias", "detach", "type_as", "abs", "neg", "pow", "square", "sqrt")
_ELEMENTWISE = ("mul", "add", "sub", "div", "rsub")
_REDUCTIONS = ("mean", "sum", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm", "amax", "amin")

Axes = frozenset[int]


def initial_grid(node: fx.Node) -> Tensor:
    """Return the block ids a parameter starts with: size 1 on axes that all its readers unite.

    Args:
        node: placeholder of the parameter.

    Raises:
        CaptureError: an axis is longer than memory allows; a file can claim any shape.
    """
    shape = tuple(node.meta["val"].shape)
    if prod(shape) <= SMALL:
        return torch.arange(prod(shape)).view(shape)
    merged = _united_by_all(node, shape, {})
    sizes = [1 if d in merged else n for d, n in enumerate(shape)]
    if max(shape) > MAX_BLOCKS:
        raise CaptureError(
            f"a parameter of shape {list(shape)} has an axis longer than the {MAX_BLOCKS:,} entries that are followed: "
            "analyze the model with a smaller parameter in its place"
        )
    while prod(sizes) > MAX_BLOCKS:  # coarser blocks to begin with: what is claimed stays true
        sizes[sizes.index(max(sizes))] = 1
    return torch.arange(prod(sizes)).view(sizes)


def constant_zeros(capture: Capture) -> dict[fx.Node, Value]:
    """Values of the buffers that are zero whatever the parameters.

    Args:
        capture: the captured graph.
    """
    return {capture.buffers[name]: zero_value(capture.buffers[name]) for name in capture.zeros}


def zero_value(node: fx.Node) -> Value:
    """A placeholder that is exactly zero."""
    shape = tuple(node.meta["val"].shape)
    return Value(shape, {}, torch.ones((1,) * len(shape), dtype=torch.bool))


def _united_by_all(node: fx.Node, shape: tuple[int, ...], known: dict[fx.Node, Axes]) -> Axes:
    """Axes of ``node`` along which every reader of it unites the entries."""
    if node not in known:
        known[node] = frozenset()  # a cycle cannot occur; this only stops the recursion at shared nodes
        found: Iterable[Axes] = [_united(node, user, shape, known) for user in node.users]
        known[node] = frozenset.intersection(*found) if found else frozenset(range(len(shape)))
    return known[node]


def _united(node: fx.Node, user: fx.Node, shape: tuple[int, ...], known: dict[fx.Node, Axes]) -> Axes:
    """Axes of ``node`` that this reader unites."""
    none: Axes = frozenset()
    if not isinstance(user.target, OpOverload):
        return none
    name = operator_name(user)
    place = next((i for i, a in enumerate(user.args) if a is node), -1)
    ndim = len(shape)
    if name == "linear" and place == 1:
        return frozenset({ndim - 1})
    if name in _CONV and place == 1:
        return frozenset(range(1, ndim))
    if name in _TRANSPOSED and place == 1:
        return frozenset(range(2, ndim)) | (frozenset({0}) if _argument(user, 6, "groups", 1) == 1 else none)
    if name in ("matmul", "mm", "bmm") and place in (0, 1) and ndim >= 2:
        return frozenset({ndim - 1 if place == 0 else ndim - 2})
    if name in ("addmm", "baddbmm") and place in (1, 2):
        return frozenset({ndim - 1 if place == 1 else ndim - 2})
    if name == "embedding" and place == 0:
        return frozenset({1})
    if name == "batch_norm" and place == 0 and _argument(user, 5, "training", False):
        return frozenset(range(ndim)) - {1}
    if name in _REDUCTIONS and place == 0:
        dims = _argument(user, 2 if "norm" in name else 1, "dim", None)
        dims = range(ndim) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
        return frozenset(d % ndim for d in dims)
    value = user.meta.get("val")
    if not isinstance(value, Tensor) or not _on_weight_side(user, node):
        return none
    out_shape = tuple(value.shape)
    if name in _SAME and place == 0:
        return _united_by_all(user, out_shape, known)
    if name in _ELEMENTWISE and out_shape == shape:
        return _united_by_all(user, out_shape, known)
    if (name in _RESHAPES or name in _VIEWS) and place == 0 and "dtype" not in str(user.target):
        return _pulled_back(user, shape, out_shape, _united_by_all(user, out_shape, known))
    return none


def _argument(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _on_weight_side(user: fx.Node, node: fx.Node) -> bool:
    """Whether the reader's other operands are numbers or small tensors, not activations."""
    size = node.meta["val"].numel()
    return all(
        n is node or (isinstance(v := n.meta.get("val"), Tensor) and v.numel() <= size) for n in user.all_input_nodes
    )


def _pulled_back(user: fx.Node, shape: tuple[int, ...], out_shape: tuple[int, ...], merged: Axes) -> Axes:
    """Axes of the input all of whose traces in the output are united there."""
    found: set[int] = set()
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        sizes = [1] * len(shape)
        sizes[axis] = size
        ruler = torch.arange(size).view(sizes)
        op, args = user.target, user.args[1:]
        if any(isinstance(a, fx.Node) for a in args) or operator_name(user) in _RESHAPES:
            image = regroup(ruler, shape, out_shape)
        else:
            image = run_view(lambda t, op=op, args=args: op(t, *args, **user.kwargs), ruler, shape)  # pyright: ignore
        if all(d in merged for d, n in enumerate(image.shape) if n > 1):
            found.add(axis)
    return frozenset(found)
