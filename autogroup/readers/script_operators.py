"""What the code of a TorchScript archive may call: tensor operators of ``aten``, and arithmetic on plain values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from autogroup.capture.schema import schema_arguments
from autogroup.errors import CaptureError

_SCALAR_TYPES = (
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64),
    *(torch.complex32, torch.complex64, torch.complex128, torch.bool, torch.qint8, torch.quint8, torch.qint32),
    torch.bfloat16,
)
"""Number of a dtype in TorchScript -> dtype."""
_FACTORIES = frozenset(
    (
        *("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "scalar_tensor", "tensor"),
        *("tril_indices", "triu_indices", "zeros"),
    )
)
"""Operators that need no tensor. All others that have none are refused: some of them open files."""
_MAX_ITEMS = 1_000_000
"""Items that a list, a text or a range may have."""
_MAX_BITS = 4096
_MAX_PARTS = 10_000
"""Tensors that one operator may return."""


def call_operator(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call what the code calls ``torch.NAME``: on tensors an ``aten`` operator, else arithmetic.

    Raises:
        CaptureError: there is no such operator, or it is not for programs from files.

    Example:
        >>> call_operator("add", (2, 3), {}), call_operator("floor_divide", (7, 2), {})
        (5, 3)
        >>> call_operator("from_file", ("weights",), {})
        Traceback (most recent call last):
        autogroup.errors.CaptureError: the TorchScript code calls torch.from_file, which is not read here; ...
    """
    has_tensor = any(isinstance(value, Tensor) for value in _flat((args, tuple(kwargs.values()))))
    of_container = bool(args) and isinstance(args[0], (list, dict, str))
    if name in _OF_PLAIN and (of_container or not has_tensor):
        return _OF_PLAIN[name](*args)
    if has_tensor and name in _OF_TENSORS:
        return _OF_TENSORS[name](*args, **kwargs)
    if name == "_convolution":
        return _convolution(*args[:9])
    if not has_tensor and name not in _FACTORIES:
        raise _refused(f"torch.{name}")
    # Only what torch's dispatcher knows, not the further operators of TorchScript, which may print and write files.
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, OpOverloadPacket) or not _is_dispatched(packet):
        raise _refused(f"torch.{name}")
    # Told from the schemas, not from what the code passes: torch.from_file(path, True, n, out=x) makes a file.
    if name not in _FACTORIES and not any(_takes_tensor(getattr(packet, o)) for o in packet.overloads()):
        raise _refused(f"torch.{name}")
    if any(_returns_list(getattr(packet, o)) for o in packet.overloads()) and _longest(args) > _MAX_PARTS:
        raise _refused(f"torch.{name} into so many parts")
    return packet(*args, **kwargs)


def call_primitive(name: str, args: tuple[Any, ...]) -> Any:
    """Call what the code calls ``ops.prim.NAME`` or by a bare name, such as ``int``."""
    if name == "prim.RaiseException":
        raise CaptureError(f"the TorchScript code raises an error with these inputs: {str(args[0])[:200]}")
    found = _PRIMITIVES.get(name)
    if found is None:
        raise _refused(name)
    return found(*args)


