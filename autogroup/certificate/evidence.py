"""Evidence: what random points say of each copy of one claimed symmetry, by Euler's identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autogroup.certificate.twin import Sample
from autogroup.partition import OUTSIDE
from autogroup.symmetry import Member, Symmetry

Status = Literal["proved", "refuted", "undecided"]

NOISE = 1e-8
"""An inner product below this share of the median parameter's ‖w‖‖g‖ cannot be told from rounding.

Norms amplify rounding where what they normalize is nearly constant, so this is far above the float64 epsilon.
"""

_ZERO_GRADIENT = 1e-12
"""A block whose ‖w‖‖g‖ is below this share of the median parameter's has no gradient to judge by."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the certificate says of one claim."""

    name: str
    """FQN of a parameter, or the name of a symmetry of several."""
    status: Status
    worst: float
    """Largest |Σ power·⟨w_b, g_b⟩| / Σ |power|·‖w_b‖‖g_b‖ over the copies that have a gradient; for a dead parameter
    ‖w‖‖g‖ relative to the median parameter's."""
    blocks: int
    undecided_blocks: int
    rescale: float | None = None
    """Largest relative change of the outputs after multiplying by random factors; ``None`` if not tried."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the points tried so far say of each copy of one symmetry; tensors of shape [copies]."""

    worst: Tensor
    """Largest normalized inner product."""
    decided: Tensor
    """Bool: whether the copy had a gradient at some point."""

    @classmethod
    def none(cls, symmetry: Symmetry) -> Evidence:
        """Before the first point."""
        return cls(torch.zeros(symmetry.count, dtype=torch.float64), torch.zeros(symmetry.count, dtype=torch.bool))

    def update(self, symmetry: Symmetry, point: Point, scale: float, tolerance: float) -> Evidence:
        """Add one point; ``scale`` is the yardstick for "no gradient"."""
        dot, size = torch.zeros_like(self.worst), torch.zeros_like(self.worst)
        for member in symmetry.members:
            radial, weight, grad = point.per_copy(member, symmetry.count)
            dot += float(member.power) * radial
            size += abs(float(member.power)) * weight.sqrt() * grad.sqrt()
        residual = dot.abs() / size.clamp_min(1e-300)
        clear = (residual < tolerance) | (dot.abs() > NOISE * scale)
        decided = torch.isfinite(residual) & (size > _ZERO_GRADIENT * scale) & clear
        return Evidence(torch.where(decided, self.worst.maximum(residual), self.worst), self.decided | decided)

    def proof(self, name: str, tolerance: float) -> Proof:
        """Sum up: one copy is enough to refute, all are needed to prove."""
        undecided = int((~self.decided).sum())
        worst = float(self.worst.max()) if self.worst.numel() else 0.0
        status: Status = "refuted" if worst >= tolerance else "undecided" if undecided else "proved"
        return Proof(name, status, worst, self.worst.numel(), undecided)


class Point:
    """The sums that Euler's identity needs at one random point, each taken once however many symmetries ask.

    Args:
        samples: parameter → its values and gradient at this point.
    """

    def __init__(self, samples: Mapping[str, Sample]) -> None:
        self._samples = samples
        self._sums: dict[tuple[str, tuple[int, ...]], tuple[Tensor, ...]] = {}

    def per_copy(self, member: Member, count: int) -> tuple[Tensor, ...]:
        """Return ⟨w, g⟩, ‖w‖² and ‖g‖² of the entries that each copy moves, each of shape [copies]."""
        labels = member.labels
        constant = tuple(d for d, n in enumerate(labels.shape) if n == 1)
        inside = labels.reshape(-1) != OUTSIDE
        index = labels.reshape(-1)[inside]
        totals = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
        sums = self._summed(member.parameter, constant)
        return tuple(
            total.index_add_(0, index, values.reshape(-1)[inside]) for total, values in zip(totals, sums, strict=True)
        )

    def _summed(self, name: str, dims: tuple[int, ...]) -> tuple[Tensor, ...]:
        """``w·g``, ``w²`` and ``g²`` of a parameter, summed over the dims along which no label changes."""
        key = name, dims
        if key not in self._sums:
            sample = self._samples[name]
            terms = sample.radial, sample.weight.abs().square(), sample.grad.abs().square()
            self._sums[key] = tuple(term.sum(dims) if dims else term for term in terms)
        return self._sums[key]
