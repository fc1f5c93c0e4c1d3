"""Adam and AdamW with adaptive gradient clipping (Brock et al. 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import adam_numbers, corrected, decayed, denominator, update_moments
from optimizers._agc import ClippedOptimizer, clipped, clipping_numbers
from optimizers._base import options
from optimizers._math import Blocks
from optimizers._slots import Slot


class Adam_AGC(ClippedOptimizer):  # noqa: N801
    r"""Adam whose gradients are clipped in proportion to the weights.

    With c = ``clipping`` and :math:`\epsilon_c` = ``agc_eps``, for each unit (see ``channel_dims``), and then with
    :math:`\lambda` = ``weight_decay`` as in ``torch.optim.Adam``:

    .. math::
        g &\leftarrow g\,\frac{\ell}{\max(\|g\|, 10^{-6})} \text{ where } \|g\| > \ell,
        \qquad \ell = c\max(\|\theta\|, \epsilon_c) \\
        g &\leftarrow g + \lambda\theta \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta - \eta\,\frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: coupled (L2) decay :math:`\lambda \ge 0`, added after clipping.
        amsgrad: the largest v so far takes the place of v.
        clipping: :math:`c \ge 0`; 0 or ``None`` for no clipping. The paper leaves out the last linear layer.
        agc_eps: :math:`\epsilon_c \ge 0`, so that units that start at zero can move.
        channel_dims: dims whose index names the unit; ``()`` makes the tensor one unit. ``None`` is the paper's choice:
            one unit per index of dim 0, and a vector as a whole.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous units; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``, ``max_exp_avg_sq`` (like the
        parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171, in
        front of D. Kingma, J. Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980. The package agc-optims
        rescales every gradient to the limit, the short ones too.

    Example:
        >>> import torch
        >>> body, head = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)
        >>> optimizer = Adam_AGC([{"params": body.parameters()}, {"params": head.parameters(), "clipping": None}])
        >>> head(body(torch.ones(1, 4))).square().mean().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[head.weight])
        ['exp_avg', 'exp_avg_sq', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg": Slot(),
        "exp_avg_sq": Slot(),
        "max_exp_avg_sq": Slot(when="amsgrad"),
    }
    decouples: ClassVar[bool] = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
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
        adam = adam_numbers({**group, "weight_decouple": self.decouples})
        return {**adam, **clipping_numbers(group), **corrected(group, t)}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None, h: Any) -> None:
        """Update p, the moments m and v and the maximum of v in place."""
        g = decayed(p, clipped(p, g, h), h)
        update_moments(g, m, v, h)
        p.addcdiv_(m, denominator(v, v_max, h), value=h.minus_step)


class AdamW_AGC(Adam_AGC):  # noqa: N801
    r"""AdamW whose gradients are clipped in proportion to the weights.

    `Adam_AGC` with decoupled decay, of the weight instead of the gradient. With c = ``clipping``, :math:`\epsilon_c` =
    ``agc_eps`` and :math:`\lambda` = ``weight_decay``:

    .. math::
        g &\leftarrow g\,\frac{\ell}{\max(\|g\|, 10^{-6})} \text{ where } \|g\| > \ell,
        \qquad \ell = c\max(\|\theta\|, \epsilon_c) \\
        \theta &\leftarrow (1 - \eta\lambda)\,\theta \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        \theta &\leftarrow \theta - \eta\,\frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: decoupled decay :math:`\lambda \ge 0`.
        amsgrad: the largest v so far takes the place of v.
        clipping: :math:`c \ge 0`; 0 or ``None`` for no clipping. The paper leaves out the last linear layer.
        agc_eps: :math:`\epsilon_c \ge 0`, so that units that start at zero can move.
        channel_dims: dims whose index names the unit; ``()`` makes the tensor one unit. ``None`` is the paper's choice:
            one unit per index of dim 0, and a vector as a whole.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous units; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group. State and errors are those of `Adam_AGC`.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171, in
        front of I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", arXiv 1711.05101. Other packages
        differ as said of `Adam_AGC`.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = AdamW_AGC(linear.parameters(), lr=1e-3, clipping=0.02)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["weight_decay"]
        0.01
    """

    decouples: ClassVar[bool] = True

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        clipping: float | None = 1e-2,
        agc_eps: float = 1e-3,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, **options(locals()), impl=impl)
