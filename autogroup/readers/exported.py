"""Read a ``.pt2`` file (``torch.export.save``) into a ``Capture`` without unpickling or evaluating any of it."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from autogroup.capture import Capture
from autogroup.errors import LoadError
from autogroup.readers.exported_graph import GraphBuilder
from autogroup.readers.serialized import DTYPES, Json, UnsupportedError, number

SCHEMA_MAJOR = 8
_MAX_GRAPH_BYTES = 1 << 30
_MAX_CONSTANT_BYTES = 1 << 26
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    UnsupportedError,
)


def read_exported(path: Path) -> Capture:
    """Read an exported program.

    Args:
        path: a zip archive written by ``torch.export.save``.

    Returns:
        The graph as exported: sizes are those of the example inputs, ``mode`` is the one baked into the graph.

    Raises:
        LoadError: the archive is damaged, of another schema, or holds several or no programs.
    """
    archive = _open(path)
    version = str(archive.program.get("torch_version", "?"))
    major = archive.program.get("schema_version", {}).get("major")
    if major != SCHEMA_MAJOR:
        raise LoadError(
            f"{path}: written by torch {version} with export schema {major}, this version reads schema "
            f"{SCHEMA_MAJOR}: save it again with a current torch.export.save"
        )
    try:
        return GraphBuilder(archive.program["graph_module"], archive.weights, archive.constants).capture(version)
    except UnsupportedError as error:
        raise LoadError(f"{path}: the exported program cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LoadError(f"{path}: the exported program is damaged ({detail}): save it again") from error


@dataclass(frozen=True)
class _Archive:
    """The parts of an exported program that the analysis needs; weights and example inputs stay unread."""

    program: Json
    weights: Json
    """FQN -> where its bytes are."""
    constants: dict[str, Tensor]
    """Name -> value of the tensors that the model's code held."""


def _open(path: Path) -> _Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            programs = [n for n in names if re.search(r"(^|/)(models/[^/]+|serialized_exported_program)\.json$", n)]
            if len(programs) != 1:
                found = f"{len(programs)} exported programs" if programs else "no exported program"
                raise LoadError(f"{path}: holds {found}; one is expected, as torch.export.save writes it")
            weights = [n for n in names if n.endswith("_weights_config.json")]
            return _Archive(
                _parse(archive, programs[0]),
                _parse(archive, weights[0]).get("config", {}) if weights else {},
                _constants(archive),
            )
    except _DAMAGE as error:
        raise LoadError(f"{path}: the archive is damaged ({error}): save it again") from error


def _parse(archive: zipfile.ZipFile, name: str) -> Json:
    if archive.getinfo(name).file_size > _MAX_GRAPH_BYTES:
        raise LoadError(f"{archive.filename}: {name} is larger than {_MAX_GRAPH_BYTES >> 20} MiB: not a graph")
    parsed = json.loads(archive.read(name))
    if not isinstance(parsed, dict):
        raise LoadError(f"{archive.filename}: {name} is not an exported program")
    return cast("Json", parsed)


def _constants(archive: zipfile.ZipFile) -> dict[str, Tensor]:
    """Read the constants that are stored as plain bytes; pickled and very large ones are left out."""
    found: dict[str, Tensor] = {}
    for index in [n for n in archive.namelist() if n.endswith("_constants_config.json")]:
        folder = index.rpartition("/")[0]
        for name, entry in _parse(archive, index).get("config", {}).items():
            member = f"{folder}/{entry['path_name']}"
            if entry["use_pickle"] or not 0 < archive.getinfo(member).file_size <= _MAX_CONSTANT_BYTES:
                continue
            meta = entry["tensor_meta"]
            sizes, strides = ([int(number(n)) for n in meta[key]] for key in ("sizes", "strides"))
            flat = torch.frombuffer(bytearray(archive.read(member)), dtype=DTYPES[meta["dtype"]])
            found[name] = flat.as_strided(sizes, strides, int(number(meta["storage_offset"]))).clone()
    return found
