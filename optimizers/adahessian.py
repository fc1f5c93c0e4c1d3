"""AdaHessian: Adam with the diagonal of the Hessian in place of the gradient's square (Yao et al. 2020)."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Flag, Integer, Number
from optimizers._math import TINY, Blocks, resolve
from optimizers._rows import Row
from optimizers._slots import Slot
from optimizers._whole import placed


class AdaHessian(BlockOptimizer):
    r"""Adam whose second moment is that of the Hessian's diagonal, estimated with random signs.

    The gradients must still have their graph: call ``loss.backward(create_graph=True)`` before ``step()``, or in the
    closure. With signs :math:`z \in \{-1, +1\}`, :math:`\kappa` = ``hessian_power`` and :math:`\lambda` =
    ``weight_decay``:

    .. math::
        D &= \operatorname{mean}_z\left(z \odot H z\right), \qquad
        D \leftarrow \operatorname{mean}_{\text{kernel}}|D| \quad\text{(convolutions, optional)} \\
        m &\leftarrow \beta_1 m + (1-\beta_1) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) D^2 \\
        \theta &\leftarrow \theta - \eta\left(\frac{m/(1-\beta_1^t)}{(v/(1-\beta_2^s))^{\kappa/2} + \epsilon}
          + \lambda\theta\right)

    where s counts the updates of v. A parameter whose gradient has no graph has curvature zero.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        weight_decay: decoupled decay :math:`\lambda \ge 0`.
        hessian_power: :math:`\kappa \in (0, 1]`.
        spatial_average: average over the kernel of parameters of exactly four dims.
        update_period: steps from one estimate of D to the next. Only the steps that make one need a graph.
        n_samples: draws of z per estimate, one backward pass each.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.
        generator: where the signs come from, on the device of the parameters; ``None``: torch's own. Ranks that hold
            copies of a parameter need generators in the same state, unless it is a DTensor.

    Every argument but ``params``, ``impl`` and ``generator`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg`` and ``exp_hessian_diag_sq`` (like the parameter; float32 for half
        precision).

    Raises:
        ValueError: an option out of bounds.

    Note:
        ``step()`` raises a RuntimeError if no gradient has a graph. Afterwards ``p.grad`` keeps the graph alive until
        ``zero_grad()`` sets it to ``None``; torch warns of that. The example does without ``backward`` and the warning.
        ``fully_shard`` and ``DistributedDataParallel`` drop the graph of gradients; parameters sharded for tensor
        parallelism (DTensor) keep it.

    Source:
        Z. Yao et al., "ADAHESSIAN: an adaptive second order optimizer for machine learning", arXiv 2006.00719. The
        authors' code fails for parameters of three or five dims and for a single gradient without a graph. Others
        estimate D less often, too, but count all steps in s.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = AdaHessian(linear.parameters(), lr=0.1)
        >>> loss = linear(torch.ones(1, 4)).square().mean()
        >>> parameters = list(linear.parameters())
        >>> for p, g in zip(parameters, torch.autograd.grad(loss, parameters, create_graph=True)):
        ...     p.grad = g
        >>> optimizer.step()
        >>> optimizer.zero_grad()
        >>> sorted(optimizer.state[linear.weight])
        ['exp_avg', 'exp_hessian_diag_sq', 'step']
    """

    slots: ClassVar[Mapping[str, Slot]] = {"exp_avg": Slot(), "exp_hessian_diag_sq": Slot()}
    checks: ClassVar[Mapping[str, Check]] = {
        "hessian_power": Number(high=1.0, above=True),
        "spatial_average": Flag(),
        "update_period": Integer(1),
        "n_samples": Integer(1),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        spatial_average: bool = True,
        update_period: int = 1,
        n_samples: int = 1,
        maximize: bool = False,
        impl: str = "auto",
        generator: Generator | None = None,
    ) -> None:
        self.generator = generator
        super().__init__(params, options(locals()), impl)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "generator": self.generator}

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        lr, updates = float(group["lr"]), (t - 1) // group["update_period"] + 1
        return {
            "maximize": group["maximize"],
            "one_minus_beta1": 1 - beta1,
            "inverse_b2": 1 / (1 - beta2**updates),
            "half_power": float(group["hessian_power"]) / 2,
            "eps": float(group["eps"]) + TINY,
            "keep": 1 - lr * float(group["weight_decay"]),
            "minus_step": -lr / (1 - beta1**t),
        }

    def _due(self) -> list[tuple[dict[str, Any], Tensor]]:
        """Return the parameters of which this step estimates the curvature, before the step is counted."""
        return [
            (group, p)
            for group in self.param_groups
            for p in cast("list[Tensor]", group["params"])
            if p.grad is not None and int(self.state.get(p, {}).get("step", 0)) % group["update_period"] == 0
        ]

    def _rows(self) -> list[Row]:
        due = self._due()
        grads = [cast("Tensor", p.grad) for _, p in due]
        if due and not any(g.requires_grad or g.layout is not torch.strided for g in grads):
            raise RuntimeError(
                "AdaHessian needs loss.backward(create_graph=True): no gradient has a graph. "
                "fully_shard and DistributedDataParallel drop it: with them, use another optimizer"
            )
        found = super()._rows()
        self._estimate(due)
        return found

    def _estimate(self, due: list[tuple[dict[str, Any], Tensor]]) -> None:
        """Estimate the diagonal of the Hessian and update its second moment."""
        diagonals = {p: torch.zeros_like(p) for _, p in due}
        samples = max((group["n_samples"] for group, _ in due), default=0)
        for i in range(samples):
            drawn = [p for group, p in due if i < group["n_samples"] and cast("Tensor", p.grad).requires_grad]
            signs = [self._signs(p) for p in drawn]
            products = torch.autograd.grad(
                [cast("Tensor", p.grad) for p in drawn], drawn, signs, retain_graph=i + 1 < samples, allow_unused=True
            )
            for p, z, product in zip(drawn, signs, products, strict=True):
                if product is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    diagonals[p].addcmul_(z, product)
        for group, p in due:
            v = cast("Tensor", self.state[p]["exp_hessian_diag_sq"])
            d, beta2 = diagonals[p].to(v.dtype) / group["n_samples"], float(group["betas"][1])
            if group["spatial_average"] and p.ndim == 4:
                kernel = resolve(tuple(p.shape), (0, 1), None)
                d = kernel.sum(d.abs()) / kernel.size
            v.mul_(beta2).addcmul_(d, d, value=1 - beta2)

    def _signs(self, p: Tensor) -> Tensor:
        # Those of a sharded tensor are drawn whole on one rank: they shall not repeat from shard to shard.
        home = torch.empty(p.shape, dtype=p.dtype, device=p.device) if hasattr(p, "placements") else torch.empty_like(p)
        return placed(home.bernoulli_(0.5, generator=self.generator).mul_(2).sub_(1), p, source=0)

    @staticmethod
    def rule(p: Tensor, g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
        """Update p and the first moment m in place."""
        m.lerp_(g, h.one_minus_beta1)
        p.mul_(h.keep).addcdiv_(m, (v * h.inverse_b2).pow(h.half_power).add_(h.eps), value=h.minus_step)
