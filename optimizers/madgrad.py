"""MADGRAD: momentumized, adaptive, dual averaged gradient (Defazio and Jelassi 2021)."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import decay_numbers
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Integer, Number
from optimizers._math import Blocks
from optimizers._rows import Row
from optimizers._slots import Slot

FLOOR = 1e-15
"""Below the cube root of the smallest positive float32, so it replaces zeros only."""


class MADGRAD(BlockOptimizer):
    r"""Dual averaging with a cube root in the denominator, and momentum by averaging the iterates.

    Weights are not moved from where they are but from where they started, :math:`\theta_0`, by weighted sums over all
    gradients so far. With :math:`\gamma = \eta + \epsilon` (0 where :math:`\eta = 0`), k = the number of steps that the
    *optimizer* has made, and c = 1 − ``momentum``:

    .. math::
        \lambda_k &= \gamma\sqrt{k+1}, \qquad s \leftarrow s + \lambda_k g, \qquad \nu \leftarrow \nu + \lambda_k g^2 \\
        \theta &\leftarrow (1-c)\,\theta + c\,\Big(\theta_0 - \frac{s}{\sqrt[3]{\nu} + \epsilon}\Big)

    Without momentum, :math:`\theta_0 = \theta + s/(\sqrt[3]\nu+\epsilon)` before the sums change, and is not stored.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor. With 0 the sums stop, but not the average.
        momentum: in [0, 1). Switched on later, it takes the weights of that time for :math:`\theta_0`.
        weight_decay: at least 0.
        eps: :math:`\epsilon \ge 0`. With 0, entries that have seen no gradient stay where they are.
        weight_decouple: shrink the new :math:`\theta` by :math:`\gamma` ``weight_decay`` times the old one, instead of
            adding ``weight_decay`` times :math:`\theta` to g.
        k: steps made so far; counted by ``step``, and the same in all groups.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group, but k of a group that is added later is that of the
    first group.

    State:
        ``step`` (0-d float32), ``grad_sum``, ``grad_sum_sq`` and, with momentum, ``x0`` (like the parameter; float32
        for half precision).

    Raises:
        ValueError: an option out of bounds.

    Source:
        A. Defazio, S. Jelassi, "Adaptivity without compromise: a momentumized, adaptive, dual averaged gradient method
        for stochastic optimization", arXiv 2101.11075. timm counts k per parameter and decays before averaging.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = MADGRAD(linear.parameters(), lr=1e-2)
        >>> linear(torch.ones(1, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["k"]
        1
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "grad_sum": Slot(),
        "grad_sum_sq": Slot(),
        "x0": Slot(start="parameter", when="momentum"),
    }
    checks: ClassVar[Mapping[str, Check]] = {"momentum": Number(high=1.0, below=True), "k": Integer(low=0)}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        weight_decouple: bool = False,
        k: int = 0,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which counts the steps that the others have made."""
        super().add_param_group(param_group)
        self.param_groups[-1]["k"] = self.param_groups[0]["k"]

    def prepare(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Count the step; the rows already have the numbers of this one."""
        for group in self.param_groups:
            group["k"] += 1
        return super().prepare(rows)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        lr, eps = float(group["lr"]), float(group["eps"])
        gamma = lr + eps if lr else 0.0
        decay = decay_numbers(group)
        return {
            "maximize": group["maximize"],
            "couples": decay["couples"],
            "shrinks": decay["shrinks"],
            "guards": eps == 0,
            "weight_decay": decay["weight_decay"],
            "shrink": gamma * decay["weight_decay"],
            "weight": gamma * sqrt(group["k"] + 1),
            "c": 1 - float(group["momentum"]),
            "eps": eps,
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, s: Tensor, nu: Tensor, x0: Tensor | None, h: Any) -> None:
        """Update p and the sums s and nu in place."""
        if h.couples:
            g = (p * h.weight_decay).add_(g)
        start = p + s / root(nu, h) if x0 is None else x0
        s.add_(g * h.weight)
        nu.add_(g * g * h.weight)
        end = start - s / root(nu, h)
        shrink = p * h.shrink if h.shrinks else None
        p.lerp_(end, h.c)
        if shrink is not None:
            p.sub_(shrink)


def root(nu: Tensor, h: Any) -> Tensor:
    """Return the denominator. Where it would be zero, so is s, and any number does."""
    rms = nu.pow(1 / 3)
    return rms.clamp_min(FLOOR) if h.guards else rms.add_(h.eps)
