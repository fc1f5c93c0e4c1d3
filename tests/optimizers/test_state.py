"""State: bit-exact resume at every step, declared dtypes, copies that share nothing."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase

STEPS = 6
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@DTYPES
def test_resume_at_every_step(case: OptimizerCase, config: Config, impl: str, dtype: torch.dtype) -> None:
    params = problem.parameters(dtype)
    optimizer = problem.build(case, config, params, impl)
    saved = []
    for t in range(STEPS):
        values = {name: Parameter(p.detach().clone()) for name, p in params.items()}
        saved.append((values, through_a_file(optimizer.state_dict())))
        problem.step(optimizer, params, t)
    want = problem.snapshot(optimizer, params)
    for start, (values, state) in enumerate(saved):
        resumed = problem.build(case, config, values, impl)
        resumed.load_state_dict(state)
        for t in range(start, STEPS):
            problem.step(resumed, values, t)
        problem.assert_same(problem.snapshot(resumed, values), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dtypes_at_rest_survive_loading(case: OptimizerCase, config: Config, impl: str, dtype: torch.dtype) -> None:
    params = problem.parameters(dtype)
    optimizer = problem.build(case, config, params, impl)
    for t in range(4):
        problem.step(optimizer, params, t)
    other = problem.build(case, config, params, impl)
    other.load_state_dict(optimizer.state_dict())
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    for p in params.values():
        assert p.dtype == dtype
        for name, value in other.state[p].items():
            declared = torch.float32 if name == "step" else case.cls.slots[name].dtype or arithmetic
            assert value.dtype == declared, name
            assert torch.equal(value, optimizer.state[p][name])
            assert value.device.type == "cpu"
            assert name != "step" or value.ndim == 0


def test_loading_shares_no_storage(case: OptimizerCase, config: Config) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    for t in range(4):
        problem.step(optimizer, params, t)
    state = optimizer.state_dict()
    before = copy.deepcopy(state["state"])
    other = problem.build(case, config, problem.parameters(), "auto")
    other.load_state_dict(state)
    problem.step(other, dict(zip(params, _params(other, config, params), strict=True)), 5)
    for key, slots in before.items():
        for name, value in slots.items():
            assert torch.equal(state["state"][key][name], value), "a step after loading changed the loaded dict"


def _params(optimizer: Any, config: Config, like: dict[str, Parameter]) -> list[Parameter]:
    by_name = {
        name: p
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    return [by_name[name] for name in like]


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_continue_alike(case: OptimizerCase, config: Config, impl: str, copier: Callable[[Any], Any]) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, impl)
    for t in range(4):
        problem.step(optimizer, params, t)
    twin = copier(optimizer)
    public = {name for name in vars(optimizer) if not name.startswith("_")}
    assert public == {name for name in vars(twin) if not name.startswith("_")}
    assert twin.impl == impl
    twins = dict(zip(params, _params(twin, config, params), strict=True))
    for t in range(4, 7):
        problem.step(optimizer, params, t)
        problem.step(twin, twins, t)
    problem.assert_same(problem.snapshot(twin, twins), problem.snapshot(optimizer, params))


def test_an_older_dict_without_a_new_key_loads(case: OptimizerCase, config: Config) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    for t in range(4):
        problem.step(optimizer, params, t)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["maximize"]
    for slots in state["state"].values():
        slots["step"] = slots["step"].item()  # steps were numbers once
    optimizer.load_state_dict(state)
    assert all(group["maximize"] == optimizer.defaults["maximize"] for group in optimizer.param_groups)
    problem.step(optimizer, params, 5)
    assert all(isinstance(optimizer.state[p]["step"], torch.Tensor) for p in params.values())


def test_a_missing_slot_starts_at_zero(case: OptimizerCase, config: Config) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    problem.step(optimizer, params, 5)
    state = optimizer.state_dict()
    names = [name for name in case.cls.slots if any(name in slots for slots in state["state"].values())]
    for slots in state["state"].values():
        for name in names:
            slots.pop(name, None)
    fresh = problem.parameters()
    other = problem.build(case, config, fresh, "auto")
    other.load_state_dict(state)
    problem.step(other, fresh, 6)
    assert all(torch.isfinite(p).all() and other.state[p]["step"] == 2 for p in fresh.values())
    assert all(name in other.state[p] for p in fresh.values() for name in names if name in optimizer.state[p])


def test_hooks_see_what_they_should(case: OptimizerCase) -> None:
    config = next(iter(case.configs.values()))
    params = problem.parameters(torch.bfloat16)
    optimizer = problem.build(case, config, params, "auto")
    problem.step(optimizer, params, 5)
    seen: list[str] = []

    def before(_: Any, state: dict[str, Any]) -> dict[str, Any]:
        seen.append("before")
        return {**state, "state": {key: {**slots, "step": torch.tensor(9.0)} for key, slots in state["state"].items()}}

    def after(loaded: Any) -> None:
        seen.append("after")
        slots = [x for p in params.values() for x in loaded.state[p].values()]
        assert {x.dtype for x in slots} == {torch.float32}

    optimizer.register_load_state_dict_pre_hook(before)
    optimizer.register_load_state_dict_post_hook(after)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", "after"]
    assert all(optimizer.state[p]["step"] == 9 for p in params.values())
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", "after"] * 2, "loading left its own hooks behind"
