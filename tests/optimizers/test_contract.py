"""The contract of torch.optim.Optimizer, and the refusals."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase


def first(case: OptimizerCase) -> Config:
    return next(iter(case.configs.values()))


def named(p: Tensor) -> list[dict[str, Any]]:
    return [{"params": [p], "param_names": ["conv"]}]


def test_refusals(case: OptimizerCase, refused: dict[str, Any], message: str) -> None:
    conv = problem.parameters()["conv"]
    with pytest.raises(ValueError, match=message):
        case.cls(named(conv), **refused)
    if "impl" in refused:
        return
    with pytest.raises(ValueError, match=message):  # in a group, too
        case.cls([{**named(conv)[0], **refused}])
    optimizer = case.cls([("other", Parameter(torch.ones(3)))])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({**named(conv)[0], **refused})
    assert len(optimizer.param_groups) == 1, "a refused group was added"


def test_misspelt_option_is_refused(case: OptimizerCase) -> None:
    with pytest.raises(TypeError, match="wieght_decay"):
        case.cls([Parameter(torch.ones(3))], wieght_decay=0.1)


def test_foreign_group_keys_are_tolerated(case: OptimizerCase, impl: str) -> None:
    params = problem.parameters()
    groups = [{"params": [p], "param_names": [name], "role": "conv"} for name, p in params.items()]
    optimizer = case.cls(groups, impl=impl)
    problem.step(optimizer, params, 5)
    assert [group["role"] for group in optimizer.param_groups] == ["conv"] * len(params)
    assert all(set(group) == {"params", "param_names", "role"} for group in groups), "the caller's groups were changed"


def test_three_ways_to_name_parameters(case: OptimizerCase, config: Config) -> None:
    results = []
    for form in ("tensors", "tuples", "groups"):
        params = problem.parameters()
        given: Any = {"tensors": params.values(), "tuples": params.items()}.get(form)
        if form == "groups":
            given = [{"params": list(params.values()), "param_names": list(params)}]
        optimizer = case.cls(given, **config.kwargs)
        if form != "tensors":
            assert optimizer.param_groups[0]["param_names"] == list(params)
        problem.step(optimizer, params, 5)
        results.append(problem.snapshot(optimizer, params))
    problem.assert_same(results[1], results[0])
    problem.assert_same(results[2], results[0])


def test_wrong_number_of_names(case: OptimizerCase) -> None:
    with pytest.raises(ValueError, match="got 1 param_names for 2 params"):
        case.cls([{"params": [Parameter(torch.ones(1)), Parameter(torch.ones(1))], "param_names": ["a"]}])


def test_grad_is_read_only_and_not_kept(case: OptimizerCase, config: Config, impl: str) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, impl)
    for t in range(3, 6):
        problem.step(optimizer, params, t, late=False)
        before = problem.snapshot(optimizer, params)
        for name, p in params.items():
            assert p.grad is not None
            assert torch.equal(p.grad, torch.tensor(problem.gradient(name, t))), f"the gradient of {name} was changed"
            p.grad.fill_(float("nan"))
        problem.assert_same(problem.snapshot(optimizer, params), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_zero_lr_and_zero_grad_is_a_no_op(case: OptimizerCase, config: Config, impl: str, dtype: torch.dtype) -> None:
    params = problem.parameters(dtype)
    params["zeros"] = Parameter(torch.zeros(4, 3, dtype=dtype))
    optimizer = problem.build(case, config, params, impl)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: p.detach().clone() for name, p in params.items()}
    for _ in range(2):
        for p in params.values():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        problem.assert_same({name: p.detach() for name, p in params.items()}, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_zero_lr_is_a_no_op(case: OptimizerCase, config: Config, impl: str, dtype: torch.dtype) -> None:
    """From the start, whatever the gradients: the state goes on, the weights stay bit for bit."""
    params = problem.parameters(dtype)
    optimizer = problem.build(case, config, params, impl)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: p.detach().clone() for name, p in params.items()}
    for t in range(3):
        problem.step(optimizer, params, t)
    problem.assert_same({name: p.detach() for name, p in params.items()}, before)


def test_zero_gradients_give_no_nan(case: OptimizerCase, config: Config, impl: str) -> None:
    params = problem.parameters(torch.float32)
    optimizer = problem.build(case, config, params, impl)
    for _ in range(2):
        for p in params.values():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    before = problem.snapshot(optimizer, params)
    assert all(x.isfinite().all() for x in before.values())
    for t in range(2, 4):
        problem.step(optimizer, params, t, late=False)
    after = problem.snapshot(optimizer, params)
    assert all(x.isfinite().all() for x in after.values())
    assert not torch.equal(after["conv"], before["conv"]), "after zeros, nothing moves any more"


def test_zero_rows_give_no_nan(case: OptimizerCase, config: Config, impl: str) -> None:
    for extra in ({}, {"eps": 0.0} if "eps" in case.cls([Parameter(torch.ones(1))]).defaults else {}):
        params = problem.parameters(torch.float32)
        for p in params.values():
            p.data.view(-1)[: p.numel() // 2] = 0
        optimizer = problem.build(case, Config({**config.kwargs, **extra}, config.groups), params, impl)
        for t in range(4):
            for name, p in params.items():
                p.grad = torch.tensor(problem.gradient(name, t), dtype=torch.float32)
                p.grad.view(-1)[: p.numel() // 2] = 0
            optimizer.step()
        assert all(x.isfinite().all() for x in problem.snapshot(optimizer, params).values()), extra


def test_missing_gradients_are_skipped(case: OptimizerCase, config: Config, impl: str) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, impl)
    before = problem.snapshot(optimizer, params)
    optimizer.step()
    problem.assert_same(problem.snapshot(optimizer, params), before)
    assert bool(optimizer.state) == case.cls.at_construction, "state was created without a gradient"


def test_empty_and_zero_dim_parameters(case: OptimizerCase, config: Config, impl: str) -> None:
    params = [Parameter(torch.zeros(shape)) for shape in ((0, 3), (3, 0), (0,), (), (2, 2))]
    optimizer = case.cls(params, **{**config.kwargs, "impl": impl})
    for p in params:
        p.grad = torch.arange(1.0, p.numel() + 1).view(p.shape)
    optimizer.step()
    assert [int(optimizer.state[p]["step"]) for p in params] == [1] * 5
    assert params[3].item() != 0
    assert (params[4] != 0).all()
    problem_state = optimizer.state_dict()
    optimizer.load_state_dict(problem_state)
    optimizer.step()
    assert int(optimizer.state[params[0]]["step"]) == 2


def strided(x: Tensor, form: str) -> Tensor:
    """Return the same values with other strides."""
    if form == "channels_last":
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    if form == "transposed":
        return x.mT.contiguous().mT if x.ndim > 1 else x
    padded = torch.zeros(*x.shape, 2, dtype=x.dtype)
    padded[..., 0] = x
    return padded[..., 0]


@pytest.mark.parametrize("form", ["channels_last", "transposed", "gaps"])
@pytest.mark.parametrize("which", ["both", "parameter", "gradient"])
def test_strides_do_not_matter(case: OptimizerCase, config: Config, impl: str, form: str, which: str) -> None:
    results = []
    for odd in (False, True):
        params = problem.parameters()
        if odd and which != "gradient":
            params = {name: Parameter(strided(p.detach(), form)) for name, p in params.items()}
        optimizer = problem.build(case, config, params, impl)
        for t in range(4):
            for name, p in params.items():
                g = torch.tensor(problem.gradient(name, t))
                p.grad = strided(g, form) if odd and which != "parameter" else g
            optimizer.step()
        results.append(problem.snapshot(optimizer, params))
    problem.assert_same(results[1], results[0], rtol=1e-12, atol=1e-13)


def test_closure_runs_with_gradients(case: OptimizerCase, impl: str) -> None:
    p = Parameter(torch.ones(3))
    optimizer = case.cls([p], impl=impl)
    calls = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        loss = p.square().sum()
        (p.grad,) = torch.autograd.grad(loss, [p], create_graph=case.curvature is not None)
        calls.append(loss)
        return loss

    with torch.no_grad():
        assert optimizer.step(closure) is calls[0]
    assert len(calls) == 1
    assert (p < 1).all()


def test_sparse_gradient_is_refused_before_anything_changes(case: OptimizerCase, impl: str) -> None:
    params = {"dense": Parameter(torch.ones(3)), "table": Parameter(torch.ones(3, 2))}
    optimizer = case.cls(params.items(), impl=impl)
    params["dense"].grad = torch.ones(3)
    params["table"].grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match=f"{case.name} .*sparse.*'table'"):
        optimizer.step()
    assert torch.equal(params["dense"], torch.ones(3))
    assert bool(optimizer.state) == case.cls.at_construction
    assert all(slots["step"] == 0 for slots in optimizer.state.values())


def test_complex_parameter_is_refused(case: OptimizerCase) -> None:
    z = Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=f"parameter 'z' is complex, which {case.name} does not support"):
        case.cls([("z", z)])
    with pytest.raises(ValueError, match=re.escape("parameter 0 of group 0 with shape (2,) is complex")):
        case.cls([z])


def test_maximize_is_the_negated_gradient(case: OptimizerCase, config: Config, impl: str) -> None:
    results = []
    for sign in (1, -1):
        params = problem.parameters()
        kwargs = {**config.kwargs, "maximize": sign == 1}
        optimizer = problem.build(case, Config(kwargs, config.groups), params, impl)
        for t in range(3):
            for name, p in params.items():
                p.grad = sign * torch.tensor(problem.gradient(name, t))
            optimizer.step()
        results.append(problem.snapshot(optimizer, params))
    problem.assert_same(results[0], results[1])


def test_tensor_lr(case: OptimizerCase, config: Config, impl: str) -> None:
    results = []
    for lr in (0.03125, torch.tensor(0.03125)):
        params = problem.parameters()
        optimizer = problem.build(case, Config({**config.kwargs, "lr": lr}, config.groups), params, impl)
        for t in range(4):
            problem.step(optimizer, params, t)
        results.append(problem.snapshot(optimizer, params))
    problem.assert_same(results[1], results[0])


def test_step_hooks_run_in_order(case: OptimizerCase) -> None:
    p = Parameter(torch.ones(2))
    optimizer = case.cls([p])
    seen: list[tuple[str, bool]] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(("pre", bool((p == 1).all()))))
    optimizer.register_step_post_hook(lambda *_: seen.append(("post", bool((p == 1).all()))))
    p.grad = torch.ones(2)
    optimizer.step()
    assert seen == [("pre", True), ("post", False)]


def test_repr_shows_the_options(case: OptimizerCase) -> None:
    text = repr(case.cls([Parameter(torch.ones(2))], lr=0.125))
    assert text.startswith(case.name)
    assert "lr: 0.125" in text
