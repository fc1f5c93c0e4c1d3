"""AdaHessian: recorded trajectories, the estimate of a Hessian that is not diagonal, and what it needs and refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers import AdaHessian
from tests.optimizers.recorded import arrays, build, cases, inputs, stray
from tests.optimizers.test_golden_kinds import closure_loss

# torch warns of the memory that such gradients hold; here they are dropped after each step.
pytestmark = pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")


@pytest.mark.parametrize("impl", AdaHessian.impls)
@pytest.mark.parametrize("golden", cases("closure", "AdaHessian"))
def test_trajectory(golden: dict[str, Any], impl: str) -> None:
    want = arrays(golden)
    _, given, params = inputs(golden)
    optimizer = build(golden, params, impl)
    for t in range(golden["steps"]):
        optimizer.zero_grad()
        closure_loss(given, params, golden["kappa"]).backward(create_graph=True)
        optimizer.step()
        assert not stray(golden, params, want, t)
    optimizer.zero_grad()  # or the graph refers to itself


def second_moment(optimizer: AdaHessian, p: Parameter) -> Tensor:
    return optimizer.state[p]["exp_hessian_diag_sq"] / (1 - 0.999 ** float(optimizer.state[p]["step"]))


def test_many_samples_find_the_diagonal() -> None:
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hessian, p = root @ root.T, Parameter(torch.ones(5, dtype=torch.float64))
    optimizer = AdaHessian([p], n_samples=4000, generator=torch.Generator().manual_seed(1))
    (p @ hessian @ p / 2).backward(create_graph=True)
    optimizer.step()
    torch.testing.assert_close(second_moment(optimizer, p).sqrt(), hessian.diagonal(), rtol=0.1, atol=0.1)
    optimizer.zero_grad()


def test_a_generator_makes_runs_repeatable() -> None:
    ends = []
    for seed in (0, 0, 1):
        p = Parameter(torch.ones(6))
        optimizer = AdaHessian([p], generator=torch.Generator().manual_seed(seed))
        (p.sum() ** 2 + p.pow(3).sum()).backward(create_graph=True)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_no_graph_is_refused_before_anything_changes() -> None:
    p = Parameter(torch.ones(3))
    optimizer = AdaHessian([p])
    p.square().sum().backward()
    with pytest.raises(RuntimeError, match=r"AdaHessian needs loss.backward\(create_graph=True\)"):
        optimizer.step()
    assert torch.equal(p, torch.ones(3))
    assert not optimizer.state


def test_steps_between_estimates_need_no_graph() -> None:
    p = Parameter(torch.ones(3))
    optimizer = AdaHessian([p], update_period=2)
    for t in range(4):
        optimizer.zero_grad()
        p.pow(4).sum().backward(create_graph=t % 2 == 0)
        optimizer.step()
    optimizer.zero_grad()
    assert optimizer.state[p]["step"] == 4


def test_a_single_gradient_without_a_graph_has_no_curvature() -> None:
    curved, straight, linear = (Parameter(torch.ones(2)) for _ in range(3))
    optimizer = AdaHessian([curved, straight, linear])
    (curved.square().sum() + linear.sum() * curved.detach().sum()).backward(create_graph=True)
    straight.grad = torch.ones(2)
    optimizer.step()
    optimizer.zero_grad()
    assert second_moment(optimizer, curved).tolist() == pytest.approx([4.0, 4.0])
    for p in (straight, linear):
        assert second_moment(optimizer, p).tolist() == [0.0, 0.0]


def test_closure_makes_the_graph() -> None:
    p = Parameter(torch.ones(3))
    optimizer = AdaHessian([p], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward(create_graph=True)
        return loss

    assert optimizer.step(closure).item() == 3.0
    optimizer.zero_grad()
    assert (p < 1).all()


def test_a_gradient_that_depends_on_something_else_only_has_no_curvature() -> None:
    p, other = Parameter(torch.ones(2)), torch.tensor(3.0, requires_grad=True)
    optimizer = AdaHessian([p])
    (p.sum() * other).backward(create_graph=True)
    optimizer.step()
    optimizer.zero_grad()
    other.grad = None
    assert second_moment(optimizer, p).tolist() == [0.0, 0.0]
