"""SGD with momentum as in ``torch.optim.SGD``: dampening does not act on the first gradient."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def check_nesterov(owner: str, group: Mapping[str, Any]) -> None:
    """Refuse Nesterov momentum where it is not defined.

    Raises:
        ValueError: ``nesterov`` without momentum, or with dampening.
    """
    momentum, dampening = float(group["momentum"]), float(group["dampening"])
    if group["nesterov"] and (momentum == 0 or dampening != 0):
        given = f"{momentum=}, {dampening=}"
        raise ValueError(f"{owner}: nesterov=True needs momentum > 0 and dampening = 0, got {given}")


def sgd_numbers(group: Mapping[str, Any], t: int) -> dict[str, float | bool]:
    """Return what `sgd_step` reads."""
    return {
        "nesterov": group["nesterov"],
        "momentum": float(group["momentum"]),
        "undamped": 1.0 if t == 1 else 1 - float(group["dampening"]),
        "minus_lr": -float(group["lr"]),
    }


def sgd_step(p: Tensor, g: Tensor, a: Tensor | None, h: Any) -> None:
    """Update the momentum a, if there is one, and p in place."""
    if a is not None:
        a.mul_(h.momentum).add_(g * h.undamped)
        g = (a * h.momentum).add_(g) if h.nesterov else a
    p.add_(g * h.minus_lr)
