"""Tensors of ``torch.save`` files (``.pt .pth .bin .ckpt``) and of distributed checkpoints, by reading pickles as data.

Nothing is unpickled, not even with the restrictions of ``weights_only``: names, shapes and dtypes stand in the pickle,
and the values are not needed. So what else a checkpoint holds, such as the hyperparameters of a trainer, does no harm.
"""

from __future__ import annotations

import heapq
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from autogroup.errors import LoadError
from autogroup.readers.archive import Archive
from autogroup.readers.pickles import External, Made, Name, Pickle, PickleError, read_pickle, read_pickles
from autogroup.tensors import MAX_DIMS, TensorInfo, TensorTable, tensor

MAX_PICKLE = 64 << 20
"""Largest pickle that is read, in bytes: it describes tensors and does not hold them."""
_MAX_TABLES = 32
"""State dicts of one file that are kept, the largest ones; an optimizer may have one for every parameter."""
_MAX_TEXT = 100
"""Characters of a key, a dtype or a name that are kept: a pickle may repeat a long text in a few bytes."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_POSITION = 3
"""In the format before torch 1.6 the object follows a magic number, a version and a description of the machine."""
_STORAGES = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"},
    **{"ComplexFloat": "complex64", "ComplexDouble": "complex128", "Untyped": "uint8"},
}
_HARMLESS = re.compile(
    r"torch\.(_utils\._rebuild_\w+|_tensor\._rebuild_\w+|\w*Storage|storage\.\w+|Size|Tensor|device|nn\.parameter\.\w+"
    r"|serialization\._get_layout|(float|bfloat|int|uint|complex)\w+|bool)|collections\.(OrderedDict|defaultdict|Counter)"
    r"|(__builtin__|builtins)\.(set|frozenset|complex|bytearray|slice|range)"
)
"""Names in every file of tensors. Only for messages: none of them is imported here."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a ``torch.save`` file holds."""

    tables: tuple[TensorTable, ...]
    """The state dicts in it, the one with most tensors first; empty if it holds a module or something else."""
    code: tuple[str, ...]
    """What unpickling it would import beyond tensors and containers."""
    what: str
    """The kind of object, for a message."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Find the tensors of a ``torch.save`` file without unpickling it.

    Args:
        path: a file in the zip format, the one before it, or a plain pickle.

    Raises:
        LoadError: it is none of these, or damaged.
    """
    content = _open(path)
    code = tuple(sorted(name[:_MAX_TEXT] for name in content.names if not _HARMLESS.fullmatch(name)))
    found = heapq.nlargest(_MAX_TABLES, _state_dicts(content.value), key=lambda item: len(item[1]))
    tables: list[TensorTable] = []
    for where, tensors in found:
        others = [f"{other or 'the top level'} ({len(rest)})" for other, rest in found if other != where]
        notes = [f"also holds tensors in {', '.join(others[:3])}{', …' if len(others) > 3 else ''}"] if others else []
        if code:
            notes.append(f"also holds what would run code if it were unpickled, left unread: {', '.join(code[:3])}")
        tables.append(TensorTable(f"state dict {where}".strip(), tuple(tensors), tuple(notes)))
    return Checkpoint(tuple(tables), code, _what(content.value))


def read_distributed(folder: Path) -> TensorTable:
    """Read the names, shapes and dtypes of a distributed checkpoint from its ``.metadata``.

    Args:
        folder: what ``torch.distributed.checkpoint.save`` wrote.

    Raises:
        LoadError: the metadata are damaged, or of another kind.
    """
    file = folder / ".metadata"
    try:
        content = read_pickle(_start(file)).value
    except PickleError as error:
        raise LoadError(f"{file}: is damaged ({error}): copy the checkpoint again") from error
    if not (isinstance(content, Made) and content.name.endswith(".Metadata") and isinstance(content.state, dict)):
        raise LoadError(f"{file}: does not describe a distributed checkpoint of torch")
    entries: Any = content.state.get("state_dict_metadata")
    match entries:
        case dict():
            tensors = [_stored(name, entry) for name, entry in entries.items() if isinstance(name, str)]
        case _:
            raise LoadError(f"{file}: lists no tensors: copy the checkpoint again")
    return TensorTable("distributed checkpoint", tuple(t for t in tensors if t is not None))


