"""SGD with stable weight decay, arXiv 2011.11152."""

from collections.abc import Mapping
from typing import Any

from tests.optimizers.oracles.blocks import Array, Labels


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    lr, mu, damp = o["lr"], o.get("momentum", 0.0), o.get("dampening", 0.0)
    g = -g if o.get("maximize") else g
    theta = theta * (1 - lr * o.get("weight_decay", 0.0) * (1 - damp) / (1 - mu))
    if mu == 0:
        return theta - lr * g
    a = state["momentum_buffer"] = mu * state["momentum_buffer"] + (1 - damp) * g if t > 1 else g
    return theta - lr * (g + mu * a if o.get("nesterov") else a)
