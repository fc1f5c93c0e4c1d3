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
    """A number in ``[low, high]``; ``above`` and ``below`` exclude the ends. A 1-element tensor counts.

    It must be finite, unless ``infinite`` is set.
    """

    low: float = 0.0
    high: float = math.inf
    below: bool = False
    above: bool = False
    infinite: bool = False

    def accepts(self, value: object) -> bool:
        if not _is_number(value):
            return False
        number = float(cast("float", value))
        in_range = self.low < number < self.high
        at_an_end = (number == self.low and not self.above) or (number == self.high and not self.below)
        return (math.isfinite(number) or self.infinite) and (in_range or at_an_end)

    def text(self, name: str) -> str:
        if self.high == math.inf:
            kind = "number" if self.infinite else "finite number"
            return f"{name} must be a {kind} {'>' if self.above else '>='} {self.low:g}"
        low, high = "<" if self.above else "<=", "<" if self.below else "<="
        return f"{name} must be a number with {self.low:g} {low} {name} {high} {self.high:g}"


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
class Each:
    """A sequence of numbers, each within the bound at its place."""

    items: tuple[Number, ...]

    def accepts(self, value: object) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        given = cast("Sequence[object]", value)
        return len(given) == len(self.items) and all(item.accepts(x) for item, x in zip(self.items, given, strict=True))

    def text(self, name: str) -> str:
        bounds = "; ".join(item.text(f"{name}[{i}]") for i, item in enumerate(self.items))
        return f"{name} must be {len(self.items)} numbers: {bounds}"


@dataclass(frozen=True)
class OrNone:
    """``None``, or what another check accepts."""

    check: "Number | Integer"

    def accepts(self, value: object) -> bool:
        return value is None or self.check.accepts(value)

    def text(self, name: str) -> str:
        return f"{self.check.text(name)}, or None"


@dataclass(frozen=True)
class Flag:
    """``True`` or ``False``."""

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    def text(self, name: str) -> str:
        return f"{name} must be True or False"


@dataclass(frozen=True)
class Integer:
    """A whole number ``>= low``."""

    low: int = 0

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.low

    def text(self, name: str) -> str:
        return f"{name} must be an int >= {self.low}"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in self.words

    def text(self, name: str) -> str:
        return f"{name} must be one of {self.words}"


Check = Number | Numbers | Each | OrNone | Flag | Integer | Choice

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
    "weight_decouple": Flag(),
    "fixed_decay": Flag(),
    "amsgrad": Flag(),
    "adam_debias": Flag(),
    "nesterov": Flag(),
    "use_gc": Flag(),
    "gc_conv_only": Flag(),
    "rectify": Flag(),
    "degenerated_to_sgd": Flag(),
    "n_sma_threshold": Number(low=4.0, above=True),
}
"""Bounds by option name. An optimizer that means something else by a name overrides it in its own ``checks``."""


def label(groups: Sequence[Mapping[str, Any]], group: Mapping[str, Any], i: int) -> str:
    """Name parameter ``i`` of a group in a message: by its own name if known, else by where it stands."""
    if group.get("param_names"):
        return f"parameter '{group['param_names'][i]}'"
    k = next(k for k, other in enumerate(groups) if other is group)
    return f"parameter {i} of group {k} with shape {tuple(group['params'][i].shape)}"


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
