"""Gradient centralization before any optimizer (Yong et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from optimizers._check import Check, Flag
from optimizers.functional import centralize_gradient
from optimizers.wrappers._gradient import GradientWrapper


class GradientCentralization(GradientWrapper):
    r"""Gradient centralization: every row of a gradient loses its mean.

    .. math::
        g \leftarrow g - \operatorname{mean}(g) \qquad\text{for each row (index of dim 0) of two or more dims}

    Args:
        optimizer: the optimizer inside; its weight decay is added afterwards.
        gc_conv_only: only for gradients of more than three dims.

    The option can be set per group. There is no state, and ``p.grad`` is unchanged after the step.

    Raises:
        ValueError: an option out of bounds.

    Source:
        H. Yong et al., "Gradient centralization: a new optimization technique for deep neural networks",
        arXiv 2004.01461. The authors' SGD centralizes after the coupled weight decay has been added; their Adam before.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(1, 2))
        >>> optimizer = GradientCentralization(torch.optim.SGD([weight], lr=1.0))
        >>> weight.grad = torch.tensor([[1.0, 3.0]])
        >>> optimizer.step()
        >>> weight.tolist()
        [[1.0, -1.0]]
    """

    name: ClassVar[str] = "gc"
    checks: ClassVar[Mapping[str, Check]] = {"gc_conv_only": Flag()}

    def __init__(self, optimizer: Optimizer, gc_conv_only: bool = False) -> None:
        super().__init__(optimizer, {"gc_conv_only": gc_conv_only})

    def transform(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        """Return the centralized gradient."""
        return centralize_gradient(g, self.option(group, "gc_conv_only"))
