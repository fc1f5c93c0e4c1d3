"""Unit vectors up to sign, G(1, n), as AdamG and SGDG move on them (Cho and Lee, arXiv 1709.09603)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

OFFSET = 1e-8
"""Added to norms before a division, as in the authors' code."""


def clipping_numbers(group: Mapping[str, Any]) -> dict[str, float | bool]:
    """Return what `tangent` reads."""
    bound = group["grad_clip"]
    return {"clips": bound is not None, "grad_clip": float(bound or 1.0)}


def tangent(p: Tensor, g: Tensor, h: Any) -> tuple[Tensor, Tensor]:
    """Return y, p with blocks of norm 1, and the part of g that is tangent there, with its norm bounded."""
    dot, norm = h.blocks.dot, h.blocks.norm
    y = p.div(norm(p).add_(OFFSET))
    along = g.sub(y.mul(dot(y, g)))
    if h.clips:
        along.div_(norm(along).clamp_min(h.grad_clip)).mul_(h.grad_clip)
    return y, along


def geodesic(y: Tensor, d: Tensor, h: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the point that the geodesic from y reaches by d, the unit direction u of d, and the angle ‖d‖."""
    angle = h.blocks.norm(d)
    u = d.div(angle.add(OFFSET))
    return y.mul(angle.cos()).add_(u.mul(angle.sin())), u, angle
