"""Roles: what each parameter does, read from the graph and never from names.

A parameter is followed through whatever rearranges, casts, normalizes or rescales it, to the operators that use it.

- ``conv``, ``linear``: a weight that activations are multiplied with.
- ``head``: the same, with nothing but biases and single numbers (a temperature) between it and an output. What
  writes to a residual stream is no head, even if the stream is the output.
- ``embedding``: a table of which rows are looked up, also one of positions.
- ``norm_scale``: multiplies a normalized value, wherever the normalization is written: in a layer, by hand, or on a
  weight (weight normalization). ``norm_shift`` is added after it.
- ``bias``: is added to the product of a weight, one number per feature.
- ``other``: everything else: class tokens, positions that are added as a parameter, the scale of a residual branch,
  temperatures, slopes of a PReLU, the state matrices of a recurrence.

A parameter used in several ways has several roles, in the order of use: an embedding tied to the head is both.
"""

from __future__ import annotations

from torch import Tensor, fx

from autogroup.capture import Capture
from autogroup.infer.operators import GROUPED, SUMS, Reader, operands, operator_of, shape_of
from autogroup.infer.operators import argument as argument_of
from autogroup.report import Role

_CONVS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution")
_MATMULS = ("matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "mv", "bilinear", GROUPED)
_PRODUCTS = (*_CONVS, *_MATMULS, "linear")
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
_GLUES = ("cat", "concat", "concatenate", "stack")
_LIKE = ("type_as", "view_as", "reshape_as", "expand_as", "to")
_ROOTS = ("linalg_vector_norm", "linalg_norm", "norm", "std", "std_mean")

_AFFINE: dict[str, Role] = {"weight": "norm_scale", "bias": "norm_shift", "g": "norm_scale"}


def roles(capture: Capture) -> dict[str, tuple[Role, ...]]:
    """Return what every parameter does.

    Args:
        capture: the captured graph.

    Returns:
        FQN → its roles in the order of use, the leading one first; never empty.

    Example:
        >>> from torch import nn, zeros
        >>> from autogroup.capture import capture
        >>> model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
        >>> [role for role, *_ in roles(capture(model, (zeros(3, 4),), {})).values()]
        ['linear', 'bias', 'norm_scale', 'norm_shift', 'head', 'bias']
    """
    graph = _Graph(capture)
    return {name: graph.roles(node) for name, node in capture.parameters.items()}


class _Graph:
    """A captured graph with what all parameters need to know of it."""

    def __init__(self, capture: Capture) -> None:
        self._order = {node: i for i, node in enumerate(capture.graph.nodes)}
        # What depends on the inputs is an activation; what depends on parameters alone is a weight.
        self._active, self._weights = set(capture.inputs), set(capture.parameters.values())
        for node in capture.graph.nodes:
            sources = _sources(node)
            if not self._active.isdisjoint(sources):
                self._active.add(node)
            elif not self._weights.isdisjoint(sources):
                self._weights.add(node)
        self._heads = self._last_products(next(n for n in capture.graph.nodes if n.op == "output"))

    def roles(self, parameter: fx.Node) -> tuple[Role, ...]:
        """The roles of one parameter, by the operators that use it."""
        found: dict[fx.Node, Role] = {}
        looked_up: Role = "other"
        stack, seen = [parameter], {parameter}
        while stack:
            node = stack.pop()
            for user in node.users:
                reader = next((r for r, source in operands(user) if source is node), None)
                role = _role(reader, node) if reader else None
                if role in ("linear", "conv") and user in self._heads:
                    role = "head"
                if role is not None:
                    found[user] = role
                elif reader is not None and self._is_still_parameter(node, reader) and user not in seen:
                    looked_up = "embedding" if operator_of(user).kind == "lookup" else looked_up
                    seen.add(user)
                    stack.append(user)
        ordered: list[Role] = [found[node] for node in sorted(found, key=self._order.__getitem__)]
        return tuple(dict.fromkeys(ordered)) or (looked_up,)

    def _is_still_parameter(self, node: fx.Node, reader: Reader) -> bool:
        """Whether the result is the parameter, or a part of it, moved about or rescaled by other parameters."""
        user, operator = reader.node, operator_of(reader.node)
        if operator.kind == "lookup":
            return reader.argument == "self"
        if operator.kind == "movement":
            return user not in self._active or (operator.name not in _GLUES and user.args[0] is node)
        same_size = _size(user) == _size(node)
        return user not in self._active and same_size and operator.kind in ("pointwise", "norm")

    def _last_products(self, output: fx.Node) -> set[fx.Node]:
        """Products with a weight after which no parameter follows but biases and single numbers."""
        found: set[fx.Node] = set()
        stack, seen = [output], {output}
        while stack:
            node = stack.pop()
            uses = {_role(r, s) for r, s in operands(node) if s in self._weights and _size(s) > 1}
            if node is not output and uses - {"bias"}:
                found |= {node} if uses & {"linear", "conv"} else set()
            elif operator_of(node).name not in SUMS or self._adds_products(node):
                fresh = [source for source in _sources(node) if source in self._active and source not in seen]
                stack += fresh
                seen.update(fresh)
        return found

    def _adds_products(self, total: fx.Node) -> bool:
        """Whether all summands are products that nothing else reads, as in an average over heads.

        Otherwise one of the summands is a residual stream.
        """
        stack = [total]
        while stack:
            node = stack.pop()
            operator = operator_of(node)
            if node is not total and len(node.users) > 1:
                return False
            activations = [s for s in _sources(node) if s in self._active and _size(s) > 1]
            passes = operator.kind == "movement" or operator.linear
            if passes and (len(activations) == 1 or operator.name in SUMS):
                stack += activations
            elif operator.name not in _PRODUCTS:
                return False
        return True


def _sources(node: fx.Node) -> list[fx.Node]:
    """The inputs whose values matter, not only their shape or type."""
    operator = operator_of(node)
    if operator.kind == "creation":
        return []
    return node.all_input_nodes[:1] if operator.name in _LIKE else node.all_input_nodes


# --- one use ---------------------------------------------------------------------------------------------------------


def _role(reader: Reader, operand: fx.Node) -> Role | None:
    """The role that being this argument gives, or ``None`` if it says nothing."""
    node, argument = reader.node, reader.argument
    operator = operator_of(node)
    name = operator.name
    if "_norm" in name and argument in _AFFINE:  # also those of graphs from files, for which there is no rule
        return _AFFINE[argument]
    if name in ("embedding", "embedding_bag"):
        return "embedding" if argument == "weight" else None
    if name in _RECURRENT:
        return None if argument in ("input", "hx") else "linear" if len(shape_of(operand)) == 2 else "bias"
    if argument == "bias" or (argument == "self" and name in ("addmm", "baddbmm")):
        return "bias" if name in _PRODUCTS else None
    if name in _CONVS or name in ("linear", "bilinear"):
        return None if argument != "weight" else "conv" if name in _CONVS else "linear"
    if name in _MATMULS:
        return "linear"
    others = [source for _, source in operands(node) if source is not operand]
    if name == "mul" and any(_awaits_gain(other) or _is_reciprocal_root(other) for other in others):
        return "norm_scale"
    if name == "addcmul" and any(map(_awaits_gain, others)):
        return "norm_shift" if argument == "self" else "norm_scale"
    return _role_in_sum(operand, others[0]) if name == "add" and others else None


def _role_in_sum(operand: fx.Node, other: fx.Node) -> Role | None:
    """A shift is a vector, or has the shape of the gain before it; a bias has one number per feature."""
    other = _origin(other)
    operator, factors = operator_of(other), other.all_input_nodes
    if operator.kind == "norm" or _awaits_gain(other):
        return "norm_shift" if _is_vector(operand) else None
    if operator.name == "mul" and any(map(_awaits_gain, factors)):
        return "norm_shift" if _is_vector(operand) or _size(operand) == min(map(_size, factors)) else None
    product = _plain(other)
    return "bias" if operator_of(product).name in _PRODUCTS and _size(operand) <= _features(product) else None


def _is_vector(node: fx.Node) -> bool:
    return sum(n > 1 for n in shape_of(node)) <= 1


def _size(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0


def _features(product: fx.Node) -> int:
    """Number of outputs that the weight of a product has: its size without the dim that is summed over."""
    shape = shape_of(product)
    if operator_of(product).name in _CONVS:
        weight = next(s for r, s in operands(product) if r.argument == "weight")
        return shape[len(shape) - len(shape_of(weight)) + 1]
    if operator_of(product).name == "linear":
        return shape[-1]
    stacked = len(shape) == 3 and all(len(shape_of(s)) == 3 for r, s in operands(product) if r.argument != "self")
    # Either side of a matrix product may be the weight; a stack of them has as many biases.
    return max(shape[-2:]) * (shape[0] if stacked else 1)


# --- hand-written norms ----------------------------------------------------------------------------------------------


def _origin(node: fx.Node) -> fx.Node:
    """Walk back through movement, casts and dropout."""
    while operator_of(node).kind == "movement" or operator_of(node).name == "dropout":
        if operator_of(node).name in _GLUES or not node.all_input_nodes:
            break
        node = node.all_input_nodes[0]
    return node


def _awaits_gain(node: fx.Node) -> bool:
    """Whether a value is normalized and not scaled yet: by an operator, or divided by the root of a statistic."""
    node = _origin(node)
    operator = operator_of(node)
    if operator.kind == "norm":
        return "weight" in operator.arguments and argument_of(node, "weight") is None
    factors = [_origin(source) for _, source in operands(node)]
    if operator.name == "mul":
        return any(map(_is_reciprocal_root, factors))
    return operator.name == "div" and len(factors) == 2 and _is_root(factors[1])


def _is_reciprocal_root(node: fx.Node) -> bool:
    """``rsqrt(statistic)`` in its spellings."""
    node = _plain(node)
    name, power = operator_of(node).name, _power(node)
    if name == "rsqrt" or power == -0.5:
        return _is_statistic(node.all_input_nodes[0])
    return (name == "reciprocal" or power == -1) and _is_root(node.all_input_nodes[0])


def _is_root(node: fx.Node) -> bool:
    """``sqrt(statistic)``, or a norm, with an eps or a bound."""
    node = _plain(node)
    name = operator_of(node).name
    if name == "sqrt" or _power(node) == 0.5:
        return _is_statistic(node.all_input_nodes[0])
    return name in _ROOTS


def _power(node: fx.Node) -> object:
    return argument_of(node, "exponent") if operator_of(node).name == "pow" else None


def _is_statistic(node: fx.Node) -> bool:
    """A mean, a sum or a variance, or what numbers and other statistics make of it."""
    node = _plain(node)
    kind, sources = operator_of(node).kind, node.all_input_nodes
    return kind == "reduction" or (kind == "pointwise" and bool(sources) and all(map(_is_statistic, sources)))


def _plain(node: fx.Node) -> fx.Node:
    """Walk back through movement and sums, products and bounds with numbers."""
    while True:
        back = _origin(node)
        if operator_of(back).linear and len(back.all_input_nodes) == 1:
            back = back.all_input_nodes[0]
        if back is node:
            return node
        node = back
