"""AdamG: Adam on Grassmann manifolds (Cho and Lee 2017)."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Choice, Number, OrNone
from optimizers._grassmann import clipping_numbers, geodesic, tangent
from optimizers._math import TINY, Blocks
from optimizers._slots import Slot


class AdamG(BlockOptimizer):
    r"""Cho and Lee's Adam for weights that count only by their direction; not the parameter-free "AdamG".

    A weight before a normalization layer is a point on a Grassmann manifold :math:`G(1, n)`: it is kept at norm 1 and
    moves along geodesics. For each *block* (:math:`\langle a,b\rangle` sums over the block), with :math:`\nu` =
    ``grad_clip``:

    .. math::
        y &= \theta/\|\theta\|, \qquad h = g - \langle y,g\rangle y, \qquad h \leftarrow h\,\nu/\max(\|h\|, \nu) \\
        m &\leftarrow \beta_1 m + (1-\beta_1) h, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\langle h,h\rangle \\
        \Delta &= -\eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt{v+\epsilon}}, \qquad
        a = \|\Delta\|, \qquad u = \Delta/a \\
        \theta &\leftarrow y\cos a + u\sin a, \qquad
        m \leftarrow m - \langle u,m\rangle\,(y\sin a + u\,(1-\cos a))

    Blocks of one element, and parameters without a partition, get Adam with L2 decay. The first step sets the norm of
    every block to 1, so use partitions only for weights whose scale does not matter. With ``lr=0`` nothing moves.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`, on the manifold an angle; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: coupled (L2) decay :math:`\ge 0`; without effect on the manifold.
        grad_clip: :math:`\nu > 0`; ``None`` for no clipping. The paper takes 0.1.
        retraction: ``"exp"``, as above, or ``"projection"``: a step of `AdamSRT`'s kind without projection of g,
            followed by a division by the norm.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block, ``None`` is Adam.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        channel_wise: shorthand for ``channel_dims=(0,)``; an explicit ``channel_dims`` wins.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` (like the parameter) and ``exp_avg_sq`` (one number per block); float32 for
        half precision.

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        M. Cho, J. Lee, "Riemannian approach to batch normalization", arXiv 1709.09603. The authors' channels are the
        last dim. The AdamG of the package adamsrt is another rule: it has ``channel_wise`` inverted, and ``retraction=
        "projection"`` is what it does otherwise.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 4, 3, bias=False)
        >>> optimizer = AdamG(conv.parameters(), lr=0.05, grad_clip=0.1, channel_dims=(0,))
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> torch.allclose(conv.weight.flatten(1).norm(dim=1), torch.ones(4))
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot(shape="block")}
    checks: ClassVar[Mapping[str, Check]] = {
        "grad_clip": OrNone(Number(above=True)),
        "retraction": Choice(("exp", "projection")),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        grad_clip: float | None = None,
        retraction: str = "exp",
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        channel_wise: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        (beta1, beta2), lr = map(float, group["betas"]), float(group["lr"])
        exponential = group["retraction"] == "exp"
        minus_step, root_b2 = -lr / (1 - beta1**t), sqrt(1 - beta2**t)
        on_geodesic = exponential and not blocks.elementwise
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0 and blocks.elementwise,
            "on_sphere": not blocks.elementwise,
            "exponential": exponential,
            "moves": lr != 0,
            **clipping_numbers(group),
            "weight_decay": group["weight_decay"],
            "one_minus_beta1": 1 - beta1,
            "one_minus_beta2": 1 - beta2,
            "minus_step": minus_step * root_b2 if on_geodesic else minus_step,
            "root_b2": root_b2,
            "eps": float(group["eps"]) + TINY,
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p, the first moment m and the second moment v in place."""
        if h.on_sphere and h.exponential:
            _follow_geodesic(p, g, m, v, h)
            return
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        dot = h.blocks.dot
        m.lerp_(g, h.one_minus_beta1)
        v.lerp_(dot(g, g), h.one_minus_beta2)
        if not h.moves:
            return
        x = p.clone()
        p.addcdiv_(m, v.sqrt().div_(h.root_b2).add_(h.eps), value=h.minus_step)
        if h.on_sphere:
            norm = h.blocks.norm(p)
            scale = h.blocks.norm(x).mul_(norm).add_(h.eps)
            along_m, along_x = dot(p, x).div_(scale), dot(p, m).div_(scale)
            m.mul_(along_m).sub_(x.mul_(along_x))
            p.div_(norm.add_(h.eps))


def _follow_geodesic(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
    dot = h.blocks.dot
    y, along = tangent(p, g, h)
    m.lerp_(along, h.one_minus_beta1)
    v.lerp_(dot(along, along), h.one_minus_beta2)
    if not h.moves:
        return
    end, u, angle = geodesic(y, m.div(v.add(h.eps).sqrt_()).mul_(h.minus_step), h)
    turned = y.mul_(angle.sin()).add_(u.mul(angle.cos().neg().add_(1.0)))
    m.sub_(turned.mul_(dot(u, m)))
    p.copy_(end)
