"""Gradient normalization before any optimizer (Wright and Demeure 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from optimizers._check import Check, Flag, Number
from optimizers.functional import normalize_gradient
from optimizers.wrappers._gradient import GradientWrapper


class GradientNormalization(GradientWrapper):
    r"""Gradient normalization: every gradient is divided by its standard deviation.

    .. math::
        g \leftarrow \frac{g}{\operatorname{std}(g) + \epsilon} \qquad\text{for tensors of more than two entries}

    Args:
        optimizer: the optimizer inside; its weight decay is added afterwards.
        use_channels: one deviation per row (index of dim 0) of gradients of two or more dims.
        norm_eps: :math:`\epsilon \ge 0`.

    Both can be set per group. There is no state, and ``p.grad`` is unchanged after the step.

    Raises:
        ValueError: an option out of bounds.

    Source:
        L. Wright, N. Demeure, "Ranger21: a synergistic deep learning optimizer", arXiv 2106.13731. The
        deviation is the unbiased one, and the mean stays. The authors' code normalizes gradients twice.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.zeros(3))
        >>> optimizer = GradientNormalization(torch.optim.SGD([weight], lr=1.0))
        >>> weight.grad = torch.tensor([0.0, 100.0, 200.0])
        >>> optimizer.step()
        >>> weight.tolist()
        [0.0, -1.0, -2.0]
    """

    name: ClassVar[str] = "gradnorm"
    checks: ClassVar[Mapping[str, Check]] = {"use_channels": Flag(), "norm_eps": Number()}

    def __init__(self, optimizer: Optimizer, use_channels: bool = False, norm_eps: float = 1e-8) -> None:
        super().__init__(optimizer, {"use_channels": use_channels, "norm_eps": norm_eps})

    def transform(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        """Return the normalized gradient."""
        return normalize_gradient(g, self.option(group, "use_channels"), float(self.option(group, "norm_eps")))
