"""PNM: SGD with positive-negative momentum (Xie et al. 2021)."""

from collections.abc import Mapping
from math import hypot
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import decay_numbers, decayed
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Each, Number
from optimizers._math import Blocks
from optimizers._slots import Slot

BETA0 = Number()
"""Bound of the weight of the old momentum: it is no decay rate, and its usual value is 1."""


def momentum_numbers(beta1: float, beta0: float, t: int, scale: float = 1.0) -> dict[str, float | bool]:
    """Return what `positive_negative` reads."""
    unit = scale / hypot(1 + beta0, beta0)
    return {
        "odd": t % 2 == 1,
        "one_minus_beta1_squared": 1 - beta1**2,
        "positive": (1 + beta0) * unit,
        "negative": -beta0 * unit,
    }


def positive_negative(g: Tensor, odd: Tensor, even: Tensor, h: Any) -> Tensor:
    """Update the momentum of this parity in place. Return ``scale`` times its difference to the other."""
    now, before = (odd, even) if h.odd else (even, odd)
    now.lerp_(g, h.one_minus_beta1_squared)
    return (now * h.positive).add_(before * h.negative)


class PNM(BlockOptimizer):
    r"""SGD with positive-negative momentum: more of the noise that helps to generalize, at the same mean step.

    Odd and even steps have a momentum each. The update is the difference between the one just renewed, a, and the other
    one, b, weighted so that the noise grows with :math:`\beta_0`:

    .. math::
        a &\leftarrow \beta_1^2 a + (1-\beta_1^2) g \\
        \theta &\leftarrow \theta - \eta\,\frac{(1+\beta_0)\, a - \beta_0 b}{\sqrt{(1+\beta_0)^2 + \beta_0^2}}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_0)` with :math:`\beta_1 \in [0, 1)` and :math:`\beta_0 \ge 0`, usually 1.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: first shrink :math:`\theta` by :math:`\eta\lambda\theta`, instead of adding
            :math:`\lambda\theta` to g.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg_odd`` and ``exp_avg_even`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        Z. Xie et al., "Positive-negative momentum: manipulating stochastic gradient noise to improve generalization",
        arXiv 2103.17182. The same as the authors' code.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = PNM(linear.parameters(), lr=0.1, betas=(0.9, 1.0))
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[linear.weight]["exp_avg_even"].count_nonzero().item()
        0
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg_odd": Slot(), "exp_avg_even": Slot()}
    checks: ClassVar[Mapping[str, Check]] = {"betas": Each((Number(high=1.0, below=True), BETA0))}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 1.0),
        weight_decay: float = 0.0,
        weight_decouple: bool = True,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def phases(self, group: Mapping[str, Any]) -> tuple[int, ...]:
        """Return an odd and an even step."""
        return (1, 2)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta0 = map(float, group["betas"])
        return {
            "maximize": group["maximize"],
            **decay_numbers(group),
            **momentum_numbers(beta1, beta0, t, scale=-float(group["lr"])),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, odd: Tensor, even: Tensor, h: Any) -> None:
        """Update p and the momentum of this parity in place."""
        g = decayed(p, g, h)
        p.add_(positive_negative(g, odd, even, h))
