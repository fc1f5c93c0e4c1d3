"""SGDP: SGD with momentum without the growth of norms (Heo et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import options
from optimizers._check import Check, Number
from optimizers._math import Blocks
from optimizers._projection import ProjectedOptimizer, descend, projection_hyper
from optimizers._slots import Slot


class SGDP(ProjectedOptimizer):
    r"""SGD with momentum whose update is projected on the tangent space of scale-invariant weights.

    A weight before a normalization layer matters only by its direction, but momentum makes it grow, which shrinks the
    effective learning rate. Here the radial part of the update is removed, for each block (:math:`\langle a,b\rangle`
    sums over the block), with :math:`\mu` = ``momentum``, :math:`\tau` = ``dampening``, :math:`\lambda` =
    ``weight_decay`` and :math:`\rho` = ``wd_ratio``:

    .. math::
        a &\leftarrow \mu a + (1-\tau) g, \qquad a_0 = 0 \\
        d &= a, \text{ or } g + \mu a \text{ with Nesterov} \\
        d &\leftarrow d - u\langle u, d\rangle, \qquad u = \theta/(\|\theta\|+\epsilon) \\
        \theta &\leftarrow \Bigl(1 - \frac{\eta\lambda\rho}{1-\mu}\Bigr)\,\theta - \eta\,d

    Where nothing is projected, the third line is left out and :math:`\rho = 1`. *Where* to project is decided as in
    `AdamP`: on exactly the blocks of a group that states ``channel_dims`` (nowhere for ``None``), otherwise by the
    paper's guess.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu` in [0, 1). With 0 there is no state besides the step count.
        dampening: :math:`\tau \in [0, 1]`; acts from the first step on, unlike in ``torch.optim.SGD``.
        weight_decay: decoupled decay :math:`\lambda \ge 0`.
        nesterov: look ahead with the momentum.
        eps: :math:`\epsilon \ge 0`, for the norms of the projection.
        delta: threshold :math:`\delta \ge 0` of the guess; 0 never projects, infinity always, by rows.
        wd_ratio: :math:`\rho` in [0, 1], what remains of the decay where the update is projected.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block. ``None`` here leaves the
            choice to the guess, and in a group projects nothing.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        channel_wise: shorthand for ``channel_dims=(0,)``; an explicit ``channel_dims`` wins.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32) and, with momentum, ``momentum_buffer`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        B. Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights", arXiv
        2006.08217. Without Nesterov, the authors' code projects the momentum buffer itself, because the direction is
        the same tensor; the algorithm of the paper, and this one, leave the buffer alone.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 8, 3, bias=False)
        >>> optimizer = SGDP([{"params": [conv.weight], "channel_dims": (0,)}], lr=0.1, momentum=0.9)
        >>> before = conv.weight.detach().clone()
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> bool((before * (conv.weight - before)).sum((1, 2, 3)).abs().max() < 1e-6)  # the step is tangent
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}
    checks: ClassVar[Mapping[str, Check]] = {**ProjectedOptimizer.checks, "momentum": Number(high=1.0, below=True)}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        channel_wise: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        lr, momentum = float(group["lr"]), float(group["momentum"])
        return {
            **projection_hyper(group, lr * float(group["weight_decay"]) / (1 - momentum), blocks),
            "maximize": group["maximize"],
            "nesterov": group["nesterov"],
            "momentum": momentum,
            "undamped": 1 - float(group["dampening"]),
            "minus_step": -lr,
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
        """Update p and the momentum a in place."""
        if a is None:
            d = g.clone() if h.nesterov else g * h.undamped
        else:
            a.mul_(h.momentum).add_(g * h.undamped)
            d = a.mul(h.momentum).add_(g) if h.nesterov else a.clone()
        descend(p, g, d, h)
