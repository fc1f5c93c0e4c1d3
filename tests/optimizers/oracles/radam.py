"""RAdam, arXiv 1908.03265."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import debias, decay, rectification


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    before = theta
    theta, g = decay(theta, g, o, decoupled=True)
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    r = rectification(beta2, t, o.get("n_sma_threshold", 5))
    size = o["lr"] * debias(beta1, t, o)
    if r is not None:
        return theta - size * r * np.sqrt(1 - beta2**t) * m / (np.sqrt(v) + o.get("eps", 1e-8))
    return theta - size * m if o.get("degenerated_to_sgd", True) else before
