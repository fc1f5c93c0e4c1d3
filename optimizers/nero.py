"""Nero: the neuronal rotator (Liu et al. 2021)."""

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options, stated_blocks
from optimizers._check import Check, Flag, Number
from optimizers._math import TINY, Blocks, less, resolve
from optimizers._slots import Slot, compute_dtype


class Nero(BlockOptimizer):
    r"""Rotate neurons: weights with mean 0 and norm 1 per neuron, and one adaptive step size per neuron.

    A neuron is a block of the group's partition. Where the group states none, it is what belongs to one index of dim 0
    of a tensor of two or more dims, and each entry of a smaller one. With :math:`\beta` = ``beta`` and
    :math:`\|\cdot\|` the norm per neuron:

    .. math::
        v &\leftarrow \beta v + (1-\beta)\|g\|^2, \qquad
        u = \frac{g}{\sqrt{v/(1-\beta^t)} + \epsilon} \\
        \theta &\leftarrow C(\theta - \eta\,s\,u), \qquad
        C(\theta) = \frac{\theta - \bar\theta}{\|\theta - \bar\theta\| + \epsilon}

    where :math:`\bar\theta` is the mean of the neuron, and s the mean of :math:`\|\theta\|` over the neurons before the
    first step, or 0.01 if that is 0. Neurons of one entry are not constrained.

    **Constructing it changes the model**: :math:`\theta \leftarrow C(\theta)` for all trainable weights. Weights that
    satisfy the constraints up to rounding are left as they are, so that a run resumes bit for bit. With ``lr=0``
    nothing moves.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        beta: :math:`\beta` in [0, 1).
        constraints: apply C; otherwise weights are free, as those of the last layer may have to be.
        eps: :math:`\epsilon \ge 0`.
        channel_dims: dims whose index names the neuron; ``()`` makes the tensor one neuron. ``None`` is the paper's
            choice, as above. For a transposed convolution, the output is dim 1.
        channel_groups: cut the first of ``channel_dims`` into this many contiguous neurons; must divide it.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg_sq`` and ``scale`` (one number per neuron; float32 for half precision).
        ``scale`` is s times the size of the neuron, so that a changed partition regroups it like a sum.

    Raises:
        ValueError: an option out of bounds, or a partition that does not fit a parameter.

    Source:
        Y. Liu et al., "Learning by turning: neural architecture aware optimisation", arXiv 2102.07227. The authors'
        code gives NaN for neurons of one entry. There is no weight decay by design.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = Nero(linear.parameters(), lr=0.01)
        >>> torch.allclose(linear.weight.norm(dim=1), torch.ones(2))
        True
        >>> linear(torch.rand(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> torch.allclose(linear.weight.mean(dim=1), torch.zeros(2), atol=1e-6)
        True
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg_sq": Slot(shape="block"), "scale": Slot(shape="block")}
    checks: ClassVar[Mapping[str, Check]] = {"beta": Number(high=1.0, below=True), "constraints": Flag()}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.01,
        beta: float = 0.999,
        constraints: bool = True,
        eps: float = 0.0,
        channel_dims: Sequence[int] | None = None,
        channel_groups: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group and constrain its trainable weights."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for i, p in enumerate(cast("list[Tensor]", group["params"])):
            if group["constraints"] and p.requires_grad and p.numel():
                constrain(p, self._blocks(group, i), float(group["eps"]))

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the neurons: the group's blocks, or those of the paper."""
        return stated_blocks(group, shape, lambda shape: resolve(shape, (0,), None))

    def phases(self, group: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the first step, which measures the scale, and any other."""
        return 1, 2

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        lr, beta = float(group["lr"]), float(group["beta"])
        return {
            "maximize": group["maximize"],
            "first": t == 1,
            "whole": t == 1,
            "moves": lr != 0,
            "constrains": group["constraints"] and not blocks.elementwise,
            "one_minus_beta": 1 - beta,
            "root": 1 / sqrt(1 - beta**t),
            "minus_lr": -lr / blocks.size,
            "eps": float(group["eps"]) + TINY,  # so that eps=0 gives 0 / TINY = 0, not NaN, for zero gradients
            "size": blocks.size,
            "inverse_size": 1 / blocks.size,
            "inverse_entries": 1 / max(blocks.size * prod(blocks.shape), 1),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, v: Tensor, scale: Tensor, h: Any) -> None:
        """Update p, the second moment v, and once the scale in place."""
        if h.first:
            # Over entries, because neurons have equal sizes, and a norm may be there once or for each entry.
            mean = h.blocks.total((p * 0.0).add_(h.blocks.norm(p))).mul_(h.inverse_entries)
            scale.mul_(0.0).add_(mean).add_(mean.sign().neg().add_(1.0).mul_(0.01)).mul_(h.size)
        v.lerp_(h.blocks.dot(g, g), h.one_minus_beta)
        if h.moves:
            p.add_(g.div(v.sqrt().mul_(h.root).add_(h.eps)).mul_(scale).mul_(h.minus_lr))
            if h.constrains:
                p.sub_(h.blocks.sum(p).mul_(h.inverse_size))
                p.div_(h.blocks.norm(p).add_(h.eps))


@torch.no_grad()
def constrain(p: Tensor, blocks: Blocks, eps: float) -> None:
    """Give every neuron of p mean 0 and norm 1, in place, unless they have them up to the rounding of p."""
    if blocks.elementwise:
        return
    wide = p.to(compute_dtype(p.dtype))
    total, norm = blocks.sum(wide), blocks.norm(wide)
    violation = total.abs().div(sqrt(blocks.size)).maximum(norm.sub(1.0).abs())
    violated: Any = blocks.total(less(violation.neg(), -16 * torch.finfo(p.dtype).eps - eps))
    if p.is_meta or float(violated.full_tensor() if hasattr(violated, "placements") else violated) == 0:
        return
    wide = wide - total / blocks.size
    p.copy_(wide / (blocks.norm(wide) + (eps + TINY)))
