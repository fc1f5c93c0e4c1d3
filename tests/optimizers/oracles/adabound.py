"""AdaBound and AMSBound, arXiv 1902.09843."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import debias, decay


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), gamma = o.get("betas", (0.9, 0.999)), o.get("gamma", 1e-3)
    theta, g = decay(theta, g, o, decoupled=False)
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    if o.get("amsgrad"):
        v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0), v)
    final = o.get("final_lr", 0.1) * o["lr"] / o.get("base_lr", o["lr"])
    rate = o["lr"] * np.sqrt(1 - beta2**t) * debias(beta1, t, o) / (np.sqrt(v) + o.get("eps", 1e-8))
    return theta - np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * m
