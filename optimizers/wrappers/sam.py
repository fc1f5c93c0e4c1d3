"""SAM and ASAM: descend with the gradient of the worst point nearby (Foret et al. 2021, Kwon et al. 2021)."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from optimizers._check import Check, Flag, Number
from optimizers._slots import compute_dtype
from optimizers._whole import global_norm
from optimizers.wrappers._base import Wrapper, evaluate


class SAM(Wrapper):
    r"""Sharpness-aware minimization: two gradients per step, the second where the loss around the weights is highest.

    With the gradient :math:`g` at the weights :math:`w`, :math:`T = 1`, or :math:`T = |w| + \eta` if ``adaptive``, and
    the norm over all groups:

    .. math::
        \hat w = w + \rho\,\frac{T^2 g}{\|T g\| + 10^{-12}}

    The optimizer inside then steps from :math:`w`, restored bit for bit, with the gradient taken at :math:`\hat w`. In
    groups with ``maximize``, where low is worse, :math:`\hat w` lies on the other side.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        base_optimizer: class of the optimizer inside, or a function that builds it from ``params``.
        rho: radius :math:`\rho \ge 0`.
        adaptive: scale the neighborhood with the weights, which makes the radius indifferent to their scale.
        eta: :math:`\eta \ge 0`, with ``adaptive``.
        **kwargs: options of the optimizer inside.

    ``rho``, ``adaptive`` and ``eta`` can be set per group. ``step`` says how it is called, ``first_step`` and
    ``second_step`` are its two halves. There is no state besides that of the optimizer inside; during the step there is
    one copy of the weights. Batch norm sees every batch twice: see `frozen_running_stats`.

    Raises:
        ValueError: an option out of bounds.

    Source:
        P. Foret et al., "Sharpness-aware minimization for efficiently improving generalization", arXiv 2010.01412, and
        `ASAM`. A widespread implementation keeps the copy of the weights in the state and leaves the state of the
        optimizer inside out of ``state_dict``.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SAM([weight], torch.optim.SGD, rho=0.5, lr=0.125)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = weight.square().sum()
        ...     loss.backward()
        ...     return loss
        >>> loss = closure()
        >>> loss_nearby = optimizer.step(closure)
        >>> weight.item()  # the gradient at 1.5 is 3
        0.625
    """

    name: ClassVar[str] = "sam"
    checks: ClassVar[Mapping[str, Check]] = {"rho": Number(), "adaptive": Flag(), "eta": Number()}
    needs_closure = True

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        eta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self._origin: dict[Tensor, Tensor] = {}
        super().__init__(base_optimizer(params, **kwargs), {"rho": rho, "adaptive": adaptive, "eta": eta})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._origin = {}

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> Tensor:
        """Move to the worst point nearby, from where ``second_step`` returns.

        Args:
            zero_grad: set the gradients to ``None`` afterwards.

        Returns:
            The norm of T·g, a 0-d tensor.

        Raises:
            RuntimeError: called twice without ``second_step`` in between, or a gradient is sparse.
        """
        if self._origin:
            raise RuntimeError(f"{type(self).__name__}: call second_step() before the next first_step()")
        rows = self.params_with_grad()
        norm = global_norm([self._scaled(group, p, g) for group, p, g in rows])
        for group, p, g in rows:
            self._origin[p] = p.clone()
            rho = float(self.option(group, "rho")) * (-1 if group.get("maximize") else 1)
            uphill = self._scaled(group, p, self._scaled(group, p, g))
            p.copy_(p + uphill * (rho / (norm + 1e-12)).to(p.device))
        if zero_grad:
            self.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Return to the weights before ``first_step`` and do the step of the optimizer inside.

        Args:
            zero_grad: set the gradients to ``None`` afterwards.
        """
        self._return()
        self.optimizer.step()
        if zero_grad:
            self.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, scaler: torch.amp.GradScaler | None = None) -> Any:
        """Do one step: ``loss.backward(); optimizer.step(closure)``, or ``optimizer.step(closure)`` alone.

        Args:
            closure: computes loss and gradients, from scratch or on top of cleared gradients, and returns the loss. It
                is called at the worst point nearby; before that at the weights too if no parameter has a gradient yet,
                and then the gradients are ``None`` afterwards, so that the next step does not take them for its own.
                It can be left out only if all gradients are zero, where no point nearby is worse: this is what
                distributed checkpoints do to have the state created.
            scaler: with mixed precision, instead of ``scaler.step(optimizer)``; both backward passes are of the scaled
                loss, and ``scaler.update()`` follows. The step is skipped if a gradient is not finite.

        Returns:
            The loss from the first call of the closure.

        Raises:
            RuntimeError: no closure, and a gradient that is not zero.
        """
        if closure is None:
            if bool(global_norm([g for _, _, g in self.params_with_grad()])):
                raise RuntimeError(
                    f"{type(self).__name__} needs the gradient at a second point: call step(closure), or first_step() "
                    "and second_step() with a backward pass after each"
                )
            return self.optimizer.step()
        alone = not any(p.grad is not None for _, p in self.params())
        first = evaluate(closure) if alone else None
        # Two records for one step: the scaler lets each optimizer be unscaled once between two updates.
        if scaler is not None:
            scaler.unscale_(self)
        norm = self.first_step(zero_grad=True)
        if scaler is not None and not bool(norm.isfinite()):
            self._return()
            return first
        try:
            second = evaluate(closure)
        finally:
            self._return()
        self.optimizer.step() if scaler is None else scaler.step(self.optimizer)
        if alone:
            self.zero_grad(set_to_none=True)
        return first if alone else second

    def _return(self) -> None:
        for p, origin in self._origin.items():
            p.copy_(origin)
        self._origin = {}

    def _scaled(self, group: dict[str, Any], p: Tensor, x: Tensor) -> Tensor:
        """Return T·x in the dtype of the arithmetic."""
        dtype = compute_dtype(p.dtype)
        if not self.option(group, "adaptive"):
            return x.to(dtype)
        return p.abs().to(dtype).add_(float(self.option(group, "eta"))) * x.to(dtype)


