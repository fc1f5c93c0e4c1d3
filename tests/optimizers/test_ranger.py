"""Ranger and Ranger21: what centralized gradients, slow weights and the schedule promise."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

from optimizers import Ranger, Ranger21
from tests.optimizers.recorded import FOLDER, INDEX

SCHEDULES = [case for case in INDEX["cases"] if case["algorithm"] == "Ranger21.schedule"]


def test_centralized_gradients_keep_the_mean_of_each_row() -> None:
    start = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = Parameter(start.clone())
    optimizer = Ranger([p], lr=0.01, betas=(0.9, 0.999), k=2)
    for t in range(4):  # before rectification, which weighs the entries of a row
        p.grad = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(p.mean((1, 2)), start.mean((1, 2)))
    assert not torch.allclose(p, start)


@pytest.mark.parametrize("cls", [Ranger, Ranger21])
def test_a_quadratic_is_solved_without_centralization(cls: Any) -> None:
    p = Parameter(torch.zeros(4, 3))
    optimizer = cls([p], lr=0.05, **{"use_gc" if cls is Ranger else "centralize_gradients": False})
    for _ in range(300):
        optimizer.zero_grad()
        (p - 2).square().sum().backward()
        optimizer.step()
    assert (p - 2).square().sum() < 1


@pytest.mark.parametrize("impl", ["loop", "foreach", "compiled"])
def test_slow_weights_are_those_at_construction(impl: str) -> None:
    p = Parameter(torch.full((3,), 4.0))
    optimizer = Ranger([p], lr=0.0, k=2, alpha=0.25, impl=impl)
    with torch.no_grad():
        p.fill_(8.0)
    for want in (8.0, 5.0, 5.0):
        p.grad = torch.zeros(3)
        optimizer.step()
        assert p.tolist() == [want] * 3


def test_frozen_parameters_get_state_when_they_thaw() -> None:
    p = Parameter(torch.ones(3), requires_grad=False)
    optimizer = Ranger([p])
    assert not optimizer.state
    p.requires_grad_()
    p.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.state[p]["slow_buffer"].tolist() == [1.0] * 3


@pytest.mark.parametrize("golden", SCHEDULES, ids=[case["id"] for case in SCHEDULES])
def test_schedule(golden: dict[str, Any]) -> None:
    want = np.load(FOLDER / golden["file"])["values"]
    np.testing.assert_allclose(Ranger21.schedule(**golden["kwargs"]), want, **golden["tolerance"])


def test_the_schedule_acts_and_ends() -> None:
    p = Parameter(torch.zeros(2, 3))
    settings = {"use_softplus": False, "norm_loss_factor": 0, "weight_decay": 0, "lookahead_merge_time": 99}
    optimizer = Ranger21([p], num_iterations=10, lr=0.1, beta0=0.0, betas=(0.0, 0.0), warm_down_min_lr=0.01, **settings)
    rates = Ranger21.schedule(10, 0.0, 0.1, 0.01)
    assert len(set(rates)) > 4
    before = p.detach().clone()
    for t in range(12):
        p.grad = torch.tensor([[1.0, -1.0, 0.0], [2.0, 0.0, -2.0]])
        optimizer.step()
        moved, before = (p.detach() - before).abs().max().item(), p.detach().clone()
        assert moved == pytest.approx(rates[min(t, 9)], rel=1e-4)
