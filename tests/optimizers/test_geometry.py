"""What the geometry promises: tangent momentum, and equivariance to the scale of a weight."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from optimizers import Nero
from tests.optimizers import problem
from tests.optimizers.cases import OptimizerCase

PARTITIONS = pytest.mark.parametrize(
    "group",
    [{"channel_dims": (0,)}, {"channel_dims": ()}, {"channel_dims": (1,)}, {"channel_dims": (0,), "channel_groups": 3}],
    ids=["channels", "tensor", "columns", "groups"],
)


@PARTITIONS
def test_momentum_is_tangent_after_the_step(case: OptimizerCase, impl: str, group: dict[str, Any]) -> None:
    if case.tangent is None:
        pytest.skip("makes no claim about the momentum")
    name, options = case.tangent
    p = Parameter(torch.tensor(problem.initial("conv")))
    optimizer = case.cls([p], **options, **group, impl=impl)
    blocks = optimizer.partition(optimizer.param_groups[0], tuple(p.shape))
    for t in range(5):
        p.grad = torch.tensor(problem.gradient("conv", t))
        optimizer.step()
        m = optimizer.state[p][name]
        cosine = blocks.dot(m, p) / (blocks.dot(m, m) * blocks.dot(p, p)).sqrt()
        assert cosine.abs().max() < 1e-12
        radial = blocks.dot(p.grad, p) / (blocks.dot(p.grad, p.grad) * blocks.dot(p, p)).sqrt()
        assert radial.abs().max() > 1e-3, "the gradients are tangent themselves, so this shows nothing"


@PARTITIONS
@pytest.mark.parametrize("alpha", [0.01, 30.0])
def test_scale_equivariance(case: OptimizerCase, impl: str, alpha: float, group: dict[str, Any]) -> None:
    if case.lr_power is None:
        pytest.skip("makes no claim about scale")
    ends = []
    for scale in (1.0, alpha):
        p = Parameter(scale * torch.tensor(problem.initial("conv")))
        options = {**case.scale_free, "lr": case.scale_free["lr"] * scale**case.lr_power}
        optimizer = case.cls([p], **options, **group, impl=impl)
        for t in range(6):
            p.grad = torch.tensor(problem.gradient("conv", t)) / scale
            optimizer.step()
        ends.append(p.detach() / scale)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-11)
    assert not torch.allclose(ends[0], torch.tensor(problem.initial("conv"))), "nothing moved"


@pytest.mark.parametrize("row", [[1.0, -1.0], [1.0, 0.0], [2.0, 0.0]])
def test_nero_constrains_what_violates_the_norm_or_the_mean(row: list[float]) -> None:
    p = Parameter(torch.tensor([row, [0.5**0.5, -(0.5**0.5)]], dtype=torch.float64))
    Nero([p])
    torch.testing.assert_close(p.sum(1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(p.norm(dim=1), torch.ones(2, dtype=torch.float64))
