"""What an operator does to the rows of a weight, for splits and roles: by schema, tags and rule family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from operator import getitem
from typing import Literal, NamedTuple

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from autogroup.capture.schema import function_name, schema_arguments
from autogroup.registry import lookup

Kind = Literal["pointwise", "norm", "movement", "lookup", "contraction", "reduction", "glu", "creation", "other"]

_POINTWISE = (  # shape-preserving, though torch does not tag them so
    *("dropout", "feature_dropout", "hardswish", "log_sigmoid", "special_expit", "softmax", "_softmax"),
    *("log_softmax", "masked_fill", "where", "rsub", "prelu", "conj", "_conj", "resolve_conj", "_weight_norm"),
)
_LOOKUPS = ("embedding", "index", "index_select", "_unsafe_index")
SUMS = ("add", "sub", "rsub")
_LINEAR = (  # at most adds, scales and masks; a bound is no activation either
    *(*SUMS, "mul", "div", "neg", "dropout", "feature_dropout", "masked_fill", "where"),
    *("clamp", "clamp_min", "clamp_max"),
)
GROUPED = "_grouped_mm"
"""Multiplies each group of rows with a matrix of its own, of those stacked along the first dim of its weight."""
_FACTORS = {  # the two factors of a matrix product
    **dict.fromkeys(("mm", "bmm"), ("self", "mat2")),
    "matmul": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
}


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, as far as splits are concerned.

    Args:
        name: as ``function_name`` gives it.
        kind: how it treats rows.
        linear: whether it at most adds, scales and masks, if it is pointwise; what remains is no activation.
        arguments: their names, in order.
        written: the argument that an in-place or ``out=`` operator overwrites.
    """

    name: str
    kind: Kind
    linear: bool = False
    arguments: tuple[str, ...] = ()
    written: str | None = None


_GETITEM = Operator("getitem", "movement", arguments=("self", "index"))


def operator_of(node: fx.Node) -> Operator:
    """The operator that a node calls."""
    if isinstance(node.target, OpOverload):
        return _described(node.target)
    return _GETITEM if node.target is getitem else Operator(function_name(node), "other")


@cache
def _described(op: OpOverload) -> Operator:
    arguments = schema_arguments(op)
    written = next((a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write), None)
    name = op.overloadpacket.__name__.rstrip("_")
    return Operator(name, _kind(op, name), name in _LINEAR, tuple(a.name for a in arguments), written)


def _kind(op: OpOverload, name: str) -> Kind:
    entry = lookup(op)
    family = entry.family if entry else ""
    if family in ("movement", "assembly"):
        return "movement"
    if name == "glu":
        return "glu"
    if name in _LOOKUPS:
        return "lookup"
    if name in _POINTWISE or torch.Tag.pointwise in op.tags:
        return "pointwise"
    if family == "normalization":
        return "norm"
    if family == "reduction":
        return "reduction"
    if family == "creation":
        return "creation"
    known = family in ("contraction", "convolution", "attention") or name == GROUPED
    return "contraction" if known else "other"


class Reader(NamedTuple):
    """An argument of an operator, where some rows are read."""

    node: fx.Node
    argument: str
    part: int = 0
    """Which tensor of a list, or which part of the tensor, as the halves of a GLU."""

    @property
    def name(self) -> str:
        """``operator.argument``."""
        return "output" if self.node.op == "output" else f"{operator_of(self.node).name}.{self.argument}"


