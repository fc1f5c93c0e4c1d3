"""AdaBelief: Adam with the variance around the first moment (Zhuang et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected, decayed, denominator, rectified
from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers._slots import Slot


class AdaBelief(BlockOptimizer):
    r"""Adam whose second moment measures how far the gradient is from its own average.

    A gradient that comes as predicted is believed, and the step is long. With the new m in the second line:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g \\
        s &\leftarrow \beta_2 s + (1-\beta_2)(g-m)^2 + \epsilon \\
        \theta &\leftarrow \theta - \frac{\eta}{1-\beta_1^t}\,\frac{m}{\sqrt s/\sqrt{1-\beta_2^t} + \epsilon}

    With ``rectify``, the last line is that of `RAdam` on m and s.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`; the one in the second line stays in s.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        fixed_decay: with ``weight_decouple``, shrink by :math:`\lambda\theta`, unless lr is 0.
        rectify: take the step of `RAdam`.
        degenerated_to_sgd: with ``rectify``, step by :math:`-\eta m/(1-\beta_1^t)` before rectification; else only the
            decay acts then.
        n_sma_threshold: rectify from this length of the average on; > 4.
        amsgrad: use the running maximum of s in the last line, with or without ``rectify``.
        adam_debias: leave out :math:`1/(1-\beta_1^t)`, as `AdamD` does.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_var`` and, with ``amsgrad``, ``max_exp_avg_var`` (like the
        parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        J. Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", arXiv
        2010.07468. ``rectify`` is the default of the authors' code, not of the paper. Their code forgets the running
        maximum when it rectifies.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = AdaBelief(linear.parameters(), lr=1e-2, weight_decay=0.1)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg', 'exp_avg_var', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg": Slot(),
        "exp_avg_var": Slot(),
        "max_exp_avg_var": Slot(when="amsgrad"),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        fixed_decay: bool = False,
        rectify: bool = True,
        degenerated_to_sgd: bool = True,
        n_sma_threshold: float = 5,
        amsgrad: bool = False,
        adam_debias: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        step = rectified(group, t) if group["rectify"] else corrected(group, t)
        return {**adam_numbers(group), **step, "eps": group["eps"]}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, s: Tensor, s_max: Tensor | None, h: Any) -> None:
        """Update p, the first moment m, the variance s and its maximum in place."""
        g = decayed(p, g, h)
        m.lerp_(g, h.one_minus_beta1)
        surprise = g - m
        s.lerp_(surprise * surprise, h.one_minus_beta2).add_(h.eps)
        p.addcdiv_(m, denominator(s, s_max, h), value=h.minus_step)
