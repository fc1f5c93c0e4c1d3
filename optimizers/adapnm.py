"""AdaPNM: Adam with positive-negative momentum (Xie et al. 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected, decayed, denominator
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Each, Number
from optimizers._math import Blocks
from optimizers._slots import Slot
from optimizers.pnm import BETA0, momentum_numbers, positive_negative


class AdaPNM(BlockOptimizer):
    r"""Adam, by default AMSGrad, with the positive-negative momentum of `PNM`.

    Odd and even steps have a momentum each: a is the one just renewed, b the other one.

    .. math::
        a &\leftarrow \beta_1^2 a + (1-\beta_1^2) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \qquad
        \hat v \leftarrow \max(\hat v, v) \\
        \theta &\leftarrow \theta - \frac{\eta}{1-\beta_1^t}\,
          \frac{(1+\beta_0)\, a - \beta_0 b}{\sqrt{(1+\beta_0)^2 + \beta_0^2}}\,
          \frac{1}{\sqrt{\hat v}/\sqrt{1-\beta_2^t} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2, \beta_0)`, the first two in [0, 1), the last >= 0 and usually 1.
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        amsgrad: use the running maximum :math:`\hat v`; else v in its place.
        adam_debias: leave out :math:`1/(1-\beta_1^t)`, as `AdamD` does.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg_odd``, ``exp_avg_even``, ``exp_avg_sq`` and, with ``amsgrad``,
        ``max_exp_avg_sq`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        Z. Xie et al., "Positive-negative momentum: manipulating stochastic gradient noise to improve generalization",
        arXiv 2103.17182. That the average has :math:`\beta_1^2` and its correction :math:`\beta_1^t` is the authors'.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = AdaPNM(linear.parameters(), lr=1e-2, amsgrad=False)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg_even', 'exp_avg_odd', 'exp_avg_sq', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg_odd": Slot(),
        "exp_avg_even": Slot(),
        "exp_avg_sq": Slot(),
        "max_exp_avg_sq": Slot(when="amsgrad"),
    }
    checks: ClassVar[Mapping[str, Check]] = {
        "betas": Each((Number(high=1.0, below=True), Number(high=1.0, below=True), BETA0))
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 1.0),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        amsgrad: bool = True,
        adam_debias: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def phases(self, group: Mapping[str, Any]) -> tuple[int, ...]:
        """Return an odd and an even step."""
        return (1, 2)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2, beta0 = map(float, group["betas"])
        return {
            **adam_numbers({**group, "betas": (beta1, beta2)}),
            **corrected(group, t),
            **momentum_numbers(beta1, beta0, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, odd: Tensor, even: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Update p, the momentum of this parity, the second moment v and its maximum in place."""
        g = decayed(p, g, h)
        step = positive_negative(g, odd, even, h)
        v.lerp_(g * g, h.one_minus_beta2)
        p.addcdiv_(step, denominator(v, v_max, h), value=h.minus_step)
