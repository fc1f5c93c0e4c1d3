"""Read the header of ``.safetensors`` files, and the index of those in several shards; never the tensors themselves.

The header is a length and a JSON object, so the library of the format is not needed; what it checks is checked here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from autogroup.errors import LoadError
from autogroup.readers.archive import parse_json
from autogroup.tensors import MAX_DIMS, TensorInfo, TensorTable, item_size

MAX_HEADER = 100_000_000
"""Largest header in bytes, as the format's own library has it."""

_DTYPES = {
    "BOOL": "bool",
    **{"U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"},
    **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"},
}
_DAMAGED = "copy or download the file again"


def read_safetensors(path: Path) -> TensorTable:
    """Read the names, shapes and dtypes of a ``.safetensors`` file.

    Args:
        path: the file.

    Raises:
        LoadError: it is no such file, or truncated; its header claims more than there is.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> header = b'{"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}'
        >>> _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
        >>> read_safetensors(path).tensors
        (TensorInfo(name='w', shape=(2, 3), dtype='float16', bytes=12, storage=''),)
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise LoadError(
                f"{path}: no safetensors file, or a truncated one: it announces a header of {length:,} bytes and has "
                f"{size:,} in all: {_DAMAGED}"
            )
        if length > MAX_HEADER:
            raise LoadError(f"{path}: its header has {length:,} bytes, more than the {MAX_HEADER:,} the format allows")
        header = parse_json(file.read(length), f"{path}: its header")
    if not isinstance(header, dict):
        raise LoadError(f"{path}: its header is no JSON object: {_DAMAGED}")
    tensors = [_tensor(path, str(n), entry, size - 8 - length) for n, entry in header.items() if n != "__metadata__"]
    return TensorTable("safetensors", tuple(tensors))


def _tensor(path: Path, name: str, entry: Any, room: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            len(shape) <= MAX_DIMS and all(type(n) is int and 0 <= n < 1 << 63 for n in shape) and 0 <= start <= end
        ):
            pass
        case _:
            raise LoadError(f"{path}: the entry of {name!r} has no dtype, shape and data_offsets: {_DAMAGED}")
    if end > room:
        raise LoadError(f"{path}: is truncated: {name!r} ends at byte {end:,} of {room:,}: {_DAMAGED}")
    spelled = _DTYPES.get(dtype, dtype.lower())
    if item_size(spelled) and math.prod(shape) * item_size(spelled) != end - start:
        raise LoadError(f"{path}: {name!r} of shape {tuple(shape)} cannot have {end - start:,} bytes: {_DAMAGED}")
    return TensorInfo(name, tuple(shape), spelled, end - start)
