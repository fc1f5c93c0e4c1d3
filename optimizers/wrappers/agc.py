"""AGC: adaptive gradient clipping before any optimizer (Brock et al. 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from optimizers import functional
from optimizers._check import Check, Number, OrNone, check_partition_keys
from optimizers._math import resolve
from optimizers.wrappers._gradient import GradientWrapper


class AGC(GradientWrapper):
    r"""Adaptive gradient clipping: no row of a gradient longer than a fraction of that row of the weight.

    .. math::
        g \leftarrow g\,\min\Big(1, \frac{c\max(\|\theta\|, \epsilon)}{\|g\|}\Big)
        \qquad\text{for each row (index of dim 0; a vector is one row)}

    Args:
        optimizer: the optimizer inside; its weight decay is added after clipping.
        clipping: :math:`c \ge 0`; 0 or ``None`` do not clip. The paper leaves out the last linear layer: give it a
            group with ``clipping=None``.
        agc_eps: :math:`\epsilon \ge 0`, so that rows that start at zero can move.

    Both can be set per group. Groups with ``channel_dims`` (and ``channel_groups``) are clipped by these blocks instead
    of by rows. There is no state, and ``p.grad`` is unchanged after the step.

    Raises:
        ValueError: an option out of bounds.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171. One
        published wrapper evaluates the closure again after clipping, and so steps with unclipped gradients.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2, 4))
        >>> optimizer = AGC(torch.optim.SGD([weight], lr=1.0), clipping=0.25)
        >>> weight.grad = torch.tensor([[9.0, 0, 0, 0], [0.25, 0, 0, 0]])
        >>> optimizer.step()
        >>> weight[:, 0].tolist()
        [0.5, 0.75]
    """

    name: ClassVar[str] = "agc"
    checks: ClassVar[Mapping[str, Check]] = {
        "clipping": OrNone(Number()),
        "agc_eps": Number(),
    }

    def __init__(self, optimizer: Optimizer, clipping: float | None = 1e-2, agc_eps: float = 1e-3) -> None:
        super().__init__(optimizer, {"clipping": clipping, "agc_eps": agc_eps})

    def transform(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        """Return the clipped gradient."""
        clipping = self.option(group, "clipping")
        if not clipping:
            return g
        dims, count = check_partition_keys(group.get("channel_dims"), group.get("channel_groups"))
        blocks = None if dims is None else resolve(tuple(p.shape), dims, count)
        return functional.agc(p, g, float(clipping), float(self.option(group, "agc_eps")), blocks)
