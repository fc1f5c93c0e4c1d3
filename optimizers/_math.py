"""Partitions of a parameter into blocks, and the only per-block reductions in the package.

A *block* is a set of entries that is scaled together. ``channel_dims`` names the dims whose index names the block, the
other dims are summed over. ``channel_groups=G`` cuts the first of the channel dims into G contiguous pieces.

Shapes, for a convolution weight ``[o, i, h, w]``:

==============  ==============  =============  =============  ================
channel_dims    channel_groups  blocks         summed dims    per-block slot
==============  ==============  =============  =============  ================
``None``        ``None``        every entry    none           ``[o, i, h, w]``
``(0,)``        ``None``        o              i, h, w        ``[o, 1, 1, 1]``
``(0,)``        ``G``           G              o/G, i, h, w   ``[G, 1, 1, 1]``
``(0, 1)``      ``None``        o·i            h, w           ``[o, i, 1, 1]``
``()``          ``None``        1              all            ``[1, 1, 1, 1]``
==============  ==============  =============  =============  ================

Everything is spelled with ordinary tensor operations, so strides do not matter and sharded tensors (DTensor) give what
the whole tensor would give.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny
"""Smallest normal float32. Added to a denominator that may be exactly zero, it changes no other value."""


class Cut(NamedTuple):
    """One dim cut into ``pieces`` contiguous pieces of ``length`` entries each."""

    dim: int
    pieces: int
    length: int


class Blocks(NamedTuple):
    """The blocks of one parameter: which dims are summed over, and which dim is cut.

    ``size`` is d, the number of elements per block; ``shape`` is the shape of a tensor with one number per block.
    """

    dims: tuple[int, ...]
    cut: Cut | None
    size: int
    shape: tuple[int, ...]

    @property
    def elementwise(self) -> bool:
        """Whether every entry is its own block, so that the classic algorithm applies."""
        return not self.dims and self.cut is None

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over each block, in a shape that broadcasts against ``x``."""
        if self.dims:
            x = x.sum(self.dims, keepdim=True)
        if hasattr(x, "placements"):
            x = _settle(x, self.cut)
        if self.cut is None:
            return x
        dim, count, _ = self.cut
        cut = x.unflatten(dim, (count, -1))
        return cut.sum(dim + 1, keepdim=True).expand_as(cut).flatten(dim, dim + 1)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ⟨a, b⟩ of each block, in a shape that broadcasts against ``a`` and ``b``."""
        return self.sum(a * b)

    def norm(self, x: Tensor) -> Tensor:
        """Return the Euclidean norm of each block, in a shape that broadcasts against ``x``."""
        return self.dot(x, x).sqrt()

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over the whole tensor, whatever the blocks, in a shape that broadcasts against ``x``."""
        total = x.sum()  # 0-d, which DTensor takes together with any sharding of x
        return _settle(total, None) if hasattr(total, "placements") else total

    def pack(self, x: Tensor) -> Tensor:
        """Return one number per block from a tensor that is constant on each piece of the cut dim."""
        if self.cut is None:
            return x
        return x.unflatten(self.cut.dim, (self.cut.pieces, -1)).select(self.cut.dim + 1, 0)

    def unpack(self, x: Tensor) -> Tensor:
        """Invert `pack`: repeat every number along its piece of the cut dim."""
        return x if self.cut is None else x.repeat_interleave(self.cut.length, self.cut.dim)


def _settle(x: Any, cut: Cut | None) -> Tensor:
    """Make the block sums of a DTensor fit for any further use, with as little communication as that takes.

    Sums over a sharded dim are pending, which in-place updates refuse: they are added up here, one number per block.
    Pieces of a cut dim may straddle ranks: every rank gets the sums of that dim. Whole blocks on one rank stay there.
    """
    from torch.distributed.tensor import Replicate

    def settled(placement: Any) -> Any:
        straddles = cut is not None and getattr(placement, "dim", None) == cut.dim
        return Replicate() if straddles or placement.is_partial() else placement

    return x.redistribute(placements=[settled(placement) for placement in x.placements])


