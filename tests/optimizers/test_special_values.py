"""Only zero switches anything off: no other value of an option is special."""

import pytest
import torch

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
