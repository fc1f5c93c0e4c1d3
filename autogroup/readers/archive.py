"""Zip archives and JSON from anywhere: every read is bounded before it happens, nothing is unpacked to disk."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any

from autogroup.errors import LoadError

MAX_MEMBER = 256 << 20
"""Largest description (graph, pickle, index) that is read, in bytes; weights are not read at all."""
_MAX_INFLATED = 4 << 20
"""Bytes of compressed members that are read in all: torch compresses none, other tools may pack the descriptions."""
_MAX_DIRECTORY = 12 << 20
"""Largest list of members in bytes; in memory it takes some fifteen times as much."""
_MAX_PARSED = 80 << 20
"""Memory in bytes that a small document may take once parsed; a larger one may take ``_MAX_GROWTH`` times its size."""
_MAX_GROWTH = 10


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
        file = _Bounded(path)
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:  # see read
            file.close()
            raise LoadError(f"{path}: the archive is damaged ({error}): copy or save the file again") from error
        self._file = file
        self._room = _MAX_INFLATED
        file.most = MAX_MEMBER
        self.names = tuple(self._zip.namelist())

    def __enter__(self) -> Archive:
        """Keep the file open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

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
        packed = info.compress_type != zipfile.ZIP_STORED
        if packed:
            limit = min(limit, self._room)
        if info.file_size > limit:
            raise LoadError(f"{self.path}: {name} has {info.file_size:,} bytes, more than the {limit:,} that are read")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise LoadError(f"{self.path}: {name} is packed in a way that torch does not use: save the file again")
        if packed:
            self._room -= info.file_size
        try:
            with self._zip.open(info) as member:
                # With a size: without one all is unpacked before it is held against the size that the file claims.
                content = member.read(info.file_size)
                if len(content) < info.file_size:
                    raise EOFError("it ends early")
                member.read(1)  # reaches the end, where the checksum is tested
                return content
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


class _Bounded(io.FileIO):
    """A file that refuses to read more at a time than it should; the directory of an archive is read in one piece."""

    most = _MAX_DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        if size is not None and size > self.most:
            raise zipfile.BadZipFile(f"it wants {size:,} bytes at once")
        return super().read(size) or b""


def _parsed_size(text: bytes) -> int:
    """Estimate from above the memory that a JSON document takes once parsed, in bytes."""
    wide = 1 if text.isascii() else 4
    return text.count(b"{") * 200 + text.count(b"[") * 80 + text.count(b",") * 40 + len(text) * (1 + wide)


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
    if _parsed_size(text) > max(_MAX_PARSED, _MAX_GROWTH * len(text)):
        raise LoadError(f"{where} would take too much memory to be what it claims to be: save it again")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise LoadError(f"{where} is nested too deeply to be what it claims to be: save it again") from error
    except ValueError as error:
        raise LoadError(f"{where} is damaged, no JSON ({error}): save it again") from error
