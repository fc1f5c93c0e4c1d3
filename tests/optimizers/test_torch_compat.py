"""Together with the rest of torch: LR schedulers, GradScaler, distributed checkpoints, averaging."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn import Parameter
from torch.optim import lr_scheduler as lrs

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: lrs.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lrs.StepLR(o, 2),
    "MultiStepLR": lambda o: lrs.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: lrs.ConstantLR(o, 0.5, 2),
    "LinearLR": lambda o: lrs.LinearLR(o, 0.1, 1, 4),
    "ExponentialLR": lambda o: lrs.ExponentialLR(o, 0.8),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 2),
    "PolynomialLR": lambda o: lrs.PolynomialLR(o, 5, 2),
    "CyclicLR": lambda o: lrs.CyclicLR(o, 0.001, 0.1, 2),
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=8),
    "ReduceLROnPlateau": lambda o: lrs.ReduceLROnPlateau(o, patience=0),
    "ChainedScheduler": lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o, 0.5, 2), lrs.ExponentialLR(o, 0.9)], o),
    "SequentialLR": lambda o: lrs.SequentialLR(o, [lrs.ConstantLR(o, 0.5, 2), lrs.ExponentialLR(o, 0.9)], [2]),
}
CYCLED = ("lr", "betas", "momentum")


def test_every_scheduler_of_torch_is_here() -> None:
    known = {name for name in lrs.__all__ if name not in ("LRScheduler", "SWALR")}
    assert known == SCHEDULERS.keys()


@pytest.mark.parametrize("key", SCHEDULERS)
def test_scheduled_options_act(case: OptimizerCase, impl: str, key: str) -> None:
    """A scheduled run equals a run in which the same numbers were set by hand; and the numbers did change."""
    name = "kinds" if "kinds" in case.configs else next(iter(case.configs))
    config = case.configs[name]
    scheduled, manual = problem.parameters(), problem.parameters()
    a, b = problem.build(case, config, scheduled, impl), problem.build(case, config, manual, impl)
    cycles = {"cycle_momentum"} if key in ("CyclicLR", "OneCycleLR") else set()
    if cycles and not {"betas", "momentum"} & set(a.defaults):
        pytest.skip("has no momentum to cycle")
    scheduler = SCHEDULERS[key](a)
    seen = []
    for t in range(6):
        for ours, theirs in zip(b.param_groups, a.param_groups, strict=True):
            ours.update({option: theirs[option] for option in CYCLED if option in theirs})
        seen.append(a.param_groups[0]["lr"])
        problem.step(a, scheduled, t)
        problem.step(b, manual, t)
        scheduler.step(1.0) if key == "ReduceLROnPlateau" else scheduler.step()
    problem.assert_same(problem.snapshot(a, scheduled), problem.snapshot(b, manual))
    assert len(set(seen)) > 1, "the scheduler changed nothing"
    assert all(int(a.state[p]["step"]) >= 3 for p in scheduled.values())


def test_scheduler_with_tensor_lr(case: OptimizerCase, impl: str) -> None:
    p = Parameter(torch.ones(3))
    optimizer = case.cls([p], lr=torch.tensor(0.5), impl=impl)
    scheduler = lrs.ExponentialLR(optimizer, 0.0)
    p.grad = torch.ones(3)
    optimizer.step()
    moved = p.detach().clone()
    assert (moved < 1).all()
    scheduler.step()
    optimizer.step()
    assert torch.equal(p, moved), "the step after lr became 0 moved the weight"


def test_grad_scaler_skips_infinite_gradients(case: OptimizerCase, impl: str) -> None:
    ours, plain = Parameter(torch.ones(4, 3)), Parameter(torch.ones(4, 3))
    a, b = case.cls([ours], impl=impl), case.cls([plain], impl=impl)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for t in range(4):
        g = torch.tensor(problem.gradient("linear", t)[:4, :3], dtype=torch.float32)
        loss = (ours * (g if t != 2 else g * float("inf"))).sum()
        a.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(a)
        scaler.update()
        if t != 2:
            plain.grad = g
            b.step()
    torch.testing.assert_close(ours, plain)
    assert int(a.state[ours]["step"]) == 3


def test_distributed_checkpoint_state_dict(case: OptimizerCase, impl: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(36, 3))
    extra = {"channel_wise": True} if "partition" not in case.skip else {}

    def build(net: torch.nn.Module) -> Any:
        return case.cls(net.named_parameters(), lr=0.01, impl=impl, **extra)

    def train(net: torch.nn.Module, optimizer: Any, times: int) -> None:
        for i in range(times):
            optimizer.zero_grad()
            net(torch.full((2, 2, 5, 5), 1.0 + i)).square().mean().backward()
            optimizer.step()

    optimizer = build(model)
    train(model, optimizer, 3)
    saved = get_optimizer_state_dict(model, optimizer)
    twin = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(36, 3))
    twin.load_state_dict(model.state_dict())
    other = build(twin)
    before = [p.detach().clone() for p in twin.parameters()]
    set_optimizer_state_dict(twin, other, saved)  # makes a step with lr 0 and zero gradients first
    assert all(torch.equal(p, q) for p, q in zip(twin.parameters(), before, strict=True))
    assert all(group["lr"] == 0.01 for group in other.param_groups)
    train(model, optimizer, 2)
    train(twin, other, 2)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
        problem.assert_same(dict(other.state[q]), dict(optimizer.state[p]))


@pytest.mark.parametrize("how", ["added", "thawed"])
def test_group_added_and_parameter_thawed_later(case: OptimizerCase, config: Config, impl: str, how: str) -> None:
    """A late parameter counts its own steps: it moves as it would have moved alone."""
    early, late = Parameter(torch.ones(6, 4)), Parameter(torch.tensor(problem.initial("heads")))
    late.requires_grad_(how == "added")
    alone = Parameter(late.detach().clone(), late.requires_grad)
    kwargs = {**config.kwargs, "impl": impl}
    a, b = case.cls([early] if how == "added" else [early, late], **kwargs), case.cls([alone], **kwargs)
    for t in range(6):
        if t == 3 and how == "added":
            a.add_param_group({"params": [late]})
        if t == 3:
            late.requires_grad_(True)
            alone.requires_grad_(True)
        g = torch.tensor(problem.gradient("heads", t))
        early.grad = g.float()
        if t >= 3:
            late.grad, alone.grad = g.clone(), g.clone()
            b.step()
        a.step()
    assert torch.equal(late, alone)
    assert [int(a.state[p]["step"]) for p in (early, late)] == [6, 3]


def test_a_group_added_later_counts_its_own_steps(case: OptimizerCase, config: Config, impl: str) -> None:
    """Also where all parameters act on each other, so that it does not move as it would have moved alone."""
    params = problem.parameters()
    early, late = params["conv"], params["heads"]
    optimizer = case.cls([early], **config.kwargs, impl=impl)
    before = late.detach().clone()
    for t in range(6):
        if t == 3:
            optimizer.add_param_group({"params": [late], "lr": 0.05})
            before = late.detach().clone()  # after what the constructor may do to it
        for name, p in (("conv", early), ("heads", late)):
            p.grad = torch.tensor(problem.gradient(name, t))
        optimizer.step()
        assert torch.equal(late, before) or t >= 3
    assert not torch.equal(late, before)
    assert [int(optimizer.state[p]["step"]) for p in (early, late)] == [6, 3]
    assert [group["lr"] for group in optimizer.param_groups] == [config.kwargs["lr"], 0.05]


def test_order_of_groups_does_not_matter(case: OptimizerCase, config: Config, impl: str) -> None:
    ends = []
    for names in (list(problem.SHAPES), list(reversed(problem.SHAPES))):
        params = problem.parameters()
        optimizer = problem.build(case, config, {name: params[name] for name in names}, impl)
        for t in range(4):
            problem.step(optimizer, params, t)
        ends.append(problem.snapshot(optimizer, params))
    rtol = case.tol.get("paths", (0.0, ""))[0]  # small tensors share a vector, in which each has another place
    problem.assert_same(ends[1], ends[0], rtol=rtol, atol=rtol / 100)


def test_default_device_does_not_move_the_step_count(case: OptimizerCase) -> None:
    p = Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = case.cls([p])
    with torch.device("meta"):
        optimizer.step()
    devices = {x.device.type for x in itertools.chain([p], optimizer.state[p].values())}
    assert devices == {"cpu"}
