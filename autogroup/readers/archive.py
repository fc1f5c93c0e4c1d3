"""Zip archives and JSON from anywhere: every read is bounded before it happens, nothing is unpacked to disk."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

from autogroup.errors import LoadError

MAX_MEMBER = 256 << 20
"""Largest description (graph, pickle, index) that is read, in bytes; weights are not read at all."""
_MAX_INFLATED = 8 << 20
"""Largest compressed member: torch stores members uncompressed, so only small ones may be packed by other tools."""


class Archive:
    """A zip archive whose members are read whole, by name, and only up to a size that the caller gives.

    Args:
        path: the file.

    Raises:
        LoadError: the archive is damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.zip"
        >>> with zipfile.ZipFile(path, "w") as made:
        ...     made.writestr("model/version", "3")
        >>> with Archive(path) as archive:
        ...     archive.names, archive.read("model/version", limit=8)
        (('model/version',), b'3')
    """

    def __init__(self, path: Path) -> None:
        """Read the directory of the archive."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise LoadError(f"{path}: the archive is damaged ({error}): copy or save the file again") from error
        self.names = tuple(self._zip.namelist())

    def __enter__(self) -> Archive:
        """Keep the file open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close the file."""
        self._zip.close()

    def find(self, end: str) -> str | None:
        """Return the member ``FOLDER/end``, where torch puts everything into one folder; ``None`` without one."""
        return next((name for name in self.names if name.partition("/")[2] == end), None)

    def size(self, name: str) -> int:
        """Return the uncompressed size of a member in bytes; raises ``LoadError`` if there is none of that name."""
        return self._info(name).file_size

    def read(self, name: str, *, limit: int = MAX_MEMBER) -> bytes:
        """Return the content of a member.

        Args:
            name: the member.
            limit: largest size that is read, in bytes.

        Raises:
            LoadError: there is no such member, it is too large, or it is damaged.
        """
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED:
            limit = min(limit, _MAX_INFLATED)
        if info.file_size > limit:
            raise LoadError(f"{self.path}: {name} has {info.file_size:,} bytes, more than the {limit:,} that are read")
        try:
            return self._zip.read(info)
        except Exception as error:  # a damaged archive makes zipfile and zlib raise a dozen kinds of error
            raise LoadError(f"{self.path}: {name} is damaged ({error}): copy or save the file again") from error

    def json(self, name: str) -> Any:
        """Return a member parsed as JSON."""
        return parse_json(self.read(name), f"{self.path}: {name}")

    def _info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(name)
        except KeyError as error:
            raise LoadError(f"{self.path}: the archive has no member {name}: save the file again") from error


def parse_json(text: bytes, where: str) -> Any:
    """Parse JSON.

    Args:
        text: the document.
        where: how to call it in an error.

    Raises:
        LoadError: it is no JSON, or nested deeper than any file of this kind.

    Example:
        >>> parse_json(b"[" * 100000, "x.json")
        Traceback (most recent call last):
        autogroup.errors.LoadError: x.json is nested too deeply to be what it claims to be: save it again
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise LoadError(f"{where} is nested too deeply to be what it claims to be: save it again") from error
    except ValueError as error:
        raise LoadError(f"{where} is damaged, no JSON ({error}): save it again") from error
