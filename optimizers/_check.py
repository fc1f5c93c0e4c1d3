"""Validation of hyper-parameters: one table of bounds, one message format."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and value.dtype != torch.bool
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Number:
    """A finite number in ``[low, high]``, or in ``[low, high)`` when ``below`` is set. A 1-element tensor counts."""

    low: float = 0.0
    high: float = math.inf
    below: bool = False

    def accepts(self, value: object) -> bool:
        if not _is_number(value):
            return False
        number = float(cast("float", value))
        in_range = self.low <= number < self.high or (number == self.high and not self.below)
        return math.isfinite(number) and in_range

    def text(self, name: str) -> str:
        if self.high == math.inf:
            return f"{name} must be a finite number >= {self.low:g}"
        return f"{name} must be a number with {self.low:g} <= {name} {'<' if self.below else '<='} {self.high:g}"


@dataclass(frozen=True)
class Numbers:
    """A sequence of exactly ``length`` numbers, each within ``each``."""

    length: int
    each: Number

    def accepts(self, value: object) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        items = cast("Sequence[object]", value)
        return len(items) == self.length and all(self.each.accepts(item) for item in items)

    def text(self, name: str) -> str:
        return f"{name} must be {self.length} numbers, for each of them: {self.each.text('x')}"


@dataclass(frozen=True)
class Flag:
    """``True`` or ``False``."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    def text(self, name: str) -> str:
        return f"{name} must be True or False"


Check = Number | Numbers | Flag

CHECKS: Mapping[str, Check] = {
    "lr": Number(),
    "eps": Number(),
    "weight_decay": Number(),
    "momentum": Number(),
    "dampening": Number(high=1.0),
    "betas": Numbers(2, Number(high=1.0, below=True)),
    "maximize": Flag(),
    "channel_wise": Flag(),
    "rt": Flag(),
}
"""Bounds by option name. An optimizer that means something else by a name overrides it in its own ``checks``."""


def check_options(owner: str, group: Mapping[str, Any], names: Sequence[str], checks: Mapping[str, Check]) -> None:
    """Check the options ``names`` of one group.

    Raises:
        ValueError: naming the optimizer, the option, its bound and its value.
    """
    for name in names:
        check = checks.get(name)
        if check is not None and not check.accepts(group[name]):
            raise ValueError(f"{owner}: {check.text(name)}, got {name}={group[name]!r}")


def check_partition_keys(dims: object, count: object) -> tuple[tuple[int, ...] | None, int | None]:
    """Return ``channel_dims`` as a tuple and ``channel_groups``, whatever sequence the group holds.

    Raises:
        ValueError: one of them has the wrong type.
    """
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise ValueError(f"channel_groups must be None or an int >= 1, got channel_groups={count!r}")
    if dims is None:
        return None, count
    items = list(cast("Sequence[object]", dims)) if isinstance(dims, Sequence) and not isinstance(dims, str) else [""]
    if not all(isinstance(dim, int) and not isinstance(dim, bool) for dim in items):
        raise ValueError(f"channel_dims must be None or a sequence of ints, got channel_dims={dims!r}")
    return cast("tuple[int, ...]", tuple(items)), count
