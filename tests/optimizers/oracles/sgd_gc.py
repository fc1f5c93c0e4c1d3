"""SGD with gradient centralization, arXiv 2004.01461."""

from collections.abc import Mapping
from typing import Any

from tests.optimizers.oracles.blocks import Array, Labels


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu = o.get("momentum", 0.0)
    g = (-g if o.get("maximize") else g) + o.get("weight_decay", 0.0) * theta
    if o.get("use_gc", True) and g.ndim > (3 if o.get("gc_conv_only") else 1):
        g = g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True)
    if mu == 0:
        return theta - o["lr"] * g
    first = "momentum_buffer" not in state
    a = state["momentum_buffer"] = g if first else mu * state["momentum_buffer"] + (1 - o.get("dampening", 0.0)) * g
    return theta - o["lr"] * (g + mu * a if o.get("nesterov") else a)
