"""SOURCE -> model, graph, report or tensors: the one place that decides how a file or a name is read.

Nothing that comes from a file is ever executed, with one exception: a pickled module, if ``trust`` says so. What
differs between kinds of files is told from their content, not from their names.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from autogroup.capture import Capture
from autogroup.errors import AutogroupError, CaptureError, InputError, LoadError
from autogroup.infer import infer
from autogroup.readers.spelling import ACCEPTED, check_spelling, exists, no_such_file
from autogroup.report import Report
from autogroup.tensors import TensorTable

if TYPE_CHECKING:
    from torch import nn

# Readers are imported when a file is of their kind: together they import more than most files need.

NO_GRAPH = (
    "a state dict has names and shapes but no graph: give the architecture with --arch torchvision:NAME, timm:NAME, "
    "hf:CONFIG, package.module:callable or file.py:callable"
)
_REFUSED_SUFFIXES = {
    ".onnx": "ONNX is not read: export the PyTorch model with torch.export.save instead",
    ".gguf": "GGUF is not read: name code that builds the architecture instead, as in file.py:callable",
    ".npz": "NumPy archives are not read: name code that builds the architecture instead, as in file.py:callable",
    ".h5": "HDF5 is not read: name code that builds the architecture instead, as in file.py:callable",
}
_MAX_JSON = 256 << 20


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A module, with the example inputs that came with it, if any."""

    model: nn.Module
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LoadedTensors:
    """Tensors without a graph: the sets of tensors in the file, the largest one first."""

    tables: tuple[TensorTable, ...]


