"""Schedules: shapes that follow from their definitions, refusals, resume, and company of other schedulers."""

import copy
import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler as lrs

from optimizers import schedules
from optimizers.schedules import ChebyshevLR, KneeLR, Ranger21LR, UntunedLinearWarmup

BUILDERS: dict[str, Callable[[Any], Any]] = {
    "UntunedLinearWarmup": lambda o: UntunedLinearWarmup(o, beta2=0.8),
    "KneeLR": lambda o: KneeLR(o, [0.1, 0.2], 3, 4, 12),
    "ChebyshevLR": lambda o: ChebyshevLR(o, 8, 0.1, 1.0),
    "Ranger21LR": lambda o: Ranger21LR(o, 12, beta2=0.5),
}


def optimizer(**options: Any) -> Any:
    params = [Parameter(torch.ones(2)), Parameter(torch.ones(3))]
    return torch.optim.Adam([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.5}], **{"lr": 1.0, **options})


def rates(optim: Any, scheduler: Any, count: int) -> list[list[float]]:
    found = []
    for _ in range(count):
        found.append([float(group["lr"]) for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", BUILDERS)
def test_resume_at_every_update(name: str) -> None:
    optim = optimizer()
    scheduler = BUILDERS[name](optim)
    want, saved = [], []
    for _ in range(15):
        buffer = io.BytesIO()
        torch.save({"optimizer": optim.state_dict(), "scheduler": scheduler.state_dict()}, buffer)
        saved.append(buffer)
        want += rates(optim, scheduler, 1)
    assert len({tuple(row) for row in want}) > 3
    for start, buffer in enumerate(saved):
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        other = optimizer()
        resumed = BUILDERS[name](other)
        resumed.load_state_dict(state["scheduler"])
        other.load_state_dict(state["optimizer"])
        assert rates(other, resumed, 15 - start) == want[start:]


@pytest.mark.parametrize("name", BUILDERS)
def test_tensor_rate_is_kept_and_equals_the_number(name: str) -> None:
    plain, tensor = optimizer(), optimizer()
    for group in tensor.param_groups:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    held = [group["lr"] for group in tensor.param_groups]
    a, b = BUILDERS[name](plain), BUILDERS[name](tensor)
    for row, other in zip(rates(plain, a, 12), rates(tensor, b, 12), strict=True):
        assert other == pytest.approx(row, rel=1e-12)
    assert all(group["lr"] is lr for group, lr in zip(tensor.param_groups, held, strict=True))


def test_warm_up_reads_beta2_of_each_group_and_ends_at_the_base_rate() -> None:
    optim = torch.optim.Adam(
        [{"params": [Parameter(torch.ones(1))]}, {"params": [Parameter(torch.ones(1))], "betas": (0.9, 0.5)}], lr=1.0
    )
    optim.param_groups[0]["betas"] = (0.9, 0.9)
    found = rates(optim, UntunedLinearWarmup(optim), 30)
    assert [row[0] for row in found] == pytest.approx([min(1, t / 20) for t in range(1, 31)], rel=1e-12)
    assert [row[1] for row in found] == pytest.approx([min(1, t / 4) for t in range(1, 31)], rel=1e-12)


def test_warm_up_chains_with_another_schedule() -> None:
    optim = optimizer()
    both = lrs.ChainedScheduler([UntunedLinearWarmup(optim, beta2=0.5), lrs.ExponentialLR(optim, 0.5)], optim)
    want = [[base * min(1, t / 4) * 0.5 ** (t - 1) for base in (1.0, 0.5)] for t in range(1, 9)]
    for got, row in zip(rates(optim, both, 8), want, strict=True):
        assert got == pytest.approx(row, rel=1e-12)


def test_knee_per_group_and_without_decay() -> None:
    optim = optimizer()
    found = rates(optim, KneeLR(optim, (0.1, 0.2), 2, 2, 4), 6)
    assert found == [[0.05, 0.1], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("length", [1, 2, 3, 8, 12, 64])
def test_fractal_order_is_a_permutation(length: int) -> None:
    assert sorted(schedules.fractal_order(length)) == list(range(length))


def test_fractal_order_of_the_paper() -> None:
    assert schedules.fractal_order(8) == [0, 7, 3, 4, 1, 6, 2, 5]


def test_chebyshev_steps_solve_a_quadratic_and_repeat() -> None:
    small, big, count = 0.01, 1.0, 16
    curvatures = torch.linspace(small, big, 50, dtype=torch.float64)
    errors = torch.ones_like(curvatures)
    for step in schedules.chebyshev_steps(count, small, big):
        errors *= 1 - step * curvatures
    bound = 1 / math.cosh(count * math.acosh((big + small) / (big - small)))  # of the Chebyshev polynomial
    assert errors.abs().max() <= bound * (1 + 1e-9)
    optim = optimizer()
    found = rates(optim, ChebyshevLR(optim, 4, 0.1, 1.0), 8)
    assert found[:4] == found[4:]


def test_ranger21_is_monotone_up_then_down() -> None:
    optim = optimizer()
    first = [row[0] for row in rates(optim, Ranger21LR(optim, 100, beta2=0.9, min_lr=0.1), 100)]
    peak = first.index(1.0)
    assert first[: peak + 1] == pytest.approx([t / 20 for t in range(1, 21)])
    assert all(a >= b for a, b in itertools.pairwise(first[peak:]))
    assert first[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(("beta2", "want"), [(0.9, 20), (0.99, 200), (0.999, 2000), (0.7, 7), (0.0, 2)])
def test_ranger21_warm_up_length(beta2: float, want: int) -> None:
    assert schedules.ranger21_warm_up(10**6, beta2) == want


@pytest.mark.parametrize(("iterations", "want"), [(44, 9), (45, 20)])
def test_ranger21_warm_up_takes_less_of_a_short_run(iterations: int, want: int) -> None:
    assert schedules.ranger21_warm_up(iterations, beta2=0.9) == want  # 20 would be over 45 % of 44


def test_ranger21_options() -> None:
    optim = optimizer()
    found = rates(optim, Ranger21LR(optim, 8, num_warm_up_iterations=0, num_warm_down_iterations=4, min_lr=0.0), 8)
    assert [row[0] for row in found] == [1, 1, 1, 0.8, 0.6, pytest.approx(0.4), pytest.approx(0.2), pytest.approx(0)]


REFUSALS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "beta2": (lambda o: UntunedLinearWarmup(o, beta2=1.0), r"beta2 must be .* < 1, got beta2=1.0"),
    "peak": (lambda o: KneeLR(o, -0.1, 1, 1, 2), r"KneeLR: peak_lr must be .*>= 0, got peak_lr=-0.1"),
    "peaks": (lambda o: KneeLR(o, [0.1], 1, 1, 2), r"got 1 values of peak_lr for 2 groups"),
    "warmup": (lambda o: KneeLR(o, 0.1, -1, 1, 2), r"warmup_steps must be an int >= 0, got warmup_steps=-1"),
    "explore": (lambda o: KneeLR(o, 0.1, 1, 1.5, 2), r"explore_steps must be an int >= 0"),  # type: ignore[arg-type]
    "total": (lambda o: KneeLR(o, 0.1, 0, 0, 0), r"total_steps must be an int >= 1"),
    "sum": (lambda o: KneeLR(o, 0.1, 2, 2, 3), r"total_steps=3 must be >= warmup_steps=2 \+ explore_steps=2"),
    "nodes": (lambda o: ChebyshevLR(o, 0, 0.1, 1.0), r"num_steps must be an int >= 1, got num_steps=0"),
    "small": (lambda o: ChebyshevLR(o, 4, 0.0, 1.0), r"0 < small_m <= big_m, got small_m=0.0"),
    "order": (lambda o: ChebyshevLR(o, 4, 2.0, 1.0), r"0 < small_m <= big_m, got small_m=2.0, big_m=1.0"),
    "min_lr": (lambda o: Ranger21LR(o, 10, min_lr=0.7), r"min_lr=0.7 is above the learning rate 0.5"),
    "iterations": (lambda o: Ranger21LR(o, 0), r"num_iterations must be an int >= 1"),
    "long": (
        lambda o: Ranger21LR(o, 9, beta2=0.5, num_warm_down_iterations=10, min_lr=0),
        r"must be <= num_iterations=9",
    ),
    "up": (lambda o: Ranger21LR(o, 9, num_warm_up_iterations=-1), r"num_warm_up_iterations must be an int >= 0"),
    "end": (lambda o: Ranger21LR(o, 9, min_lr=-0.1), r"min_lr must be .*>= 0, got min_lr=-0.1"),
    "down": (lambda o: Ranger21LR(o, 9, num_warm_down_iterations=-1), r"num_warm_down_iterations must be an int >= 0"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    optim = optimizer()
    before = copy.deepcopy(optim.state_dict())
    build, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        build(optim)
    assert optim.state_dict() == before


def test_without_betas_beta2_must_be_given() -> None:
    optim = torch.optim.SGD([Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match=r"SGD has no betas to read beta2 from: give UntunedLinearWarmup\(beta2=...\)"):
        UntunedLinearWarmup(optim)
