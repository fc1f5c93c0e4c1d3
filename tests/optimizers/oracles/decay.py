"""The modes of weight decay, and the rectification of the second moment: what several papers have in common."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array


def decay(theta: Array, g: Array, o: Mapping[str, Any], decoupled: bool) -> tuple[Array, Array]:
    """Return parameter and gradient after weight decay; ``decoupled`` is the default of the algorithm."""
    g = -g if o.get("maximize") else g
    lam = o.get("weight_decay", 0.0)
    if not o.get("weight_decouple", decoupled):
        return theta, g + lam * theta
    return theta - (lam if o.get("fixed_decay") else o["lr"] * lam) * theta, g


def rectification(beta2: float, t: int, threshold: float) -> float | None:
    """Return r, or nothing while the average is too short."""
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    if rho < threshold:
        return None
    return float(np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)))


def debias(beta1: float, t: int, o: Mapping[str, Any]) -> float:
    """Return the factor of the first moment."""
    return 1.0 if o.get("adam_debias") else 1 / (1 - beta1**t)
