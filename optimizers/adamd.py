"""AdamD: Adam without the correction of the first moment (St John 2021)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected, decayed, denominator, update_moments
from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers._slots import Slot


class AdamD(BlockOptimizer):
    r"""Adam that corrects the bias of the second moment only, so that its first steps are short.

    Dividing m by :math:`1-\beta_1^t` makes the first step as long as a whole average of gradients. Without that, the
    learning rate warms up by itself:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta - \eta\,\frac{m}{\sqrt v/\sqrt{1-\beta_2^t} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        amsgrad: use the running maximum of v in the second line.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``, ``max_exp_avg_sq`` (like the
        parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        J. St John, "AdamD: improved bias-correction in Adam", arXiv 2110.10828. `RAdam`, `AdaBelief`, `AdaBound`,
        `DiffGrad` and `AdaPNM` do the same with ``adam_debias``.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = AdamD([w], lr=0.1)
        >>> w.square().sum().backward()
        >>> optimizer.step()
        >>> round(w[0].item(), 6)
        0.99
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
        weight_decay: float = 0.0,
        weight_decouple: bool = False,
        amsgrad: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {**adam_numbers(group), **corrected({**group, "adam_debias": True}, t)}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Update p, the moments m and v and the maximum of v in place."""
        g = decayed(p, g, h)
        update_moments(g, m, v, h)
        p.addcdiv_(m, denominator(v, v_max, h), value=h.minus_step)
