"""Ranger: RAdam with centralized gradients and slow weights (Wright 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import denominator, rectified, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Integer, Number
from optimizers._math import Blocks, elementwise, rows
from optimizers._slots import Slot


class Ranger(BlockOptimizer):
    r"""RAdam with gradient centralization and Lookahead.

    The gradient loses the mean of each of its rows, RAdam moves the weights, and every k steps they are pulled to slow
    weights :math:`\phi`, which start as the weights at construction. With :math:`\lambda` = ``weight_decay``,
    :math:`\alpha` = ``alpha`` and the rectification r of RAdam:

    .. math::
        g &\leftarrow g - \operatorname{mean}_{\text{row}}(g) \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta\,(1 - \eta\lambda) \\
        \theta &\leftarrow \theta - \eta\, r\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt v+\epsilon}
          \quad\text{if } \rho_t \ge n, \text{ else}\quad \theta - \eta\,\frac{m}{1-\beta_1^t} \\
        \phi &\leftarrow \phi + \alpha(\theta - \phi), \qquad \theta \leftarrow \phi
          \quad\text{if } k \text{ divides } t

    A row is a slice along dim 0; the gradients of vectors are not centralized. A row of a single entry has no gradient
    left, so a weight of shape ``[n, 1]`` stays where it is unless its group says ``use_gc=False``.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: decoupled decay :math:`\lambda \ge 0`.
        alpha: :math:`\alpha \in (0, 1]`.
        k: steps between pulls, an int of at least 1.
        n_sma_threshold: :math:`n > 4`.
        use_gc: do the first line.
        gc_conv_only: do it only for parameters of more than three dims.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and ``slow_buffer`` (like the parameter; float32 for half
        precision), from construction on: weights loaded later are pulled to those at construction.

    Raises:
        ValueError: an option out of bounds.

    Source:
        L. Wright, github.com/lessw2020/Ranger-Deep-Learning-Optimizer, after RAdam (arXiv 1908.03265), Lookahead
        (arXiv 1907.08610) and gradient centralization (arXiv 2004.01461). The original shares one table of
        rectifications among groups with different betas, ignores ``use_gc`` and the closure, and rounds float64
        parameters to float32.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = Ranger(linear.parameters(), lr=1e-2, k=5)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg', 'exp_avg_sq', 'slow_buffer', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg": Slot(),
        "exp_avg_sq": Slot(),
        "slow_buffer": Slot(start="parameter"),
    }
    at_construction: ClassVar[bool] = True
    checks: ClassVar[Mapping[str, Check]] = {"alpha": Number(high=1.0, above=True), "k": Integer(1)}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        alpha: float = 0.5,
        k: int = 6,
        n_sma_threshold: float = 5,
        use_gc: bool = True,
        gc_conv_only: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the rows of which the gradient loses the mean."""
        centralizes = group["use_gc"] and len(shape) > (3 if group["gc_conv_only"] else 1)
        return rows(shape) if centralizes else elementwise(shape)

    def phases(self, group: Mapping[str, Any]) -> Sequence[int]:
        """Return a step without and one with a pull."""
        return 1, group["k"]

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        return {
            "maximize": group["maximize"],
            "centralizes": not blocks.elementwise,
            "decays": float(group["weight_decay"]) != 0,
            "pulls": t % group["k"] == 0,
            "minus_inverse_size": -1 / max(blocks.size, 1),
            "one_minus_beta1": 1 - beta1,
            "one_minus_beta2": 1 - beta2,
            "keep": 1 - float(group["lr"]) * float(group["weight_decay"]),
            "alpha": group["alpha"],
            **rectified({**group, "degenerated_to_sgd": True}, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, slow: Tensor, h: Any) -> None:
        """Update p, the moments m and v and the slow weights in place."""
        if h.centralizes:
            g = g + h.blocks.sum(g) * h.minus_inverse_size
        update_moments(g, m, v, h)
        if h.decays:
            p.mul_(h.keep)
        p.addcdiv_(m, denominator(v, None, h), value=h.minus_step)
        if h.pulls:
            p.copy_(slow.lerp_(p, h.alpha))
