"""``.pt``/``.pth`` files of ``torch.save``: a whole module (runs code, needs trust) or a state dict (has no graph)."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from autogroup.errors import LoadError, UntrustedError
from autogroup.readers.python_source import importing_from

_SHOWN = 8
_TENSORS = re.compile(r"torch\._utils\._rebuild_\w+|torch\.\w*Storage|torch\.storage\.\w+|collections\.OrderedDict")
"""Names in every file of tensors. Only for the message: what may run is torch's decision (``weights_only``)."""
_DYNAMIC = "<a name built while loading>"
_NAME_ARCHITECTURE = (
    "name code that builds the architecture instead: package.module:callable, file.py:callable, torchvision:NAME "
    "or timm:NAME"
)


def read_pickled(path: Path, *, trust: bool) -> nn.Module:
    """Read a pickled module.

    Args:
        path: a file written by ``torch.save(model, path)``.
        trust: whether code stored in the file may run. Without it nothing of the file is executed: the names it
            would import are read off the pickle's instructions.

    Raises:
        UntrustedError: unpickling would import more than tensors and plain containers.
        LoadError: the file is damaged, or holds a state dict or something else without a graph.
    """
    unsafe = unsafe_globals(path)
    if unsafe and not trust:
        raise UntrustedError(
            f"{path}: reading this file would run code stored in it: it imports {_shortened(unsafe)}; if you trust "
            f"its author pass --trust (trust=True), else {_NAME_ARCHITECTURE}"
        )
    try:
        with importing_from(Path.cwd()):  # the pickle names the classes of the user's own modules
            loaded: Any = torch.load(path, map_location="cpu", weights_only=not trust, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if trust:
            raise LoadError(f"{path}: the pickle is damaged: {_first_line(error)}") from error
        raise UntrustedError(f"{path}: torch refuses to read this file without trust: {_first_line(error)}") from error
    except Exception as error:
        raise LoadError(f"{path}: cannot be unpickled: {type(error).__name__}: {_first_line(error)}") from error
    if isinstance(loaded, nn.Module):
        return loaded
    raise LoadError(f"{path}: {_what(loaded)}: {_NAME_ARCHITECTURE}")


def unsafe_globals(path: Path) -> list[str]:
    """Return the names that unpickling would import beyond what torch considers safe, without executing any.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "weights.pt"
        >>> torch.save({"weight": torch.zeros(2)}, file)
        >>> unsafe_globals(file)
        []
    """
    if zipfile.is_zipfile(path):
        try:
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        except (AssertionError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
            pass  # an instruction torch's lister does not know: use ours
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith("data.pkl")]
            streams = [archive.read(name) for name in members]
    else:
        streams = [path.read_bytes()]
    return sorted({name for stream in streams for name in _globals(stream, path) if not _TENSORS.fullmatch(name)})


def _globals(stream: bytes, path: Path) -> set[str]:
    """Collect every GLOBAL and STACK_GLOBAL of the pickles that follow one another in a stream."""
    found: set[str] = set()
    file = io.BytesIO(stream)
    read = 0
    while file.tell() < len(stream):
        try:
            found |= _globals_of_one(file)
        except (ValueError, UnicodeDecodeError, IndexError) as error:
            if read:
                break  # tensor data follows the pickles of the old format
            raise LoadError(f"{path}: neither a torch file nor a pickle: {_first_line(error)}") from error
        read += 1
    return found


def _globals_of_one(file: io.BytesIO) -> set[str]:
    """Collect the imports of one pickle; follows string constants through the memo, which is where names repeat."""
    found: set[str] = set()
    strings: list[str] = []
    memo: dict[int, str] = {}
    memoized = 0
    top = _DYNAMIC
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            found.add(str(argument).replace(" ", ".", 1))
        elif name == "STACK_GLOBAL":
            found.add(".".join(strings[-2:]) if len(strings) > 1 else _DYNAMIC)
        elif name == "MEMOIZE":
            memo[memoized] = top
            memoized += 1
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = top
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            top = memo.get(int(argument or 0), _DYNAMIC)
            strings.append(top)
        else:
            top = argument if isinstance(argument, str) else _DYNAMIC
            if isinstance(argument, str):
                strings.append(argument)
    return found


def _what(loaded: Any) -> str:
    """Say what a file holds that is no module."""
    if not isinstance(loaded, Mapping):
        return f"holds a {type(loaded).__name__}, not an nn.Module"
    content = cast("Mapping[Any, Any]", loaded)
    for key in ("state_dict", "model", "model_state_dict", "module"):
        inner = content.get(key)
        if isinstance(inner, Mapping) and _is_state_dict(cast("Mapping[Any, Any]", inner)):
            return f"holds a checkpoint with the state dict {key!r}; a state dict has names and shapes but no graph"
    if _is_state_dict(content):
        count = sum(isinstance(v, Tensor) for v in content.values())
        return f"holds a state dict of {count} tensors; a state dict has names and shapes but no graph"
    return f"holds a dict of {len(content)} entries, not an nn.Module"


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return bool(content) and any(isinstance(v, Tensor) for v in content.values())


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else "no reason given"