def size_of(value: Any, most: int) -> int:
    """Return what it takes to walk through a value, or more than ``most`` if it takes more.

    Args:
        value: a plain value, a container, or a tensor.
        most: where to stop: a list that holds a list twice, which holds one twice, soon has more parts than atoms.

    Example:
        >>> size_of([1, [2, 3], "x" * 64], 100)
        14
    """
    size, stack = 0, [value]
    while stack and size <= most:
        part = stack.pop()
        size += 1
        if isinstance(part, (list, tuple)):
            stack += cast("list[Any]", part)
        elif isinstance(part, dict):
            stack += [*cast("dict[Any, Any]", part), *cast("dict[Any, Any]", part).values()]
        elif isinstance(part, str):
            size += len(part) // 8
        elif isinstance(part, int):
            size += part.bit_length() // 64
        elif isinstance(part, range):
            size += min(most, max(0, (part.stop - part.start) // part.step))
    return size


def number(value: Any) -> Any:
    """Return a tensor of one number that stands in the code as a number: a trace records ``x * 2`` that way.

    Example:
        >>> number(torch.tensor(2)), number("text")
        (2, 'text')
    """
    return value.item() if type(value) is Tensor and not value.dim() else value


def _is_dispatched(packet: OpOverloadPacket) -> bool:
    names = (getattr(packet, overload).name() for overload in packet.overloads())
    return any(torch._C._dispatch_has_kernel(name) for name in names)  # pyright: ignore[reportPrivateUsage]


def _takes_tensor(overload: OpOverload) -> bool:
    return any("Tensor" in str(a.type) and not a.is_out for a in schema_arguments(overload))


def _returns_list(overload: OpOverload) -> bool:
    return any("List[Tensor]" in str(r.type) for r in overload._schema.returns)  # pyright: ignore[reportPrivateUsage]


def _longest(args: tuple[Any, ...]) -> int:
    return max((n for value in args if isinstance(value, Tensor) for n in value.shape), default=0)


def _refused(what: str) -> CaptureError:
    return CaptureError(
        f"the TorchScript code calls {what}, which is not read here; analyze the module it was made from, or a "
        "torch.export of it"
    )


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(cast("list[Any]", value))
        else:
            yield value


def _convolution(x: Tensor, weight: Tensor, bias: Any, *rest: Any) -> Any:
    """A trace records the inner convolution; its callers are what the rules and the reports name."""
    stride, padding, dilation, transposed, out, groups = rest
    dims = weight.dim() - 2
    if transposed:
        packet = getattr(torch.ops.aten, f"conv_transpose{dims}d")
        return packet(x, weight, bias, stride, padding, out, groups, dilation)
    return getattr(torch.ops.aten, f"conv{dims}d")(x, weight, bias, stride, padding, dilation, groups)


def _size(x: Tensor, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


def _code_of(x: Tensor) -> int:
    return _SCALAR_TYPES.index(x.dtype)


def _repeat(items: Any, times: Any) -> Any:
    if len(items) * int(times) > _MAX_ITEMS:
        raise _refused("for a list of so many items")
    return items * times


def _multiply(a: Any, b: Any) -> Any:
    if isinstance(a, (list, str, tuple)):
        return _repeat(a, b)
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > _MAX_BITS:
        raise _refused("for a product of so large numbers")
    return a * b


def _divide(a: Any, b: Any, rounding: str | None = None) -> Any:
    return a / b if rounding is None else a // b if rounding == "floor" else math.trunc(a / b)


def _slice(items: Any, start: Any = None, stop: Any = None, step: Any = 1) -> Any:
    return items[slice(start, stop, step)]


def _append(items: list[Any], item: Any) -> list[Any]:
    if len(items) >= _MAX_ITEMS:
        raise _refused("for a list of so many items")
    items.append(item)
    return items


def _set_item(items: Any, key: Any, value: Any) -> Any:
    items[key] = value
    return items


def _format(template: str, *values: Any) -> str:
    return " ".join((template, *(str(v)[:40] for v in values if not isinstance(v, Tensor))))


def _is(a: Any, b: Any) -> bool:
    return a is b


def _range(*bounds: int) -> range:
    return range(*bounds)


def _same(value: Any, *_: Any) -> Any:
    return value


_OF_TENSORS: dict[str, Callable[..., Any]] = {
    "size": _size,
    "dim": lambda x: x.dim(),
    "numel": lambda x: x.numel(),
    "len": lambda x: len(x),
    "is_floating_point": lambda x: x.is_floating_point(),
    "__is__": _is,
    "__isnot__": lambda a, b: a is not b,
    "warn": lambda *_: None,
}
"""Operators that tell something of a tensor."""
_OF_PLAIN: dict[str, Callable[..., Any]] = {
    **{"add": lambda a, b, alpha=1: a + b if alpha == 1 else a + alpha * b, "sub": lambda a, b, alpha=1: a - alpha * b},
    **{"mul": _multiply, "div": _divide, "floordiv": operator.floordiv, "floor_divide": operator.floordiv},
    **{"remainder": operator.mod, "neg": operator.neg, "abs": abs},
    **{"rsub": lambda a, b, alpha=1: b - alpha * a, "reciprocal": lambda a: 1 / a},
    **{"sqrt": math.sqrt, "log": math.log, "exp": math.exp, "floor": math.floor, "ceil": math.ceil, "round": round},
    **{"pow": lambda a, b: math.pow(a, b) if isinstance(a, float) or isinstance(b, float) else _power(a, b)},
    **{"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le},
    **{"gt": operator.gt, "ge": operator.ge, "__is__": _is, "__isnot__": lambda a, b: a is not b},
    **{"__not__": operator.not_, "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor},
    **{"logical_and": operator.and_, "logical_or": operator.or_, "len": len, "format": _format, "append": _append},
    **{"slice": _slice, "list": list, "__contains__": lambda items, item: item in items, "_set_item": _set_item},
    **{"__getitem__": lambda items, i: items[i], "extend": lambda items, more: items.extend(more[:_MAX_ITEMS])},
    **{"Int": int, "Float": float, "Bool": bool, "item": _same, "detach": _same, "to": _same, "warn": lambda *_: None},
    **{"IntImplicit": int, "FloatImplicit": float, "ScalarImplicit": _same, "device": torch.device, "type_as": _same},
}
"""The same names on numbers, strings and containers; a trace also has operators of tensors where there were numbers."""
_PRIMITIVES: dict[str, Callable[..., Any]] = {
    **{"int": int, "float": float, "bool": bool, "str": str, "range": _range},
    **{"prim.NumToTensor": _same, "prim.unchecked_cast": _same, "prim.data": lambda x: x.detach()},
    **{"prim.dtype": _code_of, "prim.device": lambda x: x.device, "prim.is_cuda": lambda x: x.is_cuda},
    **{"prim.requires_grad": lambda x: x.requires_grad, "prim.TupleIndex": operator.getitem},
    **{"prim.min": min, "prim.max": max, "prim.abs": abs, "prim.layout": lambda _: 0, "prim.is_meta": lambda _: False},
    **{"min": min, "max": max, "prim.Print": lambda *_: None},
}


def _power(a: int, b: int) -> int | float:
    if abs(b) > 1024 or abs(a) > 1 << 32:
        raise _refused("for a power of so large numbers")
    return a**b
