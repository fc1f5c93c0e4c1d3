"""`GradientWrapper`: shows the optimizer inside another gradient than the one in ``p.grad``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optimizers.wrappers._base import Wrapper, evaluate


class GradientWrapper(Wrapper):
    """Base of the wrappers that change gradients. A subclass writes ``transform``.

    While the optimizer inside steps, ``p.grad`` is the transformed gradient; before and after, the tensor in ``p.grad``
    is the one that ``backward`` left there, unchanged. With a closure, what it leaves is transformed every time.
    """

    def transform(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        """Return the gradient that the optimizer inside gets to see; ``g`` itself if there is nothing to do."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of the optimizer inside with the transformed gradients.

        Args:
            closure: recomputes loss and gradients; called as often as the optimizer inside calls it.

        Returns:
            What the optimizer inside returned.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        shown: list[tuple[Tensor, Tensor, Tensor]] = []

        def show() -> None:
            for group, p, g in self.params_with_grad():
                other = self.transform(group, p, g)
                if other is not g:
                    shown.append((p, other, g))
                    p.grad = other

        def hide() -> None:
            for p, other, g in shown:
                if p.grad is other:  # unless it has been replaced or cleared meanwhile
                    p.grad = g
            shown.clear()

        def reevaluate() -> Any:
            hide()
            loss = evaluate(closure)
            with torch.no_grad():
                show()
            return loss

        show()
        try:
            return self.optimizer.step(None if closure is None else reevaluate)
        finally:
            hide()
