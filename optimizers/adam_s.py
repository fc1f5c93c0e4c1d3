"""AdamS: Adam on spheres without transport (Roburin et al. 2020)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._math import Blocks
from optimizers.adam_srt import AdamSRT


class AdamS(AdamSRT):
    r"""Roburin et al.'s spherical Adam: `AdamSRT` without its last line. Not the stable-weight-decay "AdamS".

    One adaptive learning rate per *block* instead of one per entry. For each block of :math:`d` elements
    (:math:`\langle a,b\rangle` sums over the block), with :math:`\lambda` = ``weight_decay``:

    .. math::
        g &\leftarrow g + \lambda\theta \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\langle g,g\rangle \\
        \theta &\leftarrow \theta
          - \eta\sqrt d\,\frac{m/(1-\beta_1^t)}{\sqrt v/\sqrt{1-\beta_2^t} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`.
        channel_dims: dims whose index names the block; ``()`` makes the tensor one block, ``None`` leaves every entry
            alone, which is Adam with L2 decay.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        channel_wise: shorthand for ``channel_dims=(0,)``; an explicit ``channel_dims`` wins.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group. State and errors are those of `AdamSRT`.

    Source:
        S. Roburin et al., "A spherical analysis of Adam with Batch Normalization", arXiv 2006.13382; differences to the
        authors' code as for `AdamSRT`. The AdamS of Xie et al. (arXiv 2011.11152) is another algorithm.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 6)
        >>> heads = {"params": [linear.weight], "channel_dims": (0,), "channel_groups": 3}
        >>> optimizer = AdamS([heads, {"params": [linear.bias]}])
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[linear.weight]["exp_avg_sq"].shape
        torch.Size([3, 1])
    """

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
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        # Past AdamSRT's constructor: a group cannot switch the transport on.
        BlockOptimizer.__init__(self, params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return super().hyper({**group, "rt": False}, t, blocks)
