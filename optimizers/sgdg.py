"""SGDG: SGD with momentum on Grassmann manifolds (Cho and Lee 2017)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Number, OrNone
from optimizers._grassmann import clipping_numbers, geodesic, tangent
from optimizers._math import Blocks
from optimizers._sgd import sgd_numbers, sgd_step
from optimizers._slots import Slot


class SGDG(BlockOptimizer):
    r"""Cho and Lee's SGD with momentum for weights that count only by their direction.

    A weight before a normalization layer is a point on a Grassmann manifold :math:`G(1, n)`: it is kept at norm 1 and
    moves along geodesics. For each *block* (:math:`\langle a,b\rangle` sums over the block), with :math:`\mu` =
    ``momentum`` and :math:`\nu` = ``grad_clip``:

    .. math::
        y &= \theta/\|\theta\|, \qquad h = g - \langle y,g\rangle y, \qquad h \leftarrow h\,\nu/\max(\|h\|, \nu) \\
        d &= \mu m - \eta h, \qquad a = \|d\|, \qquad u = d/a \\
        \theta &\leftarrow y\cos a + u\sin a, \qquad m \leftarrow a\,(u\cos a - y\sin a)

    Blocks of one element, and parameters without a partition, get ``torch.optim.SGD`` with momentum and L2 decay. The
    first step sets the norm of every block to 1, so use partitions only for weights whose scale does not matter. With
    ``lr=0`` nothing moves.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \ge 0`. With 0 there is no state besides the step count.
        weight_decay: coupled (L2) decay :math:`\ge 0`; without effect on the manifold.
        grad_clip: :math:`\nu > 0`; ``None`` for no clipping. Without effect off the manifold.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block, ``None`` is SGD.
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
        M. Cho, J. Lee, "Riemannian approach to batch normalization", arXiv 1709.09603, where it is called SGD-G. The
        authors' channels are the last dim.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 4, 3, bias=False)
        >>> optimizer = SGDG(conv.parameters(), lr=0.2, channel_dims=(0,))
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> torch.allclose(conv.weight.flatten(1).norm(dim=1), torch.ones(4))
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}
    checks: ClassVar[Mapping[str, Check]] = {"grad_clip": OrNone(Number(above=True))}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        grad_clip: float | None = 0.1,
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
            "on_sphere": not blocks.elementwise,
            "moves": float(group["lr"]) != 0,
            **clipping_numbers(group),
            "weight_decay": group["weight_decay"],
            **sgd_numbers({**group, "nesterov": False, "dampening": 0.0}, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor | None, h: Any) -> None:
        """Update p and the momentum m in place."""
        if not h.on_sphere:
            sgd_step(p, (p * h.weight_decay).add_(g) if h.decays else g, m, h)
        elif h.moves:
            y, d = tangent(p, g, h)
            d.mul_(h.minus_lr)
            if m is not None:
                d.add_(m.mul(h.momentum))
            end, u, angle = geodesic(y, d, h)
            p.copy_(end)
            if m is not None:
                m.copy_(u.mul(angle.cos()).sub_(y.mul(angle.sin())).mul_(angle))
