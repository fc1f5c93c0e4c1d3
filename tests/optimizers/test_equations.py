"""The equations: parameters and every slot against the slow twins, in float64."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase
from tests.optimizers.oracles.blocks import labels

STEPS = 20


def test_oracle(case: OptimizerCase, config: Config, impl: str) -> None:
    assert case.oracle is not None, "give a reason in skip['oracle']"
    rtol = case.tol.get("oracle", (1e-10, ""))[0]
    params = problem.parameters()
    optimizer = problem.build(case, config, params, impl)
    theta: dict[str, Any] = {name: np.atleast_1d(problem.initial(name)) for name in params}
    if case.construct is not None:
        theta = {name: case.construct(x, problem.options(config, name)) for name, x in theta.items()}
    states: dict[str, dict[str, Any]] = {name: {} for name in params}
    count = dict.fromkeys(params, 0)
    for t in range(STEPS):
        problem.step(optimizer, params, t)
        rows: dict[str, Any] = {}
        for name in (name for name, p in params.items() if p.grad is not None):
            count[name] += 1
            g = np.atleast_1d(problem.gradient(name, t))
            rows[name] = theta[name], g, states[name], count[name], problem.options(config, name)
        shared = case.whole(list(rows.values())) if case.whole else {}
        for name, p in params.items():
            if name in rows:
                *arguments, o = rows[name]
                label = labels(problem.SHAPES[name], dims_of(o), o.get("channel_groups"))
                theta[name] = case.oracle(*arguments, label, {**o, **shared})
            np.testing.assert_allclose(p.detach().numpy().ravel(), theta[name].ravel(), rtol, 1e-12, err_msg=name)
            slots = dict(optimizer.state.get(p, {}))
            assert int(slots.pop("step", torch.tensor(0))) == count[name]
            if not count[name] and case.cls.at_construction:
                continue
            assert slots.keys() == states[name].keys(), name
            for key, want in states[name].items():
                got = slots[key].numpy().ravel()
                np.testing.assert_allclose(got, want.ravel(), rtol, 1e-13, err_msg=f"{name}/{key}")


def dims_of(o: dict[str, Any]) -> Any:
    dims = o.get("channel_dims")
    return (0,) if dims is None and o.get("channel_wise") else dims


def test_equals_torch_when_elementwise(case: OptimizerCase, impl: str) -> None:
    if case.twin is None:
        assert "twin" in case.skip, f"{case.name} has no torch twin: say why in skip['twin']"
        pytest.skip(case.skip["twin"])
    cls, kwargs = case.twin
    ours, theirs = problem.parameters(), problem.parameters()
    a, b = problem.build(case, Config(kwargs), ours, impl), cls(theirs.values(), **kwargs)
    for t in range(STEPS):
        problem.step(a, ours, t)
        problem.step(b, theirs, t)  # type: ignore[arg-type]
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-12)
