"""AdamP: Adam without the growth of norms (Heo et al. 2021)."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import options
from optimizers._math import Blocks
from optimizers._projection import ProjectedOptimizer, descend, projection_hyper
from optimizers._slots import Slot


class AdamP(ProjectedOptimizer):
    r"""Adam whose update is projected on the tangent space of scale-invariant weights.

    A weight before a normalization layer matters only by its direction, but the radial part of Adam's update makes it
    grow, which shrinks the effective learning rate. Here that part is removed, for each block (:math:`\langle
    a,b\rangle` sums over the block), with :math:`\lambda` = ``weight_decay`` and :math:`\rho` = ``wd_ratio``:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        d &= \frac{\tilde m}{\sqrt v/\sqrt{1-\beta_2^t} + \epsilon}, \qquad
        \tilde m = m, \text{ or } \beta_1 m + (1-\beta_1) g \text{ with Nesterov} \\
        d &\leftarrow d - u\langle u, d\rangle, \qquad u = \theta/(\|\theta\|+\epsilon) \\
        \theta &\leftarrow (1 - \eta\lambda\rho)\,\theta - \frac{\eta}{1-\beta_1^t}\,d

    Where nothing is projected, the third line is left out and :math:`\rho = 1`. *Where* to project:

    - a group that states ``channel_dims`` is taken at its word: on exactly its blocks, or nowhere for ``None``;
    - otherwise the paper's guess, anew at each step, for tensors of two and more dims. Seen as rows (one per index of
      dim 0) of :math:`n` entries, and failing that as a single row, the tensor counts as invariant if
      :math:`|\cos(g,\theta)| < \delta/\sqrt n` in all rows.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: decoupled decay :math:`\lambda \ge 0`.
        delta: threshold :math:`\delta \ge 0` of the guess; 0 never projects, infinity always, by rows.
        wd_ratio: :math:`\rho` in [0, 1], what remains of the decay where the update is projected.
        nesterov: look ahead with the momentum.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block. ``None`` here leaves the
            choice to the guess, and in a group projects nothing.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        channel_wise: shorthand for ``channel_dims=(0,)``; an explicit ``channel_dims`` wins.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` and ``exp_avg_sq`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        B. Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights", arXiv
        2006.08217. Without stated partitions this is the authors' code, except that the guess is made without a
        transfer from the device, and that channels_last weights work. pytorch_optimizer divides :math:`\epsilon` by
        :math:`\sqrt{1-\beta_2^t}` as well.

    Example:
        >>> import torch
        >>> conv = torch.nn.Conv2d(3, 8, 3, bias=False)
        >>> optimizer = AdamP([{"params": [conv.weight], "channel_dims": (0,)}], lr=1e-2)
        >>> before = conv.weight.detach().clone()
        >>> conv(torch.ones(1, 3, 5, 5)).square().mean().backward()
        >>> optimizer.step()
        >>> bool((before * (conv.weight - before)).sum((1, 2, 3)).abs().max() < 1e-6)  # the step is tangent
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot()}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        channel_wise: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        lr = float(group["lr"])
        return {
            **projection_hyper(group, lr * float(group["weight_decay"]), blocks),
            "maximize": group["maximize"],
            "nesterov": group["nesterov"],
            "beta1": beta1,
            "one_minus_beta1": 1 - beta1,
            "one_minus_beta2": 1 - beta2,
            "root_b2": sqrt(1 - beta2**t),
            "minus_step": -lr / (1 - beta1**t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p, the first moment m and the second moment v in place."""
        m.lerp_(g, h.one_minus_beta1)
        v.lerp_(g * g, h.one_minus_beta2)
        den = v.sqrt().div_(h.root_b2).add_(h.eps)
        ahead = m.mul(h.beta1).add_(g * h.one_minus_beta1) if h.nesterov else m
        descend(p, g, ahead.div(den), h)
