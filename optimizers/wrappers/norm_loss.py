"""Norm loss: pulls the rows of weights to norm 1, before any optimizer (Georgiou et al. 2021)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from optimizers._check import Check, Number
from optimizers.functional import norm_loss
from optimizers.wrappers._base import Wrapper, evaluate, needs_closure


class NormLoss(Wrapper):
    r"""Norm loss: in place of weight decay, the norm of every row of a weight is pulled to 1.

    Right before the step of the optimizer inside, which does not see it in the gradient, and with its rate
    :math:`\eta`:

    .. math::
        \theta \leftarrow \theta\left(1 - 2\eta f\Big(1 - \frac{1}{\|\theta\| + \epsilon}\Big)\right)
        \qquad\text{for each row (index of dim 0; a vector is one row)}

    Args:
        optimizer: the optimizer inside; its groups must have an ``lr``.
        norm_loss_factor: :math:`f \ge 0`.
        norm_loss_eps: :math:`\epsilon \ge 0`.

    Both can be set per group. Parameters without a gradient stay as they are. There is no state.

    Raises:
        ValueError: an option out of bounds.

    Source:
        T. Georgiou et al., "Norm loss: an efficient yet effective regularization method for deep neural networks",
        arXiv 2103.06583. As in `Ranger21` it acts on the weight itself, so moments and adaptive rates do not see it.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[2.0, 0.0]]))
        >>> optimizer = NormLoss(torch.optim.SGD([weight], lr=0.125), norm_loss_factor=1.0)
        >>> weight.grad = torch.zeros(1, 2)
        >>> optimizer.step()
        >>> weight.tolist()
        [[1.75, 0.0]]
    """

    name: ClassVar[str] = "normloss"
    checks: ClassVar[Mapping[str, Check]] = {"norm_loss_factor": Number(), "norm_loss_eps": Number()}

    def __init__(self, optimizer: Optimizer, norm_loss_factor: float = 1e-4, norm_loss_eps: float = 1e-8) -> None:
        super().__init__(optimizer, {"norm_loss_factor": norm_loss_factor, "norm_loss_eps": norm_loss_eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step.

        Args:
            closure: recomputes loss and gradients. Called first, unless the optimizer inside calls it several times.

        Returns:
            The loss.
        """
        several = closure is not None and needs_closure(self.optimizer)
        loss = None if several else evaluate(closure)
        # Several evaluations: which parameters get a gradient is not known yet.
        moving = [(group, p) for group, p in self.params() if p.grad is not None or (several and p.requires_grad)]
        for group, p in moving:
            factor, eps = self.option(group, "norm_loss_factor"), self.option(group, "norm_loss_eps")
            p.copy_(norm_loss(p, float(group["lr"]), float(factor), float(eps)))
        if several:
            return self.optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        self.optimizer.step()
        return loss
