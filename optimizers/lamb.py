"""LAMB: Adam with a trust ratio per layer, for large batches (You et al. 2020)."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import denominator
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Flag, Number, OrNone, check_partition_keys
from optimizers._math import TINY, Blocks, resolve
from optimizers._rows import Row
from optimizers._slots import Slot
from optimizers._whole import global_norm


class Lamb(BlockOptimizer):
    r"""Adam whose step has, in each layer, a length in proportion to the norm of the weight.

    With :math:`\lambda` = ``weight_decay``, and :math:`\|\cdot\|` the norm of the whole tensor or, if the group has a
    partition, of each of its blocks:

    .. math::
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2 \\
        r &= \frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon} + \lambda\theta \\
        \theta &\leftarrow \theta - \eta\,q\,r, \qquad q = \frac{\min(\|\theta\|, c)}{\|r\|},
        \text{ or 1 where one of the norms is 0}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: :math:`\lambda \ge 0`.
        bias_correction: divide by :math:`1-\beta^t` as above.
        grad_averaging: weigh g by :math:`1-\beta_1` as above, else by 1.
        max_grad_norm: :math:`> 0`: first divide all gradients by ‖all gradients‖ / ``max_grad_norm``, if that is above
            1; ``None`` does not.
        clamp_value: :math:`c > 0`; ``None`` for no bound.
        trust_clip: let q be at most 1.
        always_adapt: with ``False``, q = 1 in groups without weight decay.
        channel_dims: dims whose index names the block; ``None`` and ``()`` make the tensor one block, as in the paper.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous blocks; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` and ``exp_avg_sq`` (like the parameter; float32 for half precision).

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv 1904.00962. The
        defaults are those of the paper; timm clips gradients to norm 1, decays by 0.01 and does not always adapt.
        Others correct the bias of the step after the trust ratio, which makes the first steps ten times too long.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2, bias=False)
        >>> optimizer = Lamb(linear.parameters(), lr=0.01)
        >>> before = linear.weight.detach().clone()
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> (linear.weight - before).norm() / before.norm()
        tensor(0.0100, grad_fn=<DivBackward0>)
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_avg_sq": Slot()}
    checks: ClassVar[Mapping[str, Check]] = {
        "max_grad_norm": OrNone(Number(above=True)),
        "clamp_value": OrNone(Number(above=True)),
        "bias_correction": Flag(),
        "grad_averaging": Flag(),
        "trust_clip": Flag(),
        "always_adapt": Flag(),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
        grad_averaging: bool = True,
        max_grad_norm: float | None = None,
        clamp_value: float | None = None,
        trust_clip: bool = False,
        always_adapt: bool = True,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the group's blocks, or the whole tensor as one."""
        dims, count = check_partition_keys(group["channel_dims"], group["channel_groups"])
        return resolve(shape, () if dims is None else dims, count)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        decays = float(group["weight_decay"]) != 0
        max_grad_norm, clamp_value = group["max_grad_norm"], group["clamp_value"]
        b1, b2 = (1 - beta1**t, 1 - beta2**t) if group["bias_correction"] else (1.0, 1.0)
        return {
            "maximize": group["maximize"],
            "clips": max_grad_norm is not None,
            "decays": decays,
            "adapts": decays or group["always_adapt"],
            "clamps": clamp_value is not None,
            "trust_clip": group["trust_clip"],
            "inverse_max": 1 / float(max_grad_norm or 1.0),
            "clamp_value": float(clamp_value or 1.0),
            "beta1": beta1,
            "new_in_m": 1 - beta1 if group["grad_averaging"] else 1.0,
            "one_minus_beta2": 1 - beta2,
            "b1": b1,
            "root": 1 / sqrt(b2),
            "offset": float(group["eps"]) + TINY,
            "weight_decay": group["weight_decay"],
            "minus_lr": -float(group["lr"]),
        }

    def prepare(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Return the norm of all gradients together, if any group asks for it."""
        if all(group["max_grad_norm"] is None for group in self.param_groups):
            return {}
        return {"grad_norm": global_norm([row.g for row in rows])}

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p, the first moment m and the second moment v in place."""
        if h.clips:
            # In the shape of g, because the bound may differ between the rows of one call.
            g = g.div(g.mul(0.0).add_(h.inverse_max).mul_(h.grad_norm).clamp_min(1.0))
        m.mul_(h.beta1).add_(g * h.new_in_m)
        v.lerp_(g * g, h.one_minus_beta2)
        r = m.div(h.b1).div_(denominator(v, None, h))
        if h.decays:
            r.add_(p * h.weight_decay)
        if h.adapts:
            weight = h.blocks.norm(p)
            r = r * _trust(weight.clamp_max(h.clamp_value) if h.clamps else weight, h.blocks.norm(r), h)
        p.add_(r.mul_(h.minus_lr))


def _trust(weight: Tensor, step: Tensor, h: Any) -> Tensor:
    """Return the ratio of two norms, and 1 where one of them is 0."""
    both = weight.sign().mul_(step.sign())
    neither = both.neg().add_(1.0)
    ratio = weight.div(step.add(neither)).mul_(both).add_(neither)
    return ratio.clamp_max(1.0) if h.trust_clip else ratio
