"""Recorded cases of schedules, functions and wrappers. AUTOGROUP_GOLDEN replaces the folder."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import optimizers
from optimizers import functional
from optimizers.schedules import ChebyshevLR, KneeLR, Ranger21LR, UntunedLinearWarmup
from optimizers.wrappers import SAM, Lookahead, PCGrad
from tests.optimizers.recorded import (
    INDEX,
    arrays,
    base,
    cases,
    difference,
    groups,
    inputs,
    set_gradients,
    stray,
    with_tuples,
)

SCHEDULES: dict[str, Callable[..., Any]] = {
    "UntunedLinearWarmup": UntunedLinearWarmup,
    "KneeLR": KneeLR,
    "ChebyshevLR": ChebyshevLR,
    "Ranger21.schedule": Ranger21LR,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "agc": lambda k, grad, param: functional.agc(param, grad, **k),
    "centralize_gradient": lambda k, grad: functional.centralize_gradient(grad, **k),
    "normalize_gradient": lambda k, grad: functional.normalize_gradient(grad, **k),
    "norm_loss": lambda k, param: functional.norm_loss(param, **k),
    "softplus": lambda k, x: functional.softplus(x, **k),
    "matrix_inverse_root": lambda k, matrix: functional.matrix_inverse_root(matrix, **k),
}


BASE_PATHS = pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])  # those of torch's optimizers


def test_every_case_is_run() -> None:
    known = {
        "fixed_grads": {*optimizers.list_optimizers(), "amsgrad", "lookahead"},
        "closure": {"adahessian", "sam"},
        "epoch": {"rmsgd"},
        "pcgrad": {"pcgrad"},
        "pcgrad_outcomes": {"pcgrad"},
        "schedule": {name.lower() for name in SCHEDULES},
        "function": {*FUNCTIONS, "evbmf"},
    }
    unknown = [case["id"] for case in INDEX["cases"] if case["algorithm"].lower() not in known.get(case["kind"], ())]
    assert not unknown
    assert INDEX["format"] == 1


@pytest.mark.parametrize("golden", cases("schedule", *SCHEDULES))
def test_schedule(golden: dict[str, Any]) -> None:
    want = arrays(golden)["values"]
    kwargs = dict(golden["kwargs"])
    optimizer = torch.optim.SGD([Parameter(torch.ones(1))], lr=kwargs.pop("lr", 1.0))
    scheduler = SCHEDULES[golden["algorithm"]](optimizer, **kwargs)
    got = []
    for _ in want:
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert not difference(golden, got, want, "rate by update")


@pytest.mark.parametrize("golden", cases("function", *FUNCTIONS))
def test_function(golden: dict[str, Any]) -> None:
    recorded = arrays(golden)
    given = {name: torch.tensor(recorded[f"in_{name}"]) for name in golden["inputs"]}
    got = FUNCTIONS[golden["algorithm"]](golden["kwargs"], **given)
    (name,) = golden["outputs"]
    assert not difference(golden, got, recorded[f"out_{name}"], name)


@BASE_PATHS
@pytest.mark.parametrize("golden", cases("fixed_grads", "Lookahead"))
def test_lookahead(golden: dict[str, Any], foreach: bool) -> None:
    want = arrays(golden)
    _, given, params = inputs(golden)
    cls, options = base(golden, foreach)
    optimizer = Lookahead(cls(groups(golden, params), **options), **with_tuples(golden["kwargs"]))
    for t in range(golden["steps"]):
        set_gradients(golden, given, params, optimizer, t)
        optimizer.step()
        assert not stray(golden, params, want, t)


def closure_loss(given: Any, params: list[Parameter], kappa: float) -> Tensor:
    a, b, c, w = ([torch.tensor(given[f"{name}_{i}"]) for i in range(len(params))] for name in "abcw")
    rows = zip(params, a, b, c, strict=True)
    own = sum(((ai * x**2 / 2 + ci * x**4 / 12 - bi * x).sum() for x, ai, bi, ci in rows), torch.zeros(()))
    coupled = sum(((wi * x).sum() for x, wi in zip(params, w, strict=True)), torch.zeros(()))
    return own + kappa / 2 * coupled**2


@BASE_PATHS
@pytest.mark.parametrize("manual", [False, True], ids=["step", "two_steps"])
@pytest.mark.parametrize("golden", cases("closure", "SAM"))
def test_sam(golden: dict[str, Any], manual: bool, foreach: bool) -> None:
    want = arrays(golden)
    _, given, params = inputs(golden)
    cls, options = base(golden, foreach)
    optimizer = SAM(groups(golden, params), cls, **golden["kwargs"], **options)

    def closure() -> Tensor:
        loss = closure_loss(given, params, golden["kappa"])
        loss.backward()
        return loss

    for t in range(golden["steps"]):
        optimizer.zero_grad()
        closure()
        if manual:
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        else:
            optimizer.step(closure)
        assert not stray(golden, params, want, t)


def task_losses(golden: dict[str, Any], problem: dict[str, Any], given: Any, params: list[Parameter]) -> list[Tensor]:
    def terms(k: int) -> Iterator[Tensor]:
        for i in problem["touches"][k]:
            a, m = torch.tensor(given[f"a_{k}_{i}"]), torch.tensor(given[f"m_{k}_{i}"])
            yield (a * (params[i] - m) ** 2).sum() / 2

    return [sum(terms(k), torch.zeros(())) for k in golden["tasks"]]


@BASE_PATHS
@pytest.mark.parametrize("golden", cases("pcgrad", "PCGrad"))
def test_pcgrad(golden: dict[str, Any], foreach: bool) -> None:
    want = arrays(golden)
    problem, given, params = inputs(golden)
    cls, options = base(golden, foreach)
    optimizer = PCGrad(cls(groups(golden, params), **options), **golden["kwargs"])
    touched = {i for k in golden["tasks"] for i in problem["touches"][k]}
    for t in range(golden["steps"]):
        optimizer.zero_grad()
        optimizer.pc_backward(task_losses(golden, problem, given, params))
        for i, p in enumerate(params):
            assert (p.grad is not None) == (i in touched)
            if p.grad is not None:
                assert not difference(golden, p.grad, want[f"g{i}"][t], f"gradient {i} before step {t}")
        optimizer.step()
        assert not stray(golden, params, want, t)


@pytest.mark.parametrize("golden", cases("pcgrad_outcomes", "PCGrad"))
def test_pcgrad_outcomes(golden: dict[str, Any]) -> None:
    outcomes = arrays(golden)["outcomes"]
    problem, given, params = inputs(golden)
    generator = torch.Generator().manual_seed(0)
    optimizer = PCGrad(torch.optim.SGD(params), **golden["kwargs"], generator=generator)
    seen = set()
    for _ in range(60):
        optimizer.zero_grad()
        optimizer.pc_backward(task_losses(golden, problem, given, params))
        got = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params])
        matches = [r for r, row in enumerate(outcomes) if not difference(golden, got, row, f"outcome {r}")]
        assert matches, "none of the possible results"
        seen.add(matches[0])
    assert len(seen) > 1, "the order is not random"
