"""From what ``scan`` is given to a list of SOURCEs: names in a model library, files, folders."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path

from autogroup.errors import InputError

SUFFIXES = frozenset({".pt2", ".pt", ".pth", ".bin", ".ckpt", ".safetensors"})
"""Of the files that are taken from a folder."""


def expand(patterns: Iterable[str]) -> list[str]:
    """Return the SOURCEs that patterns stand for, each once.

    Args:
        patterns: ``timm:resnet*``, ``torchvision:*``, ``hf:configs/*``, ``models/*.pt2``, a folder, or a SOURCE.

    Raises:
        InputError: one of them stands for nothing.
        LoadError: the model library is missing.

    Example:
        >>> expand(["net.py:build", "net.py:build", "timm:resnet18"])
        ['net.py:build', 'timm:resnet18']
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        sources = _expand(pattern)
        if not sources:
            raise InputError(
                f"{pattern!r} stands for no model: patterns are for names in timm: and torchvision: and for files "
                f"(of a folder those with {' '.join(sorted(SUFFIXES))}); name what is in Python code one by one"
            )
        found |= dict.fromkeys(sources)
    return list(found)


def _expand(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.is_dir() and not (path / ".metadata").is_file():  # with it, a checkpoint that is a folder
        return sorted(str(file) for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if path.exists() or not any(character in pattern for character in "*?["):
        return [pattern]
    library, _, name = pattern.partition(":")
    if library in ("timm", "torchvision"):
        # Imported here: it imports torch, which files and plain names do without.
        from autogroup.readers.named import list_models

        return [f"{library}:{model}" for model in list_models(library) if fnmatchcase(model, name)]
    if library == "hf":
        return [f"hf:{file}" for file in sorted(glob(name))]  # noqa: PTH207 - also of an absolute path
    return sorted(glob(pattern, recursive=True))  # noqa: PTH207
