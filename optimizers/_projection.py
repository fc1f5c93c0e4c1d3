"""What AdamP and SGDP share: the projection of an update, and where to apply it (Heo et al., arXiv 2006.08217)."""

from collections.abc import Mapping
from math import prod, sqrt
from typing import Any, ClassVar

from torch import Tensor

from optimizers._base import BlockOptimizer
from optimizers._check import Check, Number
from optimizers._math import TINY, Blocks, less, rows


class ProjectedOptimizer(BlockOptimizer):
    """Base of optimizers that remove the radial part of their update from scale-invariant weights."""

    checks: ClassVar[Mapping[str, Check]] = {"delta": Number(infinite=True), "wd_ratio": Number(high=1.0)}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group. One that states its partition, be it ``None``, is taken at its word: ``delta`` is 0 there."""
        if isinstance(param_group, dict) and "channel_dims" in param_group:
            param_group = {"delta": 0.0, **param_group}
        super().add_param_group(param_group)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the blocks of the group's partition, or the rows where the optimizer has to guess."""
        stated = super().partition(group, shape)
        return rows(shape) if _guesses(group, len(shape)) else stated


def _guesses(group: Mapping[str, Any], ndim: int) -> bool:
    stated = group["channel_dims"] is not None or group["channel_wise"]
    return not stated and ndim > 1 and float(group["delta"]) > 0


def projection_hyper(group: Mapping[str, Any], decay: float, blocks: Blocks) -> dict[str, float | bool]:
    """Return what `descend` reads; ``decay`` is the relative decay of a weight that is not projected."""
    guesses, ratio = _guesses(group, len(blocks.shape)), float(group["wd_ratio"])
    projects = not guesses and not blocks.elementwise
    delta, size = float(group["delta"]), max(blocks.size, 1)
    return {
        "guesses": guesses,
        "whole": guesses,
        "projects": projects,
        "decays": decay != 0,
        "keep": 1 - decay * (ratio if projects else 1.0),
        "spared": decay * (1 - ratio),
        "row_bound": delta / sqrt(size),
        "layer_bound": delta / sqrt(size * max(prod(blocks.shape), 1)),
        "eps": float(group["eps"]) + TINY,  # so that eps=0 gives 0 / TINY = 0, not NaN, for zero rows
    }


def descend(p: Tensor, g: Tensor, d: Tensor, h: Any) -> None:
    """Project the direction d where that is due, decay p, and subtract d from it. Changes p and d."""
    dot = h.blocks.dot
    if h.guesses:
        radial, projected = _guess(p, g, d, h)
        d.sub_(p.mul(radial))
        if h.decays:
            p.mul_(projected.mul(h.spared).add_(h.keep))
    else:
        if h.projects:
            d.sub_(p.mul(_radial(dot(p, p).sqrt_(), dot(p, d), h.eps)))
        if h.decays:
            p.mul_(h.keep)
    p.add_(d.mul_(h.minus_step))


def _guess(p: Tensor, g: Tensor, d: Tensor, h: Any) -> tuple[Tensor, Tensor]:
    """Return how much of p to remove from d, and 1.0 where the tensor looks scale-invariant, else 0.0.

    It does so by rows, if every row of g is nearly orthogonal to that of p, or else as a whole.
    """
    dot, total = h.blocks.dot, h.blocks.total
    by_row = dot(p, p), dot(g, g), dot(p, g), dot(p, d)
    row_cosine, row_radial = _cosine_and_radial(*by_row, eps=h.eps)
    cosine, radial = _cosine_and_radial(*map(total, by_row), eps=h.eps)
    rows_differ = total(less(row_cosine, h.row_bound).neg().add_(1.0)).clamp_max(1.0)
    as_rows = rows_differ.neg().add_(1.0)
    as_whole = less(cosine, h.layer_bound).mul_(rows_differ)
    return row_radial.mul_(as_rows).add_(radial.mul_(as_whole)), as_rows.add_(as_whole)


def _cosine_and_radial(pp: Tensor, gg: Tensor, pg: Tensor, pd: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    norm = pp.sqrt()
    cosine = pg.abs().div_(norm.clamp_min(eps)).div_(gg.sqrt().clamp_min(eps))
    return cosine, _radial(norm, pd, eps)


def _radial(norm: Tensor, pd: Tensor, eps: float) -> Tensor:
    """Return ⟨u, d⟩ / (‖p‖ + eps) with u = p / (‖p‖ + eps). Two divisions, because the square may underflow."""
    norm = norm.add(eps)
    return pd.div(norm).div_(norm)
