"""Partition: which entries of a parameter are scaled together.

A partition is an integer label per entry, held with size 1 on every axis along which it is constant, so
that "one block per output channel" of a [512, 256, 3, 3] kernel is a [512, 1, 1, 1] tensor. Blocks are
numbered in the order of their first entry; ``OUTSIDE`` marks entries that belong to no block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

OUTSIDE = -1
"""Label of an entry that no block holds (the rows of a ``partial`` parameter that are not invariant)."""

_AXIS_LETTERS = {0: "", 1: "c", 2: "o i", 3: "o i k", 4: "o i h w", 5: "o i d h w"}


@dataclass(frozen=True, eq=False)
class Partition:
    """The blocks of one parameter.

    Args:
        shape: shape of the parameter.
        labels: int64 tensor with ``len(shape)`` axes, each of the parameter's size or of size 1.

    Example:
        >>> Partition.from_dims((8, 4, 3, 3), (0,)).num_blocks
        8
        >>> print(Partition.from_dims((64, 4, 3, 3), (0,), groups=32))
        (g o) i h w -> g  g=32
    """

    shape: tuple[int, ...]
    labels: Tensor

    def __post_init__(self) -> None:
        """Bring the labels to their canonical form: compressed and numbered by first occurrence."""
        if self.labels.dim() != len(self.shape):
            raise ValueError(f"labels have {self.labels.dim()} axes, the parameter has shape {self.shape}")
        if any(size not in (1, full) for size, full in zip(self.labels.shape, self.shape, strict=True)):
            raise ValueError(f"labels of shape {tuple(self.labels.shape)} do not broadcast to {tuple(self.shape)}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "labels", _number(compress(self.labels)))

    @classmethod
    def from_dims(cls, shape: tuple[int, ...], dims: tuple[int, ...], groups: int | None = None) -> Partition:
        """Build the partition that the group keys ``channel_dims`` and ``channel_groups`` describe."""
        if groups is not None and not dims:
            raise ValueError(f"channel_groups={groups} cuts the first of channel_dims, but channel_dims is empty")
        labels = torch.zeros((1,) * len(shape), dtype=torch.int64)
        for position, dim in enumerate(dims):
            index = torch.arange(shape[dim])
            size = shape[dim]
            if position == 0 and groups is not None:
                if groups < 1 or size % groups:
                    raise ValueError(f"channel_groups={groups} does not divide size {size} of dim {dim}")
                index, size = index // (size // groups), groups
            view = [1] * len(shape)
            view[dim] = shape[dim]
            labels = labels * size + index.view(view)
        return cls(tuple(shape), labels)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return int(self.labels.max()) + 1 if self.labels.numel() else 0

    @property
    def covers(self) -> bool:
        """Whether every entry belongs to a block."""
        return not bool((self.labels == OUTSIDE).any())

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of dim 0 all of whose entries belong to blocks."""
        if not self.shape:
            return ()
        inside = (self.labels != OUTSIDE).flatten(1).all(1) if self.labels.dim() > 1 else self.labels != OUTSIDE
        inside = inside.expand(self.shape[0])
        edges = torch.diff(
            inside.to(torch.int8), prepend=torch.zeros(1, dtype=torch.int8), append=torch.zeros(1, dtype=torch.int8)
        )
        starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
        return tuple(zip(starts, stops, strict=True))

    @property
    def exact_keys(self) -> bool:
        """Whether ``channel_dims`` and ``channel_groups`` express this partition without loss."""
        dims, groups = self.keys()
        return dims is not None and Partition.from_dims(self.shape, dims, groups) == self

    def keys(self) -> tuple[tuple[int, ...] | None, int | None]:
        """Return the finest ``(channel_dims, channel_groups)`` whose blocks are unions of these blocks.

        ``(None, None)`` if some entry belongs to no block: the keys cannot say "only these rows".
        """
        if not self.covers:
            return None, None
        varying = [d for d, n in enumerate(self.labels.shape) if n > 1]
        best: tuple[tuple[int, ...], int | None] = (), None
        best_blocks = 1
        for count in range(len(varying), 0, -1):
            for dims in combinations(varying, count):
                for groups in _divisors(self.shape[dims[0]]):
                    blocks = groups
                    for d in dims[1:]:
                        blocks *= self.shape[d]
                    if blocks <= best_blocks:
                        break
                    if self._is_union(dims, groups):
                        best, best_blocks = (dims, None if groups == self.shape[dims[0]] else groups), blocks
                        break
        return best

    def _is_union(self, dims: tuple[int, ...], groups: int) -> bool:
        """Whether the blocks of ``(dims, groups)`` are unions of blocks of this partition."""
        coarse = Partition.from_dims(self.shape, dims, groups).labels
        fine, coarse = (labels.reshape(-1) for labels in torch.broadcast_tensors(self.labels, coarse))
        owner = torch.empty(self.num_blocks, dtype=torch.int64)
        owner[fine] = coarse
        return bool((owner[fine] == coarse).all())

    def refines(self, other: Partition) -> bool:
        """Whether every block of ``other`` is a union of blocks of this partition.

        Entries that are in no block of ``other`` do not matter: dropping blocks leaves a coarser claim.
        """
        if any(mine == 1 < theirs for mine, theirs in zip(self.labels.shape, other.labels.shape, strict=True)):
            return False  # a block of this one runs along an axis on which the other one is not constant
        fine, coarse = (labels.reshape(-1) for labels in torch.broadcast_tensors(self.labels, other.labels))
        held = fine != OUTSIDE
        owner = torch.full((self.num_blocks,), OUTSIDE, dtype=torch.int64)
        owner[fine[held]] = coarse[held]
        return bool((coarse[~held] == OUTSIDE).all()) and bool((owner[fine[held]] == coarse[held]).all())

    def __eq__(self, other: object) -> bool:
        """Partitions are equal when they hold the same blocks."""
        return isinstance(other, Partition) and self.shape == other.shape and torch.equal(self.labels, other.labels)

    def __hash__(self) -> int:
        """Equal partitions hash alike."""
        return hash((self.shape, tuple(self.labels.shape), self.num_blocks))

    def __str__(self) -> str:
        """Print einops-style, e.g. ``o i -> o``, ``(g o) i -> g  g=8``, ``(o g) i -> g  g=8``, or count the blocks."""
        axes = self._axis_names()
        if not self.covers:
            ranges = ", ".join(f"{a}:{b}" for a, b in self.rows) or "some entries"
            return f"{' '.join(axes)} -> {self.num_blocks} blocks of rows {ranges}"
        dims, groups = self.keys()
        assert dims is not None
        if not self.exact_keys:
            strided = self._strided_dim()
            if strided is None:
                return f"{' '.join(axes)} -> {self.num_blocks} {'blocks' if self._equal_sizes() else 'unequal blocks'}"
            axes[strided] = f"({axes[strided]} g)"
            return f"{' '.join(axes)} -> g  g={self.num_blocks}"
        if not dims:
            return f"{' '.join(axes)} -> ()".strip()
        kept = [axes[d] for d in dims]
        if groups is None:
            return f"{' '.join(axes)} -> {' '.join(kept)}"
        first = axes[dims[0]]
        axes[dims[0]] = f"(g {first})"
        return f"{' '.join(axes)} -> {' '.join(['g', *kept[1:]])}  g={groups}"

    def _strided_dim(self) -> int | None:
        """The dim whose index modulo the number of blocks names the block, if there is one."""
        varying = [d for d, n in enumerate(self.labels.shape) if n > 1]
        labels = self.labels.reshape(-1)
        if len(varying) != 1 or labels.numel() % self.num_blocks:
            return None
        return varying[0] if torch.equal(labels, torch.arange(labels.numel()) % self.num_blocks) else None

    def _equal_sizes(self) -> bool:
        """Whether all blocks have the same number of entries."""
        sizes = torch.bincount(self.labels.reshape(-1))
        return bool((sizes == sizes[0]).all()) if sizes.numel() else True

    def _axis_names(self) -> list[str]:
        letters = _AXIS_LETTERS.get(len(self.shape))
        return letters.split() if letters is not None else [f"a{d}" for d in range(len(self.shape))]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the shape, the compressed label shape and run-length coded labels."""
        values, counts = torch.unique_consecutive(self.labels.flatten(), return_counts=True)
        dims, groups = self.keys()
        if dims is not None and self.exact_keys:
            return {"shape": list(self.shape), "channel_dims": list(dims), "channel_groups": groups}
        runs = [[int(v), int(n)] for v, n in zip(values, counts, strict=True)]
        return {"shape": list(self.shape), "label_shape": list(self.labels.shape), "runs": runs}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Partition:
        """Rebuild what ``to_dict`` wrote."""
        shape = tuple(data["shape"])
        if "channel_dims" in data:
            return cls.from_dims(shape, tuple(data["channel_dims"]), data["channel_groups"])
        values = torch.tensor([v for v, _ in data["runs"]], dtype=torch.int64)
        counts = torch.tensor([n for _, n in data["runs"]], dtype=torch.int64)
        return cls(shape, values.repeat_interleave(counts).view(data["label_shape"]))


def compress(labels: Tensor) -> Tensor:
    """Cut every axis along which ``labels`` is constant to size 1."""
    for dim, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def _number(labels: Tensor) -> Tensor:
    """Renumber the blocks by first occurrence, keeping OUTSIDE."""
    flat = labels.reshape(-1)
    values, inverse = torch.unique(flat, return_inverse=True)
    first = torch.full((values.numel(),), flat.numel(), dtype=torch.int64)
    first.scatter_reduce_(0, inverse, torch.arange(flat.numel()), "amin")
    first[values == OUTSIDE] = -1
    order = torch.argsort(first)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel())
    rank -= int((values == OUTSIDE).any())
    return rank[inverse].view(labels.shape)


def _divisors(n: int) -> list[int]:
    """All divisors of ``n``, the largest first."""
    return [d for d in range(n, 0, -1) if n % d == 0]
