"""LAMB, arXiv 1904.00962, with the options of timm; norms per block if a partition is given."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, inner

Row = tuple[Array, Array, dict[str, Array], int, Mapping[str, Any]]


def whole(rows: list[Row]) -> dict[str, Any]:
    return {"grad_norm": np.sqrt(sum((g**2).sum() for _, g, *_ in rows))}


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps, decay = o.get("betas", (0.9, 0.999)), o.get("eps", 1e-6), o.get("weight_decay", 0.0)
    g = -g if o.get("maximize") else g
    if o.get("max_grad_norm") is not None:
        g = g / max(1.0, o["grad_norm"] / o["max_grad_norm"])
    new = 1 - beta1 if o.get("grad_averaging", True) else 1.0
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(theta)) + new * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(theta)) + (1 - beta2) * g**2
    b1, b2 = (1 - beta1**t, 1 - beta2**t) if o.get("bias_correction", True) else (1, 1)
    r = (m / b1) / (np.sqrt(v / b2) + eps) + decay * theta
    if o.get("channel_dims") is None:
        label = np.zeros(theta.shape, dtype=np.int64)
    weight, length = np.sqrt(inner(theta, theta, label)), np.sqrt(inner(r, r, label))
    if o.get("clamp_value") is not None:
        weight = np.minimum(weight, o["clamp_value"])
    usable = (weight > 0) & (length > 0)
    q = np.where(usable, weight / np.where(usable, length, 1), 1.0)
    if o.get("trust_clip"):
        q = np.minimum(q, 1.0)
    if decay == 0 and not o.get("always_adapt", True):
        q = np.ones_like(q)
    return theta - o["lr"] * q[label] * r
