"""Roles: what each parameter does, read from the graph and never from names.

A gain is what multiplies a normalized value, wherever the normalization is written; a shift is what is added
after it; the head is the last weight before the output.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, fx

from autogroup.capture import Capture
from autogroup.capture.schema import function_name
from autogroup.report import Role

_NORMS = {
    "batch_norm": (1, 2),
    "instance_norm": (1, 2),
    "layer_norm": (2, 3),
    "group_norm": (2, 3),
    "rms_norm": (2, None),
}
_CONVS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
_MATMULS = {"linear": 1, "matmul": None, "mm": None, "bmm": None, "addmm": None, "baddbmm": None, "einsum": None}
_BIASED = {"linear": 2, "addmm": 0, "baddbmm": 0, **dict.fromkeys(_CONVS, 2)}
_LOOKUPS = ("embedding", "index", "index_select")
_PASSES = (
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "permute", "transpose", "t"),
    *("expand", "expand_as", "to", "_to_copy", "type_as", "contiguous", "clone", "alias", "slice", "select", "chunk"),
    *("split", "split_with_sizes", "unbind", "cat", "stack", "numpy_T", "mT", "getitem", "dropout"),
)
_ROOTS = ("rsqrt", "sqrt", "reciprocal", "linalg_vector_norm", "norm", "std", "clamp_min", "clamp")


def roles(capture: Capture) -> dict[str, Role]:
    """Return the role of every parameter.

    Args:
        capture: the captured graph.
    """
    found: dict[str, Role] = {name: _role(node) for name, node in capture.parameters.items()}
    heads = _heads(capture)
    for name, node in capture.parameters.items():
        if found[name] in ("linear", "conv") and node in heads:
            found[name] = "head"
    return found


def _readers(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """(operand, operator) pairs: the operators that use a parameter, seen through movements and casts."""
    stack, seen = [node], {node}
    while stack:
        operand = stack.pop(0)
        for user in operand.users:
            if function_name(user) in _PASSES or _adds_one(user):
                if user not in seen:
                    seen.add(user)
                    stack.append(user)
            else:
                yield operand, user


def _adds_one(node: fx.Node) -> bool:
    """``1 + gain``, as some RMSNorms write it."""
    return function_name(node) == "add" and any(isinstance(a, (int, float)) for a in node.args)


def _role(node: fx.Node) -> Role:
    """The role that the first telling reader gives."""
    for operand, user in _readers(node):
        found = _role_in(operand, user)
        if found is not None:
            return found
    return "other"


def _role_in(operand: fx.Node, user: fx.Node) -> Role | None:
    name = function_name(user)
    place = next((i for i, a in enumerate(user.args) if a is operand), -1)
    if name in _NORMS:
        scale, shift = _NORMS[name]
        return "norm_scale" if place == scale else "norm_shift" if place == shift else None
    if name in _BIASED and place == _BIASED[name]:
        return "bias"
    if name in _CONVS:
        return "conv" if place == 1 else None
    if name in _MATMULS:
        return "linear" if place in (_MATMULS[name], *((0, 1, 2) if _MATMULS[name] is None else ())) else None
    if name in _LOOKUPS and place == 0:
        return "embedding"
    others = [a for a in user.args if isinstance(a, fx.Node) and a is not operand]
    if name == "mul" and any(_is_normalized(a) for a in others):
        return "norm_scale"
    if name == "add" and others and _ndim(operand) <= _ndim(others[0]):
        if any(_is_scaled_norm(a) for a in others):
            return "norm_shift"
        if any(function_name(_through(a)) in (*_CONVS, *_MATMULS) for a in others):
            return "bias"
    return None


def _through(node: fx.Node) -> fx.Node:
    """Walk back through movements and casts."""
    while function_name(node) in _PASSES and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _is_normalized(node: fx.Node) -> bool:
    """Whether a value is a product with, or a quotient by, a root of something: a hand-written norm."""
    node = _through(node)
    name = function_name(node)
    if name in _NORMS:
        return True
    factors = [_through(a) for a in node.args if isinstance(a, fx.Node)]
    if name == "mul":
        return any(function_name(f) in ("rsqrt", "reciprocal") or _is_normalized_quotient(f) for f in factors)
    return name == "div" and len(factors) == 2 and _is_root(factors[1])


def _is_normalized_quotient(node: fx.Node) -> bool:
    return (
        function_name(node) == "div"
        and len(node.args) == 2
        and isinstance(node.args[1], fx.Node)
        and _is_root(_through(node.args[1]))
    )


def _is_root(node: fx.Node) -> bool:
    if function_name(node) in _ROOTS or (function_name(node) == "pow" and node.args[1] in (0.5, -0.5)):
        return True
    return _adds_one(node) and isinstance(node.args[0], fx.Node) and _is_root(_through(node.args[0]))


def _is_scaled_norm(node: fx.Node) -> bool:
    node = _through(node)
    return _is_normalized(node) or (
        function_name(node) == "mul" and any(isinstance(a, fx.Node) and _is_normalized(a) for a in node.args)
    )


def _ndim(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) else 0


def _heads(capture: Capture) -> set[fx.Node]:
    """Placeholders of the parameters that reach the output before any other parameter does."""
    parameters = set(capture.parameters.values())
    heads: set[fx.Node] = set()
    output = next(n for n in capture.graph.nodes if n.op == "output")
    stack, seen = [output], {output}
    while stack:
        node = stack.pop()
        own = [n for n in node.all_input_nodes if _through(n) in parameters]
        if own:
            heads.update(_through(n) for n in own)
            continue
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return heads
