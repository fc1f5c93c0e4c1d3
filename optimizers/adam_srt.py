"""AdamSRT: Adam on spheres, with rescaling and transport of the moments (Roburin et al. 2020)."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._math import TINY, Blocks
from optimizers._slots import Slot
from optimizers._transport import step_and_transport


class AdamSRT(BlockOptimizer):
    r"""Adam on spheres, with Rescaling and Transport of the moments, for scale-invariant weights.

    A weight before a normalization layer matters only by its direction, so training moves on spheres: one per *block*.
    The second moment is one number per block, and after the step the first moment is made tangent to the sphere at the
    new point while the second follows the change of radius. For each block of :math:`d` elements
    (:math:`\langle a,b\rangle` sums over the block), with :math:`\lambda` = ``weight_decay``:

    .. math::
        g &\leftarrow g + \lambda\theta \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\langle g,g\rangle \\
        x &= \theta, \qquad \theta \leftarrow \theta
          - \eta\sqrt d\,\frac{m/(1-\beta_1^t)}{\sqrt v/\sqrt{1-\beta_2^t} + \epsilon} \\
        v &\leftarrow v\,\frac{\langle x,x\rangle}{\langle\theta,\theta\rangle+\epsilon}, \qquad
        m \leftarrow \frac{\langle x,\theta\rangle\, m - \langle m,\theta\rangle\, x}
          {\langle\theta,\theta\rangle+\epsilon}

    Blocks of one element skip the last line: that is Adam with L2 decay.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block, ``None`` leaves every entry
            alone.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        channel_wise: shorthand for ``channel_dims=(0,)``; an explicit ``channel_dims`` wins.
        rt: do the last line. Without it this is `AdamS`.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` (like the parameter) and ``exp_avg_sq`` (one number per block: a convolution
        weight ``[o, i, h, w]`` with ``channel_dims=(0,)`` has ``[o, 1, 1, 1]``); float32 for half precision.

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        S. Roburin et al., "A spherical analysis of Adam with Batch Normalization", arXiv 2006.13382. The paper divides
        :math:`\langle g,g\rangle` by d; like the authors' code this multiplies the step by :math:`\sqrt d`, so that
        :math:`\epsilon` acts as :math:`\epsilon/\sqrt d`. Their code stores v at full size, adds the decay to
        ``p.grad`` itself and takes no closure. The transport is theirs: to second order in the step.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 8, 3, bias=False)
        >>> optimizer = AdamSRT(conv.parameters(), lr=1e-2, channel_dims=(0,))
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[conv.weight]["exp_avg_sq"].shape
        torch.Size([8, 1, 1, 1])
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot(shape="block")}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        channel_wise: bool = False,
        rt: bool = True,
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
            "transports": group["rt"] and not blocks.elementwise,
            "weight_decay": group["weight_decay"],
            "one_minus_beta1": 1 - beta1,
            "one_minus_beta2": 1 - beta2,
            "root_b2": sqrt(1 - beta2**t),
            "minus_step": -float(group["lr"]) * sqrt(blocks.size) / (1 - beta1**t),
            "eps": float(group["eps"]) + TINY,  # so that eps=0 gives 0 / TINY = 0, not NaN, for zero gradients
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p, the first moment m and the second moment v in place."""
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        m.lerp_(g, h.one_minus_beta1)
        v.lerp_(h.blocks.dot(g, g), h.one_minus_beta2)
        den = v.sqrt().div_(h.root_b2).add_(h.eps)
        if h.transports:
            v.mul_(step_and_transport(p, m, den.reciprocal().mul_(h.minus_step), h.blocks, h.eps))
        else:
            p.addcdiv_(m, den, value=h.minus_step)
