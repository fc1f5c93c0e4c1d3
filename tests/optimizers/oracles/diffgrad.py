"""diffGrad, arXiv 1909.11015."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import debias, decay


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    theta, g = decay(theta, g, o, decoupled=False)
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    xi = 1 / (1 + np.exp(-np.abs(state.get("previous_grad", 0) - g)))
    state["previous_grad"] = g
    size = o["lr"] * np.sqrt(1 - beta2**t) * debias(beta1, t, o)
    return theta - size * xi * m / (np.sqrt(v) + o.get("eps", 1e-8))
