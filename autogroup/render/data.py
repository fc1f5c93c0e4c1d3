"""The report as data: JSON that reads back without loss, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from autogroup.report import ParameterReport, Report

COLUMNS = (
    "name",
    "shape",
    "elements",
    "verdict",
    "partition",
    "channel_dims",
    "channel_groups",
    "rows",
    "role",
    "norms",
    "partners",
    "aliases",
    "trainable",
    "eps",
    "reason",
)


def filtered(report: Report, only: Iterable[str] | None) -> Report:
    """Return the report with only the parameters of the given verdicts; all of it for ``None``."""
    if only is None:
        return report
    kept = {p.name: p for p in report.only(only)}
    return replace(
        report,
        parameters=kept,
        relations=tuple(r for r in report.relations if r.parameter in kept),
        symmetries=tuple(s for s in report.symmetries if not kept.keys().isdisjoint(s.parameters)),
    )


def to_json(report: Report, *, certificate: dict[str, Any] | None = None, source: str | None = None) -> str:
    """Return what ``Report.from_dict`` reads back; a certificate and a source are added under keys of their own.

    Example:
        >>> Report.from_dict(json.loads(to_json(Report({})))) == Report({})
        True
    """
    data = ({} if source is None else {"source": source}) | report.to_dict()
    if certificate is not None:
        data["certificate"] = certificate
    return json.dumps(data, indent=1)


def to_csv(report: Report, *, source: str | None = None, header: bool = True) -> str:
    """Return a header and one line per parameter; lists are joined with ``;``, absent values are empty.

    Args:
        report: what ``analyze`` returned.
        source: fills a first column, for the lines of several reports below each other.
        header: whether the names of the columns come first.

    Example:
        >>> print(to_csv(Report({})))
        name,shape,elements,verdict,partition,channel_dims,channel_groups,rows,role,norms,partners,aliases,trainable,eps,reason
    """
    return csv_text(COLUMNS, map(_row, report.parameters.values()), source=source, header=header)


def csv_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, source: str | None = None, header: bool = True
) -> str:
    """Return the columns of some rows as CSV without a last newline; what a row lacks is empty.

    Example:
        >>> csv_text(("a", "b"), [{"a": 1}], source="x").splitlines()
        ['source,a,b', 'x,1,']
    """
    text = io.StringIO()
    first = () if source is None else ("source",)
    writer = csv.DictWriter(text, (*first, *columns), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({"source": source, **row} if first else row for row in rows)
    return text.getvalue().removesuffix("\n")


def _row(parameter: ParameterReport) -> dict[str, Any]:
    dims, groups = parameter.channel_dims, parameter.channel_groups
    elements = 1
    for size in parameter.shape:
        elements *= size
    return {
        "name": parameter.name,
        "shape": "x".join(map(str, parameter.shape)),
        "elements": elements,
        "verdict": parameter.verdict,
        "partition": str(parameter.partition) if parameter.partition else "",
        # "()" is the whole tensor, which an empty cell would not tell from "not invariant".
        "channel_dims": "" if dims is None else f"({';'.join(map(str, dims))})",
        "channel_groups": "" if groups is None else groups,
        "rows": ";".join(f"{start}:{stop}" for start, stop in parameter.rows),
        "role": ";".join(parameter.roles),
        "norms": ";".join(parameter.norms),
        "partners": ";".join(parameter.partners),
        "aliases": ";".join(parameter.aliases),
        "trainable": str(parameter.trainable).lower(),
        "eps": str(parameter.eps).lower(),
        "reason": parameter.reason,
    }
