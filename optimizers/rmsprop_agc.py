"""RMSprop with adaptive gradient clipping (Brock et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._agc import ClippedOptimizer, clipped, clipping_numbers
from optimizers._base import options
from optimizers._check import Check, Flag, Number
from optimizers._math import TINY, Blocks
from optimizers._slots import Slot


class RMSprop_AGC(ClippedOptimizer):  # noqa: N801
    r"""RMSprop whose gradients are clipped in proportion to the weights.

    With c = ``clipping`` and :math:`\epsilon_c` = ``agc_eps``, for each unit (see ``channel_dims``), and then with
    :math:`\lambda` = ``weight_decay``, :math:`\alpha` = ``alpha`` and :math:`\mu` = ``momentum`` as in
    ``torch.optim.RMSprop``:

    .. math::
        g &\leftarrow g\,\frac{\ell}{\max(\|g\|, 10^{-6})} \text{ where } \|g\| > \ell,
        \qquad \ell = c\max(\|\theta\|, \epsilon_c) \\
        g &\leftarrow g + \lambda\theta \\
        s &\leftarrow \alpha s + (1-\alpha) g^2, \qquad a \leftarrow \alpha a + (1-\alpha) g \\
        b &\leftarrow \mu b + \frac{g}{\sqrt{s - a^2} + \epsilon} \quad (a = 0 \text{ unless centered}) \\
        \theta &\leftarrow \theta - \eta b

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        alpha: :math:`\alpha` in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`, added after clipping.
        momentum: :math:`\mu \ge 0`.
        centered: divide by the deviation instead of the root mean square.
        clipping: :math:`c \ge 0`; 0 or ``None`` for no clipping. The paper leaves out the last linear layer.
        agc_eps: :math:`\epsilon_c \ge 0`, so that units that start at zero can move.
        channel_dims: dims whose index names the unit; ``()`` makes the tensor one unit. ``None`` is the paper's choice:
            one unit per index of dim 0, and a vector as a whole.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous units; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``square_avg``, with ``centered`` ``grad_avg``, and with momentum ``momentum_buffer``
        (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171, in
        front of the RMSprop of A. Graves, arXiv 1308.0850. The package agc-optims rescales every gradient to the limit,
        the short ones too. Unlike in torch, a variance that rounding made negative counts as zero.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = RMSprop_AGC(linear.parameters(), lr=1e-3, centered=True)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[linear.weight])
        ['grad_avg', 'square_avg', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "square_avg": Slot(),
        "grad_avg": Slot(when="centered"),
        "momentum_buffer": Slot(when="momentum"),
    }
    checks: ClassVar[Mapping[str, Check]] = {
        **ClippedOptimizer.checks,
        "alpha": Number(high=1.0, below=True),
        "centered": Flag(),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        clipping: float | None = 1e-2,
        agc_eps: float = 1e-3,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "weight_decay": group["weight_decay"],
            "one_minus_alpha": 1 - float(group["alpha"]),
            "eps": float(group["eps"]) + TINY,  # so that eps=0 gives 0 / TINY = 0, not NaN, for zero gradients
            "momentum": group["momentum"],
            "minus_lr": -float(group["lr"]),
            **clipping_numbers(group),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, s: Tensor, a: Tensor | None, b: Tensor | None, h: Any) -> None:
        """Update p and the averages s and a, and the momentum b in place."""
        g = clipped(p, g, h)
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        s.lerp_(g * g, h.one_minus_alpha)
        variance = s
        if a is not None:
            a.lerp_(g, h.one_minus_alpha)
            variance = s.sub(a * a).clamp_min(0.0)
        step = g / variance.sqrt().add_(h.eps)
        if b is not None:
            step = b.mul_(h.momentum).add_(step)
        p.add_(step * h.minus_lr)
