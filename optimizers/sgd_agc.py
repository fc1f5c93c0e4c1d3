"""SGD with adaptive gradient clipping (Brock et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._agc import ClippedOptimizer, clipped, clipping_numbers
from optimizers._base import options
from optimizers._math import Blocks
from optimizers._sgd import check_nesterov, sgd_numbers, sgd_step
from optimizers._slots import Slot


class SGD_AGC(ClippedOptimizer):  # noqa: N801
    r"""SGD whose gradients are clipped in proportion to the weights: no unit changes by more than a given ratio.

    With c = ``clipping`` and :math:`\epsilon` = ``agc_eps``, for each unit (see ``channel_dims``), and then with
    :math:`\lambda` = ``weight_decay``, :math:`\mu` = ``momentum`` and :math:`\delta` = ``dampening`` as in
    ``torch.optim.SGD``:

    .. math::
        g &\leftarrow g\,\frac{\ell}{\max(\|g\|, 10^{-6})} \text{ where } \|g\| > \ell,
        \qquad \ell = c\max(\|\theta\|, \epsilon) \\
        g &\leftarrow g + \lambda\theta \\
        a &\leftarrow \mu a + (1-\delta) g, \qquad a_1 = g \\
        \theta &\leftarrow \theta - \eta a, \text{ or } \theta - \eta(g + \mu a) \text{ with Nesterov}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \ge 0`. With 0 there is no state besides the step count.
        dampening: :math:`\delta \in [0, 1]`.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`, added after clipping.
        nesterov: look ahead with the momentum; needs momentum, and no dampening.
        clipping: :math:`c \ge 0`; 0 or ``None`` for no clipping. The paper leaves out the last linear layer.
        agc_eps: :math:`\epsilon \ge 0`, so that units that start at zero can move.
        channel_dims: dims whose index names the unit; ``()`` makes the tensor one unit. ``None`` is the paper's choice:
            one unit per index of dim 0, and a vector as a whole.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous units; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32) and, with momentum, ``momentum_buffer`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, ``nesterov`` without momentum or with dampening, or a partition that does
            not fit a parameter.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171. The
        package agc-optims rescales every gradient to the limit, the short ones too, and has the units of another
        framework's layout.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2, bias=False)
        >>> optimizer = SGD_AGC(linear.parameters(), lr=1.0, clipping=0.5)
        >>> before = linear.weight.detach().clone()
        >>> (100 * linear(torch.ones(1, 4))).sum().backward()
        >>> optimizer.step()
        >>> (linear.weight.detach() - before).norm(dim=1) / before.norm(dim=1)
        tensor([0.5000, 0.5000])
    """

    slots: ClassVar[Mapping[str, Slot]] = {"momentum_buffer": Slot(when="momentum")}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        clipping: float | None = 1e-2,
        agc_eps: float = 1e-3,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_nesterov(type(self).__name__, group)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "weight_decay": group["weight_decay"],
            **clipping_numbers(group),
            **sgd_numbers(group, t),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
        """Update p and the momentum a in place."""
        g = clipped(p, g, h)
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        sgd_step(p, g, a, h)
