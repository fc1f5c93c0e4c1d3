"""What a SOURCE may be, in words, and the check that needs nothing but its spelling: no torch, so no waiting."""

from __future__ import annotations

from pathlib import Path

from autogroup.errors import LoadError

ACCEPTED = (
    "a .pt2 file (torch.export), TorchScript, a report of report.save, tensors with --arch (.safetensors or its index, "
    ".pt .pth .bin .ckpt, a distributed checkpoint), a pickled module (--trust), package.module:callable, "
    "file.py:callable, torchvision:NAME, timm:NAME or hf:CONFIG"
)


def check_spelling(source: str) -> None:
    """Refuse what is neither a file nor spelled like a name, which has a colon.

    Raises:
        LoadError: it is empty, or there is no such file.

    Example:
        >>> check_spelling("timm:resnet18")
    """
    if not source.strip():
        raise LoadError(f"SOURCE is empty; accepted are {ACCEPTED}")
    if ":" not in source and not exists(source):
        raise no_such_file(source)


def exists(source: str) -> bool:
    """Whether there is a file or folder of that name."""
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def no_such_file(source: str) -> LoadError:
    """Return the error that says so."""
    hint = "name the callable too, as in file.py:callable" if source.endswith(".py") else f"accepted are {ACCEPTED}"
    return LoadError(f"{source!r}: no such file; {hint}")
