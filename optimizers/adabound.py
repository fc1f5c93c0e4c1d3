"""AdaBound: Adam whose per-entry rates close in on one number (Luo et al. 2019)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected_outside, decayed, denominator, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Number, OrNone
from optimizers._math import Blocks
from optimizers._slots import Slot


class AdaBound(BlockOptimizer):
    r"""Adam with the rate of every entry kept between two bounds that both end at ``final_lr``.

    It starts as Adam and ends as SGD with momentum. With :math:`\eta_0` = ``base_lr`` and :math:`f = \eta\cdot`
    ``final_lr`` :math:`/\eta_0`, so that a scheduler acts on the bounds as well:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta - \operatorname{clip}\Big(
          \frac{\eta\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{1}{\sqrt v + \epsilon},\;
          f\big(1 - \tfrac{1}{\gamma t + 1}\big),\; f\big(1 + \tfrac{1}{\gamma t}\big)\Big)\, m

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        final_lr: rate >= 0 at which all entries end, at :math:`\eta = \eta_0`.
        gamma: speed :math:`\gamma \in (0, 1)` at which the bounds close in.
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        fixed_decay: with ``weight_decouple``, shrink by :math:`\lambda\theta`, unless lr is 0.
        amsgrad: use the running maximum of v in the second line: AMSBound.
        adam_debias: leave out :math:`1/(1-\beta_1^t)`, as `AdamD` does.
        base_lr: :math:`\eta_0 \ge 0`; ``None`` for the lr that the group is added with. With 0, f is ``final_lr``.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``, ``max_exp_avg_sq`` (like the
        parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        L. Luo et al., "Adaptive gradient methods with dynamic bound of learning rate", arXiv 1902.09843. The authors'
        code never updates groups that are added later; their AdaBoundW is ``weight_decouple`` with ``fixed_decay``.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = AdaBound(linear.parameters(), lr=1e-2, final_lr=0.5)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["base_lr"]
        0.01
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg": Slot(),
        "exp_avg_sq": Slot(),
        "max_exp_avg_sq": Slot(when="amsgrad"),
    }
    checks: ClassVar[Mapping[str, Check]] = {
        "final_lr": Number(),
        "gamma": Number(high=1.0, above=True, below=True),
        "base_lr": OrNone(Number()),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decouple: bool = False,
        fixed_decay: bool = False,
        amsgrad: bool = False,
        adam_debias: bool = False,
        base_lr: float | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, and remember the learning rate that its ``final_lr`` refers to."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if group["base_lr"] is None:
            group["base_lr"] = float(group["lr"])

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        base, gamma = float(group["base_lr"]), float(group["gamma"])
        final = float(group["final_lr"]) * (float(group["lr"]) / base if base else 1.0)
        step = corrected_outside(group, t)
        return {
            **adam_numbers(group),
            **step,
            "step": -step["minus_step"],
            "low": final * (1 - 1 / (gamma * t + 1)),
            "high": final * (1 + 1 / (gamma * t)),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Update p, the moments m and v and the maximum of v in place."""
        g = decayed(p, g, h)
        update_moments(g, m, v, h)
        rate = denominator(v, v_max, h).reciprocal().mul_(h.step)
        p.addcmul_(rate.clamp_min(h.low).clamp_max(h.high), m, value=-1)
