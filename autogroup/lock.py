"""Lock file: the plan of every parameter as text, so that a change that regroups one shows up in review and in CI.

The file is JSON with one line per parameter, in model order, and holds no times, versions or paths: the same plan
gives the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from autogroup.errors import LoadError
from autogroup.report import ROLES, VERDICTS, ParameterReport, Report

SCHEMA = 1
_KEY = "autogroup_lock"


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides the groups of one parameter, as ``ParameterReport`` has it."""

    shape: tuple[int, ...]
    role: str
    verdict: str
    channel_dims: tuple[int, ...] | None
    channel_groups: int | None
    trainable: bool

    @classmethod
    def of(cls, p: ParameterReport) -> Plan:
        """Take over what matters of a parameter."""
        return cls(p.shape, p.role, p.verdict, p.channel_dims, p.channel_groups, p.trainable)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Check and rebuild one line of a lock file; raises ``ValueError`` if it is no such line."""
        if set(data) != set(cls.__slots__):
            raise ValueError(f"its keys are {', '.join(data)}; they must be {', '.join(cls.__slots__)}")
        if data["role"] not in ROLES or data["verdict"] not in VERDICTS:
            raise ValueError(f"unknown role {data['role']!r} or verdict {data['verdict']!r}")
        dims = data["channel_dims"]
        values: dict[str, Any] = {**data, "shape": tuple(data["shape"])}
        values["channel_dims"] = None if dims is None else tuple(dims)
        return cls(**values)

    def __str__(self) -> str:
        """Print ``64x3x7x7 conv invariant channel_dims=(0,)``."""
        parts = ["x".join(map(str, self.shape)) or "scalar", self.role, self.verdict]
        if self.channel_dims is not None:
            parts.append(f"channel_dims={self.channel_dims}")
        if self.channel_groups is not None:
            parts.append(f"channel_groups={self.channel_groups}")
        return " ".join(parts if self.trainable else [*parts, "frozen"])


@dataclass(frozen=True, slots=True)
class Change:
    """How the plan of one parameter differs from the lock file.

    Args:
        name: FQN in the lock file, or in the model if it is new.
        was: the locked plan; ``None`` if the parameter is new.
        now: the plan of the model; ``None`` if the parameter is gone.
        renamed: its FQN in the model, if only the name has changed.
    """

    name: str
    was: Plan | None
    now: Plan | None
    renamed: str | None = None


@dataclass(frozen=True, slots=True)
class LockCheck:
    """What came of holding a model against a lock file."""

    file: str
    status: Literal["written", "updated", "matches", "differs"]
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Lock:
    """FQN → plan, in model order.

    Example:
        >>> gain = ParameterReport("1.weight", (8,), "variant", "", role="norm_scale")
        >>> lock = Lock.of(Report({"1.weight": gain}))
        >>> print(lock.text())
        {
         "autogroup_lock": 1,
         "parameters": {
          "1.weight": {"shape": [8], "role": "norm_scale", "verdict": "variant", "channel_dims": null, ...}
         }
        }
        >>> Lock.parse(lock.text()) == lock
        True
    """

    plans: Mapping[str, Plan]

    @classmethod
    def of(cls, report: Report) -> Lock:
        """Take over the plan of a report."""
        return cls({name: Plan.of(p) for name, p in report.parameters.items()})

    def text(self) -> str:
        """Return the content of the file."""
        lines = [f"  {json.dumps(name)}: {json.dumps(asdict(plan))}" for name, plan in self.plans.items()]
        body = ",\n".join(lines)
        return f'{{\n "{_KEY}": {SCHEMA},\n "parameters": {{\n{body}\n }}\n}}\n'

    @classmethod
    def parse(cls, text: str) -> Lock:
        """Rebuild what ``text`` wrote.

        Raises:
            LoadError: it is something else; says what, and what to do.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise LoadError(f"is not JSON ({error}), so no lock file; restore it or delete it") from error
        schema = data.get(_KEY) if isinstance(data, dict) else None
        if schema is None:
            raise LoadError("is no lock file of autogroup; name another file")
        if schema != SCHEMA:
            raise LoadError(f"is a lock file of schema {schema!r}, not {SCHEMA}; delete it to write it anew")
        plans: dict[str, Plan] = {}
        name = "parameters"
        try:
            for name, plan in data["parameters"].items():
                plans[name] = Plan.from_dict(plan)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LoadError(f"is a damaged lock file at {name!r} ({error}); restore it or delete it") from error
        return cls(plans)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file.

        Raises:
            LoadError: it cannot be read, or is something else.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LoadError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise LoadError(f"{path}: is not text, so no lock file; name another file") from error
        except LoadError as error:
            raise LoadError(f"{path}: {error}") from error

    def write(self, path: Path, *, update: bool = False) -> None:
        """Write the file; one that exists is only replaced if ``update`` says so.

        Raises:
            LoadError: it exists and must not be replaced, or cannot be written.
        """
        try:
            with path.open("w" if update else "x", encoding="utf-8", newline="\n") as file:
                file.write(self.text())
        except OSError as error:
            raise LoadError(f"{path}: cannot be written: {error.strerror}") from error


def changes(locked: Lock, current: Lock) -> tuple[Change, ...]:
    """Compare two plans by parameter; their order does not matter.

    Args:
        locked: what was agreed on.
        current: what the model gives now.

    Returns:
        What was changed, renamed or removed, in the order of ``locked``, then what is new. A parameter that is gone
        counts as renamed if a new one has the same plan; several of them are paired in model order.

    Example:
        >>> plan = Plan((8,), "norm_scale", "variant", None, None, True)
        >>> changes(Lock({"norm.gain": plan}), Lock({"norm.weight": plan}))[0].renamed
        'norm.weight'
    """
    new = {name: plan for name, plan in current.plans.items() if name not in locked.plans}
    found: list[Change] = []
    for name, was in locked.plans.items():
        now = current.plans.get(name)
        if now is None:
            renamed = next((other for other, plan in new.items() if plan == was), None)
            if renamed is not None:
                now = new.pop(renamed)
            found.append(Change(name, was, now, renamed))
        elif now != was:
            found.append(Change(name, was, now))
    return (*found, *(Change(name, None, now) for name, now in new.items()))
