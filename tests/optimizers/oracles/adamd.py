"""AdamD, arXiv 2110.10828."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import decay


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    theta, g = decay(theta, g, o, decoupled=False)
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    if o.get("amsgrad"):
        v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0), v)
    return theta - o["lr"] * m / (np.sqrt(v / (1 - beta2**t)) + o.get("eps", 1e-8))
