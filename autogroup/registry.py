"""The table of operator rules: ATen overload → rule, with the samples that prove the rule.

A rule is a function ``(ctx, *args, **kwargs) -> Value`` (or a tuple of them, as the operator returns). It
gets the operator's own arguments, with every tensor replaced by its abstract ``Value``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch._ops import OpOverload

from autogroup.capture.schema import schema_arguments

Rule = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class T:
    """A tensor argument of a sample.

    Args:
        shape: its shape.
        kind: ``"real"`` any sign, ``"positive"``, ``"index"`` integers below ``high``, ``"bool"``, ``"complex"``.
        high: bound of the indices.
    """

    shape: tuple[int, ...]
    kind: str = "real"
    high: int = 0


Sample = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered rule.

    Args:
        rule: the function.
        family: name of the file in ``rules`` that defines it.
        samples: argument tuples on which the rule is checked against numbers.
        always: run even if no argument scales with a parameter (operators that create exact zeros).
    """

    rule: Rule
    family: str
    samples: Sequence[Sample]
    always: bool


_TABLE: dict[str, Entry] = {}


def rule(*ops: OpOverload, samples: Sequence[Sample] = (), always: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for ATen overloads; a second rule for the same overload raises ``ValueError``."""

    def register(fn: Rule) -> Rule:
        for op in ops:
            name = str(op)
            if name in _TABLE:
                raise ValueError(f"{name} has a rule already, in rules/{_TABLE[name].family}.py")
            _TABLE[name] = Entry(fn, fn.__module__.rpartition(".")[2], samples, always)
        lookup.cache_clear()
        return fn

    return register


@cache
def lookup(op: OpOverload) -> Entry | None:
    """Return the rule of an overload; in-place and ``out=`` overloads have the rule of their functional twin."""
    name = str(op)
    entry = _TABLE.get(name)
    if entry is None:
        packet, _, overload = name.rpartition(".")
        if packet.endswith("_") and not packet.endswith("__"):
            entry = _TABLE.get(f"{packet[:-1]}.{overload}")
        elif overload.endswith("out"):
            twin = _functional_twin(op)
            entry = _TABLE.get(str(twin)) if twin else None
    return entry


def _functional_twin(op: OpOverload) -> OpOverload | None:
    """The overload that takes the same arguments but ``out``."""

    def inputs(overload: OpOverload) -> list[tuple[str, str]]:
        return [(a.name, str(a.type)) for a in schema_arguments(overload) if not a.is_out]

    packet = op.overloadpacket
    twins = (getattr(packet, name) for name in packet.overloads() if not name.endswith("out"))
    return next((twin for twin in twins if inputs(twin) == inputs(op)), None)


def coverage() -> Iterator[tuple[str, Entry]]:
    """Yield every registered overload with its entry, sorted by name."""
    yield from sorted(_TABLE.items())