Content: TypeAlias = LoadedModel | Capture | Report | LoadedTensors


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a SOURCE turned out to be; ``match loaded.content`` tells the kinds apart."""

    label: str
    """How to call it in a heading."""
    content: Content
    notes: tuple[str, ...] = ()
    """What the user should know about the file; belongs to the notes of the report."""
    warning: str = ""
    """What the user should see even if the report is not read: code from the file was run."""

    @property
    def model(self) -> nn.Module | None:
        """The module, ``None`` if the source is of another kind."""
        return self.content.model if isinstance(self.content, LoadedModel) else None

    @property
    def capture(self) -> Capture | None:
        """The graph of an exported program, ``None`` if the source is of another kind."""
        return self.content if isinstance(self.content, Capture) else None


def load(source: str, *, trust: bool = False, arch: str | None = None) -> Loaded:
    """Read a SOURCE.

    Args:
        source: ``package.module:callable``, ``file.py:callable``, ``torchvision:NAME``, ``timm:NAME``,
            ``hf:CONFIG``, or a file: exported program, TorchScript, report, tensors or a pickled module; a folder
            if it is a distributed checkpoint.
        trust: whether code stored in a pickle file may run. Nothing else needs it: naming your own code runs it.
        arch: the architecture of a file of tensors, spelled like the first five kinds of source.

    Returns:
        The content, and what is to be said about it.

    Raises:
        UntrustedError: reading the file would run code stored in it and ``trust`` is false.
        InputError: ``arch`` was given for a source that has an architecture of its own.
        LoadError: anything else; one line that says what was wrong and what is accepted.

    Example:
        >>> load("torch.nn:Identity").label
        'torch.nn:Identity'
    """
    check_spelling(source)
    loaded = _load_file(Path(source), trust) if exists(source) else _load_name(source)
    return loaded if arch is None else _with_architecture(loaded, arch)


def analyze_capture(capture: Capture, *, mode: str = "train") -> Report:
    """Analyze the graph of an exported program, as ``api.analyze`` does a model.

    Args:
        capture: the graph; one that was exported in evaluation mode is changed in place unless ``mode`` is "eval".
        mode: "train" for the training loss whatever the graph was exported in, or "eval".

    Raises:
        InputError: ``mode`` is "eval" for a graph of training.
        CaptureError: the graph contradicts itself.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "linear.pt2"
        >>> torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), path)
        >>> sorted(analyze_capture(load(str(path)).capture).parameters)
        ['bias', 'weight']
    """
    try:
        if capture.mode == "eval" and mode == "train":
            from autogroup.readers.exported_mode import as_in_training

            capture = as_in_training(capture)
        if capture.mode != mode:
            raise InputError(
                f"the program was exported in mode {capture.mode}, which --mode cannot change: export the model again "
                "in the other mode"
            )
        report = infer(capture)
    except AutogroupError:
        raise
    except Exception as error:  # the sizes and arguments in a file need not fit the operators
        detail = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise CaptureError(f"the graph contradicts itself ({detail}): export the model again") from error
    about = {"method": capture.method, "mode": capture.mode, "notes": list(capture.notes)}
    return replace(report, capture={**report.capture, **about})


def _load_name(source: str) -> Loaded:
    from autogroup.readers.architecture import read_model

    found = read_model(source)
    if found is None:
        raise no_such_file(source)
    return Loaded(source, LoadedModel(*found))


def _with_architecture(loaded: Loaded, arch: str) -> Loaded:
    """Give a file of tensors the graph that it lacks."""
    from autogroup.readers.architecture import fit, read_architecture

    if not isinstance(loaded.content, LoadedTensors):
        raise InputError(f"{loaded.label}: has an architecture of its own; --arch is for files of tensors, drop it")
    model, args, kwargs = read_architecture(arch)
    notes = (f"architecture: {arch}", *fit(model, loaded.content.tables, loaded.label, arch))
    return Loaded(loaded.label, LoadedModel(model, args, kwargs), notes, loaded.warning)


def _load_file(path: Path, trust: bool) -> Loaded:
    """Read an existing file; whatever goes wrong is one ``LoadError`` that names it."""
    try:
        return _load_folder(path) if path.is_dir() else _load_by_content(path, trust)
    except AutogroupError:
        raise
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # no reader foresees all that a damaged file can do to the libraries below it
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise LoadError(f"{path}: is damaged ({detail}): copy or save the file again") from error


def _load_folder(path: Path) -> Loaded:
    if not (path / ".metadata").is_file():
        hint = "; for a model in it name the file, or hf:FOLDER" if (path / "config.json").is_file() else ""
        raise LoadError(f"{path}: is a directory without the .metadata of a distributed checkpoint{hint}")
    from autogroup.readers.checkpoint import read_distributed

    return Loaded(str(path), LoadedTensors((read_distributed(path),)))


def _load_by_content(path: Path, trust: bool) -> Loaded:
    """Tell the kind of a file by its first bytes and read it."""
    if not path.is_file():
        raise LoadError(f"{path}: is no regular file; accepted are {ACCEPTED}")
    if path.suffix == ".py":
        raise LoadError(f"{path}: name the callable too, as in {path.name}:callable")
    if path.suffix in _REFUSED_SUFFIXES:
        raise LoadError(f"{path}: {_REFUSED_SUFFIXES[path.suffix]}")
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        raise LoadError(f"{path}: the file is empty")
    if path.suffix == ".safetensors" or start[5:9] == b"\0\0\0{":
        from autogroup.readers.safetensors import read_safetensors

        return Loaded(str(path), LoadedTensors((read_safetensors(path),)))
    if start.lstrip()[:1] == b"{":
        return _load_json(path)
    if zipfile.is_zipfile(path):
        return _load_archive(path, trust)
    if start[:4] == b"PK\x03\x04":
        raise LoadError(f"{path}: the archive is truncated or damaged: copy or save the file again")
    if start[:1] != b"\x80":  # every pickle since protocol 2 starts so
        raise LoadError(f"{path}: neither a torch file nor a zip archive; accepted are {ACCEPTED}")
    return _load_checkpoint(path, trust)


def _load_json(path: Path) -> Loaded:
    """Tell a saved report and the index of a checkpoint in shards apart."""
    from autogroup.readers.archive import parse_json

    if path.stat().st_size > _MAX_JSON:
        raise LoadError(f"{path}: has {path.stat().st_size:,} bytes, more than the {_MAX_JSON:,} that are read of JSON")
    data = cast("dict[str, Any]", parse_json(path.read_bytes(), str(path)))
    if "weight_map" in data:
        from autogroup.readers.shards import read_shards

        return Loaded(str(path), LoadedTensors((read_shards(path, data, _table_of),)))
    if "schema" in data and "parameters" in data:
        from autogroup.readers.saved_report import read_report

        return Loaded(str(path), read_report(path, data))
    hint = f"for its architecture write hf:{path}; " if "model_type" in data or "architectures" in data else ""
    raise LoadError(f"{path}: JSON that is neither a report nor an index of shards; {hint}accepted are {ACCEPTED}")


def _table_of(path: Path) -> TensorTable:
    """Read one shard; an index in its place could name more of them without end."""
    with path.open("rb") as file:
        if file.read(1) == b"{":
            raise LoadError(f"{path}: a shard holds JSON instead of tensors: download it again")
    found = _load_by_content(path, trust=False).content
    if not isinstance(found, LoadedTensors):
        raise LoadError(f"{path}: a shard holds something else than tensors: download it again")
    return found.tables[0]


def _load_archive(path: Path, trust: bool) -> Loaded:
    """Tell an exported program, TorchScript and a pickle apart: all three are zip archives."""
    from autogroup.readers.archive import Archive

    with Archive(path) as archive:
        members = archive.names
    inner = {name.partition("/")[2] for name in members}
    if "archive_format" in inner or "serialized_exported_program.json" in members:
        from autogroup.readers.exported import read_exported

        return Loaded(str(path), read_exported(path))
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        from autogroup.readers.script import read_script

        model, args, notes = read_script(path)
        return Loaded(str(path), LoadedModel(model, args), notes)
    if "data.pkl" in inner:
        return _load_checkpoint(path, trust)
    shown = ", ".join(members[:3]) or "nothing"
    raise LoadError(f"{path}: a zip archive that torch did not write (it holds {shown}); accepted are {ACCEPTED}")


def _load_checkpoint(path: Path, trust: bool) -> Loaded:
    """Read the tensors of a ``torch.save`` file, or with trust the module in it."""
    from autogroup.readers.checkpoint import read_checkpoint
    from autogroup.readers.pickled import refusal, unpickle

    content = read_checkpoint(path)
    if content.code and trust:
        model = unpickle(path)
        if model is not None:
            return Loaded(str(path), LoadedModel(model), warning=f"{path}: code stored in the file was run (--trust)")
    if content.tables:
        return Loaded(str(path), LoadedTensors(content.tables))
    raise refusal(path, content)
