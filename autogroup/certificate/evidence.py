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

    def update(self, symmetry: Symmetry, samples: Mapping[str, Sample], scale: float, tolerance: float) -> Evidence:
        """Add one point; ``scale`` is the yardstick for "no gradient"."""
        dot, size = torch.zeros_like(self.worst), torch.zeros_like(self.worst)
        for member in symmetry.members:
            radial, weight, grad = _per_copy(samples[member.parameter], member, symmetry.count)
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


def _per_copy(sample: Sample, member: Member, count: int) -> tuple[Tensor, ...]:
    """Return ⟨w, g⟩, ‖w‖² and ‖g‖² of the entries that each copy moves, each of shape [copies]."""
    labels = member.labels.expand(member.shape).reshape(-1)
    inside = labels != OUTSIDE
    index = labels[inside]

    def total(values: Tensor) -> Tensor:
        return torch.zeros(count, dtype=torch.float64).index_add_(0, index, values.reshape(-1)[inside])

    return total(sample.radial), total(sample.weight.abs().square()), total(sample.grad.abs().square())
