"""What single optimizers of the family promise beyond their equations."""

import pytest
import torch
from torch.nn import Parameter

from optimizers import MADGRAD, SGD_GC, AdaBelief, AdaBound


def test_centralized_descent_keeps_row_means_and_solves_the_rest() -> None:
    w, target = Parameter(torch.randn(3, 5, dtype=torch.float64)), torch.randn(3, 5, dtype=torch.float64)
    means = w.detach().mean(1, keepdim=True)
    optimizer = SGD_GC([w], lr=0.1, momentum=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        (w - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(w.detach(), target - target.mean(1, keepdim=True) + means)


def test_the_final_rate_follows_each_group() -> None:
    p, q = Parameter(torch.ones(2)), Parameter(torch.ones(2))
    optimizer = AdaBound([p], lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.05
    optimizer.add_param_group({"params": [q], "lr": 0.02})
    assert [group["base_lr"] for group in optimizer.param_groups] == [0.1, 0.02]
    final = [optimizer.hyper(group, 10**9, None)["high"] for group in optimizer.param_groups]
    assert final == pytest.approx([0.05, 0.1])


def test_a_group_that_starts_at_zero_still_has_a_final_rate() -> None:
    optimizer = AdaBound([Parameter(torch.ones(2))], lr=0.0, final_lr=0.3)
    optimizer.param_groups[0]["lr"] = 0.01
    assert optimizer.hyper(optimizer.param_groups[0], 10**9, None)["low"] == pytest.approx(0.3)


@pytest.mark.parametrize(("lr", "want"), [(0.0, 2.0), (0.1, 1.5)])
def test_fixed_decay_ignores_the_size_of_lr(lr: float, want: float) -> None:
    p = Parameter(torch.full((3,), 2.0))
    optimizer = AdaBelief([p], lr=lr, weight_decay=0.25, fixed_decay=True)
    p.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(p, torch.full((3,), want))


def test_madgrad_counts_its_own_steps() -> None:
    """A parameter whose gradients come later moves as one that got zeros so far."""
    early, late, zeros = (Parameter(torch.ones(4)) for _ in range(3))
    a, b = MADGRAD([early], lr=0.1), MADGRAD([zeros], lr=0.1)
    for t in range(5):
        if t == 2:
            a.add_param_group({"params": [late]})
        early.grad = torch.full((4,), 1.0 + t)
        late.grad = early.grad if t >= 2 else None
        zeros.grad = early.grad if t >= 2 else torch.zeros(4)
        a.step()
        b.step()
    torch.testing.assert_close(late, zeros)
    assert (late != 1).all()
    assert [group["k"] for group in a.param_groups] == [5, 5]


def test_madgrad_without_momentum_is_its_limit() -> None:
    """The starting point is recovered from the sums, so it must not drift from the stored one."""
    p, q = (Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    a, b = MADGRAD([p], lr=0.1, momentum=0.0), MADGRAD([q], lr=0.1, momentum=1e-12)
    for t in range(20):
        p.grad = q.grad = torch.linspace(-1, 1, 4, dtype=torch.float64) * (1 + t % 3)
        a.step()
        b.step()
    torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def test_madgrad_with_lr_zero_stops_the_sums_and_goes_on_averaging() -> None:
    p = Parameter(torch.ones(3))
    optimizer = MADGRAD([p], lr=torch.tensor(0.5), momentum=0.5)
    p.grad = torch.ones(3)
    optimizer.step()
    state, moved = optimizer.state[p], p.detach().clone()
    sums = state["grad_sum"].clone()
    goal = state["x0"] - sums / (state["grad_sum_sq"].pow(1 / 3) + 1e-6)
    optimizer.param_groups[0]["lr"].fill_(0)
    optimizer.step()
    assert torch.equal(state["grad_sum"], sums)
    torch.testing.assert_close(p.detach(), (moved + goal) / 2)
