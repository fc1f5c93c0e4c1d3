"""The problem that the generic tests share: parameters of every kind, gradients that do not depend on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers._base import BlockOptimizer
from tests.optimizers.cases import Config, OptimizerCase

SHAPES: dict[str, tuple[int, ...]] = {
    "conv": (6, 4, 3, 3),
    "deconv": (4, 6, 2, 2),
    "linear": (8, 5),
    "heads": (6, 4),
    "taps": (3, 2, 4),
    "bias": (6,),
    "scalar": (),
    "one": (1,),
}


def initial(name: str) -> np.ndarray:
    return np.random.default_rng([2, list(SHAPES).index(name)]).normal(size=SHAPES[name])


def gradient(name: str, t: int) -> np.ndarray:
    return np.random.default_rng([1, t, list(SHAPES).index(name)]).normal(size=SHAPES[name])


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, Parameter]:
    return {name: Parameter(torch.tensor(initial(name), dtype=dtype)) for name in SHAPES}


def options(config: Config, name: str) -> dict[str, Any]:
    return {**config.kwargs, **config.groups.get(name, {})}


def build(case: OptimizerCase, config: Config, params: Mapping[str, Parameter], impl: str) -> Any:
    """Build the optimizer with one group per distinct set of group options."""
    groups: dict[str, dict[str, Any]] = {}
    for name, p in params.items():
        extra = config.groups.get(name, {})
        group = groups.setdefault(repr(extra), {"params": [], "param_names": [], **extra})
        group["params"].append(p)
        group["param_names"].append(name)
    return case.cls(list(groups.values()), **config.kwargs, impl=impl)


def step(optimizer: BlockOptimizer, params: Mapping[str, Parameter], t: int, late: bool = True) -> None:
    """Do step t. Two of the parameters start late, and one of them pauses."""
    for name, p in params.items():
        waits = late and ((name == "linear" and t < 3) or (name == "bias" and t in (0, 4)))
        p.grad = None if waits else torch.tensor(gradient(name, t), dtype=p.dtype)
    optimizer.step()


def snapshot(optimizer: BlockOptimizer, params: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """Copy the parameters and the whole state, by name."""
    found = {name: p.detach().clone() for name, p in params.items()}
    for name, p in params.items():
        found.update({f"{name}/{slot}": x.clone() for slot, x in optimizer.state.get(p, {}).items()})
    return found


def assert_same(got: Mapping[str, Tensor], want: Mapping[str, Tensor], rtol: float = 0.0, atol: float = 0.0) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")