def elementwise(shape: Sequence[int]) -> Blocks:
    """Return the partition in which every entry is its own block."""
    return Blocks((), None, 1, tuple(shape))


@cache
def rows(shape: tuple[int, ...]) -> Blocks:
    """Return the usual unit of norms: one block per index of dim 0, and a vector as a whole.

    Unlike with `resolve`, rows of one entry still count as rows.
    """
    dims = tuple(range(min(1, len(shape) - 1), len(shape))) if shape else ()
    packed = tuple(1 if dim in dims else length for dim, length in enumerate(shape))
    return Blocks(dims, None, math.prod(shape[dim] for dim in dims), packed)


def less(x: Tensor, bound: Any) -> Tensor:
    """Return 1.0 where x < bound, else 0.0: how rules choose, which cannot branch on values."""
    return x.neg().add(bound).sign().clamp_min(0.0)


def clip_blocks(p: Tensor, g: Tensor, blocks: Any, clipping: Any, agc_eps: Any) -> Tensor:
    """Return g with the norm of each block cut to ``clipping`` · max(‖p‖, ``agc_eps``). Shorter blocks stay.

    The norm divided by is at least 1e-6. This is adaptive gradient clipping, arXiv 2102.06171.
    """
    norm, limit = blocks.norm(g), blocks.norm(p).clamp_min(agc_eps) * clipping
    too_long = less(limit, norm)
    return g * limit.div(norm.clamp_min(1e-6)).mul_(too_long).add_(too_long.neg().add_(1.0))


def spread(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Share the block sums ``x`` out evenly over the entries of a parameter of shape ``shape``."""
    total = x.numel()
    for dim, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        if have != want:
            x = x.repeat_interleave(want // have, dim)
    return x * (total / x.numel())


@cache
def resolve(shape: tuple[int, ...], channel_dims: tuple[int, ...] | None, channel_groups: int | None) -> Blocks:
    """Return the `Blocks` that two group keys give to a parameter of shape ``shape``.

    A 0-d parameter counts as a vector of length 1. Blocks of one entry, and parameters without entries, give the
    elementwise partition.

    Raises:
        ValueError: dims out of range or duplicated; ``channel_groups`` not a divisor of its dim.
    """
    if channel_dims is None or not channel_dims:
        if channel_groups is not None:
            raise ValueError(f"channel_groups={channel_groups} needs a dim to cut, but {channel_dims=}")
        if channel_dims is None:
            return elementwise(shape)
    ndim = max(len(shape), 1)
    if any(not -ndim <= dim < ndim for dim in channel_dims):
        raise ValueError(f"{channel_dims=} must lie in [{-ndim}, {ndim - 1}] for shape {shape}")
    kept = [dim % ndim for dim in channel_dims]
    if len(set(kept)) != len(kept):
        raise ValueError(f"{channel_dims=} names a dim twice for shape {shape}")
    cut = None
    if channel_groups is not None:
        length = (shape or (1,))[kept[0]]
        if channel_groups < 1 or length % channel_groups:
            raise ValueError(f"{channel_groups=} must be >= 1 and divide dim {kept[0]} of shape {shape}")
        if channel_groups == 1:
            kept = kept[1:]
        elif channel_groups < length:
            cut = Cut(kept[0], channel_groups, length // channel_groups)
    if not shape:
        return elementwise(shape)
    # A dim of length 1 needs no sum: a sharded tensor would have to leave its ranks for it.
    dims = tuple(dim for dim in range(ndim) if dim not in kept and shape[dim] != 1)
    packed = [1 if dim in dims else length for dim, length in enumerate(shape)]
    if cut is not None:
        packed[cut.dim] = cut.pieces
    size = math.prod(shape) // max(math.prod(packed), 1)
    return Blocks(dims, cut, size, tuple(packed)) if size > 1 else elementwise(shape)
