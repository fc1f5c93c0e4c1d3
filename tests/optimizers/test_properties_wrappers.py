"""What the contract asks of every optimizer, asked of every wrapper: the part that test_wrappers.py leaves out."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers import AdamSRT, functional
from tests.optimizers import wrapped
from tests.optimizers.test_contract import strided
from tests.optimizers.test_torch_compat import CYCLED, SCHEDULERS
from tests.optimizers.wrapped import CASES, INNER, assert_same, parameters, tensors

EACH = pytest.mark.parametrize("name", CASES)
BOTH = pytest.mark.parametrize("inner", ["SGD", "AdamSRT"])


def build(name: str, inner: Any) -> Any:
    return CASES[name].build(inner, **CASES[name].options)


def gradient(key: str, p: Tensor, t: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * t + sum(map(ord, key)))
    return torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def step(
    optimizer: Any,
    params: Mapping[str, Parameter],
    t: int,
    names: Collection[str] | None = None,
    change: Callable[[Tensor], Tensor] = lambda g: g,
) -> None:
    """Do a step with gradients that do not depend on the weights, for the parameters in ``names``."""

    def closure() -> Tensor:
        for key, p in params.items():
            p.grad = change(gradient(key, p, t)) if names is None or key in names else None
        return torch.zeros(())

    closure()
    optimizer.step(closure) if optimizer.needs_closure else optimizer.step()


@EACH
def test_paths_of_the_optimizer_inside_agree(name: str) -> None:
    """Bit for bit, compiled to rounding."""
    ends: list[dict[str, Tensor]] = []
    for impl, keys in (
        ("loop", wrapped.SHAPES),
        ("foreach", wrapped.SHAPES),
        ("loop", ["bias"]),
        ("compiled", ["bias"]),
    ):
        params = {key: p for key, p in parameters(torch.float32).items() if key in keys}
        optimizer = build(name, AdamSRT(params.values(), lr=0.01, channel_dims=(), impl=impl))
        for t in range(4):
            wrapped.step(optimizer, params, t)
        ends.append(tensors(optimizer, params))
    assert_same(ends[1], ends[0])
    for key, value in ends[2].items():
        torch.testing.assert_close(ends[3][key], value, rtol=1e-4, atol=1e-6)


@EACH
@BOTH
def test_late_and_thawed_parameters(name: str, inner: str) -> None:
    """Until its first gradient nothing happens to a parameter; from then on it moves as it would have moved alone."""
    params, others = parameters(), parameters()
    alone = {key: others[key] for key in ("kernel", "bias")}
    a, b = (build(name, INNER[inner](list(x.values()))) for x in (params, alone))
    params["bias"].requires_grad_(False)
    for t in range(2):
        step(a, params, t, ("weight", "scalar"))
    assert all(torch.equal(params[key], alone[key]) for key in alone)
    assert not any(params[key] in a.optimizer.state for key in alone)
    params["bias"].requires_grad_(True)
    for t in range(2, 6):
        step(a, params, t)
        step(b, alone, t)
    assert all(torch.equal(params[key], alone[key]) for key in alone)
    assert not torch.equal(params["bias"], parameters()["bias"])


@EACH
@BOTH
def test_two_groups_are_two_optimizers(name: str, inner: str) -> None:
    row = CASES[name]
    keys = set(build(name, INNER[inner]([Parameter(torch.ones(1))])).keys)
    settings = [{"lr": 0.1, **row.options}, {"lr": 0.02, **row.neutral}]
    settings = [{key: x for key, x in options.items() if key == "lr" or key in keys} for options in settings]
    members = ("weight", "scalar"), ("kernel", "bias")
    params, others = parameters(), parameters()
    groups = [{"params": [params[key] for key in m], **s} for m, s in zip(members, settings, strict=True)]
    together = build(name, INNER[inner](groups))
    apart = [
        build(name, INNER[inner]([{"params": [others[key] for key in m], **s}]))
        for m, s in zip(members, settings, strict=True)
    ]
    for t in range(4):
        step(together, params, t)
        for optimizer, m in zip(apart, members, strict=True):
            step(optimizer, {key: others[key] for key in m}, t)
    assert_same({key: p.detach() for key, p in params.items()}, {key: p.detach() for key, p in others.items()})


@EACH
def test_maximize_is_the_negated_loss(name: str) -> None:
    ends = []
    for sign in (1, -1):
        params = parameters()
        optimizer = build(name, torch.optim.SGD(params.values(), lr=0.05, momentum=0.9, maximize=sign == -1))

        def closure(t: int = 0, params: Any = params, sign: int = sign, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = sign * wrapped.loss_of(params, t)
            surgeon = wrapped.needs_pc(optimizer)
            loss.backward() if surgeon is None else surgeon.pc_backward([loss])
            return loss

        for _ in range(4):
            closure()
            optimizer.step(closure) if optimizer.needs_closure else optimizer.step()
        ends.append({key: p.detach() for key, p in params.items()})
    assert_same(ends[1], ends[0], rtol=1e-12)


@EACH
def test_tensor_lr(name: str) -> None:
    ends = []
    for lr in (0.0625, torch.tensor(0.0625)):
        params = parameters()
        optimizer = build(name, torch.optim.SGD(params.values(), lr=lr, momentum=0.9, foreach=False))
        for t in range(4):
            wrapped.step(optimizer, params, t)
        ends.append(tensors(optimizer, params))
    assert_same(ends[1], ends[0])


@EACH
@BOTH
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_zero_lr_is_a_no_op(name: str, inner: str, dtype: torch.dtype) -> None:
    params = parameters(dtype)
    optimizer = build(name, INNER[inner](list(params.values())))
    optimizer.param_groups[0]["lr"] = 0.0
    for t in range(4):
        wrapped.step(optimizer, params, t)
    assert_same({key: p.detach() for key, p in params.items()}, dict(parameters(dtype)))


@EACH
@BOTH
def test_gradients_are_not_kept(name: str, inner: str) -> None:
    params = parameters()
    optimizer = build(name, INNER[inner](list(params.values())))
    for t in range(4):
        wrapped.step(optimizer, params, t)
        before = tensors(optimizer, params)
        for p in params.values():
            assert p.grad is not None
            p.grad.fill_(float("nan"))
        assert_same(tensors(optimizer, params), before)


@EACH
@BOTH
@pytest.mark.parametrize("rows", ["some", "all"])
def test_zero_rows_and_zero_gradients_give_no_nan(name: str, inner: str, rows: str) -> None:
    params = parameters(torch.float32)
    for p in params.values():
        p.data.view(-1)[: p.numel() // 2 if rows == "some" else p.numel()] = 0
    optimizer = build(name, INNER[inner](list(params.values())))

    def zeroed(g: Tensor) -> Tensor:
        g.view(-1)[: g.numel() // 2 if rows == "some" else g.numel()] = 0
        return g

    for t in range(4):
        step(optimizer, params, t, change=zeroed)
    assert all(x.isfinite().all() for x in tensors(optimizer, params).values())
    step(optimizer, params, 5)
    assert params["weight"].isfinite().all()
    assert params["weight"].any(), "after zeros, nothing moves any more"


@EACH
@BOTH
def test_empty_and_zero_dim_parameters(name: str, inner: str) -> None:
    shapes = {"rows": (0, 3), "columns": (3, 0), "none": (0,), "scalar": (), "matrix": (2, 2)}
    params = {key: Parameter(torch.ones(shape)) for key, shape in shapes.items()}
    optimizer = build(name, INNER[inner](list(params.values())))
    for t in range(3):
        step(optimizer, params, t)
    optimizer.load_state_dict(optimizer.state_dict())
    step(optimizer, params, 3)
    assert params["scalar"].isfinite()
    assert params["matrix"].isfinite().all()
    assert not torch.equal(params["matrix"], torch.ones(2, 2))
    assert not torch.equal(params["scalar"], torch.ones(()))


@EACH
@pytest.mark.parametrize("form", ["channels_last", "transposed", "gaps"])
def test_strides_do_not_matter(name: str, form: str) -> None:
    ends = []
    for odd in (False, True):
        params = parameters()
        if odd:
            params = {key: Parameter(strided(p.detach(), form)) for key, p in params.items()}
        optimizer = build(name, INNER["AdamSRT"](list(params.values())))
        for t in range(4):
            step(optimizer, params, t, change=lambda g, odd=odd: strided(g, form) if odd else g)
        ends.append(tensors(optimizer, params))
    assert_same(ends[1], ends[0], rtol=1e-11)


@EACH
@pytest.mark.parametrize("key", SCHEDULERS)
def test_scheduled_options_act(name: str, key: str) -> None:
    """A scheduled run equals one in which the same numbers were set by hand."""
    scheduled, manual = parameters(), parameters()
    a, b = (build(name, INNER["Adam"](list(x.values()))) for x in (scheduled, manual))
    scheduler = SCHEDULERS[key](a)
    seen = []
    for t in range(4):
        b.param_groups[0].update({option: a.param_groups[0][option] for option in CYCLED if option in a.defaults})
        seen.append(a.param_groups[0]["lr"])
        wrapped.step(a, scheduled, t)
        wrapped.step(b, manual, t)
        scheduler.step(1.0) if key == "ReduceLROnPlateau" else scheduler.step()
    assert_same(tensors(a, scheduled), tensors(b, manual))
    assert len(set(seen)) > 1, "the scheduler changed nothing"


@EACH
def test_sparse_gradients_are_refused_by_name_or_work(name: str) -> None:
    ends = []
    for layout in ("dense", "sparse"):
        p = Parameter(torch.ones(3, 2))
        optimizer = build(name, torch.optim.SGD([("table", p)], lr=0.1))

        def closure(p: Parameter = p, layout: str = layout) -> Tensor:
            g = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
            p.grad = g.to_sparse() if layout == "sparse" else g
            return torch.zeros(())

        for _ in range(2):
            closure()
            try:
                optimizer.step(closure) if optimizer.needs_closure else optimizer.step()
            except RuntimeError as error:
                assert layout == "sparse"
                assert f"{name} does not support the sparse gradient of parameter 'table'" in str(error)
                assert torch.equal(p, torch.ones(3, 2))
                return
        ends.append(p.detach())
    assert torch.equal(ends[1], ends[0])


@EACH
def test_complex_parameters_are_refused_by_name_or_work(name: str) -> None:
    z = Parameter(torch.ones(2, dtype=torch.complex64))
    if not CASES[name].cls.allows_complex:
        with pytest.raises(ValueError, match=f"parameter 'z' is complex, which {name} does not support"):
            build(name, torch.optim.SGD([("z", z)]))
        return
    optimizer = build(name, torch.optim.SGD([("z", z)], lr=0.5))
    for _ in range(2):
        z.grad = torch.full_like(z, 1j)
        optimizer.step()
    assert z.detach()[0].imag < 0


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("AGC", lambda p, g, o: functional.agc(p, g, **o)),
        ("GradientCentralization", lambda p, g, o: functional.centralize_gradient(g, **o)),
        ("GradientNormalization", lambda p, g, o: functional.normalize_gradient(g, **o)),
    ],
)
def test_gradients_are_those_of_the_function(name: str, function: Callable[..., Tensor]) -> None:
    params, others = parameters(), parameters()
    a, b = build(name, INNER["SGD"](list(params.values()))), INNER["SGD"](list(others.values()))
    for t in range(3):
        step(a, params, t)
        for key, p in others.items():
            p.grad = function(p.detach(), gradient(key, p, t), dict(CASES[name].options))
        b.step()
    assert_same({key: p.detach() for key, p in params.items()}, {key: p.detach() for key, p in others.items()})
