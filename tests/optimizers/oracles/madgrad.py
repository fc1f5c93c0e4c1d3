"""MADGRAD, arXiv 2101.11075. ``o["steps"]`` counts the steps of the optimizer, unlike t."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels


def steps(rows: list[Any]) -> dict[str, int]:
    """Return the number of steps made before this one, of which some parameter has seen all."""
    return {"steps": max(t for _, _, _, t, _ in rows) - 1}


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    eps, momentum, lam = o.get("eps", 1e-6), o.get("momentum", 0.9), o.get("weight_decay", 0.0)
    gamma = o["lr"] + eps if o["lr"] != 0 else 0.0
    weight = gamma * np.sqrt(o["steps"] + 1)
    old, decoupled = theta, o.get("weight_decouple", False)
    g = (-g if o.get("maximize") else g) + (0 if decoupled else lam * theta)
    s, nu = state.get("grad_sum", np.zeros_like(g)), state.get("grad_sum_sq", np.zeros_like(g))
    x0 = state.setdefault("x0", theta) if momentum else theta + over_root(s, nu, eps)
    s, nu = s + weight * g, nu + weight * g**2
    state["grad_sum"], state["grad_sum_sq"] = s, nu
    theta = momentum * theta + (1 - momentum) * (x0 - over_root(s, nu, eps))
    return theta - gamma * lam * old if decoupled else theta


def over_root(s: Array, nu: Array, eps: float) -> Array:
    root = np.cbrt(nu) + eps
    return s / np.where(root == 0, np.inf, root)
