"""AdamP and SGDP, arXiv 2006.08217, algorithms 1 and 2; given a partition, projected on it without the guess."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, block_size, inner


def _safe(x: Array) -> Array:
    return np.where(x == 0, 1.0, x)


def _cosines(a: Array, b: Array, label: Labels, eps: float) -> Array:
    norms = [np.maximum(np.sqrt(inner(x, x, label)), eps) for x in (a, b)]
    return np.abs(inner(a, b, label)) / _safe(norms[0] * norms[1])


def _project(theta: Array, d: Array, label: Labels, eps: float) -> Array:
    u = theta / _safe(np.sqrt(inner(theta, theta, label)) + eps)[label]
    return d - u * inner(u, d, label)[label]


def _views(shape: tuple[int, ...]) -> list[Labels]:
    index = np.indices(shape)
    return [index[0], np.zeros(shape, dtype=np.int64)]


def projected(theta: Array, g: Array, d: Array, label: Labels, o: Mapping[str, Any]) -> tuple[Array, float]:
    """The direction to go, and the factor of the decay."""
    eps, ratio = o.get("eps", 1e-8), o.get("wd_ratio", 0.1)
    if block_size(label) > 1:
        return _project(theta, d, label, eps), ratio
    delta = o.get("delta", 0.0 if "channel_dims" in o else 0.1)
    if o.get("channel_wise") or o.get("channel_dims") is not None or theta.ndim < 2:
        return d, 1.0
    for view in _views(theta.shape):
        if _cosines(theta, g, view, eps).max() < delta / np.sqrt(block_size(view)):
            return _project(theta, d, view, eps), ratio
    return d, 1.0


def adamp(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    (beta1, beta2), eps, lr = o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8), o["lr"]
    g = -g if o.get("maximize") else g
    m = state["exp_avg"] = beta1 * state.get("exp_avg", np.zeros_like(theta)) + (1 - beta1) * g
    v = state["exp_avg_sq"] = beta2 * state.get("exp_avg_sq", np.zeros_like(theta)) + (1 - beta2) * g**2
    ahead = beta1 * m + (1 - beta1) * g if o.get("nesterov") else m
    d = ahead / (np.sqrt(v / (1 - beta2**t)) + eps)
    d, ratio = projected(theta, g, d, label, o)
    return theta * (1 - lr * o.get("weight_decay", 0.0) * ratio) - lr / (1 - beta1**t) * d


def sgdp(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu, lr = o.get("momentum", 0.0), o["lr"]
    g = -g if o.get("maximize") else g
    a = mu * state.get("momentum_buffer", np.zeros_like(theta)) + (1 - o.get("dampening", 0.0)) * g
    if mu != 0:
        state["momentum_buffer"] = a
    d, ratio = projected(theta, g, g + mu * a if o.get("nesterov") else a, label, o)
    return theta * (1 - lr * o.get("weight_decay", 0.0) * ratio / (1 - mu)) - lr * d
