"""RAdam (arXiv 1908.03265) + gradient centralization (arXiv 2004.01461) + Lookahead (arXiv 1907.08610)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (b1, b2), lr, eps = o.get("betas", (0.95, 0.999)), o["lr"], o.get("eps", 1e-5)
    slow = state.get("slow_buffer", theta)
    g = -g if o.get("maximize") else g
    if o.get("use_gc", True) and g.ndim > (3 if o.get("gc_conv_only") else 1):
        g = g - g.mean(tuple(range(1, g.ndim)), keepdims=True)
    m = b1 * state.get("exp_avg", 0.0) + (1 - b1) * g
    v = b2 * state.get("exp_avg_sq", 0.0) + (1 - b2) * g**2
    theta = theta * (1 - lr * o.get("weight_decay", 0.0))
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
    if rho > o.get("n_sma_threshold", 5):
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        theta = theta - lr * r * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
    else:
        theta = theta - lr / (1 - b1**t) * m
    if t % o.get("k", 6) == 0:
        theta = slow = slow + o.get("alpha", 0.5) * (theta - slow)
    state.update(exp_avg=m, exp_avg_sq=v, slow_buffer=slow)
    return theta
