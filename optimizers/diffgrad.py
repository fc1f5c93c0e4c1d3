"""DiffGrad: Adam with a friction where the gradient stops changing (Dubey et al. 2019)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected_outside, decayed, denominator, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers._slots import Slot


class DiffGrad(BlockOptimizer):
    r"""Adam that slows down, by up to one half, entries whose gradient changes little from step to step.

    Such entries may be about to settle in an optimum. With :math:`g' = 0` at first:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \xi &= \operatorname{sigmoid}|g' - g|, \qquad g' \leftarrow g \\
        \theta &\leftarrow \theta - \eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{\xi m}{\sqrt v + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g, which :math:`g'` then contains.
        adam_debias: leave out :math:`1/(1-\beta_1^t)`, as `AdamD` does.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and ``previous_grad`` (like the parameter; float32 for half
        precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        S. R. Dubey et al., "diffGrad: an optimization method for convolutional neural networks", arXiv 1909.11015, as
        in the second version of the authors' code. The first kept a reference to the gradient instead of a copy.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = DiffGrad(linear.parameters(), lr=1e-2)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> torch.equal(optimizer.state[linear.weight]["previous_grad"], linear.weight.grad)
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot(), "previous_grad": Slot()}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decouple: bool = False,
        adam_debias: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {**adam_numbers(group), **corrected_outside(group, t)}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, previous: Tensor, h: Any) -> None:
        """Update p, the moments m and v and the copy of the gradient in place."""
        g = decayed(p, g, h)
        update_moments(g, m, v, h)
        friction = (previous - g).abs().sigmoid()
        previous.copy_(g)
        p.addcdiv_(friction.mul_(m), denominator(v, None, h), value=h.minus_step)
