"""Ranger21, arXiv 2106.13731, with each idea taken from its own paper."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels

Row = tuple[Array, Array, dict[str, Array], int, Mapping[str, Any]]


def row_norm(x: Array) -> Array:
    return np.sqrt((x**2).sum(tuple(range(1, x.ndim)) if x.ndim > 1 else None, keepdims=True))


def treated(theta: Array, g: Array, o: Mapping[str, Any]) -> Array:
    g = -g if o.get("maximize") else g
    clipping = o.get("agc_clipping_value", 1e-2)
    if clipping:
        limit, norm = clipping * np.maximum(row_norm(theta), o.get("agc_eps", 1e-3)), row_norm(g)
        g = np.where(norm > limit, g * limit / np.maximum(norm, 1e-6), g)
    if o.get("centralize_gradients", True) and g.ndim > 1:
        g = g - g.mean(tuple(range(1, g.ndim)), keepdims=True)
    if o.get("normalize_gradients", True) and g.size > 2:
        g = g / (g.std(ddof=1) + 1e-8)
    return g


def second(theta: Array, g: Array, state: dict[str, Array], o: Mapping[str, Any]) -> Array:
    beta2 = o.get("betas", (0.9, 0.999))[1]
    return beta2 * state.get("exp_avg_sq", 0.0) + (1 - beta2) * treated(theta, g, o) ** 2


def whole(rows: list[Row]) -> dict[str, Any]:
    corrected = [
        second(theta, g, state, o) / (1 - o.get("betas", (0.9, 0.999))[1] ** t) for theta, g, state, t, o in rows
    ]
    return {"v_bar": np.sqrt(np.concatenate([v.ravel() for v in corrected]).mean())}


def learning_rate(t: int, o: Mapping[str, Any]) -> float:
    n, lr, lowest = o.get("num_iterations"), o["lr"], o.get("warm_down_min_lr", 3e-5)
    if n is None or o.get("disable_lr_scheduler"):
        return lr
    up, down = o.get("num_warm_up_iterations"), o.get("num_warm_down_iterations")
    if up is None:
        up = int(np.ceil(np.round(2 / (1 - o.get("betas", (0.9, 0.999))[1]), 9)))
        if up > 0.45 * n:
            up = int(0.22 * n)
    start = int(0.72 * n) if down is None else n - down
    if t >= start:
        return max(lowest, lr - (lr - lowest) * min(1, (t + 1 - start) / (n - start + 1)))
    return lr * min(1, t / up) if up else lr


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), beta0, eps = o.get("betas", (0.9, 0.999)), o.get("beta0", 0.9), o.get("eps", 1e-8)
    lr, slow = learning_rate(t, o), state.get("slow_buffer", theta)
    v, g = second(theta, g, state, o), treated(theta, g, o)
    v_max = np.maximum(v, state.get("max_exp_avg_sq", 0.0))
    moments = {name: state.get(name, np.zeros_like(g)) for name in ("exp_avg_odd", "exp_avg_even")}
    mine, other = ("exp_avg_odd", "exp_avg_even") if t % 2 else ("exp_avg_even", "exp_avg_odd")
    moments[mine] = beta1**2 * moments[mine] + (1 - beta1**2) * g
    theta = theta * (1 - lr * o.get("weight_decay", 1e-4) / o["v_bar"])
    theta = theta * (1 - 2 * lr * o.get("norm_loss_factor", 1e-4) * (1 - 1 / (row_norm(theta) + eps)))
    denominator = np.sqrt(v_max) / np.sqrt(1 - beta2**t) + eps
    if o.get("use_softplus", True):
        beta = o.get("beta_softplus", 50.0)
        denominator = np.logaddexp(0, beta * denominator) / beta
    noisy = ((1 + beta0) * moments[mine] - beta0 * moments[other]) / np.sqrt((1 + beta0) ** 2 + beta0**2)
    theta = theta - lr / (1 - beta1**t) * noisy / denominator
    if t % o.get("lookahead_merge_time", 5) == 0:
        alpha = o.get("lookahead_blending_alpha", 0.5)
        theta = slow = alpha * theta + (1 - alpha) * slow
    state.update(moments, exp_avg_sq=v, max_exp_avg_sq=v_max, slow_buffer=slow)
    return theta
