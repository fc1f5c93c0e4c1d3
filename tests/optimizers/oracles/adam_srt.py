"""Adam on spheres, with and without rescaling and transport, arXiv 2006.13382 in the scaling of the authors' code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, block_size, inner


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps, d = o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8), block_size(label)
    g = (-g if o.get("maximize") else g) + o.get("weight_decay", 0.0) * theta
    m = beta1 * state.get("exp_avg", np.zeros_like(theta)) + (1 - beta1) * g
    v = beta2 * state.get("exp_avg_sq", np.zeros(int(label.max()) + 1)) + (1 - beta2) * inner(g, g, label)
    denominator = np.sqrt(v) / np.sqrt(1 - beta2**t) + eps
    new = theta - o["lr"] * np.sqrt(d) * (m / (1 - beta1**t)) / denominator[label]
    if d > 1 and o.get("rt", True):
        s = inner(new, new, label) + eps
        v = v * inner(theta, theta, label) / s
        m = (inner(theta, new, label)[label] * m - inner(m, new, label)[label] * theta) / s[label]
    state["exp_avg"], state["exp_avg_sq"] = m, v
    return new


def step_without_rt(
    theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]
) -> Array:
    return step(theta, g, state, t, label, {**o, "rt": False})
