"""Read a report that ``report.save`` wrote, e.g. from a running process; nothing is analyzed again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from autogroup.errors import LoadError
from autogroup.report import ROLES, VERDICTS, Report

_MAX_LABELS, _MAX_LABELS_EACH, _LABELS_PER_BYTE = 1 << 22, 1 << 20, 8
"""Blocks of all partitions and symmetries, and of one: a few numbers in the file may stand for any number of blocks."""
_MAX_AXES = 8
"""The search for the axes that name the blocks tries all sets of axes."""
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
        counts = list(_labels(data))
        most = _MAX_LABELS + _LABELS_PER_BYTE * path.stat().st_size
        if sum(counts) > most or max(counts, default=0) > _MAX_LABELS_EACH:
            raise LoadError(f"{path}: describes {sum(counts):,} blocks, more than the {most:,} that are read of it")
        report = Report.from_dict(data)
        if not _conforms(report, Report) or not all(map(_conforms_about, report.capture.items())):
            raise ValueError("a value is of the wrong kind")
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
    if any(len(p["shape"]) > _MAX_AXES for p in data["parameters"]):
        raise ValueError("a parameter has too many axes")
    partitions = [p["partition"] for p in data["parameters"] if p["partition"]]
    members = [member for symmetry in data["symmetries"] for member in symmetry["members"]]
    if not all(_POWER.fullmatch(member["power"]) for member in members):
        raise ValueError("a power is no fraction")
    for part in (*partitions, *members):
        if any(len(part.get(key, ())) > _MAX_AXES for key in ("shape", "label_shape", "channel_dims")):
            raise ValueError("a parameter has too many axes")
        if "runs" in part:
            yield sum(abs(run[-1]) for run in part["runs"]) + math.prod(part["label_shape"])
        else:
            yield math.prod(part["shape"][d] for d in part["channel_dims"])


def _conforms_about(entry: tuple[object, object]) -> bool:
    """Whether an entry of what is said of the capture has the type that it is printed as."""
    key, value = entry
    return _conforms(value, list[str] if key == "notes" else str)


def _conforms(value: Any, hint: Any) -> bool:
    """Whether a value has the annotated type, with all that is in it; JSON may have any type anywhere."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str)  # which one is tested elsewhere
    if origin in (Union, UnionType):
        return any(_conforms(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        items = cast("tuple[Any, ...]", value)
        kinds = inner[:1] * len(items) if inner[-1] is Ellipsis else inner
        return len(items) == len(kinds) and all(map(_conforms, items, kinds))
    if origin is list:
        return isinstance(value, list) and all(_conforms(item, inner[0]) for item in cast("list[Any]", value))
    if origin is Mapping:
        pairs = cast("Mapping[Any, Any]", value).items() if isinstance(value, dict) else ()
        return isinstance(value, dict) and all(_conforms(k, inner[0]) and _conforms(v, inner[1]) for k, v in pairs)
    if hint is Any:
        return True
    if hint is int:
        return type(value) is int and abs(value) < 1 << 63
    if not isinstance(value, hint):
        return False
    return not is_dataclass(hint) or all(_conforms(getattr(value, k), h) for k, h in _fields(hint).items())


@cache
def _fields(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
