"""What single wrappers promise beyond the common contract."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers.wrappers import (
    AGC,
    ASAM,
    SAM,
    GradientCentralization,
    Lookahead,
    NormLoss,
    PCGrad,
    frozen_running_stats,
)
from tests.optimizers.wrapped import INNER, loss_of, parameters, step

# --- options and their names ------------------------------------------------------------------------------------------


def test_an_option_that_the_optimizer_inside_has_too_gets_a_longer_name() -> None:
    p = Parameter(torch.ones(2))
    rms = Lookahead(torch.optim.RMSprop([p], alpha=0.9), alpha=0.5)
    assert (rms.param_groups[0]["alpha"], rms.param_groups[0]["lookahead_alpha"]) == (0.9, 0.5)
    sam = SAM([p], torch.optim.Adadelta, rho=0.05)
    assert (sam.param_groups[0]["rho"], sam.param_groups[0]["sam_rho"]) == (0.9, 0.05)
    twice = Lookahead(Lookahead(torch.optim.SGD([p]), k=2), k=3)
    assert (twice.param_groups[0]["k"], twice.param_groups[0]["lookahead2_k"]) == (2, 3)


def test_options_by_group() -> None:
    a, b = Parameter(torch.zeros(())), Parameter(torch.zeros(()))
    optimizer = Lookahead(torch.optim.SGD([{"params": [a]}, {"params": [b], "k": 2, "alpha": 1.0}], lr=1.0), k=1)
    for _ in range(2):
        a.grad, b.grad = torch.ones(()), torch.ones(())
        optimizer.step()
    assert (a.item(), b.item()) == (-1.0, -2.0)


# --- Lookahead --------------------------------------------------------------------------------------------------------


def test_weights_loaded_after_construction_are_not_pulled_back() -> None:
    p = Parameter(torch.zeros(()))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1.0), k=1, alpha=0.5)
    p.data.fill_(10.0)
    p.grad = torch.ones(())
    optimizer.step()
    assert p.item() == 9.5


def test_a_frozen_parameter_may_be_changed_by_others() -> None:
    p, frozen = Parameter(torch.zeros(())), Parameter(torch.zeros(()), requires_grad=False)
    optimizer = Lookahead(torch.optim.SGD([p, frozen], lr=1.0), k=1, alpha=0.5)
    for value in (1.0, 2.0):
        frozen.fill_(value)
        p.grad = torch.ones(())
        optimizer.step()
    assert frozen.item() == 2.0


def test_slow_weights_come_and_go() -> None:
    params = parameters()
    optimizer = Lookahead(INNER["SGD"](params.values()), k=3)
    start = {name: p.detach().clone() for name, p in params.items()}
    for t in range(2):
        step(optimizer, params, t)
    fast = {name: p.detach().clone() for name, p in params.items()}
    with pytest.raises(KeyError), optimizer.slow_weights():
        assert all(torch.equal(p, start[name]) for name, p in params.items())
        raise KeyError
    assert all(torch.equal(p, fast[name]) for name, p in params.items())


def test_slow_copy_of_half_precision_is_wide() -> None:
    p = Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = Lookahead(torch.optim.SGD([p], lr=1e-3), k=1, alpha=0.5)
    for _ in range(64):  # each slow step is below the resolution of bfloat16
        p.grad = torch.full_like(p, 4.0)
        optimizer.step()
    assert optimizer.slots[p]["slow"].dtype == torch.float32
    assert p.item() < 1


# --- SAM --------------------------------------------------------------------------------------------------------------


def quadratic(p: Tensor) -> Tensor:
    return (p.square() * torch.arange(1.0, 1 + p.numel(), dtype=p.dtype)).sum()


def test_sam_without_a_gradient_calls_the_closure_twice_and_clears() -> None:
    results = []
    for backward_first in (True, False):
        p = Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = SAM([p], torch.optim.SGD, rho=0.3, lr=0.01, momentum=0.9)

        def closure(p: Parameter = p) -> Tensor:
            loss = quadratic(p)
            loss.backward()
            return loss

        for _ in range(4):
            if backward_first:
                optimizer.zero_grad()
                closure()
            optimizer.step(closure)
            assert (p.grad is None) == (not backward_first)
        results.append(p.detach())
    assert torch.equal(results[0], results[1])


def test_sam_without_closure() -> None:
    p = Parameter(torch.ones(3))
    optimizer = SAM([p], torch.optim.SGD, lr=0.1, weight_decay=0.5)
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"SAM needs the gradient at a second point: call step\(closure\)"):
        optimizer.step()
    p.grad.zero_()
    optimizer.step()  # nowhere to climb: the step of the optimizer inside
    torch.testing.assert_close(p, torch.full((3,), 0.95), check_dtype=False)


def test_sam_restores_exactly_also_after_an_error() -> None:
    p = Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    before = p.detach().clone()
    optimizer = SAM([p], torch.optim.SGD, rho=1e3, lr=0.0)
    quadratic(p).backward()
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert torch.equal(p, before)
    p.grad = None
    quadratic(p).backward()
    optimizer.first_step()
    assert not torch.equal(p, before)
    with pytest.raises(RuntimeError, match=r"call second_step\(\) before the next first_step\(\)"):
        optimizer.first_step()
    optimizer.second_step()
    assert torch.equal(p, before)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_asam_does_not_see_the_scale_of_the_weights(scale: float) -> None:
    """The relative perturbation of a weight w is the same for w·scale in a loss of w only through w/scale."""
    moved = []
    for c in (1.0, scale):
        p = Parameter(torch.tensor([0.5, -1.5], dtype=torch.float64) * c)
        optimizer = ASAM([p], torch.optim.SGD, rho=0.1, eta=0.0, lr=0.0)
        ((p / c - 1) ** 2).sum().backward()
        optimizer.first_step()
        moved.append(p.detach() / c)
    torch.testing.assert_close(moved[1], moved[0])


def test_sam_climbs_by_rho_over_all_groups() -> None:
    a, b = Parameter(torch.ones(3)), Parameter(torch.ones(2))
    optimizer = SAM([{"params": [a]}, {"params": [b], "rho": 0.0}], torch.optim.SGD, rho=0.5)
    a.grad, b.grad = torch.tensor([3.0, 0, 0]), torch.tensor([4.0, 0])
    assert optimizer.first_step().item() == pytest.approx(5)
    torch.testing.assert_close(a.detach(), torch.tensor([1.3, 1, 1]))
    assert torch.equal(b, torch.ones(2))


def test_first_infinite_gradient_skips_closure_and_step() -> None:
    p = Parameter(torch.ones(2))
    optimizer = SAM([p], torch.optim.SGD, lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(p.sum() * float("inf")).backward()
    optimizer.step(lambda: pytest.fail("called"), scaler=scaler)
    scaler.update()
    assert torch.equal(p, torch.ones(2))
    assert scaler.get_scale() == 2.0


def test_frozen_running_stats() -> None:
    norm = torch.nn.BatchNorm1d(2, momentum=None)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), norm, torch.nn.BatchNorm1d(2, track_running_stats=False))
    before = copy.deepcopy(norm.state_dict())
    buffer = norm.running_mean
    with frozen_running_stats(model):
        out = model(torch.randn(4, 3) * float("1e4"))
    out.sum().backward()  # outside: nothing that it needs has been changed
    assert norm.running_mean is buffer
    assert all(torch.equal(x, before[name]) for name, x in norm.state_dict().items())
    with pytest.raises(KeyError), frozen_running_stats(model):
        raise KeyError
    model(torch.randn(4, 3))
    assert norm.num_batches_tracked.item() == 1
    assert not torch.equal(norm.running_mean, before["running_mean"])


# --- PCGrad -----------------------------------------------------------------------------------------------------------


def merged(losses: Any, p: Parameter, **options: Any) -> Tensor:
    optimizer = PCGrad(torch.optim.SGD([p], lr=1.0), **options)
    optimizer.pc_backward(losses(p))
    assert p.grad is not None
    return p.grad


def test_merged_gradient_opposes_no_task() -> None:
    a = torch.randn(2, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a[1] -= 2 * a[0]
    p = Parameter(torch.zeros(20, dtype=torch.float64))
    g = merged(lambda p: [a[0] @ p, a[1] @ p], p, reduction="sum")
    assert (a[0] + a[1]) @ a[0] < 0
    assert min(a[0] @ g, a[1] @ g) >= 0


def test_agreeing_tasks_are_added() -> None:
    p = Parameter(torch.zeros(2))
    assert merged(lambda p: [p[0] + p[1], p[0]], p, reduction="sum").tolist() == [2.0, 1.0]
    assert merged(lambda p: [p[0] + p[1], p[0]], p).tolist() == [1.0, 0.5]


def test_a_task_without_gradient_is_harmless() -> None:
    p = Parameter(torch.ones(2))
    assert merged(lambda p: [(p * 0).sum(), p.sum()], p, reduction="sum").tolist() == [1.0, 1.0]


def test_order_comes_from_the_generator() -> None:
    a = torch.tensor([[1.0, 0.0, 0.2], [-0.5, 1.0, 0.0], [-0.5, -1.0, 0.3], [0.1, -0.3, -1.0]])

    def run(seed: int) -> list[float]:
        p = Parameter(torch.zeros(3))
        return merged(lambda p: list(a @ p), p, generator=torch.Generator().manual_seed(seed)).tolist()

    assert run(0) == run(0)
    assert len({tuple(run(seed)) for seed in range(10)}) > 1


def test_written_gradients_can_be_changed_in_place_and_frozen_parameters_have_none() -> None:
    p, frozen = Parameter(torch.ones(3)), Parameter(torch.ones(3), requires_grad=False)
    optimizer = PCGrad(torch.optim.SGD([p, frozen]))
    optimizer.pc_backward([(p * frozen).sum()])
    assert p.grad is not None
    p.grad.add_(torch.tensor([1.0, 2.0, 3.0]))
    assert p.grad.tolist() == [2.0, 3.0, 4.0]
    assert frozen.grad is None


def test_no_losses() -> None:
    with pytest.raises(ValueError, match="pc_backward needs at least one loss"):
        PCGrad(torch.optim.SGD([Parameter(torch.ones(1))])).pc_backward([])


# --- gradients and weights --------------------------------------------------------------------------------------------


def test_agc_reads_the_partition_of_its_group() -> None:
    g = torch.tensor([[3.0, 4.0], [0.0, 0.1]])
    moved = []
    for dims in (None, (), (1,)):
        p = Parameter(torch.ones(2, 2))
        optimizer = AGC(torch.optim.SGD([{"params": [p], "channel_dims": dims}], lr=1.0), clipping=0.5)
        p.grad = g.clone()
        optimizer.step()
        moved.append(1 - p.detach())
    limit = 0.5 * 2**0.5
    torch.testing.assert_close(moved[0].norm(dim=1), torch.tensor([limit, 0.1]))
    torch.testing.assert_close(moved[1].norm(), torch.tensor(1.0))
    torch.testing.assert_close(moved[2].norm(dim=0), torch.tensor([limit, limit]))


@pytest.mark.parametrize("wrapper", [AGC, GradientCentralization])
def test_sparse_gradients_are_refused(wrapper: Any) -> None:
    p = Parameter(torch.ones(3, 2))
    optimizer = wrapper(torch.optim.SGD([p]))
    p.grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match=f"{wrapper.__name__} does not support the sparse gradient"):
        optimizer.step()


def test_gradients_are_back_after_an_error() -> None:
    p = Parameter(torch.ones(3, 2))
    optimizer = AGC(torch.optim.SGD([p]), clipping=0.01)
    p.grad = torch.ones(3, 2)
    kept = p.grad
    optimizer.optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    assert p.grad is kept


def test_norm_loss_works_before_the_step_and_leaves_what_has_no_gradient() -> None:
    p, idle = Parameter(torch.tensor([[2.0]])), Parameter(torch.tensor([[2.0]]))
    optimizer = NormLoss(torch.optim.SGD([p, idle], lr=0.25, weight_decay=1.0), norm_loss_factor=1.0)
    p.grad = torch.zeros(1, 1)
    optimizer.step()
    assert p.item() == pytest.approx(1.5 - 0.25 * 1.5)
    assert idle.item() == 2.0


def test_wrappers_around_lbfgs() -> None:
    for build in (
        lambda o: AGC(o, clipping=0.9),
        lambda o: Lookahead(o, k=2),
        lambda o: NormLoss(o, norm_loss_factor=0.0),
    ):
        params = parameters()
        optimizer = build(torch.optim.LBFGS(params.values(), lr=0.3))
        losses = []

        def closure(params: Any = params, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(params, 0)
            loss.backward()
            return loss

        for _ in range(3):
            losses.append(optimizer.step(closure).item())
        assert losses[-1] < losses[0]


def test_sam_goes_downhill_where_the_optimizer_inside_goes_up() -> None:
    ends = []
    for sign in (1.0, -1.0):
        p = Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = SAM([p], torch.optim.SGD, rho=0.5, lr=0.1, maximize=sign < 0)

        def closure(p: Parameter = p, optimizer: Any = optimizer, sign: float = sign) -> torch.Tensor:
            optimizer.zero_grad()
            loss = sign * p.pow(4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1])


@pytest.mark.parametrize("zero_grad", [False, True])
def test_the_halves_of_sam_clear_gradients_only_when_told(zero_grad: bool) -> None:
    p = Parameter(torch.ones(2))
    optimizer = SAM([p], torch.optim.SGD, lr=0.1)
    for half in (optimizer.first_step, optimizer.second_step):
        p.square().sum().backward()
        half(zero_grad=zero_grad)
        assert (p.grad is None) == zero_grad
