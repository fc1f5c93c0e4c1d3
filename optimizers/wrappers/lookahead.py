"""Lookahead: slow weights that follow the fast ones every k steps (Zhang et al. 2019)."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from optimizers._check import Check, Choice, Integer, Number
from optimizers._slots import compute_dtype
from optimizers.wrappers._base import Wrapper


class Lookahead(Wrapper):
    r"""k steps forward, one step back: around any optimizer.

    The optimizer inside moves the fast weights :math:`\theta`. After every k-th of its steps the slow weights
    :math:`\phi` go part of the way, and the fast ones start again from there:

    .. math::
        \phi \leftarrow \phi + \alpha(\theta - \phi), \qquad \theta \leftarrow \phi

    With momentum buffer :math:`a` inside, ``pullback_momentum="reset"`` sets :math:`a \leftarrow 0` at that point, and
    ``"pullback"`` averages it like the weights, with a slow buffer :math:`b` that starts at zero:
    :math:`b \leftarrow \alpha a + (1-\alpha) b`, :math:`a \leftarrow b`. No other state inside is touched.

    The slow copy of a parameter is taken right before the first step, from what the parameter is then: weights that
    were loaded after construction are not pulled back.

    Args:
        optimizer: the optimizer inside.
        k: fast steps per slow step, an int ≥ 1.
        alpha: :math:`\alpha \in (0, 1]`.
        pullback_momentum: ``"none"``, ``"reset"`` or ``"pullback"``; acts on a ``momentum_buffer`` in the state inside.

    All options can be set per group; the steps are counted once for all groups.

    State:
        ``lookahead_slow`` (like the parameter, float32 for half precision), ``lookahead_slow_momentum`` with
        ``"pullback"``, and ``lookahead_step``, the steps so far.

    Raises:
        ValueError: an option out of bounds.

    Source:
        M. Zhang et al., "Lookahead optimizer: k steps forward, 1 step back", arXiv 1907.08610. Implementations that
        take the slow copy at the first synchronization, after step 1, do nothing in it.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> optimizer = Lookahead(torch.optim.SGD([weight], lr=0.25), k=2, alpha=0.5)
        >>> for _ in range(2):
        ...     weight.grad = torch.tensor(1.0)
        ...     optimizer.step()
        >>> weight.item()  # the fast steps led from 1.0 to 0.5
        0.75
    """

    name: ClassVar[str] = "lookahead"
    allows_complex: ClassVar[bool] = True
    checks: ClassVar[Mapping[str, Check]] = {
        "k": Integer(1),
        "alpha": Number(high=1.0, above=True),
        "pullback_momentum": Choice(("none", "reset", "pullback")),
    }

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5, pullback_momentum: str = "none") -> None:
        self.count = 0
        super().__init__(optimizer, {"k": k, "alpha": alpha, "pullback_momentum": pullback_momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one fast step, and after every k-th the slow one.

        Args:
            closure: recomputes the loss; handed to the optimizer inside.

        Returns:
            What the optimizer inside returned.
        """
        for _, p in self.params():
            if p.requires_grad and p not in self.slots:
                self.slots[p] = {"slow": p.to(compute_dtype(p.dtype), copy=True)}
        result: Any = self.optimizer.step(closure)  # pyright: ignore[reportArgumentType]
        self.count += 1
        for group, p in self.params():
            if p not in self.slots:
                continue
            slots, pulls = self.slots[p], self.option(group, "pullback_momentum") == "pullback"
            # Not only when it is first needed: a distributed checkpoint loads what exists after one step.
            if pulls and "slow_momentum" not in slots and "momentum_buffer" in self.optimizer.state.get(p, {}):
                slots["slow_momentum"] = torch.zeros_like(slots["slow"])
            if self.count % self.option(group, "k") == 0:
                self._synchronize(group, p)
        return result

    def _synchronize(self, group: dict[str, Any], p: Tensor) -> None:
        slots, alpha = self.slots[p], float(self.option(group, "alpha"))
        slow = slots["slow"]
        p.copy_(slow.lerp_(p.to(slow.dtype), alpha))
        mode = self.option(group, "pullback_momentum")
        momentum: Tensor | None = self.optimizer.state.get(p, {}).get("momentum_buffer")
        if momentum is None or mode == "none":
            return
        if mode == "reset":
            momentum.zero_()
            return
        buffer = slots["slow_momentum"]
        momentum.copy_(buffer.lerp_(momentum.to(buffer.dtype), alpha))

    @contextmanager
    @torch.no_grad()
    def slow_weights(self) -> Generator[None]:
        """Put the slow weights into the model for the ``with`` block, as for evaluation.

        Example:
            >>> weight = torch.nn.Parameter(torch.tensor(1.0))
            >>> optimizer = Lookahead(torch.optim.SGD([weight], lr=0.25))
            >>> weight.grad = torch.tensor(1.0)
            >>> optimizer.step()
            >>> with optimizer.slow_weights():
            ...     print(weight.item())
            1.0
            >>> weight.item()
            0.75
        """
        fast = {p: p.clone() for p in self.slots}
        for p, slots in self.slots.items():
            p.copy_(slots["slow"])
        try:
            yield
        finally:
            for p, value in fast.items():
                p.copy_(value)

    def saved_slots(self) -> Mapping[Tensor, Mapping[str, Tensor]]:
        """Return the slow copies and, beside each, the number of steps."""
        step = torch.tensor(float(self.count), dtype=torch.float32, device="cpu")
        return {p: {**values, "step": step.clone()} for p, values in self.slots.items()}

    def load_slots(self, saved: dict[Tensor, dict[str, Tensor]]) -> None:
        """Take the slow copies and the number of steps."""
        self.count = max((int(values["step"]) for values in saved.values() if "step" in values), default=0)
        super().load_slots({p: {k: x for k, x in values.items() if k != "step"} for p, values in saved.items()})
