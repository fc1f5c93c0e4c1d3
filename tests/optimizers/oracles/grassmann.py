"""Adam and SGD on G(1, n), arXiv 1709.09603, algorithms 2 and 3; plain Adam and SGD for blocks of one element."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, block_size, inner

TINY = 1e-8


def _norm(x: Array, label: Labels) -> Array:
    return np.sqrt(inner(x, x, label))


def _tangent(theta: Array, g: Array, label: Labels, clip: float | None) -> tuple[Array, Array]:
    y = theta / (_norm(theta, label) + TINY)[label]
    h = g - inner(y, g, label)[label] * y
    return y, h if clip is None else h * (clip / np.maximum(_norm(h, label), clip))[label]


def adamg(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps, lr = o.get("betas", (0.9, 0.99)), o.get("eps", 1e-8), o["lr"]
    g = -g if o.get("maximize") else g
    sphere, exponential = block_size(label) > 1, o.get("retraction", "exp") == "exp"
    if not sphere:
        g = g + o.get("weight_decay", 0.0) * theta
    y = theta
    if sphere and exponential:
        y, g = _tangent(theta, g, label, o.get("grad_clip"))
    m = beta1 * state.get("exp_avg", np.zeros_like(theta)) + (1 - beta1) * g
    v = beta2 * state.get("exp_avg_sq", np.zeros(int(label.max()) + 1)) + (1 - beta2) * inner(g, g, label)
    state["exp_avg"], state["exp_avg_sq"] = m, v
    b1, b2 = 1 - beta1**t, 1 - beta2**t
    if sphere and exponential:
        d = -lr * np.sqrt(b2) / b1 * m / np.sqrt(v + eps)[label]
        a = _norm(d, label)
        u = d / (a + TINY)[label]
        sin, cos = np.sin(a)[label], np.cos(a)[label]
        state["exp_avg"] = m - inner(u, m, label)[label] * (sin * y + (1 - cos) * u)
        return y * cos + u * sin
    new = theta - lr / b1 * m / (np.sqrt(v / b2) + eps)[label]
    if not sphere:
        return new
    scale = _norm(theta, label) * _norm(new, label) + eps
    turned = inner(new, theta, label)[label] * m - inner(new, m, label)[label] * theta
    state["exp_avg"] = turned / scale[label]
    return new / (_norm(new, label) + eps)[label]


def sgdg(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu, lr = o.get("momentum", 0.9), o["lr"]
    g = -g if o.get("maximize") else g
    m = state.get("momentum_buffer", np.zeros_like(theta))
    if block_size(label) == 1:
        m = mu * m + g + o.get("weight_decay", 0.0) * theta
        if mu:
            state["momentum_buffer"] = m
        return theta - lr * m
    y, h = _tangent(theta, g, label, o.get("grad_clip", 0.1))
    d = mu * m - lr * h
    a = _norm(d, label)
    u = d / (a + TINY)[label]
    sin, cos = np.sin(a)[label], np.cos(a)[label]
    if mu:
        state["momentum_buffer"] = (u * cos - y * sin) * a[label]
    return y * cos + u * sin
