"""RAdam: Adam with a rectified second moment (Liu et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, decayed, denominator, rectified, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers._slots import Slot


class RAdam(BlockOptimizer):
    r"""Rectified Adam: no adaptive step before the second moment has seen enough gradients.

    With :math:`\rho_\infty = 2/(1-\beta_2) - 1`, :math:`\rho = \rho_\infty - 2t\beta_2^t/(1-\beta_2^t)`, the length of
    the simple moving average that v stands for, and :math:`n` = ``n_sma_threshold``:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta - \eta\,\frac{r\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt v + \epsilon},
        \qquad r = \sqrt{\frac{(\rho-4)(\rho-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho}}
        \qquad (\rho \ge n) \\
        \theta &\leftarrow \theta - \eta\, m/(1-\beta_1^t) \qquad (\rho < n)

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1). With :math:`\beta_2 \le 0.6` it never rectifies.
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        degenerated_to_sgd: do the last line. Without it nothing happens before rectification, not even decoupled decay.
        n_sma_threshold: :math:`n > 4`.
        adam_debias: leave out :math:`1/(1-\beta_1^t)`, as `AdamD` does.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` and ``exp_avg_sq`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        L. Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv 1908.03265. The paper's n is 4
        and its early steps are those of the last line, which the authors' code leaves out unless asked.
        ``torch.optim.RAdam`` is this with n = 5 and L2 decay unless asked.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = RAdam(linear.parameters(), lr=1e-2, weight_decay=0.1)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg', 'exp_avg_sq', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot()}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        degenerated_to_sgd: bool = True,
        n_sma_threshold: float = 5,
        adam_debias: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        numbers = {**adam_numbers(group), **rectified(group, t)}
        waits = numbers["root"] == 0 and not group["degenerated_to_sgd"]
        return {**numbers, "keep": 1.0} if waits else numbers

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p and the moments m and v in place."""
        g = decayed(p, g, h)
        update_moments(g, m, v, h)
        p.addcdiv_(m, denominator(v, None, h), value=h.minus_step)
