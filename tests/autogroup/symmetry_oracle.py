"""The rescaling symmetries of a small network, found numerically, as a check on those found in its graph.

Let the log-scale of an entry be a sum of one number per index of each axis. A direction x of these numbers is a
symmetry exactly if the loss does not change along it anywhere: ``Σ x_v ⟨w_v, ∂L/∂w_v⟩ = 0`` at every point, where v
runs over the slices of all parameters. Enough random points give the null space.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autogroup.certificate.twin import euler_sample
from autogroup.report import Report
from autogroup.symmetry import Symmetry

TOLERANCE = 1e-8


def missing_directions(model: nn.Module, args: tuple[Any, ...], report: Report) -> int:
    """Dimension of the numeric symmetries that do not follow from the reported ones."""
    shapes = {name: p.shape for name, p in report.parameters.items()}
    reported = [_entries(s, copy, shapes) for s in report.symmetries for copy in range(s.count)]
    for name, p in report.parameters.items():
        if p.verdict in ("dead", "unused"):
            reported += _one_by_one(name, shapes)
    known = torch.stack(reported) if reported else torch.zeros(0, sum(_size(s) for s in shapes.values()))
    slices = _slices(shapes)
    on_slices = _radial_products(model, args, points=slices.shape[0] + 20) @ slices.T
    scales = on_slices.abs().max(0).values
    scales = torch.where(scales > 1e-12 * scales.max(), scales, 1.0)  # what has no gradient is left as it is
    _, values, directions = torch.linalg.svd(on_slices / scales, full_matrices=True)
    directions = directions[int((values > TOLERANCE * values[0]).sum()) :] / scales
    found = directions / directions.norm(dim=1, keepdim=True) @ slices
    # A row scaled up and its columns scaled down by the same number is no change at all.
    found = found[found.norm(dim=1) > 1e-6]
    found = found / found.norm(dim=1, keepdim=True)
    return _rank(torch.cat([known, found])) - _rank(known)


def _rank(rows: Tensor) -> int:
    return int(torch.linalg.matrix_rank(rows, rtol=1e-6)) if rows.numel() else 0


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _entries(symmetry: Symmetry, copy: int, shapes: dict[str, tuple[int, ...]]) -> Tensor:
    """The exponent of every entry of every parameter, in one vector."""
    parts = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
    for member in symmetry.members:
        parts[member.parameter] += float(member.power) * (member.labels == copy)
    return torch.cat([part.reshape(-1) for part in parts.values()])


def _one_by_one(name: str, shapes: dict[str, tuple[int, ...]]) -> list[Tensor]:
    start = 0
    for other, shape in shapes.items():
        if other == name:
            eye = torch.eye(sum(map(_size, shapes.values())), dtype=torch.float64)
            return list(eye[start : start + _size(shape)])
        start += _size(shape)
    raise KeyError(name)


def _slices(shapes: dict[str, tuple[int, ...]]) -> Tensor:
    """[slices, entries]: one row per index of every axis of every parameter."""
    rows: list[Tensor] = []
    for name, shape in shapes.items():
        for dim in range(len(shape)):
            for index in range(shape[dim]):
                parts = {n: torch.zeros(s, dtype=torch.float64) for n, s in shapes.items()}
                parts[name].select(dim, index).fill_(1)
                rows.append(torch.cat([part.reshape(-1) for part in parts.values()]))
    return torch.stack(rows)


def _radial_products(model: nn.Module, args: tuple[Any, ...], points: int) -> Tensor:
    """[points, entries]: entry times gradient, at random points, each row of norm one."""
    rows: list[Tensor] = []
    for seed in range(points):
        samples = euler_sample(model, args, {}, mode="train", seed=seed)
        row = torch.cat([samples[name].radial.reshape(-1) for name, _ in model.named_parameters()])
        rows.append(row / row.norm())
    return torch.stack(rows)
