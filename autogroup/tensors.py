"""What a file of tensors holds: names, shapes and dtypes, but no graph and no values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch

DTYPES = {name: found for name, found in vars(torch).items() if isinstance(found, torch.dtype)}
"""Name -> dtype. Names from files are looked up here: to ask torch for one that it lacks may import more of torch."""

MAX_DIMS = 64
"""Most axes that a tensor of torch can have."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file.

    Args:
        name: its key in the file.
        shape: sizes of its axes.
        dtype: as torch spells it, e.g. ``float32``; as the file spells it if torch has no such dtype.
        bytes: size of its entries in bytes.
        storage: what tensors that share their bytes have in common; ``""`` if it shares them with none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    storage: str = ""


@dataclass(frozen=True, slots=True)
class TensorTable:
    """The tensors of a file.

    Args:
        kind: what the file is, e.g. ``safetensors``.
        tensors: in the order of the file.
        notes: what else the file holds, and what was left out.

    Example:
        >>> table = TensorTable("state dict", (tensor("a", (2, 3), "float32"), tensor("b", (3,), "bfloat16")))
        >>> table.elements, table.bytes
        (9, 30)
    """

    kind: str
    tensors: tuple[TensorInfo, ...]
    notes: tuple[str, ...] = ()

    @property
    def elements(self) -> int:
        """Number of entries, shared ones counted once."""
        return sum(math.prod(t.shape) for t in self._distinct())

    @property
    def bytes(self) -> int:
        """Size of all tensors in bytes, shared ones counted once."""
        return sum(t.bytes for t in self._distinct())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        tensors = [{**asdict(t), "shape": list(t.shape)} for t in self.tensors]
        for data in tensors:
            del data["storage"]
        totals = {"tensors": len(tensors), "elements": self.elements, "bytes": self.bytes}
        return {"kind": self.kind, "totals": totals, "notes": list(self.notes), "tensors": tensors}

    def _distinct(self) -> Iterable[TensorInfo]:
        return {t.storage or f"name {t.name}": t for t in self.tensors}.values()


def tensor(name: str, shape: tuple[int, ...], dtype: str, storage: str = "") -> TensorInfo:
    """Return the description of a tensor whose size in bytes follows from its shape and a dtype of torch."""
    size = math.prod(shape) * item_size(dtype)
    return TensorInfo(name, shape, dtype, size, storage)


def item_size(dtype: str) -> int:
    """Return the bytes of one entry, 0 for a dtype that torch does not have.

    Example:
        >>> item_size("bfloat16"), item_size("float3")
        (2, 0)
    """
    found = DTYPES.get(dtype)
    return found.itemsize if found is not None else 0
