"""SGDSWD: SGD with stable weight decay (Xie et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Number
from optimizers._math import Blocks
from optimizers._sgd import check_nesterov, sgd_numbers, sgd_step
from optimizers._slots import Slot


class SGDSWD(BlockOptimizer):
    r"""SGD with momentum and stable weight decay: the decay follows the effective learning rate.

    Momentum multiplies the steps that gradients make by :math:`(1-\delta)/(1-\mu)` in the long run, so the decay is
    multiplied by it, too. With :math:`\mu` = ``momentum``, :math:`\delta` = ``dampening`` and :math:`\lambda` =
    ``weight_decay``:

    .. math::
        \theta &\leftarrow \theta\left(1 - \eta\lambda\,\frac{1-\delta}{1-\mu}\right) \\
        a &\leftarrow \mu a + (1-\delta) g \quad (\text{at } t=1: a \leftarrow g) \\
        \theta &\leftarrow \theta - \eta a \quad (\text{Nesterov: } \theta \leftarrow \theta - \eta(g + \mu a))

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \in [0, 1)`. With 0 there is no state besides the step count.
        dampening: :math:`\delta \in [0, 1]`; as in ``torch.optim.SGD`` it does not act at t = 1, nor without momentum.
        weight_decay: :math:`\lambda \ge 0`.
        nesterov: take the step from the point that the momentum leads to; needs momentum and no dampening.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32) and, with momentum, ``momentum_buffer`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or ``nesterov`` without momentum or with dampening.

    Source:
        Z. Xie et al., "On the Overlooked Pitfalls of Weight Decay and How to Mitigate Them", arXiv 2011.11152; the
        authors call it SGDS.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = SGDSWD(linear.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['momentum_buffer', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}
    checks: ClassVar[Mapping[str, Check]] = {"momentum": Number(high=1.0, below=True)}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_nesterov(type(self).__name__, group)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        undamped, momentum = 1 - float(group["dampening"]), float(group["momentum"])
        decay = float(group["lr"]) * float(group["weight_decay"]) * undamped / (1 - momentum)
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "keep": 1 - decay,
            **sgd_numbers(group, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
        """Update p and the momentum a in place."""
        if h.decays:
            p.mul_(h.keep)
        sgd_step(p, g, a, h)
