"""Shampoo, arXiv 1802.09568."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.optimizers.oracles.blocks import Array, Labels


def step(theta: Array, g: Array, state: dict[str, Array], t: int, label: Labels, o: Mapping[str, Any]) -> Array:
    lr, mu, decay, order = o["lr"], o.get("momentum", 0.0), o.get("weight_decay", 0.0), g.ndim
    g = -g if o.get("maximize") else g
    if o.get("weight_decouple"):
        theta = theta * (1 - lr * decay)
    else:
        g = g + decay * theta
    axes = [i for i, n in enumerate(g.shape) if n <= (o.get("max_preconditioner_dim") or n)]
    ends = np.cumsum([g.shape[i] ** 2 for i in axes])[:-1]
    old = [np.split(state[name], ends) if name in state else None for name in ("statistics", "inverse_roots")]
    sums, roots = [], []
    for j, i in enumerate(axes):
        n, others = g.shape[i], [k for k in range(order) if k != i]
        total = np.tensordot(g, g, (others, others)) + (old[0][j].reshape(n, n) if old[0] else 0.0)
        sums.append(total)
        if (t - 1) % o.get("preconditioning_compute_steps", 1) == 0:
            values, vectors = np.linalg.eigh(total + o.get("matrix_eps", 1e-4) * np.eye(n))
            roots.append(vectors @ np.diag(values ** (-1 / (2 * order))) @ vectors.T)
        else:
            assert old[1] is not None
            roots.append(old[1][j].reshape(n, n))
    if mu:
        g = state["momentum_buffer"] = g if t == 1 else mu * state["momentum_buffer"] + (1 - mu) * g
    for i, root in zip(axes, roots, strict=True):
        g = np.moveaxis(np.tensordot(root, g, (1, i)), 0, i)
    for name, matrices in (("statistics", sums), ("inverse_roots", roots)):
        state[name] = np.concatenate([matrix.ravel() for matrix in matrices] or [np.zeros(0)])
    return theta - lr * g
