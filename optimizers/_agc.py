"""Adaptive gradient clipping in front of another rule (Brock et al., arXiv 2102.06171)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from optimizers._base import BlockOptimizer, stated_blocks
from optimizers._check import Check, Number, OrNone
from optimizers._math import Blocks, clip_blocks, rows


class ClippedOptimizer(BlockOptimizer):
    """Base of optimizers that clip each gradient before they use it, by blocks if the group has them, else by rows."""

    checks: ClassVar[Mapping[str, Check]] = {"clipping": OrNone(Number()), "agc_eps": Number()}

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the units of clipping: the group's blocks, or the rows."""
        return stated_blocks(group, shape, rows)


def clipping_numbers(group: Mapping[str, Any]) -> dict[str, float | bool]:
    """Return what `clipped` reads."""
    clipping = float(group["clipping"] or 0.0)
    return {"clips": clipping != 0, "clipping": clipping, "agc_eps": group["agc_eps"]}


def clipped(p: Tensor, g: Tensor, h: Any) -> Tensor:
    """Return the gradient to use."""
    return clip_blocks(p, g, h.blocks, h.clipping, h.agc_eps) if h.clips else g
