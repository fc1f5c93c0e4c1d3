"""Read a ``.pt2`` file (``torch.export.save``) into a ``Capture`` without unpickling or evaluating any of it."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from autogroup.capture import Capture
from autogroup.errors import LoadError
from autogroup.readers.archive import Archive
from autogroup.readers.exported_graph import GraphBuilder
from autogroup.readers.serialized import DTYPES, Json, UnsupportedError, number

SCHEMA_MAJOR = 8
_MAX_CONSTANTS = 64 << 20
"""Bytes of constants that are read in all; further ones count as unknown values."""
_PROGRAM = re.compile(r"(^|/)(models/[^/]+|serialized_exported_program)\.json$")


def read_exported(path: Path) -> Capture:
    """Read an exported program.

    Args:
        path: a zip archive written by ``torch.export.save``. Its weights may be missing: they stay unread.

    Returns:
        The graph as exported: sizes are those of the example inputs, ``mode`` is the one baked into the graph.

    Raises:
        LoadError: the archive is damaged, of another schema, or holds several or no programs.
    """
    stored = _open(path)
    version = str(stored.program.get("torch_version", "?"))
    schema = stored.program.get("schema_version")
    major = schema.get("major") if isinstance(schema, dict) else None
    if major != SCHEMA_MAJOR:
        raise LoadError(
            f"{path}: written by torch {version} with export schema {major}, this version reads schema "
            f"{SCHEMA_MAJOR}: save it again with a current torch.export.save"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of dtypes that are new
            return GraphBuilder(stored.program["graph_module"], stored.weights, stored.constants).capture(version)
    except UnsupportedError as error:
        raise LoadError(f"{path}: the exported program cannot be read: {error}") from error
    except Exception as error:  # a damaged graph fails wherever its first wrong part is used, in torch too
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LoadError(f"{path}: the exported program is damaged ({detail}): save it again") from error


@dataclass(frozen=True)
class _Stored:
    """The parts of an exported program that the analysis needs; weights and example inputs stay unread."""

    program: Json
    weights: Json
    """FQN -> where its bytes are."""
    constants: dict[str, Tensor]
    """Name -> value of the tensors that the model's code held."""


def _open(path: Path) -> _Stored:
    with Archive(path) as archive:
        programs = [name for name in archive.names if _PROGRAM.search(name)]
        if len(programs) != 1:
            found = f"{len(programs)} exported programs" if programs else "no exported program"
            raise LoadError(f"{path}: holds {found}; one is expected, as torch.export.save writes it")
        weights = next((name for name in archive.names if name.endswith("_weights_config.json")), None)
        return _Stored(
            _object(archive, programs[0]),
            _object(archive, weights).get("config", {}) if weights else {},
            _constants(archive),
        )


def _object(archive: Archive, name: str) -> Json:
    parsed = archive.json(name)
    if not isinstance(parsed, dict):
        raise LoadError(f"{archive.path}: {name} is not an exported program")
    return cast("Json", parsed)


def _constants(archive: Archive) -> dict[str, Tensor]:
    """Read the constants that are stored as plain bytes, within bounds; pickled ones are left out."""
    found: dict[str, Tensor] = {}
    room = _MAX_CONSTANTS
    for index in [name for name in archive.names if name.endswith("_constants_config.json")]:
        try:
            for name, entry in _object(archive, index).get("config", {}).items():
                member = f"{index.rpartition('/')[0]}/{entry['path_name']}"
                meta = entry["tensor_meta"]
                if entry["use_pickle"] or member not in archive.names or not meta:
                    continue
                dtype = DTYPES[meta["dtype"]]
                sizes, strides = ([int(number(n)) for n in meta[key]] for key in ("sizes", "strides"))
                size = max(math.prod(sizes) * dtype.itemsize, archive.size(member))
                if archive.size(member) > 0 and size <= room:
                    room -= size
                    flat = torch.frombuffer(bytearray(archive.read(member, limit=size)), dtype=dtype)
                    found[name] = flat.as_strided(sizes, strides, int(number(meta["storage_offset"]))).clone()
        except LoadError:
            raise
        except Exception as error:  # see read_exported
            raise LoadError(f"{archive.path}: {index} is damaged ({error}): save it again") from error
    return found