def operands(node: fx.Node) -> list[tuple[Reader, fx.Node]]:
    """Every node among the arguments, with the argument that it is given for."""
    if node.op == "output":
        return [(Reader(node, "", i), source) for i, source in enumerate(node.all_input_nodes)]
    found: list[tuple[Reader, fx.Node]] = []
    names = operator_of(node).arguments
    for name, given in (*zip(names, node.args, strict=False), *node.kwargs.items()):
        if isinstance(given, fx.Node):
            found.append((Reader(node, name), given))
        elif isinstance(given, list | tuple):
            found += [(Reader(node, name, i), item) for i, item in enumerate(given) if isinstance(item, fx.Node)]
    return found


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of the (first) tensor that a node yields; ``()`` if it yields none."""
    value = node.meta.get("val")
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def argument(node: fx.Node, name: str, default: object = None) -> object:
    """What an operator is given for an argument."""
    place = operator_of(node).arguments.index(name)
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def weight_layout(reader: Reader, weight: fx.Node) -> Mapping[int, int]:
    """Where a contraction puts the dims of its weight: dim of the weight → dim of the output.

    Dims that are not in the result are summed over; an empty result means that the argument is no weight.
    """
    node, name = reader.node, operator_of(reader.node).name
    ndim, out_ndim = len(shape_of(weight)), len(shape_of(node))
    if name == "linear":
        return {0: out_ndim - 1} if reader.argument == "weight" and ndim == 2 else {}
    if name.startswith("conv"):
        return _conv_layout(node, out_ndim - ndim + 1) if reader.argument == "weight" else {}
    if name in _FACTORS and reader.argument in _FACTORS[name] and ndim >= 2:
        return _matmul_layout(reader, ndim, out_ndim)
    if name == GROUPED:
        return {2: out_ndim - 1} if reader.argument == "mat2" and ndim == 3 else {}
    if name == "einsum":
        terms, output = _einsum(node)
        return {d: output.index(c) for d, c in enumerate(terms[reader.part]) if c in output}
    return {}


def _conv_layout(node: fx.Node, channel: int) -> Mapping[int, int]:
    """``o i s``; ``i o s`` if transposed, where several groups repeat o and are given up."""
    transposed = "transpose" in operator_of(node).name
    if operator_of(node).name == "convolution":
        transposed = bool(argument(node, "transposed"))
    if not transposed:
        return {0: channel}
    return {1: channel} if argument(node, "groups", 1) == 1 else {}


def _other_factor(reader: Reader) -> fx.Node:
    """The other operand of a matrix product."""
    left, right = _FACTORS[operator_of(reader.node).name]
    other = argument(reader.node, right if reader.argument == left else left)
    assert isinstance(other, fx.Node)
    return other


def _matmul_layout(reader: Reader, ndim: int, out_ndim: int) -> Mapping[int, int]:
    """``… n i, … i m -> … n m``; a vector as the other operand leaves no dim behind."""
    matrix = min(len(shape_of(_other_factor(reader))), 2)
    left = reader.argument == _FACTORS[operator_of(reader.node).name][0]
    free, target = (ndim - 2, out_ndim - matrix) if left else (ndim - 1, out_ndim - 1)
    return {**{d: out_ndim - matrix - (ndim - 2) + d for d in range(ndim - 2)}, free: target}


def _einsum(node: fx.Node) -> tuple[list[str], str]:
    """One string of letters per operand and one for the output; the dims of an ellipsis get digits."""
    equation, sources = str(node.args[0]).replace(" ", ""), node.args[1]
    assert isinstance(sources, list | tuple)
    inputs, _, output = equation.partition("->")
    terms = inputs.split(",")
    for i, source in enumerate(sources):
        assert isinstance(source, fx.Node)
        terms[i] = _spread(terms[i], len(shape_of(source)) - len(terms[i].replace("...", "")))
    return terms, _spread(output, len(shape_of(node)) - len(output.replace("...", "")))


def _spread(term: str, count: int) -> str:
    return term.replace("...", "".join(str(i) for i in reversed(range(count))))


def bias_dim(reader: Reader) -> int | None:
    """The output dim along which the bias of a contraction lies, if the argument is one."""
    node, name = reader.node, operator_of(reader.node).name
    if reader.argument != ("self" if name in ("addmm", "baddbmm") else "bias"):
        return None
    if name.startswith("conv"):
        weight = argument(node, "weight")
        return len(shape_of(node)) - len(shape_of(weight)) + 1 if isinstance(weight, fx.Node) else None
    return len(shape_of(node)) - 1


def batch_dims(reader: Reader, source: fx.Node) -> tuple[int, ...]:
    """Dims of ``source`` along which a product of two activations treats everything apart: batch, heads."""
    name, ndim = operator_of(reader.node).name, len(shape_of(source))
    if name == "scaled_dot_product_attention" and reader.argument in ("query", "key", "value"):
        return tuple(range(ndim - 2))
    if name in _FACTORS and reader.argument in _FACTORS[name]:
        # Another factor of two dims is a weight, which all heads share.
        return tuple(range(ndim - 2)) if len(shape_of(_other_factor(reader))) > 2 else ()
    if name == "einsum":
        terms, output = _einsum(reader.node)
        others = "".join(term for i, term in enumerate(terms) if i != reader.part)
        return tuple(d for d, c in enumerate(terms[reader.part]) if c in output and c in others)
    return ()
