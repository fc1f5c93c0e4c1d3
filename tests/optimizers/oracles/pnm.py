"""Positive-negative momentum, plain and with Adam's second moment, arXiv 2103.17182."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels
from tests.optimizers.oracles.decay import debias, decay


def mixed(g: Array, state: dict[str, Array], t: int, beta1: float, beta0: float) -> Array:
    for name in ("exp_avg_odd", "exp_avg_even"):
        state.setdefault(name, np.zeros_like(g))
    names = ("exp_avg_even", "exp_avg_odd")
    current, other = names[t % 2], names[1 - t % 2]
    state[current] = beta1**2 * state[current] + (1 - beta1**2) * g
    return ((1 + beta0) * state[current] - beta0 * state[other]) / np.sqrt((1 + beta0) ** 2 + beta0**2)


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    theta, g = decay(theta, g, o, decoupled=True)
    return theta - o["lr"] * mixed(g, state, t, *o.get("betas", (0.9, 1.0)))


def adaptive_step(
    theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]
) -> Array:
    beta1, beta2, beta0 = o.get("betas", (0.9, 0.999, 1.0))
    theta, g = decay(theta, g, o, decoupled=True)
    numerator = mixed(g, state, t, beta1, beta0)
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    if o.get("amsgrad", True):
        v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0), v)
    root = np.sqrt(v) / np.sqrt(1 - beta2**t)
    return theta - o["lr"] * debias(beta1, t, o) * numerator / (root + o.get("eps", 1e-8))
