"""The words of a serialized ``torch.export`` graph: how JSON spells a value, a shape, a dtype, a place.

The format is the JSON that ``torch.export.save`` writes. torch's own reader is not used on purpose: it evaluates
shape expressions and imports modules that the file names, so reading a file would mean trusting it. Here nothing
is evaluated: a symbolic size is replaced by the size it had when the program was exported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Json = dict[str, Any]

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    33: torch.float8_e8m0fnu,
    34: torch.uint32,
    35: torch.uint64,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_PLAIN = frozenset({"as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings", "as_int_lists"})
_SYMBOLIC = frozenset({"as_sym_int", "as_sym_bool", "as_sym_float"})
_SYMBOLIC_LISTS = frozenset({"as_sym_ints", "as_sym_bools", "as_sym_floats"})
_FRAME = re.compile(r'File "([^"\n]*)", line (\d+)')


class UnsupportedError(Exception):
    """A part of the file that has no meaning for this reader."""


def single(union: Json) -> tuple[str, Any]:
    """Return the tag and the value of a union, e.g. ``{"as_int": 3}`` -> ``("as_int", 3)``."""
    if len(union) != 1:
        raise UnsupportedError(f"expected one tagged value, found the keys {sorted(union)}")
    return next(iter(union.items()))


def number(size: Json) -> int | float | bool:
    """Return a size: itself, or the value its symbol had at export time (the "hint")."""
    tag, value = single(size)
    if tag != "as_expr":
        return value
    if not value.get("hint"):
        raise UnsupportedError(f"the size {value.get('expr_str')} depends on data and has no example value")
    return single(value["hint"])[1]


def real(value: float | str) -> float:
    """Return a float; infinities and not-a-number are spelled as strings."""
    return float(value)


def empty(meta: Json) -> Tensor:
    """Return a tensor of the described shape, strides and dtype, without memory for its values.

    The device of the file is dropped. It is a meta tensor rather than a fake one since the first fake tensor of a
    process imports much of torch's compiler, which takes longer than all the rest.
    """
    sizes, strides = ([int(number(n)) for n in meta[key]] for key in ("sizes", "strides"))
    tensor = torch.empty_strided(sizes, strides, dtype=DTYPES[meta["dtype"]], device="meta")
    return tensor.requires_grad_(bool(meta["requires_grad"]) and tensor.is_floating_point())


def decode(argument: Json, names: Mapping[str, Any]) -> Any:
    """Return the Python value of one operator argument; ``names`` resolves tensors and symbolic numbers."""
    tag, value = single(argument)
    if tag in _PLAIN:
        return value
    if tag == "as_none":
        return None
    if tag in ("as_tensor", "as_custom_obj"):
        return names[value["name"]]
    if tag == "as_tensors":
        return [names[v["name"]] for v in value]
    if tag == "as_nested_tensors":
        return [[names[v["name"]] for v in row] for row in value]
    if tag == "as_optional_tensor":
        return decode(value, names)
    if tag == "as_optional_tensors":
        return [decode(v, names) for v in value]
    if tag == "as_float":
        return real(value)
    if tag == "as_floats":
        return [real(v) for v in value]
    if tag in _SYMBOLIC:
        return _symbolic(value, names)
    if tag in _SYMBOLIC_LISTS:
        return [_symbolic(v, names) for v in value]
    if tag == "as_scalar_type":
        return DTYPES[value]
    if tag == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if tag == "as_layout":
        return torch.strided
    if tag == "as_device":
        return torch.device("cpu")
    if tag == "as_complex":
        return complex(value["real"], value["imag"])
    raise UnsupportedError(f"an argument of kind {tag}")


def _symbolic(value: Json, names: Mapping[str, Any]) -> Any:
    tag, inner = single(value)
    return names[inner] if tag == "as_name" else inner


def module_of(metadata: Mapping[str, str]) -> str:
    """Return the FQN of the innermost module that made a node, ``""`` for the root or if unknown."""
    stack = metadata.get("nn_module_stack", "")
    fields = stack.rsplit(";", 1)[-1].split(",")
    path = fields[1] if len(fields) > 2 else ""
    return "" if path.startswith("_empty") else path.removeprefix("L['self']").removeprefix(".")


def source_of(metadata: Mapping[str, str]) -> str:
    """Return ``file.py:line`` of the innermost frame outside torch, ``""`` if unknown.

    The paths are those of the machine that exported: what precedes the package is dropped.
    """
    frames: list[tuple[str, str]] = _FRAME.findall(metadata.get("stack_trace", "").replace("\\", "/"))
    own = [frame for frame in frames if not f"/{_shortened(frame[0])}".startswith("/torch/")]
    if not frames:
        return ""
    file, line = (own or frames)[-1]
    return f"{_shortened(file)}:{line}"


def _shortened(file: str) -> str:
    """Return the path inside the installed package, or the file's name."""
    for marker in ("/site-packages/", "/dist-packages/"):
        if marker in file:
            return file.rpartition(marker)[2]
    return file if file.startswith("torch/") else file.rpartition("/")[2]
