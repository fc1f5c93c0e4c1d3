"""SOURCE -> model or graph: the one place that decides how a file or a name is read."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from autogroup.capture import Capture
from autogroup.errors import LoadError
from autogroup.infer import infer
from autogroup.readers.exported import read_exported
from autogroup.readers.named import read_timm, read_torchvision, read_transformers
from autogroup.readers.pickled import read_pickled
from autogroup.readers.python_source import read_python
from autogroup.report import Report

ACCEPTED = (
    "a .pt2 file (torch.export), a .pt or .pth file with a whole module (--trust), package.module:callable, "
    "file.py:callable, torchvision:NAME, timm:NAME or hf:FOLDER (with a config.json)"
)
_NO_GRAPH = "a file of tensors has names and shapes but no graph: name code that builds the architecture instead"
_REFUSED_SUFFIXES = {
    ".safetensors": _NO_GRAPH,
    ".onnx": "ONNX is not read: export the PyTorch model with torch.export.save instead",
    ".gguf": _NO_GRAPH,
    ".npz": _NO_GRAPH,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a SOURCE turned out to be: exactly one of ``model`` and ``capture`` is set."""

    label: str
    """How to call it in a heading."""
    model: nn.Module | None = None
    capture: Capture | None = None
    args: tuple[Any, ...] | None = None
    """Example inputs that came with the model, if any."""
    kwargs: dict[str, Any] | None = None


def load(source: str, *, trust: bool = False) -> Loaded:
    """Read a SOURCE.

    Args:
        source: ``package.module:callable``, ``file.py:callable``, ``torchvision:NAME``, ``timm:NAME``,
            ``hf:FOLDER``, a ``.pt2`` file, or a ``.pt``/``.pth`` file.
        trust: whether code stored in a pickle file may run. Nothing else needs it: naming your own code runs it.

    Returns:
        The model, or the graph of an exported program, with any example inputs that came with it.

    Raises:
        UntrustedError: reading the file would run code stored in it and ``trust`` is false.
        LoadError: anything else; one line that says what was wrong and what is accepted.

    Example:
        >>> load("torch.nn:Identity").label
        'torch.nn:Identity'
    """
    if not source.strip():
        raise LoadError(f"SOURCE is empty; accepted are {ACCEPTED}")
    library, _, name = source.partition(":")
    if library == "torchvision" and name:
        return Loaded(source, model=read_torchvision(name))
    if library == "timm" and name:
        return Loaded(source, model=read_timm(name))
    if library == "hf" and name:
        return Loaded(source, model=read_transformers(Path(name)))
    path = Path(source)
    if path.exists():
        return _load_file(path, trust=trust)
    where, colon, name = source.rpartition(":")
    if colon and where and name and "/" not in name:
        model, args, kwargs = read_python(source)
        return Loaded(source, model=model, args=args, kwargs=kwargs)
    reason = "name the callable too, as in file.py:callable" if source.endswith(".py") else f"accepted are {ACCEPTED}"
    raise LoadError(f"{source!r}: no such file; {reason}")


def analyze_capture(capture: Capture) -> Report:
    """Analyze the graph of an exported program, as ``api.analyze`` does a model.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "linear.pt2"
        >>> torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),)), path)
        >>> sorted(analyze_capture(load(str(path)).capture).parameters)
        ['bias', 'weight']
    """
    report = infer(capture)
    about = {"method": capture.method, "mode": capture.mode, "notes": list(capture.notes)}
    return replace(report, capture={**report.capture, **about})


def _load_file(path: Path, *, trust: bool) -> Loaded:
    """Tell the kind of an existing file by its content and read it."""
    if path.is_dir():
        raise LoadError(f"{path}: is a directory; accepted are {ACCEPTED}")
    if path.suffix == ".py":
        raise LoadError(f"{path}: name the callable too, as in {path.name}:callable")
    if path.suffix in _REFUSED_SUFFIXES:
        raise LoadError(f"{path}: {_REFUSED_SUFFIXES[path.suffix]}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise LoadError(f"{path}: the file is empty")
    if zipfile.is_zipfile(path):
        return _load_archive(path, trust=trust)
    if start == b"PK\x03\x04":
        raise LoadError(f"{path}: the archive is truncated or damaged: copy or save the file again")
    if start[:1] != b"\x80":  # every pickle since protocol 2 starts so
        raise LoadError(f"{path}: neither a torch file nor a zip archive; accepted are {ACCEPTED}")
    return Loaded(str(path), model=read_pickled(path, trust=trust))


def _load_archive(path: Path, *, trust: bool) -> Loaded:
    """Tell an exported program, TorchScript and a pickle apart: all three are zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise LoadError(f"{path}: the archive is damaged ({error}): copy or save the file again") from error
    inner = {name.partition("/")[2] for name in members}
    if "archive_format" in inner or "serialized_exported_program.json" in members:
        return Loaded(str(path), capture=read_exported(path))
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise LoadError(f"{path}: TorchScript is not read: export the model with torch.export.save instead")
    if "data.pkl" in inner:
        return Loaded(str(path), model=read_pickled(path, trust=trust))
    shown = ", ".join(members[:3]) or "nothing"
    raise LoadError(f"{path}: a zip archive that torch did not write (it holds {shown}); accepted are {ACCEPTED}")
