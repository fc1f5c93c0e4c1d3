"""Only zero switches anything off: no other value of an option is special, and options act without each other."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from optimizers import SGD_GC, SGDMRT, SGDP, Lamb, Ranger
from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase


def ends(case: OptimizerCase, config: Config, option: str, value: float) -> dict[str, torch.Tensor]:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    for group in optimizer.param_groups:
        group[option] = value
    for t in range(3):
        problem.step(optimizer, params, t, late=False)
    return {name: p.detach() for name, p in params.items()}


@pytest.mark.parametrize("option", ["weight_decay", "lr"])
def test_one_is_an_ordinary_value(case: OptimizerCase, config: Config, option: str) -> None:
    defaults = problem.build(case, config, problem.parameters(), "auto").defaults
    # A rate of 1 may carry a weight to 0 exactly, which is special; only decay beside lr asks whether lr is 0.
    if option in defaults and (option != "lr" or "fixed_decay" in defaults):
        at_one, nearby = ends(case, config, option, 1.0), ends(case, config, option, 1.0 + 1e-12)
        for name, p in at_one.items():
            assert p.isfinite().all()
            torch.testing.assert_close(p, nearby[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("cls", [SGDMRT, SGDP])
@pytest.mark.parametrize(("options", "part"), [({"dampening": 0.5}, 0.5), ({}, 1.0)])
def test_dampening_acts_without_momentum(cls: Any, options: dict[str, float], part: float) -> None:
    p = Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = cls([p], lr=0.1, **options)
    p.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(p, 1 - part * 0.1 * p.grad)


@pytest.mark.parametrize("cls", [SGD_GC, Ranger])
def test_a_centralized_row_of_one_entry_does_not_move(cls: Any) -> None:
    p = Parameter(torch.ones(3, 1))
    optimizer = cls([p], lr=0.1)
    for _ in range(8):
        p.grad = torch.tensor([[1.0], [2.0], [-3.0]])
        optimizer.step()
    assert torch.equal(p, torch.ones(3, 1))


@pytest.mark.parametrize(("norm", "divisor"), [(0.5, 1.0), (1.5, 1.5), (3.0, 3.0)])
def test_lamb_bounds_the_norm_of_all_gradients(norm: float, divisor: float) -> None:
    ends = []
    for bound, scale in ((1.0, 1.0), (None, 1 / divisor)):
        p = Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = Lamb([p], lr=0.1, eps=1.0, max_grad_norm=bound)
        p.grad = scale * norm * torch.tensor([0.6, -0.8], dtype=torch.float64)
        optimizer.step()
        ends.append(p.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=0)
