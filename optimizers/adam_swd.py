"""AdamSWD: Adam with stable weight decay (Xie et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import corrected, denominator, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers._rows import Row
from optimizers._slots import Slot
from optimizers._whole import inverse_rms


class AdamSWD(BlockOptimizer):
    r"""Adam with stable weight decay: the decay follows the effective learning rate of the whole model.

    Decoupled decay shrinks weights by :math:`\eta\lambda`, although Adam's own steps are about
    :math:`\eta/\sqrt v` times the gradient. Here the decay is divided by one root mean square :math:`\bar v` of all
    parameters of all groups that have a gradient, :math:`n` entries in total. With
    :math:`\lambda` = ``weight_decay``:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \bar v &= \sqrt{\frac1n \sum \frac{v}{1-\beta_2^t}} \\
        \theta &\leftarrow \theta\,(1 - \eta\lambda/\bar v), \qquad \theta \leftarrow \theta
          - \eta\,\frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    With ``amsgrad``, the running maximum of v takes the place of v in the last two lines. If :math:`\bar v = 0` there
    is no decay.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        amsgrad: use the running maximum of v.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``, ``max_exp_avg_sq`` (like the
        parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        Z. Xie et al., "On the Overlooked Pitfalls of Weight Decay and How to Mitigate Them", arXiv 2011.11152; there
        and elsewhere called AdamS, which is another algorithm here. The authors' code divides by zero where
        :math:`\bar v = 0`, and takes ``amsgrad`` from the last parameter for all.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = AdamSWD(linear.parameters(), lr=1e-3, weight_decay=5e-4)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg', 'exp_avg_sq', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg": Slot(),
        "exp_avg_sq": Slot(),
        "max_exp_avg_sq": Slot(when="amsgrad"),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        amsgrad: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "rate": float(group["lr"]) * float(group["weight_decay"]),
            "one_minus_beta1": 1 - beta1,
            "one_minus_beta2": 1 - beta2,
            **corrected(group, t),
        }

    @staticmethod
    def observe(p: Tensor, g: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Update the moments in place."""
        update_moments(g, m, v, h)
        if v_max is not None:
            v_max.copy_(v_max.maximum(v))

    def prepare(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Return the inverse root mean square of the second moments of all parameters."""
        if not any(float(group["weight_decay"]) for group in self.param_groups):
            return {}
        seconds = [next(x for x in (row.slots[2], row.slots[1]) if x is not None) for row in rows]
        return {"inverse_v": inverse_rms(seconds, [row.values["root"] ** 2 for row in rows])}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Decay and update p in place."""
        if h.decays:
            p.sub_((p * h.rate).mul_(h.inverse_v))
        p.addcdiv_(m, denominator(v if v_max is None else v_max, None, h), value=h.minus_step)
