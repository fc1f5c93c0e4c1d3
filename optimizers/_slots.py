"""State slots: name, shape and dtype of what an optimizer remembers about a parameter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from optimizers._math import Blocks, spread


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the arithmetic: float32 for half precision, otherwise the parameter's own."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Slot:
    """One entry of the per-parameter state.

    Attributes:
        shape: ``"full"`` like the parameter, ``"block"`` for one number per block, or a function that returns another
            shape for the group's options and the shape of the parameter.
        dtype: dtype at rest; ``None`` for the dtype of the arithmetic (float32 for half-precision parameters).
        start: ``"zeros"``, or ``"parameter"`` for a copy of the parameter.
        when: name of a group option. The slot exists only while that option is truthy, else the rule receives ``None``.
    """

    shape: Literal["full", "block"] | Callable[[dict[str, Any], tuple[int, ...]], tuple[int, ...]] = "full"
    dtype: torch.dtype | None = None
    start: Literal["zeros", "parameter"] = "zeros"
    when: str | None = None

    def wanted(self, group: dict[str, Any]) -> bool:
        """Return whether the options of ``group`` call for this slot."""
        return self.when is None or bool(group[self.when])

    def dtype_for(self, p: Tensor) -> torch.dtype:
        """Return the dtype this slot has at rest for the parameter ``p``."""
        return self.dtype or compute_dtype(p.dtype)

    def new(self, p: Tensor, blocks: Blocks, group: dict[str, Any]) -> Tensor:
        """Return the slot at t = 0."""
        if callable(self.shape):
            return torch.zeros(self.shape(group, tuple(p.shape)), dtype=self.dtype_for(p), device=p.device)
        if self.start == "parameter":
            return p.detach().to(self.dtype_for(p), copy=True)
        zeros = torch.zeros_like(p, dtype=self.dtype_for(p), memory_format=torch.preserve_format, requires_grad=False)
        return zeros if self.shape == "full" else _per_block(zeros, blocks)

    def fit(self, value: Tensor, p: Tensor, blocks: Blocks) -> Tensor:
        """Return ``value``, re-partitioned if the group's partition has changed since it was stored.

        Per-block slots hold sums over the block: coarser blocks add up, finer blocks share out evenly.
        """
        if self.shape != "block" or value.shape == blocks.shape:
            return value
        return _per_block(spread(value, p.shape), blocks)


def _per_block(x: Tensor, blocks: Blocks) -> Tensor:
    # Reduced from the full tensor, so that for a DTensor the slot is placed as all later block sums are.
    return x if blocks.elementwise else blocks.pack(blocks.sum(x)).contiguous()