def as_tensor(name: str, value: object) -> TensorInfo | None:
    """Return what the pickle of a tensor says about it; ``None`` if the value is no plain tensor."""
    while isinstance(value, Made) and value.name.startswith("torch._utils._rebuild_parameter"):
        value = value.args[0] if isinstance(value.args, tuple) and value.args else None
    match value:
        case Made(
            maker=Name(text="torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor"),
            args=(External(key=("storage", Name(text=storage), str(key), *_)), int(offset), shape, stride, *_),
        ):
            kind = storage.removeprefix("torch.").removesuffix("Storage")
            dtype = _STORAGES.get(kind, kind)
        case Made(
            maker=Name(text="torch._utils._rebuild_tensor_v3"),
            args=(External(key=("storage", _, str(key), *_)), int(offset), shape, stride, _, _, Name(text=text), *_),
        ):
            dtype = text.removeprefix("torch.")
        case _:
            return None
    sizes = _sizes(shape)
    if sizes is None or not 0 <= offset < 1 << 63 or max(len(key), len(dtype)) > _MAX_TEXT:
        return None
    return tensor(name, sizes, dtype, f"{key} {offset} {sizes} {_sizes(stride)}")


def _open(path: Path) -> Pickle:
    """Read the pickle that describes the file's content."""
    try:
        if zipfile.is_zipfile(path):
            with Archive(path) as archive:
                member = archive.find("data.pkl")
                if member is None:
                    raise LoadError(f"{path}: a zip archive that torch did not write: it holds no data.pkl")
                return read_pickle(archive.read(member, limit=MAX_PICKLE))
        pickles = read_pickles(_start(path))
        first = next(pickles)
        if first.value == _LEGACY_MAGIC:
            return [next(pickles) for _ in range(_LEGACY_POSITION)][-1]
        return first
    except PickleError as error:
        raise LoadError(f"{path}: neither a torch file nor a pickle, or a damaged one ({error})") from error


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PICKLE)


def _state_dicts(root: object) -> Iterator[tuple[str, list[TensorInfo]]]:
    """Yield every dict from names to tensors with the keys that lead to it."""
    seen: set[int] = set()
    stack: list[tuple[str, object]] = [("", root)]
    while stack:
        where, value = stack.pop()
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        content = cast("dict[object, object]", value)
        named = {key: inner for key, inner in content.items() if isinstance(key, str)}
        tensors = [found for key, inner in named.items() if (found := as_tensor(key, inner)) is not None]
        if tensors:
            yield where, tensors
        for key, inner in reversed(named.items()):
            if isinstance(inner, dict):
                stack.append((f"{where}.{key[:_MAX_TEXT]}".strip(".")[:_MAX_TEXT], cast("object", inner)))


def _stored(name: str, entry: object) -> TensorInfo | None:
    """One entry of the metadata of a distributed checkpoint; ``None`` for what is no tensor."""
    match entry:
        case Made(state={"properties": Made(state=(Name(text=dtype), *_)), "size": size}):
            sizes = _sizes(size)
            return None if sizes is None else tensor(name, sizes, dtype.removeprefix("torch."))
        case _:
            return None


def _sizes(value: object) -> tuple[int, ...] | None:
    if isinstance(value, Made) and value.name == "torch.Size" and isinstance(value.args, tuple) and value.args:
        value = value.args[0]
    if not isinstance(value, (tuple, list)):
        return None
    sizes = tuple(cast("tuple[object, ...]", value))
    plain = len(sizes) <= MAX_DIMS and all(type(n) is int and 0 <= n < 1 << 63 for n in sizes)
    return cast("tuple[int, ...]", sizes) if plain else None


def _what(value: object) -> str:
    if isinstance(value, Made):
        return f"an object of {value.name[:_MAX_TEXT] or 'an unknown class'}"
    return f"a {type(value).__name__}"
