"""Norms per unit: where the blocks of a group take the place of the tensor or its rows, and where a guess is made."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

import optimizers
from optimizers._math import clip_blocks, less, rows
from optimizers._whole import global_norm
from tests.optimizers import problem

UNITS: dict[Any, dict[str, Any]] = {
    optimizers.Lamb: {"lr": 0.02, "weight_decay": 0.1},
    optimizers.SGD_AGC: {"lr": 0.1, "momentum": 0.9},
    optimizers.Adam_AGC: {"lr": 0.02, "eps": 1.0},
    optimizers.AdamW_AGC: {"lr": 0.02, "eps": 1.0},
    optimizers.RMSprop_AGC: {"lr": 0.02, "eps": 1.0, "centered": True},
    optimizers.Nero: {"lr": 0.02, "beta": 0.9},
}
BY_CLASS = pytest.mark.parametrize("cls", UNITS, ids=lambda cls: cls.__name__)
PROJECTED = pytest.mark.parametrize("cls", [optimizers.AdamP, optimizers.SGDP], ids=lambda cls: cls.__name__)


def run(cls: Any, start: list[torch.Tensor], grads: list[list[torch.Tensor]], **options: Any) -> list[Parameter]:
    params = [Parameter(x.clone()) for x in start]
    optimizer = cls(params, **options)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()
    return params


def gradients(name: str = "conv") -> list[torch.Tensor]:
    return [torch.tensor(problem.gradient(name, t)) for t in range(4)]


@BY_CLASS
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("pieces", [2, None])
def test_units_are_independent(cls: Any, dim: int, pieces: int | None) -> None:
    start = torch.tensor(problem.initial("conv"))
    keys = {"channel_dims": (dim,), "channel_groups": pieces}
    (whole,) = run(cls, [start], [[g] for g in gradients()], **UNITS[cls], **keys)
    count = pieces or start.shape[dim]
    split = [list(g.chunk(count, dim)) for g in gradients()]
    parts = run(cls, list(start.chunk(count, dim)), split, **UNITS[cls], channel_dims=())
    torch.testing.assert_close(whole, torch.cat(list(parts), dim), rtol=1e-12, atol=1e-13)


@BY_CLASS
def test_units_differ(cls: Any) -> None:
    start = torch.tensor(problem.initial("conv"))
    keys: list[dict[str, Any]] = [{"channel_dims": ()}, {"channel_dims": (0,)}, {"channel_dims": (1,)}]
    keys.append({"channel_dims": (0,), "channel_groups": 3})
    ends = [run(cls, [start], [[g] for g in gradients()], **UNITS[cls], **key)[0] for key in keys]
    for i, end in enumerate(ends):
        assert not any(torch.allclose(end, other) for other in ends[:i]), keys[i]


@pytest.mark.parametrize("clipping", [None, 0.0])
@pytest.mark.parametrize(
    ("cls", "twin", "options"),
    [
        (optimizers.SGD_AGC, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
        (optimizers.SGD_AGC, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (optimizers.Adam_AGC, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
        (optimizers.AdamW_AGC, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
        (optimizers.RMSprop_AGC, torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
        (optimizers.RMSprop_AGC, torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1}),
    ],
)
def test_without_clipping_they_are_torch(cls: Any, twin: Any, options: dict[str, Any], clipping: float | None) -> None:
    start, grads = [torch.tensor(problem.initial("conv"))], [[g] for g in gradients()]
    ours = run(cls, start, grads, **options, clipping=clipping)
    torch.testing.assert_close(ours, run(twin, start, grads, **options), rtol=1e-10, atol=1e-12)


def test_a_constant_gradient_gives_no_nan_in_centered_rmsprop() -> None:
    start, grads = [torch.ones(3, 2)], [[torch.full((3, 2), 0.1)]] * 400
    (p,) = run(optimizers.RMSprop_AGC, start, grads, lr=1e-3, alpha=0.5, centered=True, clipping=None)
    assert p.isfinite().all()


def test_clipping_keeps_short_units_and_bounds_long_ones() -> None:
    p, g = torch.ones(4, 9), torch.randn(4, 9) * torch.tensor([[1e-9], [1e-3], [1.0], [1e30]])
    p[0] = 0
    for dtype in (torch.float32, torch.float64):
        blocks = rows((4, 9))
        got = clip_blocks(p.to(dtype), g.to(dtype), blocks, 0.1, 1e-3)
        assert torch.equal(got[:2], g[:2].to(dtype)), "a unit within its limit was changed"
        norms = got.norm(dim=1) if dtype == torch.float64 else got[:3].norm(dim=1)
        torch.testing.assert_close(norms[2:], torch.full_like(norms[2:], 0.3))


@PROJECTED
def test_a_stated_partition_makes_every_step_tangent(cls: Any) -> None:
    start = torch.tensor(problem.initial("conv"))
    for keys in ({"channel_dims": (1,)}, {"channel_dims": ()}, {"channel_dims": (0,), "channel_groups": 2}):
        p = Parameter(start.clone())
        optimizer = cls([{"params": [p], **keys}], lr=0.1, eps=0.0)
        blocks = optimizer.partition(optimizer.param_groups[0], tuple(p.shape))
        for g in gradients():
            before, p.grad = p.detach().clone(), g
            optimizer.step()
            moved = p.detach() - before
            cosine = blocks.dot(moved, before) / (blocks.norm(moved) * blocks.norm(before))
            assert cosine.abs().max() < 1e-12
            assert blocks.dot(g, before).abs().min() > 0.01, "the gradient is tangent itself, so this shows nothing"


@PROJECTED
def test_a_group_that_states_none_is_not_guessed(cls: Any) -> None:
    start, tangent = torch.eye(4, 8), torch.eye(4, 8).roll(1, dims=1)  # the guess would say yes
    ends = []
    for group in ({}, {"channel_dims": None}, {"delta": 0.0}, {"channel_dims": None, "delta": 0.1}):
        p = Parameter(start.clone())
        optimizer = cls([{"params": [p], **group}], lr=0.1, weight_decay=0.5, wd_ratio=0.0)
        p.grad = tangent.clone()
        optimizer.step()
        ends.append(p.detach().diagonal()[0].item())
    assert ends == pytest.approx([1.0, 0.95, 0.95, 1.0]), "decay shows whether the weight counted as invariant"


@PROJECTED
def test_the_guess_is_by_rows_then_as_a_whole(cls: Any) -> None:
    w = torch.ones(2, 2)
    by_row = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    as_a_whole = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    for g, kept in ((by_row, True), (as_a_whole, True), (torch.tensor([[1.0, 1.0], [0.0, 0.0]]), False)):
        (p,) = run(cls, [w], [[g]], lr=1e-6, weight_decay=1e5, wd_ratio=0.0)
        assert torch.allclose(p, w if kept else 0.9 * w, atol=1e-4)


def test_rows_and_totals() -> None:
    for shape, packed in (((), ()), ((5,), (1,)), ((1,), (1,)), ((4, 1), (4, 1)), ((3, 2, 2), (3, 1, 1))):
        x = torch.randn(shape, dtype=torch.float64)
        blocks = rows(shape)
        assert blocks.shape == packed
        want = x.reshape(len(x), -1).norm(dim=1) if x.ndim > 1 else x.norm()
        torch.testing.assert_close(blocks.norm(x).flatten(), want.reshape(-1))
        torch.testing.assert_close(blocks.total(x), x.sum())


def test_less_is_exact() -> None:
    x = torch.tensor([0.0, 1.0, 1.0 + 2**-23, 2.0, 1e-45])
    assert torch.equal(less(x, 1.0), (x < 1.0).float())
    assert torch.equal(less(x, float("inf")), torch.ones(5))
    assert torch.equal(less(x, x), torch.zeros(5))


def test_global_norm() -> None:
    tensors = [
        torch.randn(3, 4, dtype=torch.float64),
        torch.zeros(0),
        torch.randn(()),
        torch.full((4096,), 3.0).bfloat16(),
    ]
    want = torch.cat([x.double().ravel() for x in tensors]).norm()
    torch.testing.assert_close(global_norm(tensors), want)
    assert torch.equal(global_norm(tensors[::-1]), global_norm(tensors))
    assert global_norm([]) == 0


def test_lamb_clips_by_the_norm_of_all_gradients() -> None:
    start = [torch.ones(3, 2, dtype=torch.float64), torch.ones(5, dtype=torch.float64)]
    grads = [[3 * torch.ones(3, 2, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)]]
    options = {"lr": 0.1, "betas": (0.0, 0.0), "eps": 1.0}
    long = run(optimizers.Lamb, start, grads, max_grad_norm=54**0.5 / 3, **options)
    torch.testing.assert_close(long, run(optimizers.Lamb, start, [[g / 3 for g in grads[0]]], **options))


def test_nero_changes_the_model_when_it_is_built_and_no_more_than_it_must() -> None:
    free, frozen, column = (
        Parameter(torch.randn(4, 6)),
        Parameter(torch.randn(4, 6), False),
        Parameter(torch.ones(4, 1)),
    )
    before = frozen.detach().clone()
    optimizers.Nero([free, frozen, column])
    torch.testing.assert_close(free.norm(dim=1), torch.ones(4))
    assert free.mean(dim=1).abs().max() < 1e-6
    assert torch.equal(frozen, before)
    assert torch.equal(column, torch.ones(4, 1)), "a neuron of one entry would become 0"
    once = free.detach().clone()
    optimizers.Nero([free])
    assert torch.equal(free, once), "building it a second time changed the weights"


@pytest.mark.parametrize(
    ("keys", "dims"),
    [
        ({}, (1, 2)),
        ({"channel_dims": None}, (1, 2)),
        ({"channel_dims": (1,)}, (0, 2)),
        ({"channel_dims": ()}, (0, 1, 2)),
        ({"channel_dims": (0, 1)}, (2,)),
    ],
)
def test_the_neurons_of_nero_are_the_blocks_of_the_group(keys: dict[str, Any], dims: tuple[int, ...]) -> None:
    """A transposed convolution has its output channels in dim 1."""
    body, head = Parameter(torch.randn(4, 3, 5).double()), Parameter(torch.randn(2, 6).double())
    kept = head.detach().clone()
    optimizer = optimizers.Nero([{"params": [body], **keys}, {"params": [head], "constraints": False}], lr=0.1)
    assert torch.equal(head, kept), "a head that is left out was changed"
    for _ in range(3):
        lengths = body.detach().square().sum(dims)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
        assert body.mean(dim=dims).abs().max() < 1e-12
        body.grad, head.grad = torch.randn(4, 3, 5).double(), torch.ones_like(head)
        optimizer.step()
    assert not torch.equal(head, kept)


def test_nero_goes_on_with_its_scale_when_the_partition_changes() -> None:
    """Without memory, each step moves each neuron by lr times the mean norm of the neurons before the first step."""
    fine: dict[str, Any] = {"channel_dims": (0,), "channel_groups": None}
    coarse = {**fine, "channel_groups": 2}
    for before, after in ((fine, coarse), (coarse, fine)):
        p = Parameter(torch.tensor(problem.initial("conv")))
        optimizer = optimizers.Nero([{"params": [p], **before}], lr=0.1, beta=0.0, constraints=False)
        scale = p.detach().reshape(2 if before is coarse else 6, -1).norm(dim=1).mean()
        for count, g in ((2 if before is coarse else 6, gradients()[0]), (2 if after is coarse else 6, gradients()[1])):
            old, p.grad = p.detach().clone(), g
            optimizer.step()
            lengths = (p.detach() - old).reshape(count, -1).norm(dim=1)
            torch.testing.assert_close(lengths, (0.1 * scale).expand(count))
            optimizer.param_groups[0].update(after)
