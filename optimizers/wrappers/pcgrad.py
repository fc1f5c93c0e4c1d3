"""PCGrad: gradients of several tasks, each without what opposes the others (Yu et al. 2020)."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from optimizers._check import Check, Choice, check_options
from optimizers._math import TINY
from optimizers._slots import compute_dtype
from optimizers.wrappers._base import Wrapper

Gradients = list[Tensor | None]


class PCGrad(Wrapper):
    r"""Projecting conflicting gradients: gradient surgery for several losses, before any optimizer.

    Let :math:`g_i` be the gradient of loss i with respect to all parameters together. Start from :math:`h_i = g_i`, go
    through the other tasks j in random order, and remove what points against :math:`g_j`:

    .. math::
        h_i \leftarrow h_i - \frac{\min(\langle h_i, g_j\rangle, 0)}{\|g_j\|^2}\,g_j

    ``pc_backward(losses)`` takes the place of ``loss.backward()``. It writes the sum of all :math:`h_i` into
    ``p.grad``, or with ``reduction="mean"`` their mean for the parameters that every task reaches, and the sum for the
    others. A parameter that no task reaches keeps the gradient it has.

    Args:
        optimizer: the optimizer inside.
        reduction: ``"mean"`` or ``"sum"``, which is the paper's.
        generator: source of the random order (on the CPU); ``None``: torch's own.

    With mixed precision, scale every loss: ``pc_backward([scaler.scale(x) for x in losses])``. The gradients are not
    those of ``backward()``: its hooks do not run, so average them yourself when training in several processes. Frozen
    parameters do not take part. There is no state.

    Raises:
        ValueError: an option out of bounds.

    Source:
        T. Yu et al., "Gradient surgery for multi-task learning", arXiv 2001.06782. The authors' code cannot sum, gives
        parameters that no task reaches a gradient of zeros, and divides by zero for a task without gradient.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> optimizer = PCGrad(torch.optim.SGD([weight], lr=1.0), reduction="sum")
        >>> optimizer.pc_backward([weight[0], weight[1] - weight[0]])
        >>> weight.grad
        tensor([0.5000, 1.5000])
    """

    name: ClassVar[str] = "pcgrad"
    checks: ClassVar[Mapping[str, Check]] = {"reduction": Choice(("mean", "sum"))}

    def __init__(self, optimizer: Optimizer, reduction: str = "mean", generator: torch.Generator | None = None) -> None:
        check_options("PCGrad", {"reduction": reduction}, ("reduction",), self.checks)
        self.reduction = reduction  # of the whole model, so no option of a group
        self.generator = generator
        super().__init__(optimizer, {})

    def pc_backward(self, losses: Sequence[Tensor]) -> None:
        """Write the merged gradient of the losses into ``p.grad``; what stood there is replaced.

        Args:
            losses: one 0-d loss per task, at least one. Their graphs are freed.

        Raises:
            ValueError: there is no loss.
        """
        if not losses:
            raise ValueError("PCGrad: pc_backward needs at least one loss")
        params = [p for _, p in self.params() if p.requires_grad]
        with torch.enable_grad():
            last = len(losses) - 1
            tasks: list[Gradients] = [
                list(torch.autograd.grad(loss, params, retain_graph=i < last, allow_unused=True))
                for i, loss in enumerate(losses)
            ]
        with torch.no_grad():
            merged = self._merge(tasks, [self._project(i, tasks) for i in range(len(tasks))])
        for p, g in zip(params, merged, strict=True):
            if g is not None:
                p.grad = g.to(p.dtype)

    def _project(self, i: int, tasks: Sequence[Gradients]) -> Gradients:
        """Return the gradient of task i without what opposes the others."""
        h = tasks[i]
        order: list[int] = torch.randperm(len(tasks), generator=self.generator, device="cpu").tolist()
        for j in order:
            if j != i:
                g = tasks[j]
                along = _dot(h, g).clamp_max(0) / (_dot(g, g) + TINY)
                h = [_minus(a, b, along) for a, b in zip(h, g, strict=True)]
        return h

    def _merge(self, tasks: Sequence[Gradients], projected: Sequence[Gradients]) -> Gradients:
        merged: Gradients = []
        for before, after in zip(zip(*tasks, strict=True), zip(*projected, strict=True), strict=True):
            found = [x for x in after if x is not None]
            # A copy: autograd may return a view.
            total = reduce(torch.add, found[1:], found[0].clone()) if found else None
            average = self.reduction == "mean" and all(g is not None for g in before)
            merged.append(total / len(found) if total is not None and average else total)
        return merged

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of the optimizer inside.

        Args:
            closure: handed to it; should call `pc_backward`.

        Returns:
            What the optimizer inside returned.
        """
        return self.optimizer.step(closure)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _wide(x: Tensor) -> Tensor:
    return x.to(compute_dtype(x.dtype))


def _dot(a: Gradients, b: Gradients) -> Tensor:
    """Return ⟨a, b⟩ over all parameters, as a 0-d tensor."""
    terms: list[Any] = [(_wide(x) * y).sum() for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    terms = [x.full_tensor() if hasattr(x, "placements") else x for x in terms]
    return torch.stack([x.to(terms[0].device) for x in terms]).sum() if terms else torch.zeros(())


def _minus(a: Tensor | None, b: Tensor | None, factor: Tensor) -> Tensor | None:
    """Return a − factor·b, where a missing tensor counts as zeros."""
    if b is None:
        return a
    removed = _wide(b) * factor.to(b.device)
    return -removed if a is None else a - removed
