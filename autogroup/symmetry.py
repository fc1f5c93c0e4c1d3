"""Symmetry: sets of parameters that can be rescaled together without changing the training loss.

A symmetry says: for every α > 0, multiplying each member by ``α^power`` leaves the loss as it is. Symmetries that
differ only in which channel, head or group they move are one object with ``count`` copies: copy k moves
the entries that every member labels k, and the copies are independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from autogroup.partition import OUTSIDE, Partition, compress

Kind = Literal["scale", "joint scale", "rescale"]
"""``scale``: one parameter alone. ``joint scale``: several under one factor. ``rescale``: with different powers."""


@dataclass(frozen=True, eq=False)
class Member:
    """The part of one parameter that a symmetry moves.

    Args:
        parameter: FQN.
        power: the entries are multiplied by ``α^power``.
        shape: shape of the parameter.
        labels: int64 tensor with ``len(shape)`` axes, each of the parameter's size or of size 1: the copy of the
            symmetry that an entry belongs to, ``OUTSIDE`` where it is not moved.
    """

    parameter: str
    power: Fraction
    shape: tuple[int, ...]
    labels: Tensor

    def __post_init__(self) -> None:
        """Cut axes along which the labels are constant to size 1."""
        object.__setattr__(self, "labels", compress(self.labels))

    @cached_property
    def whole(self) -> bool:
        """Whether every entry of the parameter is moved by some copy."""
        return not bool((self.labels == OUTSIDE).any())

    @property
    def partition(self) -> Partition:
        """The blocks that single copies move."""
        return Partition(self.shape, self.labels)

    def __str__(self) -> str:
        """Print the name with the rows that are moved, and ``i`` where each index is moved by a copy of its own.

        Example:
            >>> print(Member("fc.weight", Fraction(1), (4, 3), torch.arange(3).view(1, 3)))
            fc.weight[:, i]
            >>> print(Member("qkv.weight", Fraction(1), (6, 3), torch.tensor([0, 0, 1, 1, -1, -1]).view(6, 1)))
            qkv.weight[0:4]
        """
        varying = [d for d, n in enumerate(self.labels.shape) if n > 1]
        if not varying:
            return self.parameter
        inside = self.labels != OUTSIDE
        marks = [_along(inside, d) if d in varying else ":" for d in range(max(varying) + 1)]
        return f"{self.parameter}[{', '.join(marks)}]"

    def __eq__(self, other: object) -> bool:
        """Members are equal when they move the same entries in the same copies by the same power."""
        return isinstance(other, Member) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        """Equal members hash alike."""
        return hash((self.parameter, self.power, self.shape))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; labels are coded as runs ``[start, step, count]``."""
        return {
            "parameter": self.parameter,
            "power": str(self.power),
            "shape": list(self.shape),
            "label_shape": list(self.labels.shape),
            "runs": _to_runs(self.labels.reshape(-1)),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Member:
        """Rebuild what ``to_dict`` wrote."""
        labels = _from_runs(data["runs"]).view(data["label_shape"])
        return cls(data["parameter"], Fraction(data["power"]), tuple(data["shape"]), labels)


@dataclass(frozen=True)
class Symmetry:
    """A rescaling of parameters that leaves the training loss unchanged.

    Args:
        kind: ``scale``, ``joint scale`` or ``rescale``.
        members: what is multiplied, and by which power.
        count: number of independent copies, e.g. one per channel.
        eps: whether it holds only up to a literal eps added in the model's own code.

    Example:
        >>> labels = torch.zeros(1, 1, dtype=torch.int64)
        >>> query = Member("q.weight", Fraction(1), (4, 4), labels)
        >>> key = Member("k.weight", Fraction(-1), (4, 4), labels)
        >>> print(Symmetry("rescale", (query, key), 1))
        rescale: q.weight × α, k.weight × α^-1
    """

    kind: Kind
    members: tuple[Member, ...]
    count: int
    eps: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """FQNs of the members, each once."""
        return tuple(dict.fromkeys(m.parameter for m in self.members))

    def __str__(self) -> str:
        """Print the members with their powers, and the number of copies."""
        parts = ", ".join(f"{m} × {power_text(m.power)}" for m in self.members)
        return f"{self.kind}: {parts}" + (f"  ({self.count} of them)" if self.count > 1 else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back without loss."""
        members = [m.to_dict() for m in self.members]
        return {"kind": self.kind, "count": self.count, "eps": self.eps, "members": members}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Symmetry:
        """Rebuild what ``to_dict`` wrote."""
        members = tuple(Member.from_dict(m) for m in data["members"])
        return cls(data["kind"], members, data["count"], data["eps"])


def _along(inside: Tensor, dim: int) -> str:
    """The indices along one dim that are moved: ``i`` for all, else their ranges."""
    others = [d for d in range(inside.dim()) if d != dim]
    mask = inside.any(dim=others) if others else inside
    if bool(mask.all()):
        return "i"
    padded = torch.nn.functional.pad(mask.to(torch.int8), (1, 1))
    edges = padded.diff().nonzero().flatten().tolist()
    ranges = [f"{start}:{stop}" for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    return "+".join(ranges[:3]) + ("+…" if len(ranges) > 3 else "")


def power_text(power: Fraction) -> str:
    """Spell a power of α."""
    return "α" if power == 1 else f"α^{power}"


def _to_runs(labels: Tensor) -> list[list[int]]:
    """Code a vector as arithmetic runs: constants have step 0, consecutive channels step 1."""
    runs: list[list[int]] = []
    values: Sequence[int] = labels.tolist()
    place = 0
    while place < len(values):
        start, count = values[place], 1
        step = values[place + 1] - start if place + 1 < len(values) else 0
        while place + count < len(values) and values[place + count] == start + step * count:
            count += 1
        runs.append([start, step, count])
        place += count
    return runs


def _from_runs(runs: Sequence[Sequence[int]]) -> Tensor:
    parts = [start + step * torch.arange(count) for start, step, count in runs]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def scale_symmetry(parameter: str, partition: Partition, *, eps: bool = False) -> Symmetry:
    """The invariance of a single parameter as a symmetry: one copy per block."""
    member = Member(parameter, Fraction(1), partition.shape, partition.labels)
    return Symmetry("scale", (member,), max(1, partition.num_blocks) if prod(partition.shape) else 0, eps)
