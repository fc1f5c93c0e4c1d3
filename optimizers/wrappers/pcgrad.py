"""PCGrad: gradients of several tasks, each without what opposes the others (Yu et al. 2020)."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.distributed as dist
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
        generator: source of the random order (on the CPU); ``None``: torch's own. Several ranks with more than two
            tasks need generators in the same state.

    With mixed precision, scale every loss: ``pc_backward([scaler.scale(x) for x in losses])``. Frozen parameters do not
    take part. There is no state.

    With ``fully_shard`` and ``DistributedDataParallel``, the ranks' mean of each gradient is projected, as it must be.
    The latter averages one backward pass per forward pass, so hand it functions:
    ``pc_backward([lambda: first(model(x)), lambda: second(model(x))])``. In such a function, further batches of its
    task may be run backward before the last loss is returned.

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

    def pc_backward(self, losses: Sequence[Tensor | Callable[[], Tensor]]) -> None:
        """Write the merged gradient of the losses into ``p.grad``; what stood there is replaced.

        Args:
            losses: one 0-d loss per task, at least one, or a function that returns it, called right before its backward
                pass. Their graphs are freed.

        Raises:
            ValueError: there is no loss.
            RuntimeError: the ranks would go through the tasks in different orders.
        """
        if not losses:
            raise ValueError("PCGrad: pc_backward needs at least one loss")
        params = [p for _, p in self.params() if p.requires_grad]
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if ranks > 1 and len(losses) > 2 and self.generator is None:
            raise RuntimeError(
                f"PCGrad: the {len(losses)} tasks are gone through in random order, which must be the same on all "
                "ranks: construct it with generator=torch.Generator()"
            )
        before = [p.grad for p in params]
        tasks: list[Gradients] = []
        for i, loss in enumerate(losses):
            for p in params:
                p.grad = None
            with torch.enable_grad():
                value = loss if isinstance(loss, Tensor) else loss()
                value.backward(retain_graph=any(isinstance(later, Tensor) for later in losses[i + 1 :]))
            # Copies: DistributedDataParallel may put the gradients of the next task in the same place.
            tasks.append([None if p.grad is None else p.grad.clone() for p in params])
        with torch.no_grad():
            merged = self._merge(tasks, [self._project(i, tasks) for i in range(len(tasks))])
        for p, g, old in zip(params, merged, before, strict=True):
            p.grad = old if g is None else g.to(p.dtype)

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
            total = reduce(torch.add, found) if found else None
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
