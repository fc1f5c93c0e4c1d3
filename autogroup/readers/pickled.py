"""A whole module in a ``torch.save`` file: reading it runs code that the file names, so it takes trust."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autogroup.errors import LoadError, UntrustedError
from autogroup.readers.checkpoint import Checkpoint
from autogroup.readers.python_source import importing_from

_SHOWN = 8
_NAME_ARCHITECTURE = (
    "name code that builds the architecture instead: package.module:callable, file.py:callable, torchvision:NAME "
    "or timm:NAME"
)


def refusal(path: Path, content: Checkpoint) -> LoadError:
    """Return the error for a file that holds neither tensors nor, without trust, anything else to read."""
    if not content.code:
        return LoadError(f"{path}: holds {content.what}, neither a module nor tensors: {_NAME_ARCHITECTURE}")
    more = f" and {len(content.code) - _SHOWN} more" if len(content.code) > _SHOWN else ""
    return UntrustedError(
        f"{path}: reading this file would run code stored in it: it imports {', '.join(content.code[:_SHOWN])}{more}; "
        f"if you trust its author pass --trust (trust=True), else {_NAME_ARCHITECTURE}"
    )


def unpickle(path: Path) -> nn.Module | None:
    """Unpickle a file, which runs whatever code it names.

    Returns:
        The module in it; ``None`` if it holds something else.

    Raises:
        LoadError: it cannot be unpickled.
    """
    try:
        with importing_from(Path.cwd()):  # the pickle names the classes of the user's own modules
            found: Any = torch.load(path, map_location="cpu", weights_only=False, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        text = str(error).strip().splitlines()
        detail = text[0] if text else "no reason given"
        raise LoadError(f"{path}: cannot be unpickled: {type(error).__name__}: {detail}") from error
    return found if isinstance(found, nn.Module) else None
