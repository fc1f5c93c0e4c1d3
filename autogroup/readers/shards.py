"""A checkpoint in several files: the index (``*.index.json``) says which file holds which tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autogroup.errors import LoadError
from autogroup.tensors import TensorInfo, TensorTable


def read_shards(path: Path, index: Mapping[str, Any], read: Callable[[Path], TensorTable]) -> TensorTable:
    """Read the names, shapes and dtypes of the tensors of all shards.

    Args:
        path: the index file; the shards lie beside it.
        index: its content.
        read: reads one shard.

    Raises:
        LoadError: the index names a file elsewhere; a shard is missing, damaged, or lacks one of its tensors.
    """
    where = index["weight_map"]
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise LoadError(f"{path}: its weight_map does not map names to files: copy or download the file again")
    shards: dict[str, dict[str, TensorInfo]] = {}
    kind = "nothing"
    for file in dict.fromkeys(where.values()):
        if file != Path(file).name or "\\" in file or file in ("", ".", ".."):
            raise LoadError(f"{path}: names the shard {file!r}; shards must lie beside the index")
        if not (path.parent / file).is_file():
            raise LoadError(f"{path}: the shard {file} is missing: download it too; its header is all that is read")
        table = read(path.parent / file)
        kind = table.kind
        shards[file] = {tensor.name: tensor for tensor in table.tensors}
    absent = next((name for name, file in where.items() if name not in shards[file]), None)
    if absent is not None:
        raise LoadError(f"{path}: the shard {where[absent]} does not hold {absent!r}: index and shards do not fit")
    tensors = tuple(shards[file][name] for name, file in where.items())
    return TensorTable(f"{kind} in {len(shards)} shards", tensors)
