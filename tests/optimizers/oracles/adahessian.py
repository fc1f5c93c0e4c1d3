"""AdaHessian, arXiv 2006.00719, for a loss whose Hessian is diagonal: there every draw of signs gives it exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels


def curvature(shape: Sequence[int]) -> Array:
    """The diagonal of the Hessian: of both signs, different in every entry, nowhere small."""
    i = np.arange(int(np.prod(shape)))
    return ((-1.0) ** i * (1.5 + np.cos(i))).reshape(tuple(shape))


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), power, period = o.get("betas", (0.9, 0.999)), o.get("hessian_power", 1.0), o.get("update_period", 1)
    g = -g if o.get("maximize") else g
    m = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state.get("exp_hessian_diag_sq", np.zeros_like(g))
    if (t - 1) % period == 0:
        d = curvature(g.shape)
        if o.get("spatial_average", True) and g.ndim == 4:
            d = np.broadcast_to(np.abs(d).mean((2, 3), keepdims=True), d.shape)
        v = beta2 * v + (1 - beta2) * d**2
    updates = len(range(0, t, period))
    state["exp_avg"], state["exp_hessian_diag_sq"] = m, v
    denominator = (v / (1 - beta2**updates)) ** (power / 2) + o.get("eps", 1e-4)
    return theta - o["lr"] * (m / (1 - beta1**t) / denominator + o.get("weight_decay", 0.0) * theta)
