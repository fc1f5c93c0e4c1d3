"""Recorded cases of schedules, functions and wrappers. AUTOGROUP_GOLDEN replaces the folder."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers import functional
from optimizers.schedules import ChebyshevLR, KneeLR, Ranger21LR, UntunedLinearWarmup
from optimizers.wrappers import SAM, Lookahead, PCGrad
from tests.optimizers.test_golden import FOLDER, INDEX, with_tuples

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


def cases(kind: str, *algorithms: str) -> list[Any]:
    return [
        pytest.param(case, id=case["id"])
        for case in INDEX["cases"]
        if case["kind"] == kind and case["algorithm"] in algorithms
    ]


def inputs(case: dict[str, Any]) -> tuple[dict[str, Any], Any, list[Parameter]]:
    problem = INDEX["problems"][case["problem"]]
    arrays: Any = np.load(FOLDER / problem["file"])
    return problem, arrays, [Parameter(torch.tensor(arrays[f"param_{i}"])) for i in range(len(problem["shapes"]))]


def base(case: dict[str, Any]) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    return getattr(torch.optim, case["base"]["algorithm"]), with_tuples(case["base"]["kwargs"])


def compare(case: dict[str, Any], got: Any, want: Any, where: str) -> None:
    got = got.detach().numpy() if isinstance(got, Tensor) else got
    np.testing.assert_allclose(got, want, **case["tolerance"], err_msg=where)


def test_every_case_of_these_kinds_is_run() -> None:
    known = {"schedule": set(SCHEDULES), "function": set(FUNCTIONS) | {"evbmf"}, "pcgrad": {"PCGrad"}}
    known["pcgrad_outcomes"] = known["pcgrad"]
    missing = [c["id"] for c in INDEX["cases"] if c["algorithm"] not in known.get(c["kind"], {c["algorithm"]})]
    assert not missing


@pytest.mark.parametrize("golden", cases("schedule", *SCHEDULES))
def test_schedule(golden: dict[str, Any]) -> None:
    want = np.load(FOLDER / golden["file"])["values"]
    kwargs = dict(golden["kwargs"])
    optimizer = torch.optim.SGD([Parameter(torch.ones(1))], lr=kwargs.pop("lr", 1.0))
    scheduler = SCHEDULES[golden["algorithm"]](optimizer, **kwargs)
    got = []
    for _ in want:
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    compare(golden, got, want, "rate by update")


@pytest.mark.parametrize("golden", cases("function", *FUNCTIONS))
def test_function(golden: dict[str, Any]) -> None:
    arrays: Any = np.load(FOLDER / golden["file"])
    given = {name: torch.tensor(arrays[f"in_{name}"]) for name in golden["inputs"]}
    got = FUNCTIONS[golden["algorithm"]](golden["kwargs"], **given)
    (name,) = golden["outputs"]
    compare(golden, got, arrays[f"out_{name}"], name)


@pytest.mark.parametrize("golden", cases("fixed_grads", "Lookahead"))
def test_lookahead(golden: dict[str, Any]) -> None:
    want: Any = np.load(FOLDER / golden["file"])
    _, arrays, params = inputs(golden)
    cls, options = base(golden)
    optimizer = Lookahead(cls(params, **options), **golden["kwargs"])
    for t in range(golden["steps"]):
        for i, p in enumerate(params):
            p.grad = torch.tensor(arrays[f"grad_{i}"][t])
        optimizer.step()
        for i, p in enumerate(params):
            compare(golden, p, want[f"p{i}"][t], f"parameter {i} after step {t}")


def closure_loss(arrays: Any, params: list[Parameter], kappa: float) -> Tensor:
    a, b, c, w = ([torch.tensor(arrays[f"{name}_{i}"]) for i in range(len(params))] for name in "abcw")
    rows = zip(params, a, b, c, strict=True)
    own = sum(((ai * x**2 / 2 + ci * x**4 / 12 - bi * x).sum() for x, ai, bi, ci in rows), torch.zeros(()))
    coupled = sum(((wi * x).sum() for x, wi in zip(params, w, strict=True)), torch.zeros(()))
    return own + kappa / 2 * coupled**2


@pytest.mark.parametrize("manual", [False, True], ids=["step", "two_steps"])
@pytest.mark.parametrize("golden", cases("closure", "SAM"))
def test_sam(golden: dict[str, Any], manual: bool) -> None:
    want: Any = np.load(FOLDER / golden["file"])
    _, arrays, params = inputs(golden)
    cls, options = base(golden)
    optimizer = SAM(params, cls, **golden["kwargs"], **options)

    def closure() -> Tensor:
        loss = closure_loss(arrays, params, golden["kappa"])
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
        for i, p in enumerate(params):
            compare(golden, p, want[f"p{i}"][t], f"parameter {i} after step {t}")


def task_losses(golden: dict[str, Any], problem: dict[str, Any], arrays: Any, params: list[Parameter]) -> list[Tensor]:
    def terms(k: int) -> Iterator[Tensor]:
        for i in problem["touches"][k]:
            a, m = torch.tensor(arrays[f"a_{k}_{i}"]), torch.tensor(arrays[f"m_{k}_{i}"])
            yield (a * (params[i] - m) ** 2).sum() / 2

    return [sum(terms(k), torch.zeros(())) for k in golden["tasks"]]


@pytest.mark.parametrize("golden", cases("pcgrad", "PCGrad"))
def test_pcgrad(golden: dict[str, Any]) -> None:
    want: Any = np.load(FOLDER / golden["file"])
    problem, arrays, params = inputs(golden)
    cls, options = base(golden)
    optimizer = PCGrad(cls(params, **options), **golden["kwargs"])
    touched = {i for k in golden["tasks"] for i in problem["touches"][k]}
    for t in range(golden["steps"]):
        optimizer.zero_grad()
        optimizer.pc_backward(task_losses(golden, problem, arrays, params))
        for i, p in enumerate(params):
            assert (p.grad is not None) == (i in touched)
            if p.grad is not None:
                compare(golden, p.grad, want[f"g{i}"][t], f"gradient {i} before step {t}")
        optimizer.step()
        for i, p in enumerate(params):
            compare(golden, p, want[f"p{i}"][t], f"parameter {i} after step {t}")


@pytest.mark.parametrize("golden", cases("pcgrad_outcomes", "PCGrad"))
def test_pcgrad_outcomes(golden: dict[str, Any]) -> None:
    outcomes = np.load(FOLDER / golden["file"])["outcomes"]
    problem, arrays, params = inputs(golden)
    generator = torch.Generator().manual_seed(0)
    optimizer = PCGrad(torch.optim.SGD(params), **golden["kwargs"], generator=generator)
    atol, rtol = golden["tolerance"]["atol"], golden["tolerance"]["rtol"]
    seen = set()
    for _ in range(60):
        optimizer.zero_grad()
        optimizer.pc_backward(task_losses(golden, problem, arrays, params))
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in params]
        got = torch.cat(flat).numpy()
        matches = [r for r, row in enumerate(outcomes) if (abs(got - row) <= atol + rtol * abs(row)).all()]
        assert matches, "none of the possible results"
        seen.add(matches[0])
    assert len(seen) > 1, "the order is not random"
