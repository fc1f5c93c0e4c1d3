"""Recorded cases in epochs: RMSGD, and the factorization it rests on. AUTOGROUP_GOLDEN replaces the folder."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import ExponentialLR

import optimizers
from optimizers.evbmf import evbmf
from tests.optimizers.recorded import arrays, build, cases, difference, inputs, set_gradients, stray


def resumed(optimizer: Any, golden: dict[str, Any], params: list[Parameter], impl: str) -> Any:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    other = build(golden, params, impl)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    return other


@pytest.mark.parametrize("resume", [False, True], ids=["at-once", "resumed"])
@pytest.mark.parametrize("impl", optimizers.RMSGD.impls)
@pytest.mark.parametrize("golden", cases("epoch"))
def test_trajectory(golden: dict[str, Any], impl: str, resume: bool) -> None:
    want = arrays(golden)
    _, given, params = inputs(golden)
    optimizer = build(golden, params, impl)
    for t in range(golden["steps"]):
        set_gradients(golden, given, params, optimizer, t)
        optimizer.step()
        assert not stray(golden, params, want, t)
        epoch, last = divmod(t + 1, golden["steps_per_epoch"])
        if last == 0:
            optimizer.epoch_step()
            order = [p for group in optimizer.param_groups for p in group["params"]]
            by_parameter = dict(zip(order, optimizer.learning_rates(), strict=True))
            rates = [by_parameter[p] for p in params]
            assert not difference(golden, rates, want["lr"][epoch - 1], f"rates of epoch {epoch}")
            gains = [optimizer.state[params[i]]["gain"].item() for i in golden["analysed"]]
            assert not difference(golden, gains, want["kg"][epoch - 1], f"gains of epoch {epoch}")
        if resume:
            optimizer = resumed(optimizer, golden, params, impl)


@pytest.mark.parametrize("golden", cases("function", "evbmf"))
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_evbmf(golden: dict[str, Any], scale: float) -> None:
    want = arrays(golden)
    found = evbmf(torch.tensor(want["in_Y"]) * scale)
    assert not difference(golden, found.values / scale, want["out_d"], "values")
    assert not difference(golden, found.variance / scale**2, want["out_sigma2"], "variance")
    assert found.rank == int(want["out_rank"])
    assert not difference(golden, found.gain, want["out_kg"], "gain")


def test_evbmf_of_degenerate_matrices() -> None:
    nothing = evbmf(torch.zeros(4, 3))
    assert (nothing.rank, nothing.variance, nothing.gain) == (0, 0.0, 0.0)
    noise = torch.randn(12, 9, dtype=torch.float64)
    dead = torch.cat([noise, torch.zeros(3, 9, dtype=torch.float64)])
    for matrix in (dead, torch.ones(5, 4), torch.ones(1, 1), torch.ones(1, 7), noise.bfloat16()):
        found = evbmf(matrix)
        assert found.values.isfinite().all()
        assert 0 <= found.gain <= 1
    full, half = evbmf(5 * torch.ones(9, 6) + torch.randn(9, 6)), evbmf(torch.ones(9, 6))
    assert full.rank == half.rank == 1
    assert full.values.dtype == torch.float64


def weights() -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4,), (8, 6, 3, 3), (8,), (5, 8, 1, 1), (5,))
    return [Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def epoch(optimizer: Any, params: list[Parameter], push: Tensor | None = None) -> None:
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    if push is not None:  # structure in the first convolution only
        params[1].data += push
    optimizer.epoch_step()


def test_rates_follow_structure_and_the_layer_before() -> None:
    params = weights()
    optimizer = optimizers.RMSGD([{"params": params[:3]}, {"params": params[3:], "lr": 0.3}], lr=0.1, beta=0.5)
    epoch(optimizer, params)
    assert optimizer.learning_rates() == pytest.approx([0.1, 0.1, 0.1, 0.3, 0.3])  # the first epoch changes nothing
    before = optimizer.state[params[1]]["gain"].item()
    epoch(optimizer, params, 3 * torch.ones(8, 6, 3, 3))
    first, conv, bias, pointwise, last = optimizer.learning_rates()
    assert (first, bias) == (pytest.approx(0.1), pytest.approx(conv))
    gain = optimizer.state[params[1]]["gain"].item()
    assert gain > before + 0.01
    assert conv == pytest.approx(0.5 * 0.1 + gain - before)
    assert last == pytest.approx(pointwise)


def test_a_rate_has_a_floor_and_a_scheduler_scales_it() -> None:
    params = weights()
    optimizer = optimizers.RMSGD(params, lr=0.1, beta=0.0, min_lr=0.01)
    scheduler = ExponentialLR(optimizer, 0.5)
    structure = 3 * torch.ones(8, 6, 3, 3)
    epoch(optimizer, params, structure)
    epoch(optimizer, params, None)  # no further gain: with beta = 0 nothing remains but the floor
    assert optimizer.learning_rates()[1] == pytest.approx(0.01)
    scheduler.step()
    assert optimizer.learning_rates()[:2] == pytest.approx([0.05, 0.005])
    epoch(optimizer, params, None)
    assert optimizer.learning_rates()[1] == pytest.approx(0.005)


def test_no_rate_and_no_entries() -> None:
    params = [*weights(), Parameter(torch.empty(0, 3))]
    optimizer = optimizers.RMSGD(
        [{"params": params[1:4]}, {"params": [params[0], *params[4:]], "lr": 0.0}], linear=True
    )
    epoch(optimizer, params)
    epoch(optimizer, params, 3 * torch.ones(8, 6, 3, 3))
    conv, bias, pointwise, *others = optimizer.learning_rates()
    assert conv == bias != pytest.approx(0.1)
    assert pointwise == pytest.approx(0.1)  # no gain so far
    assert others == [0.0, 0.0, 0.0]


def test_frozen_and_late_parameters() -> None:
    params = weights()
    params[3].requires_grad_(False)
    optimizer = optimizers.RMSGD(params, lr=0.1)
    optimizer.epoch_step()  # before any step
    assert optimizer.learning_rates() == pytest.approx([0.1] * 5)
    assert "gain" in optimizer.state[params[1]]
    assert optimizer.state[params[3]]["epoch"] == 0, "a frozen weight was analysed"
