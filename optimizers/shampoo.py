"""Shampoo: one preconditioning matrix per axis (Gupta et al. 2018)."""

from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import decay_numbers, decayed
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Integer, Number, OrNone
from optimizers._math import Blocks
from optimizers._slots import Slot
from optimizers._whole import gathered, placed
from optimizers.functional import matrix_inverse_root


def _matrices(group: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the length of a vector that holds one square matrix per preconditioned axis, one after the other."""
    longest = group["max_preconditioner_dim"] or inf
    return (sum(n * n for n in shape or (1,) if n <= longest),)


class Shampoo(BlockOptimizer):
    r"""Preconditions each axis of the gradient with a matrix of the size of that axis.

    For a parameter with k axes, where :math:`G_{(i)}` is the gradient unfolded to a matrix with the rows of axis i,
    :math:`\times_i` multiplies axis i by a matrix, and :math:`\mu` = ``momentum``:

    .. math::
        L_i &\leftarrow L_i + G_{(i)} G_{(i)}^\top, \qquad L_i = \epsilon I \text{ at the start} \\
        R_i &= L_i^{-1/(2k)} \quad\text{(every few steps, beginning with the first)} \\
        a &\leftarrow \mu a + (1-\mu) g \quad (\text{at } t=1: a \leftarrow g) \\
        \theta &\leftarrow \theta - \eta\, a \times_1 R_1 \cdots \times_k R_k

    An axis of length n costs :math:`2n^2` numbers of memory, and :math:`n^3` operations whenever its root is computed:
    a vector of length 10,000 has a matrix of 100 million entries. ``max_preconditioner_dim`` leaves long axes out.
    Sharded gradients (DTensor) are gathered one after the other: every rank has all matrices and does all of this work.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        momentum: :math:`\mu \in [0, 1)`. With 0, the gradient itself takes the place of a.
        weight_decay: :math:`\lambda \ge 0`.
        weight_decouple: :math:`\theta \leftarrow (1-\eta\lambda)\theta` first; else :math:`g \leftarrow
            g+\lambda\theta`.
        matrix_eps: :math:`\epsilon > 0`.
        preconditioning_compute_steps: steps from one root to the next, an int of at least 1. Old roots with a small
            :math:`\epsilon` make long steps in new directions, so start with 1 for the first ten steps or so.
        max_preconditioner_dim: longer axes have :math:`R_i = I`, and the exponent stays; ``None``: no limit. Fixed once
            the state exists.
        maximize: go up instead of down.
        impl: ``"auto"`` or ``"loop"``: matrices of different sizes have no faster path.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``statistics`` (all :math:`L_i-\epsilon I` in one vector), ``inverse_roots`` (all
        :math:`R_i` likewise) and, with momentum, ``momentum_buffer`` (like the parameter); float32 for half precision.

    Raises:
        ValueError: an option out of bounds.

    Source:
        V. Gupta et al., "Shampoo: preconditioned stochastic tensor optimization", arXiv 1802.09568. Other
        implementations use the exponent :math:`-1/k`, sum up gradients that are partly preconditioned, or mix
        preconditioned gradients into the momentum.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = Shampoo(linear.parameters(), lr=0.1, matrix_eps=1e-2)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[linear.weight]["statistics"].shape
        torch.Size([20])
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "momentum_buffer": Slot(when="momentum"),
        "statistics": Slot(shape=_matrices),
        "inverse_roots": Slot(shape=_matrices),
    }
    impls: ClassVar[tuple[str, ...]] = ("loop",)
    checks: ClassVar[Mapping[str, Check]] = {
        "momentum": Number(high=1.0, below=True),
        "matrix_eps": Number(above=True),
        "preconditioning_compute_steps": Integer(1),
        "max_preconditioner_dim": OrNone(Integer(1)),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        weight_decouple: bool = False,
        matrix_eps: float = 1e-4,
        preconditioning_compute_steps: int = 1,
        max_preconditioner_dim: int | None = None,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        momentum = float(group["momentum"])
        return {
            "maximize": group["maximize"],
            **decay_numbers(group),
            "refreshes": (t - 1) % group["preconditioning_compute_steps"] == 0,
            "matrix_eps": group["matrix_eps"],
            "longest": group["max_preconditioner_dim"] or inf,
            "momentum": momentum,
            "gain": 1.0 if t == 1 else 1 - momentum,
            "minus_lr": -float(group["lr"]),
        }

    @staticmethod
    def rule(p: Tensor, g: Tensor, a: Tensor | None, statistics: Tensor, roots: Tensor, h: Any) -> None:
        """Update p, the momentum a, the sums of G Gᵀ and their inverse roots in place."""
        g = decayed(p, g, h)
        whole = gathered(g)
        shape = tuple(g.shape) or (1,)
        axes = [i for i, n in enumerate(shape) if n <= h.longest]
        sizes = [shape[i] ** 2 for i in axes]
        matrices = list(zip(axes, statistics.split(sizes), roots.split(sizes), strict=True))
        for i, total, root in matrices:
            unfolded = _unfold(whole.reshape(shape), i)
            sums = total.view(shape[i], shape[i]).addmm_(unfolded, unfolded.mT)
            if h.refreshes:  # in float64, because the eigenvalues differ by many orders of magnitude
                full = sums.double() + h.matrix_eps * torch.eye(shape[i], dtype=torch.float64, device=sums.device)
                root.copy_(matrix_inverse_root(full, 2 * len(shape)).view(-1))
        d = whole if a is None else gathered(a.mul_(h.momentum).add_(g, alpha=h.gain))
        d = d.reshape(shape)
        for i, _, root in matrices:
            turned = root.view(shape[i], shape[i]) @ _unfold(d, i)
            d = turned.view(d.movedim(i, 0).shape).movedim(0, i)
        p.add_(placed(d.reshape(p.shape), p), alpha=h.minus_lr)


def _unfold(x: Tensor, axis: int) -> Tensor:
    """Return ``x`` as a matrix with the index of ``axis`` as row."""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)
