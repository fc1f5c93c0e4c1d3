"""Nero, arXiv 2102.07227: rotations of neurons.

A neuron is a stated block; in the paper one index of dim 0 of matrices and kernels, and each entry of a vector.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, block_size, inner, labels


def _neurons(theta: Array, o: Mapping[str, Any]) -> Labels:
    dims = o.get("channel_dims")
    return labels(theta.shape, (0,) if dims is None else dims, o.get("channel_groups"))


def constrained(theta: Array, o: Mapping[str, Any]) -> Array:
    label = _neurons(theta, o)
    if not o.get("constraints", True) or block_size(label) == 1:
        return theta
    theta = theta - (inner(theta, np.ones_like(theta), label) / block_size(label))[label]
    return theta / (np.sqrt(inner(theta, theta, label)) + o.get("eps", 0.0))[label]


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    beta, label = o.get("beta", 0.999), _neurons(theta, o)
    size = block_size(label)
    if t == 1:
        mean = np.sqrt(inner(theta, theta, label)).mean()
        state["scale"] = np.full(int(label.max()) + 1, size * (mean or 0.01))
    v = beta * state.get("exp_avg_sq", 0.0) + (1 - beta) * inner(g, g, label)
    state["exp_avg_sq"] = v
    g = -g if o.get("maximize") else g
    u = g / (np.sqrt(v / (1 - beta**t)) + o.get("eps", 0.0))[label]
    return constrained(theta - o["lr"] * state["scale"][0] / size * u, o)
