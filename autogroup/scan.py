"""What a scan keeps of each of many models: one row, and a file of rows from which an interrupted scan goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autogroup.errors import InputError

if TYPE_CHECKING:
    from autogroup.certificate import Certificate
    from autogroup.report import ParameterReport, Report


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one model."""

    model: str
    parameters: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Verdict -> number of parameters, without zeros."""
    elements: int = 0
    covered: int = 0
    """Elements whose scale does not matter: those of invariant, joint and dead parameters, and of partial rows."""
    claims: Mapping[str, int] | None = None
    """What the certificate says -> number of claims; ``None`` if it was not asked."""
    seconds: float = 0.0
    error: str = ""
    """Why there is no report, ``""`` if there is one."""
    exit_code: int = 0
    """What ``inspect`` would have returned."""

    @classmethod
    def of(cls, model: str, report: Report, seconds: float, certificate: Certificate | None = None) -> Row:
        """Sum up a report.

        Example:
            >>> from autogroup.report import ParameterReport, Report
            >>> dead = ParameterReport("b", (3,), "dead", "")
            >>> row = Row.of("net", Report({"b": dead, "w": ParameterReport("w", (3, 3), "variant", "")}), 0.1)
            >>> row.verdicts, row.covered, row.elements
            ({'dead': 1, 'variant': 1}, 3, 12)
        """
        parameters = report.parameters.values()
        return cls(
            model,
            parameters=len(parameters),
            verdicts=report.counts(),
            elements=sum(math.prod(p.shape) for p in parameters),
            covered=sum(map(_covered, parameters)),
            claims=certificate and certificate.counts(),
            seconds=round(seconds, 3),
            exit_code=int(certificate is not None and not certificate.ok),
        )


def _covered(parameter: ParameterReport) -> int:
    """Elements of a parameter whose scale does not matter."""
    if parameter.verdict == "partial":
        return sum(stop - start for start, stop in parameter.rows) * math.prod(parameter.shape[1:])
    return math.prod(parameter.shape) if parameter.verdict in ("invariant", "joint", "dead") else 0


_START = b'{"model": '
"""What every line of a file of rows begins with."""


class RowFile:
    """A file with one row per line, each written as soon as its model is done.

    Args:
        path: the file; made if there is none yet.
        options: what the rows depend on besides the model; stands in every line.

    Raises:
        InputError: the file is no such file, or its rows were made with other options.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = dict(options)
        self.rows: dict[str, Row] = {}
        """Model -> the last row that the file has of it."""
        try:
            with path.open("a+b") as file:  # also tells whether it can be written to, before any work is done
                file.seek(0)
                text = file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}; name another file") from error
        self._whole = text.rfind(b"\n") + 1  # what follows was cut off while it was written
        for number, line in enumerate(text[: self._whole].splitlines(), 1):
            row = self._parse(line, number)
            self.rows[row.model] = row
        if not _START.startswith(text[self._whole :][: len(_START)]):
            raise InputError(f"{path}: is no file of a scan: name another one")

    def _parse(self, line: bytes, number: int) -> Row:
        try:
            data = json.loads(line)
            options = data.pop("options")
            row = Row(**data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{self.path}:{number}: is no row of a scan: name another file") from error
        if options != self.options:
            differ = [key for key, value in self.options.items() if options.get(key) != value]
            raise InputError(
                f"{self.path}: its rows were made with another {' and '.join(differ) or 'version'}: repeat the options "
                "of that scan, or name another file"
            )
        return row

    def append(self, row: Row) -> None:
        """Add a row; what is in the file stays as it is, but for a line that was cut off."""
        line = json.dumps(asdict(row) | {"options": self.options}) + "\n"
        with self.path.open("r+b") as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            self._whole += file.write(line.encode())
        self.rows[row.model] = row
