"""SGD, Adam, AdamW and RMSprop as in torch, after adaptive gradient clipping, arXiv 2102.06171."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, inner


def units(shape: tuple[int, ...]) -> Labels:
    """One per output of a matrix or kernel; a vector is one."""
    return np.indices(shape)[0] if len(shape) > 1 else np.zeros(shape, dtype=np.int64)


def clip(theta: Array, g: Array, label: Labels, o: Mapping[str, Any]) -> Array:
    g = -g if o.get("maximize") else g
    clipping = o.get("clipping", 1e-2)
    if not clipping:
        return g
    if o.get("channel_dims") is None:
        label = units(theta.shape)
    limit = clipping * np.maximum(np.sqrt(inner(theta, theta, label)), o.get("agc_eps", 1e-3))
    norm = np.sqrt(inner(g, g, label))
    return np.where((norm > limit)[label], g * (limit / np.maximum(norm, 1e-6))[label], g)


def sgd(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu = o.get("momentum", 0.0)
    g = clip(theta, g, label, o) + o.get("weight_decay", 0.0) * theta
    if mu == 0:
        return theta - o["lr"] * g
    a = mu * state["momentum_buffer"] + (1 - o.get("dampening", 0.0)) * g if t > 1 else g
    state["momentum_buffer"] = a
    return theta - o["lr"] * (g + mu * a if o.get("nesterov") else a)


def adam(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    g = clip(theta, g, label, o) + o.get("weight_decay", 0.0) * theta
    return theta - _adam_step(g, state, t, o)


def adamw(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    g = clip(theta, g, label, o)
    return theta * (1 - o["lr"] * o.get("weight_decay", 1e-2)) - _adam_step(g, state, t, o)


def _adam_step(g: Array, state: dict[str, Array], t: int, o: Mapping[str, Any]) -> Array:
    beta1, beta2 = o.get("betas", (0.9, 0.999))
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(g)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(g)) + (1 - beta2) * g**2
    if o.get("amsgrad"):
        v = state["max_exp_avg_sq"] = np.maximum(state.get("max_exp_avg_sq", 0), v)
    return o["lr"] * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + o.get("eps", 1e-8))


def rmsprop(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    alpha, mu = o.get("alpha", 0.99), o.get("momentum", 0.0)
    g = clip(theta, g, label, o) + o.get("weight_decay", 0.0) * theta
    s = state["square_avg"] = alpha * state.get("square_avg", np.zeros_like(g)) + (1 - alpha) * g**2
    if o.get("centered"):
        a = state["grad_avg"] = alpha * state.get("grad_avg", np.zeros_like(g)) + (1 - alpha) * g
        s = s - a**2
    step = g / (np.sqrt(s) + o.get("eps", 1e-8))
    if mu != 0:
        step = state["momentum_buffer"] = mu * state.get("momentum_buffer", np.zeros_like(g)) + step
    return theta - o["lr"] * step
