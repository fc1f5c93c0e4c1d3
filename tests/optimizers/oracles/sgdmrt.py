"""SGD with momentum on spheres, arXiv 2006.13382."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels, block_size, inner


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu, damp = o.get("momentum", 0.0), o.get("dampening", 0.0)
    g = (-g if o.get("maximize") else g) + o.get("weight_decay", 0.0) * theta
    a = mu * state.get("momentum_buffer", np.zeros_like(theta)) + (1 - damp) * g
    new = theta - o["lr"] * a
    if block_size(label) > 1:
        s = inner(new, new, label)
        s_inverse = np.divide(1, s, out=np.zeros_like(s), where=s != 0)
        a = (inner(theta, new, label) * s_inverse)[label] * a - (inner(a, new, label) * s_inverse)[label] * theta
    if mu != 0:
        state["momentum_buffer"] = a
    return new
