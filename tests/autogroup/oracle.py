"""The finest partition that holds, found numerically and without looking at the graph.

Scaling the entries of a weight w by exp(t·s) leaves the loss unchanged to first order iff Σ s_i w_i ∂L/∂w_i = 0.
Collect that equation at many random points: the null space of the matrix holds every diagonal rescaling symmetry
of the parameter. A block is invariant iff its indicator vector lies in the null space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from autogroup.certificate import twin as twins
from autogroup.partition import OUTSIDE, Partition

_LOSSES_PER_POINT = 6
_NULL = 1e-9
"""Singular values below this share of the largest count as zero."""
_SAME = 1e-6
_MOST_ATOMS = 8
"""Largest number of classes of entries whose unions are searched for blocks."""


@dataclass(frozen=True)
class Truth:
    """What is numerically true of one parameter."""

    partition: Partition
    """The finest blocks that are invariant; entries in none carry ``OUTSIDE``."""
    live: Tensor
    """Bool, of the parameter's shape: entries that have a gradient. Nothing can be said of the others."""

    @property
    def dead(self) -> bool:
        return not bool(self.live.any())

    def agrees(self, claim: Partition | None) -> bool:
        """Whether ``claim`` is this partition, on the entries that have a gradient."""
        shape = self.partition.shape
        mine = self.partition.labels.expand(shape)[self.live]
        other = torch.full_like(mine, OUTSIDE) if claim is None else claim.labels.expand(shape)[self.live]
        return _same_classes(mine, other)

    def allows(self, claim: Partition) -> bool:
        """Whether every block of ``claim`` is invariant, that is, a union of true blocks."""
        shape = self.partition.shape
        mine, other = self.partition.labels.expand(shape)[self.live], claim.labels.expand(shape)[self.live]
        if bool((mine[other != OUTSIDE] == OUTSIDE).any()):
            return False
        pairs = torch.unique(torch.stack((mine, other))[:, mine != OUTSIDE], dim=1)
        return pairs.shape[1] == torch.unique(pairs[0]).numel()


def _same_classes(a: Tensor, b: Tensor) -> bool:
    """Whether two labellings cut the same entries into the same classes."""
    if not torch.equal(a == OUTSIDE, b == OUTSIDE):
        return False
    pairs = torch.unique(torch.stack((a, b)), dim=1).shape[1] if a.numel() else 0
    return pairs == torch.unique(a).numel() == torch.unique(b).numel()


def truths(model: nn.Module, args: tuple[Any, ...], *, mode: str = "train") -> dict[str, Truth]:
    """Return the numeric truth of every parameter of a small model."""
    largest = max(p.numel() for p in model.parameters())
    rows: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_parameters()}
    for point in range(-(-(largest + 12) // _LOSSES_PER_POINT)):
        for sample in _samples(model, args, mode, seed=1000 * point):
            for name, one in sample.items():
                rows[name].append(one.radial.reshape(-1))
    scale = max(float(torch.stack(r).norm()) for r in rows.values())
    return {name: _truth(torch.stack(rows[name]), tuple(p.shape), scale) for name, p in model.named_parameters()}


def _samples(model: nn.Module, args: tuple[Any, ...], mode: str, seed: int) -> list[Mapping[str, twins.Sample]]:
    twin = twins.exact_copy(model, mode, seed)
    outputs = twins.run(twin, twins.generic_inputs(args, seed + 1), {}, mode, seed)
    return [twins.gradients(twin, outputs, mode, seed + i, keep=True) for i in range(_LOSSES_PER_POINT)]


def _truth(equations: Tensor, shape: tuple[int, ...], scale: float) -> Truth:
    """Read the blocks off the null space of ``equations`` [points, entries]."""
    live = equations.norm(dim=0) > 1e-11 * scale
    labels = torch.full((equations.shape[1],), OUTSIDE)
    if bool(live.any()):
        labels[live] = _blocks(equations[:, live])
    return Truth(Partition(shape, labels.view(shape)), live.view(shape))


def _blocks(equations: Tensor) -> Tensor:
    equations = equations / equations.norm(dim=1, keepdim=True).clamp_min(1e-300)
    _, values, vectors = torch.linalg.svd(equations, full_matrices=True)
    rank = int((values > _NULL * values[0]).sum())
    null = vectors[rank:].T  # [entries, dimension of the null space]
    labels = torch.full((equations.shape[1],), OUTSIDE)
    if null.shape[1] == 0:
        return labels
    same = torch.cdist(null, null, compute_mode="donot_use_mm_for_euclid_dist") < _SAME
    first = same.int().argmax(1)  # the first entry of each class of entries that always scale together
    atoms = [a for a in torch.unique(first).tolist() if float(null[a].norm()) > _SAME]
    linked = (null[atoms] @ null[atoms].T).abs() > _SAME
    for component in _components(linked):
        # Two atoms that may scale against each other, like a query feature and a key feature, are no blocks alone.
        rest = [atoms[i] for i in component]
        for size in range(1, min(len(rest), _MOST_ATOMS) + 1):
            for chosen in combinations(rest, size):
                indicator = torch.isin(first, torch.tensor(chosen)).double()
                free = all(labels[c] == OUTSIDE for c in chosen)
                if free and float((null @ (null.T @ indicator) - indicator).norm()) < _SAME:
                    labels[indicator.bool()] = chosen[0]
    return labels


def _components(linked: Tensor) -> list[list[int]]:
    """Connected components of a symmetric bool matrix."""
    reach = linked | torch.eye(len(linked), dtype=torch.bool)
    for _ in range(len(linked).bit_length()):
        reach = (reach.double() @ reach.double()) > 0
    return [row.nonzero().flatten().tolist() for row in torch.unique(reach, dim=0)]
