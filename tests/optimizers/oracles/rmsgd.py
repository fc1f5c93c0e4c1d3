"""RMSGD between two epochs, arXiv 2203.16723: SGD as in torch. The epochs are in test_golden_epoch.py."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    mu = o.get("momentum", 0.0)
    g = (-g if o.get("maximize") else g) + o.get("weight_decay", 0.0) * theta
    for name in ("lr_change", "gain", "ready", "epoch"):
        state[name] = np.zeros(1)
    if mu:
        a = mu * state["momentum_buffer"] + (1 - o.get("dampening", 0.0)) * g if t > 1 else g
        state["momentum_buffer"] = a
        g = g + mu * a if o.get("nesterov") else a
    return theta - o["lr"] * g
