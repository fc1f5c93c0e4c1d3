"""Every wrapper has the contract of ``torch.optim.Optimizer``, around any optimizer and around each other."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim import lr_scheduler as lrs

from optimizers import wrappers
from optimizers.wrappers import SAM, Lookahead
from optimizers.wrappers._base import chain_of
from tests.optimizers import wrapped
from tests.optimizers.wrapped import CASES, INNER, NESTED, assert_same, parameters, tensors

STEPS = 6
BUILDERS: dict[str, Callable[[Any], Any]] = {
    **{name: lambda inner, row=row: row.build(inner, **row.options) for name, row in CASES.items()},
    **NESTED,
}
EACH = pytest.mark.parametrize("name", CASES)
EACH_NESTED = pytest.mark.parametrize("name", BUILDERS)
EACH_INNER = pytest.mark.parametrize("inner", INNER)


def build(name: str, inner: str, params: Any) -> Any:
    return BUILDERS[name](INNER[inner](list(params.values()) if isinstance(params, dict) else params))


def through_a_file(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_every_wrapper_has_a_row() -> None:
    public = {name for name in wrappers.__all__ if inspect.isclass(getattr(wrappers, name))}
    assert public == CASES.keys()


@EACH
def test_docstring_has_equations_source_and_example(name: str) -> None:
    cls = CASES[name].cls
    text = inspect.getdoc(cls) or ""
    for part in (".. math::", "Args:", "Source:", "arXiv", "Example:", ">>> "):
        assert part in text, part
    assert not [key for key in inspect.signature(cls).parameters if f"    {key}: " not in text and key != "kwargs"]


@EACH
def test_refusals(name: str) -> None:
    row = CASES[name]
    for options, message in row.errors:
        with pytest.raises(ValueError, match=message):
            row.build(INNER["SGD"]([Parameter(torch.ones(2))]), **options)
    with pytest.raises(TypeError, match="nonsense"):
        row.build(INNER["SGD"]([Parameter(torch.ones(2))]), nonsense=1)
    with pytest.raises(TypeError, match=r"wraps a torch.optim.Optimizer, got object"):
        row.cls([], lambda _: object()) if row.closure else row.cls(object())


@EACH
def test_every_option_is_refused_in_some_test(name: str) -> None:
    row = CASES[name]
    ours = set(row.build(INNER["SGD"]([Parameter(torch.ones(2))])).keys)
    inherited = {"adaptive", "eta"} if name == "ASAM" else set()
    assert ours <= {key for options, _ in row.errors for key in options} | inherited


@EACH
def test_refusals_in_groups(name: str) -> None:
    row = CASES[name]
    optimizer = row.build(INNER["SGD"]([Parameter(torch.ones(2))]))
    for options, message in row.errors:
        if not set(options) <= set(optimizer.keys):
            continue
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": [Parameter(torch.ones(2))], **options})
        with pytest.raises(ValueError, match=message):
            row.build(INNER["SGD"]([{"params": [Parameter(torch.ones(2))], **options}]))
    assert len(optimizer.param_groups) == len(optimizer.optimizer.param_groups) == 1


@EACH_NESTED
def test_groups_are_those_inside(name: str) -> None:
    params = parameters()
    optimizer = build(name, "Adam", params)
    assert isinstance(optimizer, Optimizer)
    inside = list(chain_of(optimizer))[1:]
    for _ in range(2):
        assert all(optimizer.param_groups is inner.param_groups for inner in inside)
        optimizer.load_state_dict(optimizer.state_dict())  # replaces the list inside
    assert optimizer.defaults["betas"] == inside[-1].defaults["betas"]
    assert "lr: 0.1" in repr(optimizer)
    assert all(type(x).__name__ in repr(optimizer) for x in (optimizer, inside[-1]))


@EACH
@EACH_INNER
def test_neutral_options_give_the_optimizer_inside(name: str, inner: str) -> None:
    row = CASES[name]
    ours, plain = parameters(), parameters()
    if name in ("GradientCentralization", "GradientNormalization"):  # leave small vectors alone
        ours, plain = ({"bias": p["bias"], "scalar": p["scalar"]} for p in (ours, plain))
        ours, plain = ({k: Parameter(v.detach().flatten()[:2].clone()) for k, v in p.items()} for p in (ours, plain))
    a, b = row.build(INNER[inner](ours.values()), **row.neutral), INNER[inner](plain.values())
    for t in range(STEPS):
        wrapped.step(a, ours, t)
        wrapped.step(b, plain, t)
    assert_same(tensors(a.optimizer, ours), tensors(b, plain), rtol=1e-13)


@EACH
def test_chosen_options_act(name: str) -> None:
    ours, plain = parameters(), parameters()
    if name == "PCGrad":
        pytest.skip("one loss leaves nothing to project: see test_wrappers_alone.py")
    a, b = build(name, "SGD", ours), INNER["SGD"](plain.values())
    for t in range(2):
        wrapped.step(a, ours, t)
        wrapped.step(b, plain, t)
    assert not torch.allclose(ours["weight"], plain["weight"])


@EACH_NESTED
@EACH_INNER
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=["f64", "bf16"])
def test_resume_at_every_step(name: str, inner: str, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    optimizer = build(name, inner, params)
    saved = []
    for t in range(STEPS):
        values = {key: Parameter(p.detach().clone()) for key, p in params.items()}
        saved.append((values, through_a_file(optimizer.state_dict())))
        wrapped.step(optimizer, params, t)
    want = tensors(optimizer, params)
    for start, (values, state) in enumerate(saved):
        assert state.keys() == {"state", "param_groups"}
        resumed = build(name, inner, values)
        resumed.load_state_dict(state)
        for t in range(start, STEPS):
            wrapped.step(resumed, values, t)
        if dtype == torch.float64 or inner in ("AdamSRT", "stateless"):  # torch's own round their state to bfloat16
            assert_same(tensors(resumed, values), want)
        else:
            assert {key: x.dtype for key, x in tensors(resumed, values).items()}.keys() == want.keys()


@EACH_NESTED
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_continue_alike_and_alone(name: str, copier: Callable[[Any], Any]) -> None:
    params = parameters()
    optimizer = build(name, "Adam", params)
    scheduler = lrs.ExponentialLR(optimizer, 0.9)  # patches step; the copy must not call the original's
    for t in range(3):
        wrapped.step(optimizer, params, t)
        scheduler.step()
    twin = copier(optimizer)
    twins = dict(zip(params, twin.param_groups[0]["params"], strict=True))
    assert {x for x in vars(optimizer) if x[0] != "_"} - {"step"} == {x for x in vars(twin) if x[0] != "_"}
    before = tensors(optimizer, params)
    for t in range(3, 6):
        wrapped.step(twin, twins, t)
    assert_same(tensors(optimizer, params), before)
    for t in range(3, 6):
        wrapped.step(optimizer, params, t)
    assert_same(tensors(twin, twins), tensors(optimizer, params))


@EACH_NESTED
@pytest.mark.parametrize("inner", ["AdamSRT", "stateless"])  # torch's own optimizers share theirs
def test_loading_shares_no_storage(name: str, inner: str) -> None:
    params, others = parameters(), parameters()
    a, b = build(name, inner, params), build(name, inner, others)
    for t in range(3):
        wrapped.step(a, params, t)
    state = a.state_dict()
    before = copy.deepcopy(state)
    b.load_state_dict(state)
    for t in range(3):
        wrapped.step(b, others, t)
    for key, values in before["state"].items():
        assert values.keys() == state["state"][key].keys()
        for slot in (slot for slot, x in values.items() if isinstance(x, Tensor)):
            assert torch.equal(values[slot], state["state"][key][slot]), slot


@EACH_NESTED
def test_bare_and_wrapped_dicts_are_exchanged(name: str) -> None:
    params, others, bare = parameters(), parameters(), parameters()
    inner, optimizer = INNER["Adam"](bare.values()), build(name, "Adam", params)
    for t in range(3):
        wrapped.step(inner, bare, t)
        wrapped.step(optimizer, params, t)
    other = build(name, "Adam", others)
    other.load_state_dict(through_a_file(inner.state_dict()))
    assert all(
        torch.equal(other.state[p]["exp_avg"], inner.state[q]["exp_avg"])
        for p, q in zip(others.values(), bare.values(), strict=True)
    )
    wrapped.step(other, others, 3)
    inner.load_state_dict(through_a_file(optimizer.state_dict()))
    wrapped.step(inner, bare, 3)
    assert all(p.isfinite().all() for p in (*others.values(), *bare.values()))


@EACH_NESTED
def test_state_inside_is_left_alone(name: str) -> None:
    params, bare = parameters(), parameters()
    optimizer, inner = build(name, "SGD", params), INNER["SGD"](bare.values())
    for t in range(4):
        wrapped.step(optimizer, params, t)
        wrapped.step(inner, bare, t)
    innermost = list(chain_of(optimizer))[-1]
    assert {k for values in innermost.state.values() for k in values} == {"momentum_buffer"}
    if not any(isinstance(x, Lookahead) for x in (optimizer, optimizer.optimizer)):
        assert optimizer.state is innermost.state


@EACH_NESTED
@pytest.mark.parametrize("on_inside", [False, True], ids=["on_wrapper", "on_inner"])
def test_schedulers(name: str, on_inside: bool) -> None:
    scheduled, manual = parameters(), parameters()
    a, b = build(name, "Adam", scheduled), build(name, "Adam", manual)
    target = a.optimizer if on_inside else a
    schedulers = [lrs.OneCycleLR(target, 0.3, total_steps=8), lrs.ExponentialLR(build(name, "Adam", parameters()), 0.5)]
    seen = []
    for t in range(STEPS):
        for ours, theirs in zip(b.param_groups, a.param_groups, strict=True):
            ours.update(lr=theirs["lr"], betas=theirs["betas"])
        seen.append(a.param_groups[0]["lr"])
        wrapped.step(a, scheduled, t)
        wrapped.step(b, manual, t)
        schedulers[0].step()
    assert len(set(seen)) == STEPS
    assert_same(tensors(a, scheduled), tensors(b, manual))


@EACH_NESTED
def test_hooks_of_wrapper_and_inside_run_once(name: str) -> None:
    params = parameters()
    optimizer = build(name, "SGD", params)
    seen: list[str] = []
    for level, target in (("out", optimizer), ("in", optimizer.optimizer)):
        target.register_step_pre_hook(lambda *_, level=level: seen.append(f"{level} pre"))
        target.register_step_post_hook(lambda *_, level=level: seen.append(f"{level} post"))
    wrapped.step(optimizer, params, 0)
    assert seen == ["out pre", "in pre", "in post", "out post"]


@EACH_NESTED
def test_state_dict_hooks(name: str) -> None:
    params = parameters()
    optimizer = build(name, "SGD", params)
    wrapped.step(optimizer, params, 0)
    seen: list[str] = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("pre save"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: {k: v for k, v in state.items() if k != "note"})
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(f"loaded {len(o.state)}"))
    state = optimizer.state_dict()
    assert state["note"] == 1
    optimizer.load_state_dict(state)
    assert seen == ["pre save", f"loaded {len(params)}"]
    assert "note" in state, "loading changed the dict it was given"


@EACH_NESTED
def test_closure_is_called_with_gradients_and_its_loss_returned(name: str) -> None:
    params = parameters()
    optimizer = build(name, "SGD", params)
    losses = []

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = wrapped.loss_of(params, 0)
        loss.backward()
        losses.append(loss)
        return loss

    with torch.no_grad():
        result = optimizer.step(closure)
    assert result is losses[0]
    assert len(losses) == (2 if optimizer.needs_closure else 1)
    direct = parameters()
    other = build(name, "SGD", direct)
    if "PCGrad" not in name and name != "NormLoss-SAM":
        wrapped.step(other, direct, 0)
        assert_same(tensors(optimizer, params), tensors(other, direct))


@EACH_NESTED
def test_gradients_are_left_as_backward_left_them(name: str) -> None:
    params = parameters()
    optimizer = build(name, "SGD", params)
    if optimizer.needs_closure or "PCGrad" in name:
        pytest.skip("writes gradients: that is its purpose")
    wrapped.loss_of(params, 0).backward()
    kept = {key: (p.grad, p.grad.clone()) for key, p in params.items() if p.grad is not None}
    optimizer.step()
    for key, (grad, values) in kept.items():
        assert params[key].grad is grad
        assert torch.equal(grad, values)
    assert len(kept) == len(params)


@EACH_NESTED
@EACH_INNER
def test_nothing_happens_without_gradients(name: str, inner: str) -> None:
    params = parameters()
    optimizer = build(name, inner, params)
    before = {key: p.detach().clone() for key, p in params.items()}
    for _ in range(3):
        optimizer.step()
    assert_same({key: p.detach() for key, p in params.items()}, before)


@EACH_NESTED
def test_zero_rate_and_zero_gradients_change_no_weight(name: str) -> None:
    params = parameters()
    optimizer = build(name, "Adam", params)
    optimizer.param_groups[0]["lr"] = 0.0
    before = {key: p.detach().clone() for key, p in params.items()}
    for _ in range(3):
        for p in params.values():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert_same({key: p.detach() for key, p in params.items()}, before)


@EACH_NESTED
def test_a_group_added_later_moves(name: str) -> None:
    params = parameters()
    late = {"late": Parameter(torch.ones(3, 2, dtype=torch.float64))}
    optimizer = build(name, "Adam", params)
    wrapped.step(optimizer, params, 0)
    optimizer.add_param_group({"params": list(late.values()), "lr": 0.05})
    for t in range(1, 4):
        wrapped.step(optimizer, {**params, **late}, t)
    assert not torch.equal(late["late"], torch.ones(3, 2, dtype=torch.float64))
    assert optimizer.param_groups[1]["lr"] == 0.05
    assert set(optimizer.param_groups[0]) == set(optimizer.param_groups[1])


@EACH_NESTED
def test_a_group_added_inside_moves(name: str) -> None:
    params = parameters()
    late = {"late": Parameter(torch.ones(3, 2, dtype=torch.float64))}
    optimizer = build(name, "SGD", params)
    optimizer.optimizer.add_param_group({"params": list(late.values())})
    wrapped.step(optimizer, {**params, **late}, 0)
    wrapped.step(optimizer, {**params, **late}, 1)
    assert not torch.equal(late["late"], torch.ones(3, 2, dtype=torch.float64))


@EACH_NESTED
def test_grad_scaler_skips_infinite_gradients(name: str) -> None:
    ours, plain = parameters(torch.float32), parameters(torch.float32)
    a, b = build(name, "Adam", ours), build(name, "Adam", plain)
    if a.needs_closure and not isinstance(a, SAM):
        pytest.skip("two backward passes per step: SAM takes the scaler, outermost")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scales = []
    for t in range(5):
        a.zero_grad()

        def closure(t: int = t) -> None:
            loss = scaler.scale(wrapped.loss_of(ours, t)) * (float("inf") if t == 2 else 1.0)
            surgeon = wrapped.needs_pc(a)
            surgeon.pc_backward([loss]) if surgeon is not None else loss.backward()

        closure()
        a.step(closure, scaler=scaler) if a.needs_closure else scaler.step(a)
        scaler.update()
        scales.append(scaler.get_scale())
        if t != 2:
            wrapped.step(b, plain, t)
    assert scales == [8.0, 8.0, 4.0, 4.0, 4.0]
    for key in ours:
        torch.testing.assert_close(ours[key], plain[key], rtol=1e-4, atol=1e-6)


@EACH_NESTED
@EACH_INNER
def test_distributed_checkpoint_state_dict(name: str, inner: str) -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(36, 3)).double()

    def train(net: torch.nn.Module, optimizer: Any, first: int, count: int) -> None:
        for t in range(first, first + count):
            wrapped.step(optimizer, dict(net.named_parameters()), t)
        optimizer.zero_grad()

    net, twin = model(), model()
    optimizer = BUILDERS[name](INNER[inner](net.parameters()))
    train(net, optimizer, 0, 3)
    before = tensors(optimizer, dict(net.named_parameters()))
    saved = through_a_file(get_optimizer_state_dict(net, optimizer))
    assert_same(tensors(optimizer, dict(net.named_parameters())), before)
    twin.load_state_dict(net.state_dict())
    other = BUILDERS[name](INNER[inner](twin.parameters()))
    fresh = get_optimizer_state_dict(twin, other)["state"]  # what a checkpoint is read into
    late = {x for values in saved["state"].values() for x in values if x.endswith("slow_momentum")}
    assert {k: v.keys() - late for k, v in saved["state"].items()} == {k: v.keys() - late for k, v in fresh.items()}
    set_optimizer_state_dict(twin, other, saved)  # makes a step with rate 0 and zero gradients first
    assert all(torch.equal(p, q) for p, q in zip(twin.parameters(), net.parameters(), strict=True))
    train(net, optimizer, 3, 3)
    train(twin, other, 3, 3)
    assert_same(tensors(other, dict(twin.named_parameters())), tensors(optimizer, dict(net.named_parameters())))


@EACH
def test_complex_parameters(name: str) -> None:
    z = Parameter(torch.ones(3, dtype=torch.complex64))
    if CASES[name].cls.allows_complex:
        optimizer = CASES[name].build(INNER["SGD"]([z]), **CASES[name].options)
        for _ in range(2):
            z.grad = torch.full_like(z, 1 + 1j)
            optimizer.step()
        assert z.detach()[0].imag < 0
    else:
        with pytest.raises(ValueError, match=f"is complex, which {name} does not support"):
            CASES[name].build(INNER["SGD"]([z]))


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtypes_stay(name: str, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    optimizer = build(name, "AdamSRT", params)
    for t in range(4):
        wrapped.step(optimizer, params, t)
    for key, x in tensors(optimizer, params).items():
        assert x.dtype == (dtype if key in params else torch.float32), key
        assert x.isfinite().all()
