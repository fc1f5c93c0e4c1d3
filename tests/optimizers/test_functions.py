"""The pure functions, beyond the recorded cases: edges, dtypes, strides, and that nothing is changed in place."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from optimizers.functional import (
    agc,
    centralize_gradient,
    matrix_inverse_root,
    norm_loss,
    normalize_gradient,
    softplus,
)

SHAPES = [(), (1,), (2,), (5,), (4, 1), (1, 6), (3, 4), (2, 3, 4), (4, 3, 2, 2), (2, 2, 2, 2, 2)]
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "agc": lambda p, g: agc(p, g, clipping=0.3),
    "centralize_gradient": lambda p, g: centralize_gradient(g),
    "centralize_conv_only": lambda p, g: centralize_gradient(g, gc_conv_only=True),
    "normalize_gradient": lambda p, g: normalize_gradient(g),
    "normalize_channels": lambda p, g: normalize_gradient(g, use_channels=True),
    "norm_loss": lambda p, g: norm_loss(p, lr=0.1, factor=0.5),
    "softplus": lambda p, g: softplus(g.abs()),
}


def pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    draw = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]
    return draw[0], draw[1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_stay_and_half_precision_is_rounded_once(name: str, shape: tuple[int, ...]) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        p, g = pair(shape, dtype)
        before = p.clone(), g.clone()
        got = FUNCTIONS[name](p, g)
        assert torch.equal(p, before[0])
        assert torch.equal(g, before[1])
        assert (got.dtype, got.shape) == (dtype, shape)
        assert got.isfinite().all()
        if dtype in (torch.bfloat16, torch.float16):
            wide = FUNCTIONS[name](p.float(), g.float()).to(dtype)
            torch.testing.assert_close(got, wide, rtol=0 if name != "softplus" else 1e-2, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strides_do_not_matter(name: str) -> None:
    p, g = pair((4, 3, 2, 2))
    odd = [x.contiguous(memory_format=torch.channels_last) for x in (p, g)]
    torch.testing.assert_close(FUNCTIONS[name](*odd), FUNCTIONS[name](p, g), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros_and_empty_tensors(name: str) -> None:
    for shape in ((3, 4), (5,), (0, 3), (3, 0), (0,)):
        zeros = torch.zeros(shape)
        got = FUNCTIONS[name](zeros, zeros)
        assert got.shape == shape
        assert got.isfinite().all()
        assert name == "softplus" or torch.equal(got, zeros)


def test_agc_bounds_every_row_and_leaves_short_ones() -> None:
    p, g = pair((6, 5))
    g[::2] *= 1e-4
    got = agc(p, g, clipping=0.1)
    ratio = got.norm(dim=1) / p.norm(dim=1)
    assert torch.equal(got[::2], g[::2])
    torch.testing.assert_close(ratio[1::2], torch.full((3,), 0.1, dtype=torch.float64))


def test_agc_lets_a_zero_row_move() -> None:
    got = agc(torch.zeros(1, 4), torch.ones(1, 4), clipping=0.1, agc_eps=0.01)
    assert got.norm().item() == pytest.approx(1e-3)


def test_agc_below_its_floor_is_the_identity() -> None:
    """A gradient within the limit stays, however small the limit."""
    g = torch.full((1, 2), 1e-12, dtype=torch.float64)
    assert torch.equal(agc(torch.ones(1, 2, dtype=torch.float64), g, clipping=1e-8), g)


def test_centralized_rows_have_mean_zero() -> None:
    _, g = pair((4, 3, 2, 2))
    assert centralize_gradient(g).mean((1, 2, 3)).abs().max() < 1e-15
    bias = g[:, 0, 0, 0]
    assert centralize_gradient(bias) is bias
    assert centralize_gradient(g[0], gc_conv_only=True) is not None
    assert torch.equal(centralize_gradient(g[0], gc_conv_only=True), g[0])


def test_normalized_gradients_have_unit_deviation() -> None:
    _, g = pair((4, 3, 2))
    assert normalize_gradient(g * 1e3, eps=0.0).std().item() == pytest.approx(1)
    rows = normalize_gradient(g * 1e3, use_channels=True, eps=0.0).std((1, 2))
    torch.testing.assert_close(rows, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(), (1,), (2,), (1, 2)], ids=str)
def test_small_gradients_are_not_normalized(shape: tuple[int, ...]) -> None:
    g = torch.full(shape, 7.0)
    assert torch.equal(normalize_gradient(g), g)


def test_rows_of_one_entry_are_not_normalized() -> None:
    g = torch.tensor([[1.0], [5.0], [9.0]])
    assert torch.equal(normalize_gradient(g, use_channels=True), g)


def test_norm_loss_is_a_gradient_step() -> None:
    p, _ = pair((3, 4))
    p.requires_grad_()
    loss = 0.3 * (1 - p.norm(dim=1)).square().sum()
    (slope,) = torch.autograd.grad(loss, p)
    torch.testing.assert_close(norm_loss(p, lr=0.1, factor=0.3, eps=0.0), p - 0.1 * slope)


@pytest.mark.parametrize("root", [1, 2, 3, 4, 8])
def test_inverse_root_to_the_power_is_the_inverse(root: int) -> None:
    a, _ = pair((5, 5))
    matrix = a @ a.mT + 0.1 * torch.eye(5, dtype=torch.float64)
    got = matrix_inverse_root(matrix, root)
    torch.testing.assert_close(got, got.mT)
    torch.testing.assert_close(torch.linalg.matrix_power(got, root) @ matrix, torch.eye(5, dtype=torch.float64))


def test_inverse_root_of_many_and_of_singular_matrices() -> None:
    many = torch.stack([torch.eye(3) * 4, torch.zeros(3, 3)])
    got = matrix_inverse_root(many, 2, eps=1e-4)
    torch.testing.assert_close(got, torch.stack([torch.eye(3) / 2, torch.eye(3) * 100]))
    assert matrix_inverse_root(torch.zeros(2, 2), 4).isfinite().all()
    assert matrix_inverse_root(torch.eye(2, dtype=torch.bfloat16), 2).dtype == torch.bfloat16


def test_agc_divides_by_no_less_than_1e_6() -> None:
    gradient = torch.tensor([3e-7, -4e-7], dtype=torch.float64)  # norm 5e-7, above the limit 1e-8
    clipped = agc(torch.zeros(2, dtype=torch.float64), gradient, clipping=0.01, agc_eps=1e-6)
    torch.testing.assert_close(clipped, gradient * 0.01, rtol=1e-12, atol=0)


def test_what_is_too_small_is_left_alone() -> None:
    kernel, matrix, row = (torch.randn(shape, dtype=torch.float64) for shape in ((3, 2, 2, 2), (3, 2), (3,)))
    assert torch.equal(centralize_gradient(kernel, gc_conv_only=True), centralize_gradient(kernel))
    assert centralize_gradient(matrix, gc_conv_only=True) is matrix
    torch.testing.assert_close(normalize_gradient(matrix, use_channels=True).std(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(normalize_gradient(row).std(), torch.tensor(1.0, dtype=torch.float64))
    assert normalize_gradient(row[:2]) is not None
    assert torch.equal(normalize_gradient(row[:2]), row[:2])
