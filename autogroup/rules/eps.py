"""Small constants that keep divisors away from zero: ``x / (norm(x) + 1e-6)``, ``x / norm(x).clamp_min(1e-12)``.

A literal is taken for an eps only if what it is added to goes on to divide and does nothing else. The claims that
follow hold up to that eps, and are marked.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from autogroup.algebra.domain import Value
from autogroup.capture.schema import function_name

LIMIT = 1e-3
"""The largest literal that is taken for an eps."""

_VIEWS = {"expand", "expand_as", "view", "reshape", "unsqueeze", "squeeze", "transpose", "permute"}
_COPIES = {"to", "_to_copy", "type_as", "clone", "contiguous", "alias"}
_MOVES = _VIEWS | _COPIES
_DIVISIONS = {"div", "true_divide", "divide"}
_NORMS = {"linalg_vector_norm", "norm", "linalg_norm", "var", "std"}
_NEVER_NEGATIVE = _NORMS | {"sqrt", "rsqrt", "abs", "square", "relu", "exp", "sigmoid", "softmax", "softplus"}
_REDUCTIONS = {"sum", "mean", "amax", "amin", "max", "min", "cumsum"}
_KEEP_SIGN = _MOVES | _REDUCTIONS | {"slice", "select", "index", "getitem", "dropout"}


def is_eps(node: fx.Node, literal: Any) -> bool:
    """Whether ``node`` adds an eps, or bounds by one, something that only ever divides."""
    return isinstance(literal, (int, float)) and 0 < literal <= LIMIT and only_divides(node)


def mark_eps(value: Value) -> Value:
    """Remember that what is claimed of these parameters holds up to an eps."""
    for key, dep in value.deps.items():
        for factor in dep.factors:
            key.blocks.mark_eps(factor.labels)
    return value


def only_divides(node: fx.Node) -> bool:
    """Whether every use of ``node`` ends, through roots and movements, as a divisor."""
    return bool(node.users) and all(_divides(node, user) for user in node.users)


def _divides(node: fx.Node, user: fx.Node) -> bool:
    name, first = function_name(user), user.args[0]
    if name in ("rsqrt", "reciprocal"):
        return True
    if name in _DIVISIONS and first is not node:
        return user.args[1] is node
    if name == "pow" and first is node and isinstance(user.args[1], (int, float)):
        return user.args[1] < 0 or only_divides(user)
    if name in ("mul", "div") and first is node and isinstance(user.args[1], (int, float)):
        return only_divides(user)
    if name in _MOVES and first is not node:
        return True  # only its shape or dtype is used
    return (name in ("sqrt", "square") or name in _MOVES) and only_divides(user)


def never_negative(node: Any) -> bool:
    """Whether a value cannot be negative, as far as the operators that made it tell."""
    if not isinstance(node, fx.Node):
        return isinstance(node, (int, float)) and node >= 0
    name = function_name(node)
    if name in _NEVER_NEGATIVE:
        return True
    if name == "pow":
        exponent = node.args[1]
        return (isinstance(exponent, (int, float)) and exponent % 2 == 0) or never_negative(node.args[0])
    if name == "mul":
        return node.args[0] is node.args[1] or all(map(never_negative, node.args[:2]))
    if name in ("add", "maximum"):
        return all(map(never_negative, node.args[:2]))
    return name in _KEEP_SIGN and never_negative(node.args[0])
