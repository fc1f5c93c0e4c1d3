"""SGD_GC: SGD with gradient centralization (Yong et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks, elementwise, rows
from optimizers._sgd import check_nesterov, sgd_numbers, sgd_step
from optimizers._slots import Slot


class SGD_GC(BlockOptimizer):  # noqa: N801 - the name in use
    r"""SGD with momentum on gradients that lose the mean of each of their rows.

    A row is a slice along dim 0: the weights of one output unit, whose mean then stays what it was. Gradients of
    vectors are left alone. With :math:`\mu` = ``momentum``, :math:`\delta` = ``dampening`` and :math:`\lambda` =
    ``weight_decay``:

    .. math::
        g &\leftarrow g + \lambda\theta, \qquad g \leftarrow g - \operatorname{mean}_{\text{row}}(g) \\
        a &\leftarrow \mu a + (1-\delta) g \quad (\text{at } t=1: a \leftarrow g) \\
        \theta &\leftarrow \theta - \eta a \quad (\text{Nesterov: } \theta \leftarrow \theta - \eta(g + \mu a))

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \ge 0`. With 0 there is no state besides the step count.
        dampening: :math:`\delta \in [0, 1]`; as in ``torch.optim.SGD`` it does not act at t = 1, nor without momentum.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`.
        nesterov: take the step from the point that the momentum leads to; needs momentum and no dampening.
        use_gc: centralize. A row of a single entry has no gradient left then: give such weights a group without it.
        gc_conv_only: centralize only gradients of more than three dims.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32) and, with momentum, ``momentum_buffer`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or ``nesterov`` without momentum or with dampening.

    Source:
        H. Yong et al., "Gradient centralization: a new optimization technique for deep neural networks", arXiv
        2004.01461. As in the authors' code, the decay is centralized, too.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> before = linear.weight.mean(1)
        >>> optimizer = SGD_GC(linear.parameters(), lr=0.1, momentum=0.9)
        >>> linear(torch.rand(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> torch.allclose(linear.weight.mean(1), before)
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        use_gc: bool = True,
        gc_conv_only: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_nesterov(type(self).__name__, group)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the rows of which the gradient loses the mean."""
        centralizes = group["use_gc"] and len(shape) > (3 if group["gc_conv_only"] else 1)
        return rows(shape) if centralizes else elementwise(shape)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "centralizes": not blocks.elementwise,
            "weight_decay": group["weight_decay"],
            "inverse_size": 1 / max(blocks.size, 1),
            **sgd_numbers(group, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
        """Update p and the momentum a in place."""
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        if h.centralizes:
            g = g - h.blocks.sum(g) * h.inverse_size
        sgd_step(p, g, a, h)
