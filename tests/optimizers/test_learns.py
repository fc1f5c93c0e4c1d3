"""Last and least: the loss falls. Cheap, and proves little; the equations are tested elsewhere."""

import torch
from torch.nn import Parameter

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase


def test_a_quadratic_is_solved(case: OptimizerCase, config: Config) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    sign = -1 if config.kwargs.get("maximize") else 1

    def loss() -> torch.Tensor:
        return sum(((p - 2) ** 2).sum() for p in params.values()) * sign  # type: ignore[return-value]

    start = loss().item()
    for _ in range(300):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert sign * loss().item() < sign * start / 2


def test_a_normalized_weight_finds_its_direction(case: OptimizerCase) -> None:
    """The loss sees only the direction of each row, which is what partitions are for."""
    if "partition" in case.skip:
        return
    target = torch.nn.functional.normalize(torch.tensor(problem.gradient("linear", 0)), dim=1)
    w = Parameter(torch.tensor(problem.initial("linear")))
    optimizer = case.cls([w], lr=0.05, channel_dims=(0,))

    def loss() -> torch.Tensor:
        return (1 - (torch.nn.functional.normalize(w, dim=1) * target).sum(1)).sum()

    start = loss().item()
    for _ in range(400):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.1 * start
