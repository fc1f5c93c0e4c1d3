"""AdaBelief, arXiv 2010.07468, with the rectification of the authors' code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import debias, decay, rectification


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps = o.get("betas", (0.9, 0.999)), o.get("eps", 1e-16)
    theta, g = decay(theta, g, o, decoupled=True)
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    s = state.get("exp_avg_var", np.zeros_like(g))
    s = state["exp_avg_var"] = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
    if o.get("amsgrad"):
        s = state["max_exp_avg_var"] = np.maximum(state.get("max_exp_avg_var", 0), s)
    size, b2 = o["lr"] * debias(beta1, t, o), 1 - beta2**t
    if not o.get("rectify", True):
        return theta - size * m / (np.sqrt(s) / np.sqrt(b2) + eps)
    r = rectification(beta2, t, o.get("n_sma_threshold", 5))
    if r is not None:
        return theta - size * r * np.sqrt(b2) * m / (np.sqrt(s) + eps)
    return theta - size * m if o.get("degenerated_to_sgd", True) else theta
