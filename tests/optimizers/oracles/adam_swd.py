"""Adam with stable weight decay, arXiv 2011.11152."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels

Row = tuple[Array, Array, dict[str, Array], int, Mapping[str, Any]]


def second(g: Array, state: dict[str, Array], o: Mapping[str, Any]) -> tuple[Array, Array]:
    """The average of g², and what takes its place with amsgrad."""
    beta2 = o.get("betas", (0.9, 0.999))[1]
    v = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    return v, np.maximum(v, state.get("max_exp_avg_sq", 0.0)) if o.get("amsgrad") else v


def whole(rows: list[Row]) -> dict[str, Any]:
    corrected = [second(g, state, o)[1] / (1 - o.get("betas", (0.9, 0.999))[1] ** t) for _, g, state, t, o in rows]
    return {"v_bar": np.sqrt(np.concatenate([v.ravel() for v in corrected]).mean())}


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps = o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8)
    g = -g if o.get("maximize") else g
    m = beta1 * state.get("exp_avg", np.zeros_like(theta)) + (1 - beta1) * g
    v, v_hat = second(g, state, o)
    state["exp_avg"], state["exp_avg_sq"] = m, v
    if o.get("amsgrad"):
        state["max_exp_avg_sq"] = v_hat
    theta = theta * (1 - o["lr"] * o.get("weight_decay", 1e-4) / o["v_bar"])
    return theta - o["lr"] * (m / (1 - beta1**t)) / (np.sqrt(v_hat / (1 - beta2**t)) + eps)
