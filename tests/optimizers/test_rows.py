"""Rows as matrices, in pieces and in bundles: the same memory, the same blocks, nothing lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers._math import Blocks, elementwise, resolve
from optimizers._rows import Bundle, Row, arranged

Shape = tuple[int, ...]


def row(shape: Shape, blocks: Blocks, place: Callable[[Tensor], Tensor] = lambda x: x, **flags: bool) -> Row:
    p, g = (place(torch.randn(shape)) for _ in range(2))
    number = place(torch.randn(shape)) if blocks.elementwise else torch.randn(blocks.shape)
    return Row(Parameter(p), g, [None, place(torch.randn(shape)), number], blocks, {"lr": 0.1}, flags)


@pytest.fixture(autouse=True)
def as_in_a_step() -> Iterator[None]:
    with torch.no_grad():
        yield


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "dims", "groups", "place", "want"),
    [
        ((6, 4, 3, 3), (0,), None, None, (6, 36)),
        ((6, 4, 3, 3), (0,), 3, None, (3, 72)),
        ((6, 4, 3, 3), (0, 1), None, None, (24, 9)),
        ((6, 4, 3, 3), (), None, None, (1, 216)),
        ((6, 1, 3, 3), (1, 0), None, None, (6, 9)),
        ((4, 6, 2), (1, 0), 3, None, (12, 4)),
        ((6, 4, 3, 3), (0,), None, channels_last, (6, 36)),
        ((6, 4, 3, 3), None, None, channels_last, (216,)),
        ((5,), None, None, None, (5,)),
        ((), None, None, None, (1,)),
        ((6, 4), (1,), None, torch.Tensor.t, (4, 6)),
    ],
)
def test_a_matrix_has_the_blocks_of_the_tensor(
    shape: Shape, dims: Any, groups: int | None, place: Any, want: Shape
) -> None:
    shape = shape[::-1] if place is torch.Tensor.t else shape
    blocks = resolve(shape[::-1] if place is torch.Tensor.t else shape, dims, groups)
    given = row(shape, blocks, place or (lambda x: x))
    matrix = given.as_matrix()
    assert tuple(matrix.p.shape) == want
    sums = blocks.pack(blocks.sum(given.g))
    if blocks.elementwise:  # in the order of memory
        sums = sums.permute(0, 2, 3, 1) if place is channels_last else sums
    torch.testing.assert_close(matrix.blocks.sum(matrix.g).flatten(), sums.flatten())
    for x in (matrix.p, matrix.g, *matrix.slots):
        if x is not None:
            x.fill_(7)
    assert all((x == 7).all() for x in (given.p, given.g, *given.slots) if x is not None), "not the same memory"


@pytest.mark.parametrize(
    ("shape", "dims", "groups", "place"),
    [
        ((4, 6, 2), (1,), None, lambda x: x),  # the block index does not come first in memory
        ((4, 6, 2), (0, 1), 2, lambda x: x),  # nor here: pieces of dim 0 lie side by side
        ((6, 4), (0,), None, lambda x: torch.stack([x, x])[0].expand_as(x).as_strided((6, 4), (1, 6))),
        ((6, 4), (0,), None, lambda x: torch.stack([x, x], dim=-1)[..., 0]),  # gaps
    ],
)
def test_other_layouts_stay_as_they_are(shape: Shape, dims: Any, groups: int | None, place: Any) -> None:
    given = row(shape, resolve(shape, dims, groups), place)
    assert given.as_matrix() is given


def test_a_gradient_of_another_layout_keeps_the_tensor_as_it_is() -> None:
    given = row((6, 4, 3, 3), resolve((6, 4, 3, 3), (0,), None))
    given.g = channels_last(given.g)
    assert given.as_matrix() is given


def test_pieces_are_whole_blocks_and_share_the_memory() -> None:
    matrix = row((7, 5, 2), resolve((7, 5, 2), (0,), None)).as_matrix()
    pieces = list(matrix.pieces(25))
    assert [tuple(piece.p.shape) for piece in pieces] == [(2, 10), (2, 10), (2, 10), (1, 10)]
    assert [piece.blocks.shape for piece in pieces] == [(2, 1), (2, 1), (2, 1), (1, 1)]
    assert torch.equal(torch.cat([piece.g for piece in pieces]), matrix.g)
    pieces[1].g.zero_()
    assert matrix.g[2:4].eq(0).all()
    assert [len(piece.p) for piece in matrix.pieces(3)] == [1] * 7, "one block at least"


def test_rules_that_look_at_whole_tensors_get_them() -> None:
    matrix = row((7, 5, 2), resolve((7, 5, 2), (0,), None), whole=True).as_matrix()
    assert list(matrix.pieces(10)) == [matrix]
    assert matrix.bundle_key() is None


def test_small_rows_are_bundled_and_written_back() -> None:
    rows = [row((n,), elementwise((n,))) for n in (3, 5, 4)] + [row((100,), elementwise((100,)))]
    other = row((3,), elementwise((3,)))
    other.values["lr"] = 0.2
    found = list(arranged([*rows, other], lambda _: 1000, 50))
    assert [x.p.numel() for x in found if not isinstance(x, Bundle)] == [100, 3], (
        "large ones, and those with other numbers"
    )
    (bundle,) = [x for x in found if isinstance(x, Bundle)]
    work = bundle.load()
    assert work[2] is None
    for x in (work[0], work[3], work[4]):
        assert x is not None
        assert x.shape == (12,) == bundle.blocks.shape
        x.copy_(torch.arange(12.0))
    bundle.store(work)
    for part, want in zip(rows, torch.arange(12.0).split([3, 5, 4]), strict=False):
        assert torch.equal(part.p.detach(), want)
        assert all(torch.equal(x, want) for x in part.slots if x is not None)


def test_bundles_are_no_larger_than_pieces() -> None:
    rows = [row((4, 3), resolve((4, 3), (0,), None)) for _ in range(5)]
    found = list(arranged(rows, lambda _: 25, 20))
    assert [x.blocks.shape for x in found] == [(8, 1), (8, 1), (4, 1)]
