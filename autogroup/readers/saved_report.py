"""Read a report that ``report.save`` wrote, e.g. from a running process; nothing is analyzed again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autogroup.errors import LoadError
from autogroup.report import ROLES, VERDICTS, Report

_MAX_LABELS = 1 << 25
"""Blocks of all partitions and symmetries together: a few numbers in the file may stand for any number of blocks."""
_POWER = re.compile(r"-?\d{1,6}(/\d{1,6})?")


def read_report(path: Path, data: Mapping[str, Any]) -> Report:
    """Rebuild a report.

    Args:
        path: the file, for messages.
        data: its content.

    Raises:
        LoadError: it is of another schema, or damaged.
    """
    try:
        labels = sum(_labels(data))
        if labels > _MAX_LABELS:
            raise LoadError(f"{path}: describes {labels:,} blocks, more than the {_MAX_LABELS:,} that are read")
        report = Report.from_dict(data)
        if any(p.verdict not in VERDICTS or not set(p.roles) <= set(ROLES) for p in report.parameters.values()):
            raise LoadError(f"{path}: has a verdict or a role that this version does not know: analyze the model again")
    except LoadError as error:
        text = str(error)
        raise LoadError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    except Exception as error:  # whatever the missing or wrong part of a damaged report leads to
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise LoadError(f"{path}: is a damaged report of autogroup ({detail}): save it again") from error
    return report


def _labels(data: Mapping[str, Any]) -> Iterable[int]:
    """Numbers of blocks that the parts of the report will have, before any of them is made."""
    partitions = [p["partition"] for p in data["parameters"] if p["partition"]]
    members = [member for symmetry in data["symmetries"] for member in symmetry["members"]]
    if not all(_POWER.fullmatch(member["power"]) for member in members):
        raise ValueError("a power is no fraction")
    for part in (*partitions, *members):
        if "runs" in part:
            yield sum(abs(run[-1]) for run in part["runs"]) + math.prod(part["label_shape"])
        else:
            yield math.prod(part["shape"][d] for d in part["channel_dims"])
