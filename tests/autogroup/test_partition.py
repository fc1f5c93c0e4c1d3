"""Partitions: canonical form, the order of refinement, the finest keys, printing, and the trip through JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autogroup.partition import OUTSIDE, Partition, compress

SHAPES = ((), (1,), (6,), (4, 3), (6, 2), (4, 2, 3), (2, 3, 2, 2), (1, 4), (4, 1))


def blocks(partition: Partition) -> set[frozenset[int]]:
    """The blocks as sets of flat indices: the definition, without any cleverness."""
    labels = partition.labels.expand(partition.shape).reshape(-1).tolist()
    return {frozenset(i for i, x in enumerate(labels) if x == b) for b in set(labels) if b != OUTSIDE}


@st.composite
def partitions(draw: st.DrawFn, shape: tuple[int, ...] | None = None, holes: bool = True) -> Partition:
    """A random partition; labels vary along random axes, and often repeat in a regular way."""
    shape = draw(st.sampled_from(SHAPES)) if shape is None else shape
    sizes = [size if draw(st.booleans()) else 1 for size in shape]
    count = int(torch.tensor(sizes).prod()) if sizes else 1
    kind = draw(st.sampled_from(("any", "contiguous", "strided")))
    if kind == "any":
        lowest = OUTSIDE if holes else 0
        flat = draw(st.lists(st.integers(lowest, 4), min_size=count, max_size=count))
    else:
        divisor = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
        flat = [i // divisor if kind == "contiguous" else i % divisor for i in range(count)]
    return Partition(shape, torch.tensor(flat, dtype=torch.int64).view(sizes))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Partition, Partition]:
    shape = draw(st.sampled_from(SHAPES))
    return draw(partitions(shape)), draw(partitions(shape))


@st.composite
def triples(draw: st.DrawFn) -> tuple[Partition, Partition, Partition]:
    """Three partitions of one tensor, each with a fair chance to refine the next."""
    shape = draw(st.sampled_from(SHAPES))
    first = draw(partitions(shape, holes=False))
    merge = torch.tensor(draw(st.lists(st.integers(0, 2), min_size=first.num_blocks, max_size=first.num_blocks)))
    second = Partition(shape, merge[first.labels])
    third = draw(st.sampled_from((Partition.from_dims(shape, ()), draw(partitions(shape)))))
    return first, second, third


def contiguous(shape: tuple[int, ...], dims: tuple[int, ...], groups: int | None) -> set[frozenset[int]]:
    """What ``channel_dims`` and ``channel_groups`` mean, spelled out entry by entry."""
    found: dict[tuple[int, ...], set[int]] = {}
    for flat, index in enumerate(torch.ones(shape).nonzero().tolist()):
        key = [index[d] for d in dims]
        if groups is not None:
            key[0] //= shape[dims[0]] // groups
        found.setdefault(tuple(key), set()).add(flat)
    return set(map(frozenset, found.values()))


def all_keys(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], int | None]]:
    for count in range(len(shape) + 1):
        for dims in combinations(range(len(shape)), count):
            yield dims, None
            if dims:
                size = shape[dims[0]]
                yield from ((dims, groups) for groups in range(1, size) if size % groups == 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_from_dims_is_what_the_keys_say(shape: tuple[int, ...]) -> None:
    for dims, groups in all_keys(shape):
        assert blocks(Partition.from_dims(shape, dims, groups)) == contiguous(shape, dims, groups), (dims, groups)


@given(partitions())
def test_the_canonical_form_is_unique(partition: Partition) -> None:
    """Blocks are numbered from 0 by first occurrence, and no axis is kept along which labels are constant."""
    labels = partition.labels.reshape(-1).tolist()
    seen = [x for i, x in enumerate(labels) if x != OUTSIDE and x not in labels[:i]]
    assert seen == list(range(partition.num_blocks))
    assert len(blocks(partition)) == partition.num_blocks
    assert compress(partition.labels).shape == partition.labels.shape
    scrambled = torch.where(partition.labels == OUTSIDE, OUTSIDE, 7 - 2 * partition.labels + 100)
    again = Partition(partition.shape, scrambled.expand(partition.shape).contiguous())
    assert again == partition
    assert hash(again) == hash(partition)


@given(pairs())
def test_equality_means_equal_blocks(pair: tuple[Partition, Partition]) -> None:
    a, b = pair
    assert (a == b) == (blocks(a) == blocks(b))
    assert a != "not a partition"


@given(partitions())
def test_covers_and_rows(partition: Partition) -> None:
    held = set().union(*blocks(partition))
    size = max(1, int(torch.tensor(partition.shape).prod())) if partition.shape else 1
    assert partition.covers == (len(held) == size)
    if partition.shape:
        width = size // partition.shape[0]
        inside = {r for r in range(partition.shape[0]) if all(r * width + i in held for i in range(width))}
        assert {r for a, b in partition.rows for r in range(a, b)} == inside
        assert all(b < c for (_, b), (c, _) in zip(partition.rows, partition.rows[1:], strict=False))
    else:
        assert partition.rows == ()


@given(pairs())
def test_refinement_is_what_it_says(pair: tuple[Partition, Partition]) -> None:
    fine, coarse = pair
    union = {block: set().union(*(b for b in blocks(fine) if b <= block)) for block in blocks(coarse)}
    assert fine.refines(coarse) == all(parts == block for block, parts in union.items())


@given(triples())
def test_refinement_is_an_order(triple: tuple[Partition, Partition, Partition]) -> None:
    a, b, c = triple
    assert a.refines(a)
    assert a.refines(b)
    if b.refines(c):
        assert a.refines(c)
    assert (a.refines(b) and b.refines(a)) == (a == b)


def test_entries_outside_every_block_are_not_refined_by_anything() -> None:
    rows = Partition((4,), torch.tensor([0, 0, OUTSIDE, OUTSIDE]))
    whole = Partition.from_dims((4,), ())
    halves = Partition.from_dims((4,), (0,), groups=2)
    assert not rows.refines(whole)
    assert not rows.refines(halves)
    assert halves.refines(rows)
    assert not whole.refines(rows)


@given(partitions(holes=False))
def test_keys_are_the_finest_that_can_be_written(partition: Partition) -> None:
    """No other pair of keys whose blocks are unions of these has more blocks; equal ones mean the same blocks."""
    dims, groups = partition.keys()
    assert dims is not None
    chosen = Partition.from_dims(partition.shape, dims, groups)
    assert partition.refines(chosen)
    others = (Partition.from_dims(partition.shape, *keys) for keys in all_keys(partition.shape))
    valid = [other for other in others if partition.refines(other)]
    assert chosen.num_blocks == max(other.num_blocks for other in valid)
    assert partition.exact_keys == (chosen == partition)
    if groups is not None:
        assert 1 < groups < partition.shape[dims[0]]


@given(partitions())
def test_partial_partitions_have_no_keys(partition: Partition) -> None:
    if not partition.covers:
        assert partition.keys() == (None, None)
        assert not partition.exact_keys
    else:
        assert partition.keys()[0] is not None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_keys_invert_from_dims(shape: tuple[int, ...]) -> None:
    for dims, groups in all_keys(shape):
        partition = Partition.from_dims(shape, dims, groups)
        assert partition.exact_keys
        found_dims, found_groups = partition.keys()
        assert found_dims is not None
        assert Partition.from_dims(shape, found_dims, found_groups) == partition


@given(partitions())
def test_json_loses_nothing(partition: Partition) -> None:
    assert Partition.from_dict(json.loads(json.dumps(partition.to_dict()))) == partition


def test_a_large_weight_costs_kilobytes() -> None:
    partition = Partition.from_dims((28672, 8192), (0,))
    assert partition.labels.shape == (28672, 1)
    assert len(json.dumps(partition.to_dict())) < 100
    heads = Partition(
        (6144, 4096), torch.repeat_interleave(torch.arange(3), torch.tensor([4096, 1024, 1024])).view(-1, 1)
    )
    assert len(json.dumps(heads.to_dict())) < 200


def along0(*labels: int, rest: tuple[int, ...] = (2,)) -> Partition:
    return Partition((len(labels), *rest), torch.tensor(labels).view(-1, *[1] * len(rest)))


PRINTED = {
    "per channel": (Partition.from_dims((8, 4, 3, 3), (0,)), "o i h w -> o"),
    "per input": (Partition.from_dims((8, 4, 3, 3), (1,)), "o i h w -> i"),
    "whole matrix": (Partition.from_dims((8, 4), ()), "o i -> ()"),
    "whole scalar": (Partition.from_dims((), ()), "-> ()"),
    "vector": (Partition.from_dims((8,), (0,)), "c -> c"),
    "three axes": (Partition.from_dims((8, 4, 3), (2,)), "o i k -> k"),
    "five axes": (Partition.from_dims((8, 4, 3, 3, 3), (0,)), "o i d h w -> o"),
    "six axes": (Partition.from_dims((2, 2, 2, 2, 2, 2), (0, 5)), "a0 a1 a2 a3 a4 a5 -> a0 a5"),
    "every entry": (Partition.from_dims((8, 4), (0, 1)), "o i -> o i"),
    "groups": (Partition.from_dims((8, 4), (0,), groups=2), "(g o) i -> g  g=2"),
    "groups of dim 1": (Partition.from_dims((8, 4), (1,), groups=2), "o (g i) -> g  g=2"),
    "groups and a dim": (Partition.from_dims((8, 4, 3, 3), (0, 1), groups=2), "(g o) i h w -> g i  g=2"),
    "strided": (along0(0, 1, 2, 0, 1, 2), "(o g) i -> g  g=3"),
    "unequal": (along0(0, 0, 0, 1, 1, 2), "o i -> 3 unequal blocks"),
    "equal but irregular": (along0(0, 1, 1, 0), "o i -> 2 blocks"),
    "partial": (along0(0, 0, 1, 1, OUTSIDE, OUTSIDE), "o i -> 2 blocks of rows 0:4"),
    "partial in two places": (along0(OUTSIDE, 0, OUTSIDE, 1, rest=()), "c -> 2 blocks of rows 1:2, 3:4"),
    "some columns": (
        Partition((2, 2), torch.tensor([[0, OUTSIDE]])),
        "o i -> 1 blocks of rows some entries",
    ),
}


@pytest.mark.parametrize(("partition", "text"), PRINTED.values(), ids=PRINTED)
def test_printing(partition: Partition, text: str) -> None:
    assert str(partition) == text


def test_labels_must_fit_the_shape() -> None:
    with pytest.raises(ValueError, match=r"labels have 1 axes, the parameter has shape \(4, 2\)"):
        Partition((4, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels of shape \(3, 1\) do not broadcast to \(4, 2\)"):
        Partition((4, 2), torch.zeros(3, 1, dtype=torch.int64))


def test_keys_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="channel_groups=3 does not divide size 4 of dim 0"):
        Partition.from_dims((4, 2), (0,), groups=3)
    with pytest.raises(ValueError, match="channel_groups=0 does not divide"):
        Partition.from_dims((4, 2), (0,), groups=0)
    with pytest.raises(ValueError, match="channel_groups=2 cuts the first of channel_dims"):
        Partition.from_dims((4, 2), (), groups=2)