class ASAM(SAM):
    r"""Adaptive SAM: the neighborhood of a weight scales with it, :math:`T = |w| + \eta`.

    `SAM` with ``adaptive=True`` and the defaults of its paper.

    .. math::
        \hat w = w + \rho\,\frac{T^2 g}{\|T g\| + 10^{-12}}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        base_optimizer: class of the optimizer inside, or a function that builds it from ``params``.
        rho: radius :math:`\rho \ge 0`.
        eta: :math:`\eta \ge 0`.
        **kwargs: options of the optimizer inside.

    Source:
        J. Kwon et al., "ASAM: adaptive sharpness-aware minimization for scale-invariant learning of deep neural
        networks", arXiv 2102.11600. The authors' code has T = 1 for parameters without "weight" in their name: give
        those a group with ``adaptive=False``.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> groups = [{"params": [model.weight]}, {"params": [model.bias], "adaptive": False}]
        >>> optimizer = ASAM(groups, torch.optim.SGD, lr=0.1)
        >>> [group["adaptive"] for group in optimizer.param_groups]
        [True, False]
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.5,
        eta: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(params, base_optimizer, rho=rho, adaptive=True, eta=eta, **kwargs)


@contextmanager
def frozen_running_stats(model: torch.nn.Module) -> Generator[None]:
    """Leave the running statistics of batch and instance norms alone during the ``with`` block.

    For the forward pass of SAM at the second point: the running statistics belong to the weights that are kept.

    Args:
        model: any module, in training mode.

    Example:
        >>> norm = torch.nn.BatchNorm1d(1)
        >>> with frozen_running_stats(norm):
        ...     norm(torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-0.999..., 0.999...]
        >>> norm.running_mean.item(), norm.num_batches_tracked.item()
        (0.0, 0)
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._NormBase)]  # pyright: ignore[reportPrivateUsage]
    # Copies take the updates. Writing old values back would change buffers that a backward pass may still need.
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
