"""Joint scales: parameters that are invariant under one common factor, and the verdict that follows.

The basis of the null space need not show them: a stream that is scaled up may come with a reader that is scaled
down, until the reader's own joint scale is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import torch

from autogroup.infer.families import symmetry_of
from autogroup.report import ParameterReport
from autogroup.symmetry import Member, Symmetry

_Powers = dict[str, float]
"""Parameter → power; floats, because there are many and all are small rationals."""


def joint_sums(basis: Sequence[Symmetry], names: Sequence[str]) -> list[Symmetry]:
    """Sums of symmetries, taken over all of their copies, that scale whole parameters by one common factor.

    Args:
        basis: symmetries of which none follows from the others.
        names: all parameters in model order.
    """
    shapes = {m.parameter: m.shape for s in basis for m in s.members}
    known: dict[str, _Powers] = {}
    """Parameter → a joint scale that moves it."""
    wholes = [w for w in map(_whole, basis) if w is not None]
    for powers in wholes:
        if _is_joint(powers):
            _remember(known, powers)
    found: list[_Powers] = []
    # What a sum reaches may let another one through, e.g. layer scales, which trade with what they multiply.
    for powers in [*wholes, *wholes]:
        total = None if _is_joint(powers) else _made_positive(powers, known)
        if total is not None and any(name not in known for name in total):
            found.append(total)
            _remember(known, total)
    eps = any(s.eps for s in basis)
    members = {name: _member(name, shape) for name, shape in shapes.items()}
    sums = (symmetry_of([members[name] for name in total], 1, names, eps=eps) for total in found)
    return [s for s in sums if s is not None]


def _whole(symmetry: Symmetry) -> _Powers | None:
    """The power of each parameter when all copies are moved at once; ``None`` if one is not moved as a whole."""
    powers: _Powers = {}
    for member in symmetry.members:
        if not member.whole:
            return None
        powers[member.parameter] = powers.get(member.parameter, 0.0) + float(member.power)
    return {name: power for name, power in powers.items() if power}


def _is_joint(powers: _Powers) -> bool:
    return len(powers) > 1 and all(power == 1 for power in powers.values())


def _remember(known: dict[str, _Powers], powers: _Powers) -> None:
    for name in powers:
        if name not in known or len(powers) < len(known[name]):
            known[name] = powers


def _made_positive(powers: _Powers, known: Mapping[str, _Powers]) -> _Powers | None:
    """Add joint scales until no power is negative; ``None`` if that does not give a joint scale."""
    for sign in (1, -1):
        total = {name: sign * power for name, power in powers.items()}
        for name in list(total):
            deficit = -total.get(name, 0.0)
            if deficit > 0 and name in known:
                for other, power in known[name].items():
                    total[other] = total.get(other, 0.0) + deficit * power
        total = {name: power for name, power in total.items() if power}
        if _is_joint(total):
            return total
    return None


def _member(name: str, shape: tuple[int, ...]) -> Member:
    return Member(name, Fraction(1), shape, torch.zeros([1] * len(shape), dtype=torch.int64))


def with_partners(
    parameters: Mapping[str, ParameterReport], symmetries: Sequence[Symmetry]
) -> dict[str, ParameterReport]:
    """Give variant parameters that a joint scale moves as a whole the verdict ``joint``.

    Of several joint scales the one with the fewest partners counts, then the one with the most copies.
    """
    best: dict[str, tuple[Symmetry, Member]] = {}
    for symmetry in symmetries:
        if symmetry.kind != "joint scale":
            continue
        for member in symmetry.members:
            current = best.get(member.parameter)
            if member.whole and (current is None or _simplicity(symmetry) < _simplicity(current[0])):
                best[member.parameter] = (symmetry, member)
    found = dict(parameters)
    for name, (symmetry, member) in best.items():
        partners = tuple(p for p in symmetry.parameters if p != name)
        parts = [m.parameter if m.whole else str(m) for m in symmetry.members if m.parameter != name]
        if found[name].verdict == "variant" and partners:
            found[name] = replace(
                found[name],
                verdict="joint",
                partners=partners,
                partition=member.partition,
                reason=f"only together with {_listed(parts)}; alone: {found[name].reason}",
                eps=symmetry.eps,
            )
    return found


def _simplicity(symmetry: Symmetry) -> tuple[int, int]:
    return len(symmetry.parameters), -symmetry.count


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
