"""SGDMRT: SGD with momentum that is transported along the sphere (Roburin et al. 2020)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._math import TINY, Blocks
from optimizers._slots import Slot
from optimizers._transport import step_and_transport


class SGDMRT(BlockOptimizer):
    r"""SGD with momentum, rescaled and transported for scale-invariant weights.

    A weight before a normalization layer matters only by its direction, so training moves on spheres: one per *block*.
    The momentum is kept tangent to the sphere at the new point. For each block (:math:`\langle a,b\rangle` sums over
    the block), with :math:`\mu` = ``momentum``, :math:`\delta` = ``dampening`` and :math:`\lambda` = ``weight_decay``:

    .. math::
        g &\leftarrow g + \lambda\theta \\
        a &\leftarrow \mu a + (1-\delta) g, \qquad a_0 = 0 \\
        x &= \theta, \qquad \theta \leftarrow \theta - \eta a \\
        a &\leftarrow \frac{\langle x,\theta\rangle\, a - \langle a,\theta\rangle\, x}{\langle\theta,\theta\rangle}
        \quad\text{(blocks of more than one element)}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \ge 0`. With 0 there is no state besides the step count.
        dampening: :math:`\delta \in [0, 1]`; acts from the first step on, unlike in ``torch.optim.SGD``.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block, ``None`` leaves every entry
            alone, which is plain SGD with momentum.
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
        S. Roburin et al., "A spherical analysis of Adam with Batch Normalization", arXiv 2006.13382. The authors' code
        adds the decay to ``p.grad`` itself, takes no closure, and divides by zero for a zero block; here the momentum
        of a zero block becomes zero.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 8, 3, bias=False)
        >>> optimizer = SGDMRT(conv.parameters(), lr=0.1, momentum=0.9, channel_dims=(0,))
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[conv.weight]["momentum_buffer"].shape
        torch.Size([8, 3, 3, 3])
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        channel_wise: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "transports": float(group["momentum"]) != 0 and not blocks.elementwise,
            "minus_lr": -float(group["lr"]),
            "momentum": group["momentum"],
            "undamped": 1 - float(group["dampening"]),
            "weight_decay": group["weight_decay"],
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
        """Update p and the momentum a in place."""
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        if a is None:
            p.add_(g * h.undamped, alpha=h.minus_lr)
            return
        a.mul_(h.momentum).add_(g, alpha=h.undamped)
        if h.transports:
            step_and_transport(p, a, h.minus_lr, h.blocks, TINY)  # a zero block has zero dot products: 0 / TINY = 0
        else:
            p.add_(a, alpha=h.minus_lr)
